"""The mutable state of the core, and the turn in which one event is handled.

Only the core's handlers write here. What is counted (running, healthy, locked) is derived from the
instances and deployments each time; the indices by app and by task are checked by `core.check`.
"""

from __future__ import annotations

import math
import random
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from mesostk.base.core import Delete, Effect, Note, Op, Put, Save, note
from mesostk.marathon import apps, pods, repository
from mesostk.marathon.events import Emit, Reply, Send
from mesostk.marathon.grouprecords import ShardKey
from mesostk.marathon.groups import EMPTY, Group
from mesostk.marathon.health import CheckHealth, overall
from mesostk.marathon.instances import Instance, InstanceId
from mesostk.marathon.queue import BackOff, Delays, Hunger, Reasons, Tokens
from mesostk.marathon.refusal import Refused
from mesostk.marathon.repository import Deployment
from mesostk.marathon.residence import Residence
from mesostk.marathon.timestamps import iso
from mesostk.wire import scheduler
from mesostk.wire.marathon import (
    LEADER_PROBED,
    Action,
    AppDefinition,
    AuditEntry,
    GroupNode,
    GroupShard,
    ReadinessCheckResult,
    StreamEvent,
    TaskFailure,
)
from mesostk.wire.mesos import FrameworkId
from mesostk.wire.pods import TerminationHistory

#: Below the 500 operations that the store puts in one atomic write.
OPS_PER_SAVE = 400

#: Below the 512 KB that the store puts in one atomic write.
BYTES_PER_SAVE = 400_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the flags decide for the core; durations in seconds. Defaults: spec/marathon §4.2."""

    framework_name: str = "marathon"
    user: str = "root"
    hostname: str = "localhost"
    webui_url: str = "http://localhost:8080"
    principal: str | None = None
    role: str = "*"
    #: Whether new top-level groups make their name the role of what is new in them.
    enforce_new_groups: bool = False
    failover_timeout_s: float = 604_800.0
    checkpoint: bool = True
    local_port_min: int = 10_000
    local_port_max: int = 20_000
    default_network_name: str | None = None
    bridge_name: str = "mesos-bridge"
    executor: str = "//cmd"
    env_vars_prefix: str | None = None
    features: frozenset[str] = frozenset()
    max_apps: int | None = None
    decline_offer_duration_s: float = 120.0
    min_revive_interval_s: float = 5.0
    max_instances_per_offer: int = 5
    launch_tokens: int = 100
    launch_token_refresh_s: float = 30.0
    launch_confirm_timeout_s: float = 300.0
    launch_timeout_s: float = 300.0
    reconciliation_interval_s: float = 600.0
    kill_chunk_size: int = 100
    kill_retry_s: float = 30.0
    kill_drain_s: float = 2.0
    max_running_deployments: int = 100
    max_versions: int = 50
    draining_s: float = 0.0
    maintenance_mode: bool = True
    role_behaviour: Literal["any", "reserved", "unreserved"] = "any"
    gpus_are_scarce: bool = True
    #: Whether events may be sent to URLs, and to which they always are.
    callbacks: bool = False
    http_endpoints: tuple[str, ...] = ()
    #: How long the history is kept; 0 keeps none.
    audit_s: float = 30 * 86_400.0


class Want(msgspec.Struct, kw_only=True):
    """An app that waits for offers: `count` more instances of `app`, wanted since (wall)."""

    app: AppDefinition
    count: int
    since_at: float


class RoleRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why the master does not have Marathon in a role, since when (monotonic).

    `is_due`: the master may have changed, so it is asked again.
    """

    reason: str
    since_s: float
    is_due: bool = False


class Waiting(msgspec.Struct, kw_only=True):
    """What an app's action waits for, unchanged since `since_s` (monotonic); `told`: as stalled."""

    reason: str
    since_s: float
    told: bool = False


class Kill(msgspec.Struct, gc=False):
    """A kill under way; monotonic times: no KILL before `due_at`, the last one was at `sent`."""

    sent: float | None = None
    due_at: float = -math.inf


class Turn:
    """What handling one event decided: operations to save, and effects that wait for them."""

    def __init__(self, now: float, wall_s: float) -> None:
        self.now = now
        self.wall_s = wall_s
        self.prepared: list[Op] = []
        self.ops: list[Op] = []
        self.effects: list[Effect] = []
        self.notes: list[Note] = []

    def put(self, path: str, data: bytes) -> None:
        """Write a record in this event's commit."""
        self.ops.append(Put(path, data))

    def delete(self, path: str) -> None:
        """Remove a record in this event's commit."""
        self.ops.append(Delete(path))

    def prepare(self, ops: Iterable[Op]) -> None:
        """Write records before the commit; nothing refers to them until it."""
        self.prepared.extend(ops)

    def send(self, call: scheduler.Call) -> None:
        """Send a scheduler call once all that was decided so far is durable."""
        self.effects.append(Send(call))

    def emit(self, event: StreamEvent) -> None:
        """Tell the subscribers of `/v2/events`."""
        self.effects.append(Emit(event))

    def reply(
        self,
        request: int,
        status: int,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer a request once all that was decided so far is durable."""
        named = {} if headers is None else headers
        self.effects.append(Reply(request=request, status=status, body=body, headers=named))

    def refuse(self, request: int, refused: Refused) -> None:
        """Answer a request with the refusal's own status and body."""
        self.effects.append(Reply(request=request, status=refused.status, body=refused.body()))

    def perform(self, effect: Effect) -> None:
        """Any other effect, in order with the rest."""
        self.effects.append(effect)

    def note(self, verb: str, /, level: str = "INFO", **fields: object) -> None:
        """One log line."""
        self.notes.append(note(verb, level, **fields))

    @property
    def at(self) -> str:
        """The wall time of this event as it is written everywhere."""
        return iso(self.wall_s)


class State(msgspec.Struct, eq=False):
    """Everything the leader knows; the core makes it with its settings and its generator."""

    settings: Settings
    rng: random.Random
    #: These three follow from the settings.
    app_settings: apps.Settings = apps.DEFAULT_SETTINGS
    tokens: Tokens = msgspec.field(default_factory=lambda: Tokens(0, 0.0))
    #: The roles that Marathon is subscribed in.
    roles: frozenset[str] = frozenset()
    now: float = 0.0
    offset_s: float = 0.0
    #: The latest version given to anything; the next one is later.
    last_version: str | None = None
    loaded: bool = False
    framework_id: FrameworkId | None = None
    connected: bool = False
    was_registered: bool = False
    root: Group = EMPTY
    #: The apps of `root`, by id.
    apps: dict[str, AppDefinition] = {}
    #: Their roles.
    app_roles: frozenset[str] = frozenset()
    #: The roles before the UPDATE_FRAMEWORK under way; None while there is none.
    roles_before: frozenset[str] | None = None
    #: The roles that the master refuses.
    refused_roles: dict[str, RoleRefusal] = {}
    #: Every stored version of every app, and of every group.
    versions: dict[str, dict[str, AppDefinition]] = {}
    group_versions: dict[str, dict[str, GroupNode]] = {}
    #: The parts of very wide groups, in every stored version.
    shards: dict[ShardKey, GroupShard] = {}
    deployments: dict[str, Deployment] = {}
    #: Index of the step that each deployment is at; not stored, found again after a failover.
    position: dict[str, int] = {}
    #: What each deployment does to an app, with the step: thousands of apps may be in one.
    actions: dict[str, dict[str, list[tuple[int, Action]]]] = {}
    #: Which deployment holds an app.
    locks: dict[str, str] = {}
    #: Why an app's action is not done yet; absent when it is.
    waiting: dict[str, Waiting] = {}
    #: Safe paths of apps with unreadable records: their instances are left alone.
    quarantined: set[str] = set()
    instances: dict[InstanceId, Instance] = {}
    #: Where instances keep data, by the id of the instances.
    residences: dict[InstanceId, Residence] = {}
    #: Their ids by app, and the roles of those that offers are asked for: to give them back, or to
    #: find out about them.
    homes: dict[str, dict[InstanceId, None]] = {}
    awaited: dict[InstanceId, str] = {}
    #: Since when lost ones are looked for; monotonic time. Absent of those no longer looked for.
    lost_since: dict[InstanceId, float] = {}
    #: Monotonic time at which each instance entered its condition.
    entered: dict[InstanceId, float] = {}
    by_app: dict[str, dict[InstanceId, None]] = {}
    by_task: dict[str, InstanceId] = {}
    #: Apps to be compared with what is wanted of them before this event ends.
    dirty: set[str] = set()
    #: Monotonic time at which a large app was compared last, and the next such time.
    settled_at: dict[str, float] = {}
    settle_at: float | None = None
    wants: dict[str, Want] = {}
    #: Apps whose want changed since offers were asked for last.
    reconsider: set[str] = set()
    reasons: dict[str, Reasons] = {}
    hunger: Hunger = msgspec.field(default_factory=Hunger)
    delays: Delays = msgspec.field(default_factory=Delays)
    unconfirmed: set[InstanceId] = set()
    kills: dict[InstanceId, Kill] = {}
    health: dict[InstanceId, list[CheckHealth]] = {}
    probed: set[InstanceId] = set()
    ready: set[InstanceId] = set()
    readiness: dict[InstanceId, ReadinessCheckResult] = {}
    failures: dict[str, TaskFailure] = {}
    #: The last instances of each pod that ended, for people to read.
    terminations: dict[str, deque[TerminationHistory]] = {}
    #: Who changed what, by time, oldest first.
    audit: dict[str, AuditEntry] = {}
    #: Where every event is sent, by wish of clients.
    callback_urls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        settings = self.settings
        self.app_settings = apps.Settings(
            default_network_name=settings.default_network_name,
            bridge_name=settings.bridge_name,
            features=settings.features,
            role=settings.role,
            enforce_new_groups=settings.enforce_new_groups,
        )
        self.tokens = Tokens(settings.launch_tokens, settings.launch_token_refresh_s)
        self.roles = frozenset({settings.role})

    def put_instance(self, turn: Turn, instance: Instance) -> None:
        """Take an instance in, or a changed one, and write it."""
        old = self.instances.get(instance.id)
        if old is None or old.since != instance.since:
            self.entered[instance.id] = turn.now
        self.index(instance)
        turn.put(repository.instance_path(instance.id), repository.write(instance))
        if old is None or not old.is_staged or not instance.is_staged or old.goal != instance.goal:
            self.dirty.add(instance.app_id)

    def index(self, instance: Instance) -> None:
        """Take an instance in without writing it: it was just read."""
        self.instances[instance.id] = instance
        self.by_app.setdefault(instance.app_id, {})[instance.id] = None
        for task_id in instance.task_ids:
            self.by_task[task_id] = instance.id

    def drop_instance(self, turn: Turn, instance: Instance) -> None:
        """Forget an instance; if its task turns up again it is unknown, and killed."""
        del self.instances[instance.id]
        del self.entered[instance.id]
        of_app = self.by_app[instance.app_id]
        del of_app[instance.id]
        if not of_app:
            del self.by_app[instance.app_id]
            self.settled_at.pop(instance.app_id, None)
        for task_id in instance.task_ids:
            del self.by_task[task_id]
        for memory in (self.kills, self.health, self.readiness):
            memory.pop(instance.id, None)
        self.unconfirmed.discard(instance.id)
        self.ready.discard(instance.id)
        turn.delete(repository.instance_path(instance.id))
        self.dirty.add(instance.app_id)

    @property
    def wall_s(self) -> float:
        """Wall time of the event being handled."""
        return self.now + self.offset_s

    def deployments_of(self, app_id: str) -> list[str]:
        """Ids of the deployments that hold an app."""
        return [self.locks[app_id]] if app_id in self.locks else []

    def of_app(self, app_id: str) -> list[Instance]:
        """The instances of an app, oldest record first."""
        return [self.instances[id] for id in self.by_app.get(app_id, ())]

    def on_agent(self, agent_id: str) -> list[Instance]:
        """The instances on an agent, oldest record first."""
        return [each for each in self.instances.values() if each.agent_id == agent_id]

    def app_of(self, instance: Instance) -> AppDefinition | None:
        """The definition an instance was launched with; None if that version is gone."""
        return self.versions.get(instance.app_id, {}).get(instance.version)

    def health_of(self, instance: Instance) -> bool | None:
        """Healthy, unhealthy, or not known; the agent's own checks count as the leader's do."""
        app = self.app_of(instance)
        if app is not None and app.pod is not None:
            return pods.health(app, instance)
        if app is None or not app.health_checks:
            return None
        known = list(self.health.get(instance.id, ()))
        probed = [check for check in app.health_checks if check.protocol in LEADER_PROBED]
        known += [CheckHealth()] * (len(probed) - len(known))
        if len(probed) < len(app.health_checks):
            known.append(CheckHealth(alive=instance.agent_health))
        return overall(known)

    def new_uuid(self) -> str:
        """A random uuid from the core's own generator."""
        return str(uuid.UUID(bytes=self.rng.randbytes(16), version=4))


def back_off_of(app: AppDefinition) -> BackOff:
    """An app's launch-delay settings."""
    return BackOff(
        first_s=app.backoff_seconds,
        factor=app.backoff_factor,
        longest_s=app.max_launch_delay_seconds,
    )


def chunks(ops: Sequence[Op]) -> list[tuple[Op, ...]]:
    """`ops` in order, cut where one atomic write of the store would be too large."""
    pieces: list[tuple[Op, ...]] = []
    piece: list[Op] = []
    size = 0
    for op in ops:
        weight = len(op.path) + (len(op.data) if isinstance(op, Put) else 0)
        if piece and (len(piece) >= OPS_PER_SAVE or size + weight > BYTES_PER_SAVE):
            pieces.append(tuple(piece))
            piece, size = [], 0
        piece.append(op)
        size += weight
    if piece:
        pieces.append(tuple(piece))
    return pieces


class Outbox:
    """Holds effects back until every save asked for before them is done.

    Saves are applied in order and a failed one ends the process, so one queue is enough: effects
    wait for the newest save there was when they were decided.
    """

    def __init__(self) -> None:
        self._next_token = 1
        self._held: dict[int, list[Effect]] = {}

    def release(self, turn: Turn) -> list[Effect]:
        """The turn's effects that may leave now, and the saves that the rest wait for."""
        out: list[Effect] = list(turn.notes)
        for piece in chunks(turn.prepared) + chunks(turn.ops):
            token = self._next_token
            self._next_token += 1
            self._held[token] = []
            out.append(Save(token, piece))
        if not self._held:
            return out + turn.effects
        self._held[next(reversed(self._held))].extend(turn.effects)
        return out

    def saved(self, token: int) -> list[Effect]:
        """What waited for `token`; nothing for a token that is not awaited."""
        return self._held.pop(token, [])

    @property
    def waiting(self) -> int:
        """How many saves are under way."""
        return len(self._held)
