"""The IPC namespace and the /dev/shm that the tasks of a group share (spec §8.7).

::

    <runtime_dir>/ipc/<executor's container>/namespace   the namespace itself, bound to a file
                                             shm         its /dev/shm, a tmpfs
    first task launched ─▶ hold ─▶ each task's process joins, mounts shm ─▶ executor over ─▶ release

A default executor has no process that could have them, so mounts of the host keep them: an agent
that restarts finds them again, and they end with the host. Source of what is shared with whom:
Mesos docs/isolators/namespaces-ipc.md.

Everything here blocks; for the disk thread.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from mesostk.agent import namespaces
from mesostk.agent.namespaces import NamespaceError
from mesostk.errors import MesostkError


class SharedIpcError(MesostkError):
    """What tasks are to share cannot be made, or be given up; the message says why."""


class SharedIpc:
    """What the default executors of an agent hold for their tasks."""

    def __init__(self, runtime_dir: Path) -> None:
        self._home = runtime_dir / "ipc"

    def hold(self, container_id: str) -> str:
        """The path of the executor's namespace, made if it is not there. Raises SharedIpcError."""
        path = self._home / container_id / "namespace"
        with _told():
            self._make_room(container_id)
            if not path.exists():
                path.touch(mode=0o400)
            if not _is_mounted(path):
                _in_own_thread(path)
        return str(path)

    def hold_shm(self, container_id: str, size_mib: int) -> str:
        """The path of the executor's /dev/shm, made if it is not there; 0 for the kernel's size.

        Raises SharedIpcError.
        """
        path = self._home / container_id / "shm"
        with _told():
            self._make_room(container_id)
            path.mkdir(exist_ok=True)
            if not _is_mounted(path):
                namespaces.mount_shm(str(path), size_mib)
        return str(path)

    def is_held(self, container_id: str) -> bool:
        """Whether there is anything to release."""
        return (self._home / container_id).is_dir()

    def release(self, container_id: str) -> None:
        """Give up what an executor that is over held. Raises SharedIpcError."""
        place = self._home / container_id
        with _told():
            for path in (place / "namespace", place / "shm"):
                if path.exists() and _is_mounted(path):
                    namespaces.unmount(str(path))
            # Nothing is mounted below any more: what is still in use elsewhere stays whole.
            shutil.rmtree(place)

    def held(self) -> set[str]:
        """The containers for which something is held."""
        return {entry.name for entry in self._home.iterdir()} if self._home.is_dir() else set()

    def _make_room(self, container_id: str) -> None:
        # Not for other users: what they would find in `shm` is the tasks' own.
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._home / container_id).mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, NamespaceError) as error:
        raise SharedIpcError(f"what the group shares: {error}") from error


def _is_mounted(path: Path) -> bool:
    return path.stat().st_dev != path.parent.stat().st_dev


def _in_own_thread(path: Path) -> None:
    """A namespace is a thread's: one is made for it, and ends."""
    failures: list[NamespaceError] = []

    def make() -> None:
        try:
            namespaces.keep_new_ipc(str(path))
        except NamespaceError as error:
            failures.append(error)

    thread = threading.Thread(target=make, name="ipc namespace")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
