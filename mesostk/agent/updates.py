"""Status update streams: each update of a task reaches the framework, in order, at least once.

::

    new ─▶ append UPDATE ─▶ Saved ─▶ first of its task? send ─▶ ACK ─▶ append ACK ─▶ Saved ─▶ next
                                          └─ resend after 10 s, 20 s … 10 min, and at each link

A disk that refuses an append does not silence a task: the update goes out all the same and the
worst outcome is an update told twice after a restart, which the protocol allows.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from mesostk.agent import layout
from mesostk.agent.events import Append, SendUp, UpdateRecord
from mesostk.agent.state import Pending, Run, State, Stream, TaskEntry, TaskKey
from mesostk.agent.state import Timer as TimerBase
from mesostk.agent.state import Wait as WaitBase
from mesostk.base.core import Effect, note
from mesostk.wire.link import Acknowledge, StatusUpdate, StatusUpdates
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    ContainerID,
    ContainerStatus,
    FrameworkID,
    IPAddress,
    NetworkInfo,
    StatusReason,
    StatusSource,
    TaskInfo,
    TaskState,
    TaskStatus,
)

#: Source: Mesos src/slave/constants.hpp, STATUS_UPDATE_RETRY_INTERVAL_MIN and _MAX (spec §8.5).
RETRY_MIN_S = 10.0
RETRY_MAX_S = 600.0

#: Updates in one record; a bound on its size, 64 of them are some 50 KB.
BATCH = 64

#: Statuses kept of a task for `/state` and for the master after its failover.
STATUSES_KEPT = 4


class UpdateSaved(WaitBase, frozen=True):
    """The UPDATE record with `uuid` is on disk."""

    key: TaskKey
    uuid: bytes


class AckSaved(WaitBase, frozen=True):
    """The ACK record of the first pending update is on disk."""

    key: TaskKey
    uuid: bytes


class Resend(TimerBase, frozen=True):
    """Sending number `sending` of a stream has waited long enough for its acknowledgement."""

    key: TaskKey
    sending: int


def updates_path(state: State, run: Run, task_id: str) -> str | None:
    """Where updates of a task are appended, None when its run has no records."""
    if not run.on_disk:
        return None
    where = layout.task_dir(
        state.own_id.value, run.framework_id, run.executor_id, run.container_id, task_id
    )
    return f"{where}/task.updates"


def container_id_of(text: str) -> ContainerID:
    """The container of a run; that of a task group's task, `parent.child`, names its parent."""
    parent, dot, own = text.rpartition(".")
    return ContainerID(own, ContainerID(parent) if dot else None)


def make_status(
    state: State,
    now: float,
    run: Run,
    entry: TaskEntry,
    task_state: TaskState,
    *,
    source: StatusSource = "SOURCE_EXECUTOR",
    reason: StatusReason | None = None,
    message: str | None = None,
    data: bytes | None = None,
) -> TaskStatus:
    """A status of a task as the framework will see it, with a new uuid."""
    ips = run.ips or (state.settings.ip,)
    addresses = tuple(IPAddress(ip_address=ip) for ip in ips)
    return TaskStatus(
        task_id=entry.info.task_id,
        state=task_state,
        message=message,
        source=source,
        reason=reason,
        data=data,
        agent_id=state.own_id,
        executor_id=run.executor.executor_id,
        timestamp=state.wall(now),
        uuid=state.new_uuid(),
        healthy=entry.healthy,
        check_status=run.general.result if run.general is not None else None,
        labels=entry.info.labels if source == "SOURCE_EXECUTOR" else None,
        container_status=ContainerStatus(
            container_id=container_id_of(run.container_id),
            network_infos=(_network_of(entry.info, addresses),),
            executor_pid=run.pid,
        ),
    )


def _network_of(task: TaskInfo, addresses: tuple[IPAddress, ...]) -> NetworkInfo:
    """What the framework asked of the network, with the addresses that came of it.

    Source: Mesos' docker executor copies the first entry of `container.network_infos`.
    """
    asked = task.container.network_infos if task.container is not None else ()
    return replace(asked[0] if asked else NetworkInfo(), ip_addresses=addresses)


def report(
    state: State, now: float, run: Run, entry: TaskEntry, status: TaskStatus
) -> list[Effect]:
    """Take `status` as the task's latest and see that it reaches the framework."""
    state.count("valid_status_updates")
    entry.state = status.state
    entry.statuses = [*entry.statuses[1 - STATUSES_KEPT :], status]
    key = (run.framework_id, entry.info.task_id.value)
    stream = state.streams.get(key)
    if stream is None:
        stream = Stream(key=key, path=updates_path(state, run, key[1]), retry_s=RETRY_MIN_S)
        state.streams[key] = stream
    if status.state in TERMINAL_STATES:
        state.count(status.state.lower().replace("task_", "tasks_"))
        if run.is_custom or run.parent_id is not None:
            state.resized.add(run.container_id if run.parent_id is None else run.parent_id)
    said = {"reason": status.reason, "message": status.message}
    told = {name: text for name, text in said.items() if text is not None}
    effects: list[Effect] = [
        note("Updating", task=key[1], framework=key[0], state=status.state, **told)
    ]
    return effects + append(state, now, stream, status)


def answer(state: State, now: float, key: TaskKey, status: TaskStatus) -> list[Effect]:
    """Send `status` for a task that is not here, until acknowledged; it is recorded nowhere."""
    stream = Stream(key=key, path=None, retry_s=RETRY_MIN_S)
    state.streams[key] = stream
    return append(state, now, stream, status)


def append(state: State, now: float, stream: Stream, status: TaskStatus) -> list[Effect]:
    """Queue `status`; it goes out once it is on disk and those before it are acknowledged."""
    assert status.uuid is not None
    update = StatusUpdate(
        framework_id=FrameworkID(stream.key[0]), status=status, latest_state=status.state
    )
    stream.pending.append(Pending(update=update, saved=stream.path is None))
    if stream.path is None:
        return send_first(state, now, stream)
    record = layout.frame(UpdateRecord(type="UPDATE", update=update))
    saved = UpdateSaved(stream.key, status.uuid)
    return [state.save(saved, Append(stream.path, record))]


def update_saved(state: State, now: float, what: UpdateSaved, error: str | None) -> list[Effect]:
    """The update may be shown now; also when the disk refused it (see the module's text)."""
    stream = state.streams.get(what.key)
    if stream is None:
        return []
    for pending in stream.pending:
        if pending.update.status.uuid == what.uuid:
            pending.saved = True
    effects = _complain(what.key, error)
    return effects + send_first(state, now, stream)


def _complain(key: TaskKey, error: str | None) -> list[Effect]:
    if error is None:
        return []
    return [note("Unrecorded", level="ERROR", task=key[1], framework=key[0], error=error)]


def send_first(state: State, now: float, stream: Stream) -> list[Effect]:
    """Send the oldest update, unless it is on its way, not on disk yet, or there is no link."""
    if not stream.pending or stream.sent or stream.acking or not state.connected:
        return []
    first = stream.pending[0]
    if not first.saved or state.link is None:
        return []
    stream.sent = True
    _arm(state, now, stream)
    return [SendUp(state.link, StatusUpdates(updates=(_outgoing(stream),)))]


def _outgoing(stream: Stream) -> StatusUpdate:
    """The oldest update; the latest state tells the master about those still behind it."""
    first, last = stream.pending[0].update, stream.pending[-1].update
    if first is last:
        return first
    return StatusUpdate(
        framework_id=first.framework_id,
        status=first.status,
        latest_state=last.status.state,
    )


def _arm(state: State, now: float, stream: Stream) -> None:
    stream.sendings += 1
    state.call_at(now + stream.retry_s, Resend(stream.key, stream.sendings))


def resend(state: State, now: float, timer: Resend) -> list[Effect]:
    """Send the update again, if it is still the one that waits; then wait twice as long."""
    stream = state.streams.get(timer.key)
    if stream is None or not stream.sent or stream.sendings != timer.sending:
        return []
    stream.retry_s = min(2 * stream.retry_s, RETRY_MAX_S)
    stream.sent = False
    return send_first(state, now, stream)


def link_lost(state: State) -> None:
    """Nothing is on its way any more; timers of what was are ignored from here."""
    for stream in state.streams.values():
        stream.sent = False
        stream.sendings += 1
        stream.retry_s = RETRY_MIN_S


def send_all(state: State, now: float) -> list[Effect]:
    """On a new link: the oldest update of each task, many to a record."""
    ready = [
        stream
        for stream in state.streams.values()
        if stream.pending and stream.pending[0].saved and not stream.sent and not stream.acking
    ]
    effects: list[Effect] = []
    if state.link is None:
        return effects
    for at in range(0, len(ready), BATCH):
        batch = ready[at : at + BATCH]
        for stream in batch:
            stream.sent = True
            _arm(state, now, stream)
        updates = tuple(_outgoing(stream) for stream in batch)
        effects.append(SendUp(state.link, StatusUpdates(updates=updates)))
    return effects


def acknowledged(state: State, now: float, ack: Acknowledge) -> tuple[list[Effect], TaskKey | None]:
    """Record an acknowledgement; of any but the oldest update it is ignored (spec §8.5).

    The key is that of a stream which is at its end by this.
    """
    key = (ack.framework_id.value, ack.task_id.value)
    stream = state.streams.get(key)
    if stream is None or not stream.pending or stream.acking:
        return [], None
    if stream.pending[0].update.status.uuid != ack.uuid or not stream.pending[0].saved:
        return [], None
    if stream.path is None:
        return _next(state, now, stream)
    stream.acking = True
    record = layout.frame(UpdateRecord(type="ACK", uuid=ack.uuid))
    return [state.save(AckSaved(key, ack.uuid), Append(stream.path, record))], None


def ack_saved(
    state: State, now: float, what: AckSaved, error: str | None
) -> tuple[list[Effect], TaskKey | None]:
    """Go on to the next update of the task; the key is set when there can be no more."""
    stream = state.streams.get(what.key)
    if stream is None or not stream.acking:
        return [], None
    effects, ended = _next(state, now, stream)
    return _complain(what.key, error) + effects, ended


def _next(state: State, now: float, stream: Stream) -> tuple[list[Effect], TaskKey | None]:
    done = stream.pending.popleft()
    stream.acking = stream.sent = False
    stream.sendings += 1
    stream.retry_s = RETRY_MIN_S
    if done.update.status.state in TERMINAL_STATES and not stream.pending:
        del state.streams[stream.key]
        return [], stream.key
    return send_first(state, now, stream), None


def replay(key: TaskKey, path: str, records: Iterable[UpdateRecord]) -> Stream | None:
    """The stream as `records` leave it; None when its terminal update was acknowledged."""
    stream = Stream(key=key, path=path, retry_s=RETRY_MIN_S)
    for record in records:
        if record.type == "UPDATE" and record.update is not None:
            stream.pending.append(Pending(update=record.update, saved=True))
        elif stream.pending and stream.pending[0].update.status.uuid == record.uuid:
            done = stream.pending.popleft()
            if done.update.status.state in TERMINAL_STATES:
                return None
    return stream
