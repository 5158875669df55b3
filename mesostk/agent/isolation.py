"""What `--isolation` asks for, and whether this host can give it (spec §8.7).

::

    flag ─▶ names ─▶ unknown or not here? refused, with the reason
                  └▶ Isolation ─▶ each kind of namespace tried once (detect.py) ─▶ a line in the log
    task's LinuxInfo ─▶ own_of ─▶ what its process is started with
    … and its executor's, for tasks of a group ─▶ own_within

Without the flag runs have cgroups with limits where the host offers them, and no namespaces.
"""

from __future__ import annotations

import msgspec

from mesostk.errors import ConfigError
from mesostk.wire.mesos import ContainerInfo, LinuxInfo

#: What the original's names for several mean.
_MEANINGS = {
    "process": ("posix/cpu", "posix/mem"),
    "cgroups": ("cgroups/cpu", "cgroups/mem"),
    "posix/disk": ("disk/du",),
    "cgroups/all": ("cgroups/cpu", "cgroups/mem", "cgroups/pids"),
}

#: Done for every task, named or not.
_ALWAYS = frozenset(
    {"disk/du", "environment_secret", "filesystem/posix", "network/cni", "posix/cpu", "posix/mem",
     "posix/rlimits", "volume/host_path", "volume/sandbox_path", "volume/secret"}
)  # fmt: skip

#: Controllers that limit, by the isolator that asks for them.
LIMITING = {"cgroups/cpu": "cpu", "cgroups/mem": "memory", "cgroups/pids": "pids"}

#: Kinds of namespaces, as in /proc/<pid>/ns, by the isolator that asks for them.
NAMESPACES = {"namespaces/pid": "pid", "namespaces/ipc": "ipc", "filesystem/linux": "mnt"}

NO_NEW_PRIVILEGES = "linux/nnp"

#: Names that the original knows, and that are not to be had here.
_ABSENT = frozenset(
    {"appc/runtime", "cgroups/blkio", "cgroups/cpuset", "cgroups/devices", "cgroups/hugetlb",
     "cgroups/net_cls", "cgroups/net_prio", "cgroups/perf_event", "disk/xfs", "docker/runtime",
     "docker/volume", "filesystem/shared", "filesystem/windows", "gpu/nvidia",
     "linux/capabilities", "linux/devices", "linux/seccomp", "network/port_mapping",
     "network/ports", "volume/csi", "volume/image", "windows/cpu", "windows/mem"}
)  # fmt: skip


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """`namespaces` are of "pid", "ipc", "mnt"; `limits` the controllers that limit runs.

    `container` is that of tasks that name none; `shm_mib` the size of a private /dev/shm.
    """

    namespaces: frozenset[str] = frozenset()
    limits: frozenset[str] = frozenset({"cpu", "memory", "pids"})
    no_new_privileges: bool = False
    may_share_pid: bool = True
    may_share_ipc: bool = True
    shm_mib: int | None = None
    container: ContainerInfo | None = None


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What a task of a group shares with the others: the IPC namespace, and a /dev/shm unless
    `shm_mib` is None."""

    shm_mib: int | None = None


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has of its own; a /dev/shm of 0 MiB has the size that the kernel chooses."""

    namespaces: tuple[str, ...] = ()
    shm_mib: int | None = None
    shared: Shared | None = None


def names_of(flag: str) -> frozenset[str]:
    """The isolators of the flag's text; raises ConfigError for those that cannot be had."""
    said = [part.strip() for part in flag.split(",") if part.strip()]
    names = {one for part in said for one in _MEANINGS.get(part, (part,))}
    absent = sorted(names & _ABSENT)
    if absent:
        raise ConfigError(
            f"--isolation: {', '.join(absent)} cannot be had here; leave it out, and tasks run "
            "without it"
        )
    unknown = sorted(names - _ALWAYS - LIMITING.keys() - NAMESPACES.keys() - {NO_NEW_PRIVILEGES})
    if unknown:
        raise ConfigError(f"--isolation: there is no isolator '{unknown[0]}'")
    if {"filesystem/linux", "filesystem/posix"} <= names:
        raise ConfigError("--isolation: only one of filesystem/linux and filesystem/posix")
    return frozenset(names)


def described(isolation: Isolation) -> str:
    """For the log: `limits cpu,memory; namespaces mnt,pid`."""
    limits = ",".join(sorted(isolation.limits & set(LIMITING.values())))
    kinds = ",".join(sorted(isolation.namespaces))
    more = "; no new privileges" if isolation.no_new_privileges else ""
    return f"limits {limits or 'none'}; namespaces {kinds or 'none'}{more}"


# -- one task ------------------------------------------------------------------------------------


def why_not(container: ContainerInfo | None, isolation: Isolation) -> str | None:
    """Why a task or executor without Docker cannot have the namespaces that it asks for."""
    linux = _linux_of(container)
    if linux.share_pid_namespace and not isolation.may_share_pid:
        return "Sharing agent pid namespace with container is not allowed"
    if linux.ipc_mode == "SHARE_PARENT" and not isolation.may_share_ipc:
        return "Sharing agent IPC namespace and /dev/shm with container is not allowed"
    return _why_not_sized(linux)


def why_not_within(
    container: ContainerInfo | None, around: ContainerInfo | None, isolation: Isolation
) -> str | None:
    """The same of a task of a group, whose default executor has the container `around`."""
    wrong = why_not(around, isolation)
    if wrong is not None:
        return wrong
    linux, of_executor = _linux_of(container), _linux_of(around)
    has_own = "pid" in isolation.namespaces and not of_executor.share_pid_namespace
    if linux.share_pid_namespace and has_own:
        return "'share_pid_namespace': a default executor has no process to share it with"
    return _why_not_sized(linux)


def _why_not_sized(linux: LinuxInfo) -> str | None:
    if linux.shm_size is not None and linux.ipc_mode != "PRIVATE":
        return "'shm_size' needs the 'ipc_mode' PRIVATE"
    return None


def own_of(container: ContainerInfo | None, isolation: Isolation) -> Own:
    """The namespaces of a run, and the size of its /dev/shm if that is its own.

    Without an `ipc_mode` it has its own IPC namespace, but the host's /dev/shm. Source: Mesos
    docs/isolators/namespaces-ipc.md.
    """
    linux = _linux_of(container)
    kinds = set(isolation.namespaces)
    if linux.share_pid_namespace:
        kinds.discard("pid")
    shm_mib: int | None = None
    if linux.ipc_mode == "SHARE_PARENT":
        kinds.discard("ipc")
    elif "ipc" in kinds and linux.ipc_mode == "PRIVATE":
        shm_mib = _shm_size(linux, isolation)
    if "pid" in kinds or shm_mib is not None:
        kinds.add("mnt")  # for /proc, for /dev/shm
    return Own(namespaces=tuple(sorted(kinds)), shm_mib=shm_mib)


def own_within(
    container: ContainerInfo | None, around: ContainerInfo | None, isolation: Isolation
) -> Own:
    """The namespaces of a task of a group, whose default executor has the container `around`.

    Without an `ipc_mode` it shares the executor's IPC namespace, but has the host's /dev/shm.
    Source: as `own_of`.
    """
    own, linux, of_executor = own_of(container, isolation), _linux_of(container), _linux_of(around)
    if "ipc" not in isolation.namespaces or linux.ipc_mode == "PRIVATE":
        return own
    kinds = set(own.namespaces) - {"ipc"}
    shared: Shared | None = None
    if of_executor.ipc_mode != "SHARE_PARENT":
        has_shm = linux.ipc_mode == "SHARE_PARENT" and of_executor.ipc_mode == "PRIVATE"
        shared = Shared(shm_mib=_shm_size(of_executor, isolation) if has_shm else None)
        kinds |= {"mnt"} if has_shm else set()
    return Own(namespaces=tuple(sorted(kinds)), shared=shared)


def _shm_size(linux: LinuxInfo, isolation: Isolation) -> int:
    size = linux.shm_size if linux.shm_size is not None else isolation.shm_mib
    return size if size is not None else 0


def _linux_of(container: ContainerInfo | None) -> LinuxInfo:
    if container is None or container.linux_info is None:
        return LinuxInfo()
    return container.linux_info
