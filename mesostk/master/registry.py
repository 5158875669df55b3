"""The durable part of the master: records, their paths and the operations on them.

::

    agents/<xx>/<agent id>        AgentRecord        admitted
    unreachable/<xx>/<agent id>   UnreachableRecord  did not answer; may come back
    gone/<xx>/<agent id>          GoneRecord         never comes back
    maintenance                   MaintenanceRecord  what is scheduled, and which machines are down
    quotas                        QuotasRecord       guarantees and limits of roles
    weights                       WeightsRecord      shares of roles, as operators set them

`<xx>` is one of 256 buckets by hash, so that no directory of 10,000 children has to be listed.
An agent's id is in exactly one of the three; each operation moves it in one atomic `Save`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping

import msgspec

from mesostk.base.core import Delete, Op, Put
from mesostk.errors import WireError
from mesostk.resources import scalar
from mesostk.wire import json
from mesostk.wire.maintenance import Schedule
from mesostk.wire.mesos import AgentID, AgentInfo, DrainInfo, MachineID, Message, TimeInfo
from mesostk.wire.quota import QuotaConfig

AGENTS, UNREACHABLE, GONE = "agents", "unreachable", "gone"
WEIGHTS = "weights"
QUOTAS = "quotas"
MAINTENANCE = "maintenance"


class AgentRecord(Message, frozen=True, kw_only=True):
    """An admitted agent, and what operators decided about it."""

    info: AgentInfo
    ip: str
    deactivated: bool = False
    drain_info: DrainInfo | None = None


class UnreachableRecord(Message, frozen=True, kw_only=True):
    """`time`: when it was marked. Operators' decisions outlive the partition."""

    id: AgentID
    time: TimeInfo
    deactivated: bool = False
    drain_info: DrainInfo | None = None


class GoneRecord(Message, frozen=True, kw_only=True):
    id: AgentID
    time: TimeInfo


class WeightsRecord(Message, frozen=True, kw_only=True):
    """Weight by role."""

    weights: dict[str, float]


class QuotasRecord(Message, frozen=True, kw_only=True):
    """Quota of each role that has any."""

    quotas: tuple[QuotaConfig, ...] = ()


class MaintenanceRecord(Message, frozen=True, kw_only=True):
    """The schedule, and those of its machines that are down."""

    schedule: Schedule = Schedule()
    down: tuple[MachineID, ...] = ()


class Registry(msgspec.Struct):
    """What the store holds, by agent id; `unreadable` lists paths that were set aside."""

    agents: dict[str, AgentRecord] = msgspec.field(default_factory=dict)
    unreachable: dict[str, UnreachableRecord] = msgspec.field(default_factory=dict)
    gone: dict[str, GoneRecord] = msgspec.field(default_factory=dict)
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    quotas: dict[str, QuotaConfig] = msgspec.field(default_factory=dict)
    maintenance: MaintenanceRecord = MaintenanceRecord()
    unreadable: list[tuple[str, str]] = msgspec.field(default_factory=list)


def path(kind: str, agent_id: str) -> str:
    """Where the record of an agent lives, relative to the store's root."""
    return f"{kind}/{zlib.crc32(agent_id.encode()) & 0xFF:02x}/{agent_id}"


def load(records: Mapping[str, bytes]) -> Registry:
    """Every record that can be read; the others are named with the reason, and left alone."""
    registry = Registry()
    for where, data in sorted(records.items()):
        kind, _, rest = where.partition("/")
        agent_id = rest.rpartition("/")[2]
        try:
            if kind == AGENTS:
                registry.agents[agent_id] = json.decode(data, AgentRecord)
            elif kind == UNREACHABLE:
                registry.unreachable[agent_id] = json.decode(data, UnreachableRecord)
            elif kind == GONE:
                registry.gone[agent_id] = json.decode(data, GoneRecord)
            elif kind == WEIGHTS:
                registry.weights = _weights(json.decode(data, WeightsRecord))
            elif kind == MAINTENANCE:
                registry.maintenance = json.decode(data, MaintenanceRecord)
            elif kind == QUOTAS:
                registry.quotas = _quotas(json.decode(data, QuotasRecord))
        except WireError as exc:
            registry.unreadable.append((where, str(exc)))
    return registry


def _weights(record: WeightsRecord) -> dict[str, float]:
    """Raises WireError for what no operator could have set: the allocator divides by it."""
    for role, weight in record.weights.items():
        if not 0 < weight < math.inf:
            raise WireError(f"the weight of {role!r} is {weight}, not a number above 0")
    return record.weights


def _quotas(record: QuotasRecord) -> dict[str, QuotaConfig]:
    """Raises WireError for amounts that are none."""
    for config in record.quotas:
        for amount in (*config.guarantees.values(), *config.limits.values()):
            scalar.from_float(amount.value)
    return {config.role: config for config in record.quotas}


def admit(agent_id: str, record: AgentRecord) -> tuple[Op, ...]:
    """Makes the agent a member, wherever it was before; also updates what is known of it."""
    return (
        Put(path(AGENTS, agent_id), json.encode(record)),
        Delete(path(UNREACHABLE, agent_id)),
    )


def update(agent_id: str, record: AgentRecord) -> tuple[Op, ...]:
    """New contents for a member."""
    return (Put(path(AGENTS, agent_id), json.encode(record)),)


def mark_unreachable(record: UnreachableRecord) -> tuple[Op, ...]:
    """The member did not answer for too long."""
    return (
        Delete(path(AGENTS, record.id.value)),
        Put(path(UNREACHABLE, record.id.value), json.encode(record)),
    )


def mark_gone(record: GoneRecord) -> tuple[Op, ...]:
    """The agent, member or unreachable, never comes back."""
    return (
        Delete(path(AGENTS, record.id.value)),
        Delete(path(UNREACHABLE, record.id.value)),
        Put(path(GONE, record.id.value), json.encode(record)),
    )


def remove(agent_id: str) -> tuple[Op, ...]:
    """Forget a member: another agent took its place."""
    return (Delete(path(AGENTS, agent_id)),)


def set_weights(weights: Mapping[str, float]) -> tuple[Op, ...]:
    """All weights that operators have set."""
    return (Put(WEIGHTS, json.encode(WeightsRecord(weights=dict(weights)))),)


def set_quotas(quotas: tuple[QuotaConfig, ...]) -> tuple[Op, ...]:
    """All quotas."""
    return (Put(QUOTAS, json.encode(QuotasRecord(quotas=quotas))),)


def set_maintenance(record: MaintenanceRecord) -> tuple[Op, ...]:
    """Schedule and machines that are down."""
    return (Put(MAINTENANCE, json.encode(record)),)


def expired(times: Iterable[tuple[str, float]], oldest_at: float, max_count: int) -> list[str]:
    """Ids to drop from the unreachable or gone list: too old, or beyond the newest `max_count`.

    `times` are (id, seconds since the epoch), `oldest_at` likewise.
    """
    newest_first = sorted(times, key=lambda item: (-item[1], item[0]))
    return [
        agent_id
        for position, (agent_id, at) in enumerate(newest_first)
        if at < oldest_at or position >= max_count
    ]


def prune(kind: str, agent_ids: Iterable[str]) -> tuple[Op, ...]:
    return tuple(Delete(path(kind, agent_id)) for agent_id in agent_ids)
