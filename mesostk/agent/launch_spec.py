"""What is to be launched, and how the launcher is told."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mesostk.agent.supervisor import RUN_MARKER
from mesostk.errors import MesostkError


class LaunchFailed(MesostkError):
    """The task never ran and nothing of it is left; the message says why."""


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be started. Paths are absolute.

    container_id  names the run and its runtime directory; unique on the host
    executable    looked up in the PATH of `env` if without a slash
    argv          with the program's own name first, e.g. ("sh", "-c", "exit 3")
    env           complete: nothing of the agent's environment is inherited
    sandbox       working directory, where `stdout` and `stderr` are appended to
    user          to become; None stays the agent's
    rlimits       (RLMT_… name, soft, hard), None meaning unlimited
    cgroups       directories that the task enters, a freezer first
    supervisor_cgroups  … the supervisor enters
    oom_score_adj  of the task's processes; None is like any other's
    oom_events    file with the `oom_kill` counter of the run's memory cgroup
    grace_s       between TERM and KILL, unless `kill` says otherwise
    joined_cgroups  of another run, that the task enters and that are left alone at its end
    stdio         files for stdin, stdout and stderr instead of the sandbox's; with `tty` a terminal
    namespaces    of its own: "pid", "ipc", "mnt"
    mounts        (source, target, read only), in its own "mnt"
    shm_mib       size of a /dev/shm of its own, in its own "mnt"
    ipc           file of the IPC namespace that it joins
    beside        (supervisor, task): pids of the run whose namespaces it joins instead
    no_new_privileges  set-user-id programs give it none
    terminal      (rows, columns) of a terminal of its own, recorded in the sandbox's stdout; zeros
                  for no size
    """

    container_id: str
    executable: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    sandbox: Path
    user: str | None = None
    rlimits: tuple[tuple[str, int | None, int | None], ...] = ()
    cgroups: tuple[str, ...] = ()
    supervisor_cgroups: tuple[str, ...] = ()
    oom_events: str | None = None
    oom_score_adj: int | None = None
    grace_s: float = 3.0
    joined_cgroups: tuple[str, ...] = ()
    stdio: tuple[str, str, str] | None = None
    tty: bool = False
    namespaces: tuple[str, ...] = ()
    mounts: tuple[tuple[str, str, bool], ...] = ()
    shm_mib: int | None = None
    ipc: str | None = None
    beside: tuple[int, int] | None = None
    no_new_privileges: bool = False
    terminal: tuple[int, int] | None = None


def is_ordinary(spec: LaunchSpec) -> bool:
    """Whether the run leaves its supervisor as it found it, so that another may follow."""
    own = (spec.namespaces, spec.mounts, spec.shm_mib, spec.ipc, spec.beside)
    return not any(own) and spec.terminal is None and spec.stdio is None and not spec.tty


def request_of(spec: LaunchSpec, directory: Path, boot: str) -> dict[str, object]:
    """What the supervisor is told, in plain objects. Raises LaunchFailed for a bad value."""
    others = (("executable", spec.executable), ("user", spec.user or "agent's"))
    arguments = (("argv", arg) for arg in spec.argv)
    for name, text in (*spec.env.items(), *arguments, *others):
        if "\0" in name or "\0" in text or not name or "=" in name:
            raise LaunchFailed(f"'{name}' is no name, or its text no value, for exec")
    return {
        "container_id": spec.container_id,
        "runtime": str(directory),
        "executable": spec.executable,
        "argv": list(spec.argv),
        "env": {**spec.env, RUN_MARKER: spec.container_id},
        "cwd": str(spec.sandbox),
        "stdout": str(spec.sandbox / "stdout"),
        "stderr": str(spec.sandbox / "stderr"),
        "user": spec.user,
        "rlimits": [_rlimit(*limit) for limit in spec.rlimits],
        "cgroups": list(spec.cgroups),
        "supervisor_cgroups": list(spec.supervisor_cgroups),
        "oom_events": spec.oom_events,
        "oom_score_adj": spec.oom_score_adj,
        "grace_s": float(spec.grace_s),
        "joined_cgroups": list(spec.joined_cgroups),
        "stdio": list(spec.stdio) if spec.stdio is not None else None,
        "tty": spec.tty,
        "namespaces": list(spec.namespaces),
        "mounts": list(spec.mounts),
        "shm_mib": spec.shm_mib,
        "ipc": spec.ipc,
        "beside": spec.beside,
        "no_new_privileges": spec.no_new_privileges,
        "terminal": spec.terminal,
        "boot": boot,
        "again": is_ordinary(spec),
    }


def _rlimit(name: str, soft: int | None, hard: int | None) -> tuple[int, int, int]:
    number = getattr(resource, name.replace("RLMT_", "RLIMIT_", 1), None)
    if not name.startswith("RLMT_") or not isinstance(number, int):
        raise LaunchFailed(f"resource limit '{name}' is not known on this host")
    if (soft is None) != (hard is None):
        raise LaunchFailed(f"resource limit '{name}': give both soft and hard, or neither")
    if soft is None or hard is None:
        return number, resource.RLIM_INFINITY, resource.RLIM_INFINITY
    if soft > hard:
        raise LaunchFailed(f"resource limit '{name}': soft {soft} is above hard {hard}")
    return number, soft, hard
