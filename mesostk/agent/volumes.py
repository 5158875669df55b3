"""Volumes of the Mesos containerizer: links in the sandbox, for there are no file systems apart.

::

    source SANDBOX_PATH SELF    <sandbox>/<container_path> ─▶ <sandbox>/<path>
    source SANDBOX_PATH PARENT  <sandbox>/<container_path> ─▶ <executor's sandbox>/<path>
    host_path                   <sandbox>/<container_path> ─▶ /absolute or <sandbox>/relative

Source: spec §8.7 (volume/sandbox_path, volume/host_path without a root file system of its own).
"""

from __future__ import annotations

from mesostk.agent.docker_spec import is_for_engine
from mesostk.agent.events import VolumeLink
from mesostk.errors import Rejected
from mesostk.wire.mesos import TaskInfo, Volume


def why_not(task: TaskInfo, *, is_nested: bool) -> str | None:
    """Why the volumes of a task without Docker cannot be had; None if they can."""
    try:
        links_of(task, "/sandbox", "/parent" if is_nested else None)
    except Rejected as error:
        return error.message
    return None


def links_of(task: TaskInfo, sandbox: str, parent: str | None) -> tuple[VolumeLink, ...]:
    """The links to be made; both sandboxes are absolute. Rejected says what is wrong."""
    container = task.container
    if container is None or is_for_engine(container):
        return ()
    found = []
    for volume in container.volumes:
        path = volume.container_path
        target, make = _target_of(volume, sandbox, parent)
        if path.startswith("/"):
            if path == target and not make:
                continue  # seen under its own name, without a root file system of its own
            raise Rejected(
                400,
                f"container.volumes: '{path}' is absolute, which needs an image; give a path in "
                "the sandbox",
            )
        _require_inside("container_path", path)
        found.append(VolumeLink(path, target, make))
    return tuple(found)


def _target_of(volume: Volume, sandbox: str, parent: str | None) -> tuple[str, bool]:
    """Where the link leads, and whether a directory is made there."""
    source = volume.source
    if volume.host_path is not None:
        return _host(volume.host_path, sandbox)
    if source is not None and source.host_path is not None:
        return _host(source.host_path.path, sandbox)
    if source is not None and source.sandbox_path is not None:
        path = source.sandbox_path.path
        _require_inside("sandbox_path.path", path)
        if source.sandbox_path.type == "PARENT":
            if parent is None:
                raise Rejected(400, "container.volumes: only tasks of a group have a PARENT")
            return f"{parent}/{path}", True
        return f"{sandbox}/{path}", True
    kind = source.type if source is not None else "image"
    raise Rejected(400, f"container.volumes: '{volume.container_path}': {kind} is not supported")


def _host(path: str, sandbox: str) -> tuple[str, bool]:
    if path.startswith("/"):
        return path, False
    _require_inside("host_path", path)
    return f"{sandbox}/{path}", True


def _require_inside(name: str, path: str) -> None:
    if not path or path.startswith("/") or ".." in path.split("/"):
        raise Rejected(400, f"container.volumes: {name} '{path}' leads out of the sandbox")
