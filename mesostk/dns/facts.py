"""What DNS needs to know of a cluster, and the changes that tell it.

Whoever watches a master makes these; `zone.Zone` turns them into names. They are sent to worker
processes as they are, so all have a tag.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class Agent(msgspec.Struct, frozen=True, gc=False):
    """An agent at `host` (an address, or a name to be resolved) and `port`."""

    id: str
    host: str
    port: int


class Framework(msgspec.Struct, frozen=True, gc=False):
    """A framework whose scheduler is at `host`; `port` only if it speaks libprocess."""

    id: str
    name: str
    host: str = ""
    port: int | None = None


class Port(msgspec.Struct, frozen=True, gc=False):
    """A port of a task's DiscoveryInfo."""

    number: int
    name: str = ""
    protocol: str = ""


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task that is not over; only one that `is_running` has names.

    `netinfo`, `docker`, `mesos`: its addresses by source, of the latest running status.
    """

    id: str
    name: str
    framework_id: str
    agent_id: str
    is_running: bool
    ports: tuple[int, ...] = ()
    discovery_name: str = ""
    discovery_ports: tuple[Port, ...] = ()
    netinfo: tuple[str, ...] = ()
    docker: tuple[str, ...] = ()
    mesos: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Task ids are unique within their framework only."""
        return (self.framework_id, self.id)


class Masters(msgspec.Struct, frozen=True, tag=True):
    """The leading master, and all masters in order, as `ip:port`; None: not known."""

    leader: str | None
    members: tuple[str, ...] = ()


class AgentPut(msgspec.Struct, frozen=True, tag=True):
    agent: Agent


class AgentGone(msgspec.Struct, frozen=True, tag=True):
    """With it go its tasks."""

    agent_id: str


class FrameworkPut(msgspec.Struct, frozen=True, tag=True):
    framework: Framework


class FrameworkGone(msgspec.Struct, frozen=True, tag=True):
    """With it go its tasks."""

    framework_id: str


class TaskPut(msgspec.Struct, frozen=True, tag=True):
    task: Task


class TaskGone(msgspec.Struct, frozen=True, tag=True):
    framework_id: str
    task_id: str


class Resolved(msgspec.Struct, frozen=True, tag=True):
    """The addresses of a host that was known by name; empty if it has none."""

    host: str
    ips: tuple[str, ...]


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """Everything a master knows, but tasks of `missing_agents`.

    Those are agents that a new leader waits for: what ran on them is not told yet, and is kept.
    """

    agents: tuple[Agent, ...]
    frameworks: tuple[Framework, ...]
    tasks: tuple[Task, ...]
    missing_agents: frozenset[str] = frozenset()


Change = (
    Masters
    | AgentPut
    | AgentGone
    | FrameworkPut
    | FrameworkGone
    | TaskPut
    | TaskGone
    | Resolved
    | Snapshot
)

#: Takes one change in.
Feed = Callable[[Change], None]
