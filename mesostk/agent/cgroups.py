"""Control groups of runs: limits, killing, and what they measured.

::

    v1  <mount>/<PID 1's own>/mesos/<container>      one tree per hierarchy that is mounted
    v2  <mount>/<PID 1's own>/mesos/<container>      one tree; supervisors in …/mesos/supervisors
        …/mesos/<executor>/mesos/<nested>            in both: below the one whose limits hold for
                                                     all of them together

Everything is relative to the cgroup of PID 1, not to the mount: a host may itself be a container.
Which controller sits in which hierarchy is read, never assumed: distributions mount `cpu` alone,
with `cpuacct`, or everything as v2, and a controller can be in one hierarchy only.

Two agents may share the tree. A cgroup belongs to the agent that has a run of its name in its
runtime or work directory; `orphans` is given those names, and no other cgroup is touched.

Blocking, a few file writes at a time; `destroy` may take seconds and is for the disk thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from mesostk.agent.cgroup_limits import (
    MEMSW_LIMIT,
    CgroupError,
    Limits,
    limit_cpu,
    limit_memory,
    write,
)
from mesostk.agent.processes import kill_cgroup

#: Controllers that are used where they are mounted; `freezer` first, since killing begins there.
CONTROLLERS = ("freezer", "cpu", "cpuacct", "memory", "pids")

#: Kept for systemd's v1 bookkeeping: a run in the agent's unit would die with the unit.
_SYSTEMD = "name=systemd"

#: v2 enables these for the children; freezing and killing need no controller there.
_V2_CONTROLLERS = ("cpu", "memory", "pids")

#: For killed processes to leave their cgroup, in seconds.
_PATIENCE_S = 10.0
_ROUND_S = 0.01

_SUPERVISORS = "supervisors"

#: Below a container's own, for those nested in it. Source: spec §8.7.
_BELOW = "mesos"


class RunCgroups(msgspec.Struct, frozen=True, kw_only=True):
    """What a `LaunchSpec` wants to know: see its fields of the same names."""

    cgroups: tuple[str, ...] = ()
    supervisor_cgroups: tuple[str, ...] = ()
    oom_events: str | None = None


class Hierarchy(msgspec.Struct, frozen=True):
    """A mounted tree: its version, the controllers in it, and the directory of PID 1 in it."""

    version: int
    controllers: frozenset[str]
    base: Path


# -- detection ------------------------------------------------------------------------------------


def hierarchies(mountinfo: str, pid_1_cgroup: str) -> list[Hierarchy]:
    """The cgroup hierarchies that are mounted, from `/proc/self/mountinfo` and `/proc/1/cgroup`.

    v2 comes last and without controllers: those are read from its files. A mount that does not
    show PID 1's cgroup is left out. Source: proc(5), cgroups(7).
    """
    own = _own_paths(pid_1_cgroup)
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(kind[2].split(",")) - {"rw", "ro", "xattr"}
        names = options & {name for key in own for name in key.split(",")} if own else options
        key = _key_of(own, names) if kind[0] == "cgroup" else ""
        if key is None or key not in own or key in found:
            continue
        base = _below(Path(_unescaped(fields[4])), _unescaped(fields[3]), own[key])
        if base is not None:
            version = 1 if kind[0] == "cgroup" else 2
            found[key] = Hierarchy(version, names if version == 1 else frozenset(), base)
    return sorted(found.values(), key=lambda h: (h.version, h.base))


def _own_paths(pid_1_cgroup: str) -> dict[str, str]:
    """`controller,controller` → path of PID 1; the key of v2 is empty."""
    own = {}
    for line in pid_1_cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # systemd keeps PID 1 in a leaf of its own, which can have no children.
        own[controllers] = path.removesuffix("/init.scope") if path != "/init.scope" else "/"
    return own


def _key_of(own: dict[str, str], names: AbstractSet[str]) -> str | None:
    return next((key for key in own if key and set(key.split(",")) <= names), None)


def _below(mount: Path, mounted: str, path: str) -> Path | None:
    """Where `path` is, given that `mounted` of the hierarchy is what shows at `mount`."""
    if ".." in path.split("/"):
        return None  # outside of this process's cgroup namespace
    try:
        return mount / Path(path).relative_to(mounted)
    except ValueError:
        return None


def _unescaped(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def detect(
    root: str = "mesos", limiting: AbstractSet[str] = frozenset(CONTROLLERS)
) -> tuple[Cgroups | None, str]:
    """The cgroups that this process can use, and one line for the log on what was found.

    Of the controllers only the `limiting` ones limit.

    None where nothing can be written (no root, read-only mounts, no hierarchy): runs are then
    process groups only, without limits.
    """
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text()
        pid_1 = Path("/proc/1/cgroup").read_text()
    except OSError as error:
        return None, f"cgroups: none ({error.strerror}); runs are process groups, without limits"
    return choose(hierarchies(mountinfo, pid_1), root, limiting)


def choose(
    found: list[Hierarchy], root: str, limiting: AbstractSet[str] = frozenset(CONTROLLERS)
) -> tuple[Cgroups | None, str]:
    """As `detect`, for hierarchies that are known: v2 if it has controllers, else v1."""
    refused: list[str] = []
    v2 = next((h for h in found if h.version == 2), None)
    v1 = [h for h in found if h.version == 1 and h.controllers & {*CONTROLLERS, _SYSTEMD}]
    attempts = [[v2] if v2 is not None and _v2_controllers(v2.base) else [], v1]
    if v2 is not None:
        attempts.append([v2])  # without controllers it can still kill
    for hierarchies_tried in attempts:
        if not any(h.version == 2 or h.controllers & set(CONTROLLERS) for h in hierarchies_tried):
            continue
        cgroups = Cgroups(hierarchies_tried, root, limiting)
        try:
            cgroups.prepare()
        except CgroupError as error:
            refused.append(str(error))
            continue
        return cgroups, f"cgroups: {cgroups.describe()}"
    why = "; ".join(refused) if refused else "no hierarchy is mounted"
    return None, f"cgroups: none ({why}); runs are process groups, without limits"


def _v2_controllers(base: Path) -> set[str]:
    try:
        return set((base / "cgroup.controllers").read_text().split()) & set(_V2_CONTROLLERS)
    except OSError:
        return set()


# -- the tree -------------------------------------------------------------------------------------


class Cgroups:
    """The cgroups of runs, in hierarchies of one version."""

    def __init__(
        self,
        used: list[Hierarchy],
        root: str,
        limiting: AbstractSet[str] = frozenset(CONTROLLERS),
    ) -> None:
        if not root.strip("/") or ".." in root.split("/"):
            raise CgroupError(f"cgroups root '{root}' must be a relative path like 'mesos'")
        self.is_v2 = used[0].version == 2
        # The hierarchy of the freezer first: see LaunchSpec.cgroups.
        self._used = sorted(used, key=lambda h: "freezer" not in h.controllers)
        self._root = root.strip("/")
        self._limiting = limiting
        self._with_swap = False

    def limit_swap(self) -> None:
        """Have limits of memory hold for memory and swap together. Raises CgroupError where this
        host cannot: the original does so with cgroups v1 only, too."""
        memory = next((h for h in self._used if "memory" in h.controllers), None)
        if self.is_v2 or memory is None:
            raise CgroupError("swap is limited with memory by cgroups v1 only")
        path = memory.base / self._root / MEMSW_LIMIT
        if not path.exists():
            raise CgroupError(f"{path} is not available; boot with swapaccount=1")
        self._with_swap = True

    def controllers(self) -> set[str]:
        """Those that are to be had."""
        if self.is_v2:
            return self._enabled()
        return {name for h in self._used for name in h.controllers}

    def describe(self) -> str:
        """What is used, for the log: `v1 freezer at /sys/fs/cgroup/freezer/mesos, …`."""
        if self.is_v2:
            enabled = ",".join(sorted(self._enabled())) or "no controllers: kills, no limits"
            return f"v2 ({enabled}) at {self._used[0].base / self._root}"
        return "v1 " + ", ".join(
            f"{','.join(sorted(h.controllers))} at {h.base / self._root}" for h in self._used
        )

    def prepare(self) -> None:
        """Make the root and, on v2, hand its controllers down. Raises CgroupError."""
        for hierarchy in self._used:
            try:
                (hierarchy.base / self._root).mkdir(parents=True, exist_ok=True)
                if self.is_v2:
                    (hierarchy.base / self._root / _SUPERVISORS).mkdir(exist_ok=True)
                elif not os.access(hierarchy.base / self._root, os.W_OK):
                    raise PermissionError(13, "not writable")
            except OSError as error:
                raise CgroupError(f"{hierarchy.base / self._root}: {error.strerror}") from error
        if self.is_v2:
            self._hand_down()

    def _hand_down(self) -> None:
        """Enable controllers from the base to the root, one by one: each may be refused alone."""
        base = self._used[0].base
        levels = [base]
        for part in Path(self._root).parts:
            levels.append(levels[-1] / part)
        for level in levels:
            _enable(level)

    def _enabled(self, below: str = "") -> set[str]:
        """Controllers that limit what is directly below the root, or `below` that."""
        try:
            directory = self._used[0].base / self._root / below
            text = (directory / "cgroup.subtree_control").read_text()
        except OSError:
            return set()
        return set(text.replace("+", " ").split()) & set(_V2_CONTROLLERS)

    def create(self, container_id: str, limits: Limits, within: Limits | None = None) -> RunCgroups:
        """Make the cgroups of a run with its limits. Raises CgroupError, nothing being left.

        `within`: limits of the executor that a nested one is below, which are made or changed.
        """
        try:
            self._make_above(container_id, within)
            for directory in self._directories(container_id):
                directory.mkdir(parents=True, exist_ok=True)
            self._limit(container_id, limits, is_new=True)
        except (OSError, CgroupError) as error:
            self.destroy(container_id)
            if isinstance(error, OSError):
                raise CgroupError(f"{error.filename}: {error.strerror}") from error
            raise
        return self.of(container_id)

    def _make_above(self, container_id: str, within: Limits | None) -> None:
        """What a nested container is below; on v2 with its controllers handed down, where no
        process of its own keeps it from that."""
        parent_id = container_id.rpartition(".")[0]
        if not parent_id:
            return
        is_new = False
        for directory in self._directories(parent_id):
            is_new = is_new or not directory.exists()
            directory.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(CgroupError):  # none, or always on: not of every kernel
                if is_new:
                    write(directory / "memory.use_hierarchy", "1")
            (directory / _BELOW).mkdir(exist_ok=True)
        if within is not None:
            self._limit(parent_id, within, is_new=is_new, as_one=False)
        if self.is_v2:
            top = self._directories(parent_id)[0]
            for level in (top, top / _BELOW):
                _enable(level)

    def of(self, container_id: str) -> RunCgroups:
        """The cgroups of a run, whether or not they exist."""
        tops = [h.base / self._root for h in self._used]
        memory = self._directory("memory", container_id)
        events = "memory.events" if self.is_v2 else "memory.oom_control"
        return RunCgroups(
            cgroups=tuple(str(path) for path in self._directories(container_id)),
            supervisor_cgroups=tuple(
                str(top / _SUPERVISORS if self.is_v2 else top) for top in tops
            ),
            oom_events=str(memory / events) if memory is not None else None,
        )

    def update(self, container_id: str, limits: Limits) -> None:
        """Change the limits of a running run; the memory limit is never set below what is in use.

        Nothing happens where it has no cgroups (any more). Raises CgroupError. Source: Mesos
        `cgroups/mem` (spec: §8.7).
        """
        if self.exists(container_id):
            self._limit(container_id, limits, is_new=False)

    def exists(self, container_id: str) -> bool:
        """Whether a run has cgroups."""
        return self._directories(container_id)[0].exists()

    def names(self) -> set[str]:
        """Names that have a cgroup below the root, whoever made them."""
        found = set()
        for hierarchy in self._used:
            top = hierarchy.base / self._root
            if top.is_dir():
                found |= {entry.name for entry in top.iterdir() if entry.is_dir()}
        return found - {_SUPERVISORS}

    def orphans(self, ours: Iterable[str], live: AbstractSet[str]) -> set[str]:
        """Of the runs that this agent made, those that are not live and still have a cgroup."""
        return (self.names() & set(ours)) - live

    def destroy(self, container_id: str) -> None:
        """Kill everything in the cgroups of a run, nested ones too, and remove them.

        Nothing happens where there are none. Raises CgroupError if processes do not end within
        10 s (they hang in the kernel). Blocks.
        """
        deadline = time.monotonic() + _PATIENCE_S
        left = self._nested(container_id)
        while True:
            for directory in left:
                kill_cgroup(str(directory))
            for directory in left:
                _remove(directory)
            left = self._nested(container_id)
            if not left:
                return
            if time.monotonic() > deadline:
                raise CgroupError(f"{left[0]}: processes in it do not end")
            time.sleep(_ROUND_S)  # on the disk thread, for the kernel to finish them

    def _nested(self, container_id: str) -> list[Path]:
        """The run's directories that exist, deepest first."""
        tops = self._directories(container_id)
        if "." in container_id:  # as nested ones were made before they were nested here, too
            tops += [h.base / self._root / container_id for h in self._used]
        return [Path(directory) for top in tops for directory, _, _ in os.walk(top, topdown=False)]

    def _directories(self, container_id: str) -> list[Path]:
        parts = container_id.split(".")
        if not all(parts) or "/" in container_id or container_id == _SUPERVISORS:
            raise CgroupError(f"container id {container_id!r} cannot name a cgroup")
        return [h.base / self._root / _path_of(container_id) for h in self._used]

    def _directory(self, controller: str, container_id: str) -> Path | None:
        """Where the files of a controller are for a run; None if it is not available."""
        path = _path_of(container_id)
        if self.is_v2:
            above = path.rpartition("/")[0]
            has = controller in self._enabled(above)
            return self._used[0].base / self._root / path if has else None
        for hierarchy in self._used:
            if controller in hierarchy.controllers:
                return hierarchy.base / self._root / path
        return None

    # -- limits -------------------------------------------------------------------------------

    def _limit(
        self, container_id: str, limits: Limits, *, is_new: bool, as_one: bool = True
    ) -> None:
        cpu = self._directory("cpu", container_id)
        if cpu is not None and "cpu" in self._limiting:
            limit_cpu(cpu, limits, is_v2=self.is_v2)
        memory = self._directory("memory", container_id)
        if memory is not None and "memory" in self._limiting:
            limit_memory(
                memory,
                limits,
                is_v2=self.is_v2,
                is_new=is_new,
                as_one=as_one,
                with_swap=self._with_swap,
            )
        pids = self._directory("pids", container_id)
        if pids is not None and "pids" in self._limiting:
            write(pids / "pids.max", "max" if limits.pids is None else str(limits.pids))

    # -- measuring ----------------------------------------------------------------------------

    def file(self, controller: str, container_id: str, name: str) -> str | None:
        """Text of a controller's file of a run; None if there is none (any more)."""
        directory = self._directory(controller, container_id)
        try:
            return (directory / name).read_text() if directory is not None else None
        except OSError:
            return None

    def memory_peak_bytes(self, container_id: str) -> int | None:
        """Most memory that the run ever used; None if it was not measured."""
        name = "memory.peak" if self.is_v2 else "memory.max_usage_in_bytes"
        text = self.file("memory", container_id, name)
        return int(text) if text is not None else None


def _path_of(container_id: str) -> str:
    return f"/{_BELOW}/".join(container_id.split("."))


def _enable(level: Path) -> None:
    """Hand the controllers of a cgroup down (v2), one by one: each may be refused alone."""
    for controller in sorted(_v2_controllers(level)):
        try:
            write(level / "cgroup.subtree_control", f"+{controller}")
        except CgroupError:
            # Busy: PID 1 of a container sits in the base itself. `describe` tells which
            # controllers are left, and limits of the others are not set.
            continue


def _remove(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # processes are still leaving it; the caller looks again
