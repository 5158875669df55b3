"""Volumes of the Mesos containerizer: links in the sandbox; mounts, with filesystem/linux.

::

    source SANDBOX_PATH SELF    <sandbox>/<container_path> ─▶ <sandbox>/<path>
    source SANDBOX_PATH PARENT  <sandbox>/<container_path> ─▶ <executor's sandbox>/<path>
    host_path                   <sandbox>/<container_path> ─▶ /absolute or <sandbox>/relative
    absolute container_path     mounted there, in the run's own mount namespace

Source: spec §8.7 (volume/sandbox_path, volume/host_path without a root file system of its own).
"""

from __future__ import annotations

from collections.abc import Iterable

from mesostk.agent.docker_spec import is_for_engine
from mesostk.agent.events import BindMount, VolumeLink
from mesostk.errors import Rejected
from mesostk.wire.mesos import TaskInfo, Volume


def why_not(task: TaskInfo, *, is_nested: bool, can_mount: bool) -> str | None:
    """Why the volumes of a task without Docker cannot be had; None if they can."""
    try:
        parent = "/parent" if is_nested else None
        links_of(task, "/sandbox", parent, can_mount=can_mount)
        mounts_of(task, "/sandbox", parent)
    except Rejected as error:
        return error.message
    return None


def links_of(
    task: TaskInfo, sandbox: str, parent: str | None, *, can_mount: bool
) -> tuple[VolumeLink, ...]:
    """The links to be made; both sandboxes are absolute. Rejected says what is wrong.

    `can_mount`: those outside of the sandbox are left to `mounts_of`.
    """
    found = []
    for volume in _volumes_of(task):
        path = volume.container_path
        if volume.source is not None and volume.source.type == "SECRET":
            _require_inside("container_path of a secret", path)
            continue  # secrets.py
        target, make = _target_of(volume, sandbox, parent)
        if path.startswith("/"):
            if can_mount or (path == target and not make):
                continue  # seen under its own name, without a root file system of its own
            raise Rejected(
                400,
                f"container.volumes: '{path}' is absolute, which needs the agent to have "
                "--isolation=filesystem/linux; give a path in the sandbox",
            )
        _require_inside("container_path", path)
        found.append(VolumeLink(path, target, make))
    return tuple(found)


def shared_by(tasks: Iterable[tuple[TaskInfo, str | None]]) -> dict[str, str | None]:
    """The folders of their executor's sandbox that tasks share, with the owner of each.

    Of tasks, each with its user, it is that of the first that may write to the folder, whichever is
    started first; of the first at all if none may.
    """
    owners: dict[str, str | None] = {}
    written: set[str] = set()
    for task, user in tasks:
        for volume in task.container.volumes if task.container is not None else ():
            shared = volume.source.sandbox_path if volume.source is not None else None
            if shared is None or shared.type != "PARENT":
                continue
            writes = volume.mode != "RO"
            if shared.path not in owners or (writes and shared.path not in written):
                owners[shared.path] = user
            if writes:
                written.add(shared.path)
    return owners


def mounts_of(task: TaskInfo, sandbox: str, parent: str | None) -> tuple[BindMount, ...]:
    """The volumes that are mounted outside of the sandbox. Rejected says what is wrong."""
    found = []
    for volume in _volumes_of(task):
        path = volume.container_path
        if not path.startswith("/"):
            continue
        if ".." in path.split("/") or not path.strip("/"):
            raise Rejected(400, f"container.volumes: container_path '{path}' cannot be mounted at")
        source, make = _target_of(volume, sandbox, parent)
        found.append(
            BindMount(source=source, target=path, read_only=volume.mode == "RO", make=make)
        )
    return tuple(found)


def _volumes_of(task: TaskInfo) -> tuple[Volume, ...]:
    container = task.container
    return container.volumes if container is not None and not is_for_engine(container) else ()


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
