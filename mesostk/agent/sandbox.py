"""Sandboxes: making them, linking volumes into them, and when they may go.

Everything here blocks; for the disk thread.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from mesostk.agent import checkpoint
from mesostk.agent.events import BindMount, GroupSandbox, RunSpec, VolumeLink, VolumeMount
from mesostk.errors import MesostkError

#: The sandbox's own mode: the task's user and its group, nobody else (spec: Mesos §8.2).
SANDBOX_MODE = 0o750

#: Of an executor's sandbox in which tasks of several users have theirs: others may pass, not look.
PASSABLE_MODE = SANDBOX_MODE | 0o001


class SandboxError(MesostkError):
    """A sandbox could not be made; the message says what and why."""


# -- making ---------------------------------------------------------------------------------------


def create(path: Path, user: str | None, mode: int = SANDBOX_MODE) -> None:
    """Make the sandbox `path`, owned by `user`, and point `latest` beside it to it.

    `user` None leaves it to the agent's own. Raises SandboxError for an unknown user, missing
    rights or a full disk; what was made until then is removed.
    """
    owner = owner_of(user) if user is not None else None
    try:
        checkpoint.make_directories(str(path))
        path.chmod(mode)
        if owner is not None:
            os.chown(path, *owner)
        checkpoint.link(path.parent / "latest", path.name)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            path.rmdir()
        raise SandboxError(f"cannot make sandbox {path}: {error.strerror}") from error


def create_for(path: Path, spec: RunSpec) -> None:
    """Make the sandbox of a run; of a task of a group first its executor's, with what they share.

    Raises SandboxError.
    """
    if spec.around is not None:
        _create_group(path.parent.parent, spec.around, spec.shared)
    create(path, spec.user)


def _create_group(path: Path, group: GroupSandbox, persistent: Iterable[VolumeMount]) -> None:
    create(path, group.user, PASSABLE_MODE if group.is_open else SANDBOX_MODE)
    owners = dict(group.folders)
    for volume in persistent:
        link = VolumeLink(volume.container_path, volume.source, own=True)
        link_volumes(path, [link], owners.get(volume.container_path, group.user))
    for folder, owner in group.folders:
        try:
            make_folder(path / folder, owner)
        except OSError as error:
            raise SandboxError(f"cannot make folder '{folder}': {error.strerror}") from error


def link_volumes(sandbox: Path, links: Iterable[VolumeLink], user: str | None) -> None:
    """Make the links of a task's volumes; SandboxError if one cannot be made."""
    owner = owner_of(user) if user is not None else None
    for volume in links:
        path = sandbox / volume.path
        target = Path(volume.target)
        if path.parent.resolve() != sandbox.resolve() / path.parent.relative_to(sandbox):
            # A fetched archive may hold links that lead elsewhere.
            raise SandboxError(f"the way to volume '{volume.path}' leads out of the sandbox")
        try:
            if volume.make:
                make_folder(target, user)
            if volume.own and owner is not None:
                os.chown(target, *owner)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or not path.is_dir():
                checkpoint.link(path, volume.target)
            else:
                raise SandboxError(f"volume '{volume.path}': a directory is in its place")
        except OSError as error:
            raise SandboxError(f"cannot link volume '{volume.path}': {error.strerror}") from error


def make_folder(path: Path, user: str | None) -> None:
    """Make a directory for `user` where nothing is; OSError or SandboxError if it cannot be."""
    if path.exists():
        return
    path.mkdir(parents=True, exist_ok=True)
    if user is not None:
        os.chown(path, *owner_of(user))


def make_sources(sandbox: Path, mounts: Iterable[BindMount]) -> None:
    """See to it that each mount has a source and a place; SandboxError if one cannot be had.

    A source that is made gets the mode and the owner of the place that it will hide, so that a
    private /tmp is everybody's, too. Source: spec §8.7, as the original's filesystem/linux.
    """
    for mount in mounts:
        source, target = Path(mount.source), Path(mount.target)
        if sandbox == target or target in sandbox.parents:
            raise SandboxError(f"volume '{target}' would hide the sandbox {sandbox}")
        try:
            place = target.stat()
            if mount.make and not source.exists():
                source.mkdir(parents=True)
                os.chown(source, place.st_uid, place.st_gid)
                source.chmod(stat.S_IMODE(place.st_mode))
            elif source.is_dir() != stat.S_ISDIR(place.st_mode):
                raise SandboxError(f"volume '{target}': one is a directory, the other is none")
        except OSError as error:
            raise SandboxError(
                f"cannot mount volume '{target}': {error.filename}: {error.strerror}"
            ) from error


def owner_of(user: str) -> tuple[int, int]:
    """The ids of a user of this host and its group; SandboxError without one."""
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):  # the latter: text that can be no name
        raise SandboxError(f"user '{user}' does not exist on this host") from None
    return entry.pw_uid, entry.pw_gid


def identity_of(user: str) -> tuple[str, list[str]]:
    """A user of this host as Docker takes him where he has no name; SandboxError without one."""
    uid, gid = owner_of(user)
    return f"{uid}:{gid}", [str(group) for group in os.getgrouplist(user, gid)]


# -- room -----------------------------------------------------------------------------------------


def disk_used(path: Path) -> float:
    """Fraction of the file system under `path` that is in use, reserved blocks counted as used."""
    status = os.statvfs(path)
    return 1.0 - status.f_bavail / status.f_blocks if status.f_blocks else 0.0


def size_bytes(path: Path) -> int:
    """What a directory tree occupies on disk, as `du`; links are not followed."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in ("", *names):
            with contextlib.suppress(OSError):  # removed while we look
                total += os.lstat(Path(directory, name)).st_blocks * 512
    return total


def max_age_s(gc_delay_s: float, headroom: float, used: float) -> float:
    """How old a sandbox may get: `gc_delay_s` on an empty disk, 0 when `headroom` is all that is
    free; `headroom` and `used` are fractions.

    Source: Mesos `--gc_delay`, `--gc_disk_headroom` (spec: §8.10).
    """
    return gc_delay_s * max(0.0, 1.0 - headroom - used)


def due(ended: Iterable[tuple[Path, float]], now: float, age_s: float) -> list[Path]:
    """Of sandboxes and when they ended, those that are older than `age_s`, oldest first."""
    old = [(at, path) for path, at in ended if now - at >= age_s]
    return [path for _, path in sorted(old)]
