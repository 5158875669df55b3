"""What the Marathon core is told, and what it tells its shell.

Commands carry a `request` number: each is answered by exactly one `Reply` with that number.
`Tick`, `WallClock`, `Saved`, `Save`, `Note` and `Exit` are those of `base.core`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mesostk.base.core import Effect, Event
from mesostk.marathon.health import ProbeOutcome
from mesostk.marathon.instances import InstanceId
from mesostk.wire import scheduler
from mesostk.wire.marathon import StreamEvent
from mesostk.wire.mesos import FrameworkID, FrameworkInfo, MasterInfo

# -- events: the world ------------------------------------------------------------------------


class Loaded(Event, frozen=True):
    """This process leads and owns the store; `records` is all that is in it, by path."""

    records: Mapping[str, bytes]


class Connected(Event, frozen=True):
    """Subscribed at a master; calls get through, what was sent before may be lost."""

    framework_id: FrameworkID
    master: MasterInfo | None = None


class FromMaster(Event, frozen=True):
    """One event of the scheduler stream, after `Connected`."""

    event: scheduler.Event


class Disconnected(Event, frozen=True):
    """The scheduler stream broke; calls are dropped until the next SUBSCRIBED."""

    reason: str = ""


class InfoAnswered(Event, frozen=True):
    """The master took the last UPDATE_FRAMEWORK, or refused it and changed nothing."""

    refusal: str | None


class ProbeResult(Event, frozen=True):
    """What probe `index` of an instance saw; `status` and `body` are kept for readiness checks."""

    instance_id: InstanceId
    index: int
    outcome: ProbeOutcome
    status: int | None = None
    content_type: str = ""
    body: str = ""


# -- events: commands of the API --------------------------------------------------------------


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asked, for answers, events and the history: peer address, path, `http://host:port`.

    `user` proved itself; `forwarded_for` is only what the peer says of whom it asks for.
    """

    client_ip: str = "127.0.0.1"
    uri: str = ""
    base_url: str = ""
    method: str = ""
    user: str | None = None
    forwarded_for: str | None = None


class Command(Event, frozen=True, kw_only=True):
    """Base of the commands; `request` names the waiting HTTP request.

    A deployment that it begins and that is not done after `timeout_s` is rolled back.
    """

    request: int
    caller: Caller = Caller()
    force: bool = False
    timeout_s: float | None = None


class CreateApp(Command, frozen=True, kw_only=True):
    """`POST /v2/apps`: `body` is the decoded JSON object; `dry_run` only tells what would be."""

    body: Mapping[str, object]
    dry_run: bool = False


class PutApps(Command, frozen=True, kw_only=True):
    """`PUT`/`PATCH` of one app (`app_id` from the path) or of an array of them.

    `partial`: absent keys keep their value. `may_create` is False for PATCH. `dry_run` only tells
    what would be. Without `may_restart`, a change that needs new instances is refused.
    """

    bodies: tuple[Mapping[str, object], ...]
    app_id: str | None = None
    partial: bool = True
    may_create: bool = True
    dry_run: bool = False
    may_restart: bool = True


class DeleteApp(Command, frozen=True, kw_only=True):
    """`DELETE /v2/apps/{id}`."""

    app_id: str


class RestartApp(Command, frozen=True, kw_only=True):
    """`POST /v2/apps/{id}/restart`."""

    app_id: str


class KillTasks(Command, frozen=True, kw_only=True):
    """Kill tasks by id, or those of one app (`host` None or `*` = everywhere).

    `scale` also lowers the app's `instances`. `one` asks for the answer of a single task.
    """

    app_id: str | None = None
    task_ids: tuple[str, ...] | None = None
    host: str | None = None
    scale: bool = False
    wipe: bool = False
    one: bool = False


class ChangeGroup(Command, frozen=True, kw_only=True):
    """`POST` (`create`) or `PUT /v2/groups/{id}`; with `dry_run` only the steps are answered."""

    group_id: str
    body: Mapping[str, object]
    create: bool = False
    dry_run: bool = False


class PatchGroup(Command, frozen=True, kw_only=True):
    """`PATCH /v2/groups/{id}`: whether a top-level group enforces its role."""

    group_id: str
    body: Mapping[str, object]


class DeleteGroup(Command, frozen=True, kw_only=True):
    """`DELETE /v2/groups/{id}`; the root is emptied, not removed."""

    group_id: str


class DeleteDeployment(Command, frozen=True, kw_only=True):
    """`force`: cancel and leave all as it is; else a new deployment reverts what it did."""

    deployment_id: str


class Evacuate(Command, frozen=True, kw_only=True):
    """Replace every instance of an agent elsewhere, the replacement first; `cancel`: no longer."""

    agent_id: str
    cancel: bool = False


class ResetDelay(Command, frozen=True, kw_only=True):
    """`DELETE /v2/queue/{id}/delay`."""

    app_id: str


class CreatePod(Command, frozen=True, kw_only=True):
    """`POST /v2/pods`; `dry_run` only tells what would be."""

    body: Mapping[str, object]
    dry_run: bool = False


class PutPod(Command, frozen=True, kw_only=True):
    """`PUT /v2/pods/{id}`; `dry_run` and `may_restart` as for apps."""

    pod_id: str
    body: Mapping[str, object]
    dry_run: bool = False
    may_restart: bool = True


class DeletePod(Command, frozen=True, kw_only=True):
    """`DELETE /v2/pods/{id}`."""

    pod_id: str


class KillInstances(Command, frozen=True, kw_only=True):
    """`DELETE /v2/pods/{id}::instances`; `one` asks for the answer of a single instance."""

    pod_id: str
    instance_ids: tuple[str, ...]
    one: bool = False
    wipe: bool = False


class AddCallback(Command, frozen=True, kw_only=True):
    """`POST /v2/eventSubscriptions`: send every event to `url`, too."""

    url: str


class RemoveCallback(Command, frozen=True, kw_only=True):
    """`DELETE /v2/eventSubscriptions`."""

    url: str


class Abdicate(Command, frozen=True, kw_only=True):
    """`DELETE /v2/leader`: URIs that the next leader writes a backup to, and restores one from."""

    backup: str | None = None
    restore: str | None = None


# -- effects ----------------------------------------------------------------------------------


class Subscribe(Effect, frozen=True):
    """Start the scheduler driver; it subscribes, again and again, with the id last given."""

    framework_info: FrameworkInfo


class ChangeInfo(Effect, frozen=True):
    """Subscribe as this the next time; the master of now is told by a call."""

    framework_info: FrameworkInfo


class Send(Effect, frozen=True):
    """One scheduler call; the driver adds the framework id and drops it while disconnected."""

    call: scheduler.Call


class Reply(Effect, frozen=True, kw_only=True):
    """Answer request `request`; `body` is a wire record, a dict, a list or None."""

    request: int
    status: int
    body: object = None
    headers: Mapping[str, str] = {}


class Emit(Effect, frozen=True):
    """Send one event to every subscriber of `/v2/events`."""

    event: StreamEvent


class SetCallbacks(Effect, frozen=True):
    """POST every event to these URLs from now on, and to no others."""

    urls: tuple[str, ...]


class Probe(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing to probe, and how often; times in seconds.

    HTTP: GET `scheme://host:port path`. TCP: a connection that opens. `ready_codes` makes it a
    readiness check: only these statuses are good, and the answer's head is reported.
    """

    index: int
    kind: str
    host: str
    port: int
    path: str = "/"
    first_s: float
    interval_s: float
    timeout_s: float
    ignore_1xx: bool = False
    ready_codes: tuple[int, ...] | None = None


class StartProbes(Effect, frozen=True):
    """Probe an instance from now on, each probe at its interval; replaces what ran for it."""

    instance_id: InstanceId
    probes: tuple[Probe, ...]


class StopProbes(Effect, frozen=True):
    """Probe an instance no longer; results under way are dropped."""

    instance_id: InstanceId
