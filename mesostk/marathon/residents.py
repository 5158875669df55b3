"""Instances that keep data: reservations and persistent volumes, and their return to the cluster.

::

    want ─▶ a free residence in this offer? ─▶ LAUNCH on it, incarnation + 1
             └─ none is free anywhere ─▶ RESERVE, CREATE, LAUNCH in one ACCEPT ─▶ a Residence, saved
    task ends, app is scaled down ─▶ the residence waits, data and all
    app deleted, task wiped ─▶ leaving ─▶ DESTROY, UNRESERVE on the next offer of it ─▶ lost
    launch failed, agent gone ─▶ leaving and lost; nobody knows whether a task ran there ─▶ lost
    lost: nothing waits for it; offers are asked for it for a while, and if it turns up it is kept
    or, if it is leaving, given back (again)

A reservation that carries our framework id and that no residence stands for is given back, too: its
record was lost, or its launch never took place. Source: spec/marathon §3.11.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesostk.marathon import apps, matcher, paths, repository, taskinfo
from mesostk.marathon.instances import Condition, Instance, InstanceId
from mesostk.marathon.matcher import Match, NoMatch
from mesostk.marathon.residence import FRAMEWORK_LABEL, TASK_LABEL, Residence, label_of
from mesostk.marathon.state import State, Turn, Want
from mesostk.resources import scalar
from mesostk.resources.kinds import Kind
from mesostk.resources.resources import Resources
from mesostk.wire import mesos
from mesostk.wire.marathon import AppDefinition, LocalVolume, Volume

#: How long offers are asked for lost places, for an agent that is started again is back by then;
#: seconds.
LOST_S = 300.0


#: Ends of tasks that may have run unheard.
_UNSEEN = frozenset({Condition.GONE, Condition.UNKNOWN})


class Home(msgspec.Struct, frozen=True):
    """Where a resident instance may be launched, and the operations that make the place."""

    residence: Residence
    match: Match
    operations: tuple[mesos.OfferOperation, ...] = ()


def of_app(state: State, app_id: str) -> list[Residence]:
    """The residences of an app that are kept."""
    kept = (state.residences[id] for id in state.homes.get(app_id, ()))
    return [residence for residence in kept if not residence.is_leaving]


def find_home(
    state: State,
    turn: Turn,
    want: Want,
    offer: mesos.Offer,
    left: Resources,
    match: Match | NoMatch,
    role: str,
) -> Home | NoMatch:
    """A place in `offer` for one more instance; `match` is what a new one would take.

    `role` is the offer's: places that were made in another role than the app has now are kept.
    """
    free = [r for r in of_app(state, want.app.id) if r.id not in state.instances]
    for residence in free:
        part = _part(left, residence.id)
        if _holds(part, residence):
            return Home(_again(residence, offer), _match(residence, part, left, offer))
    known = [residence for residence in free if not residence.is_lost]
    if len(known) >= want.count:
        return NoMatch(
            reason="NoCorrespondingReservationFound",
            detail=f"waits for its volumes on {', '.join(sorted({r.host for r in known}))}",
        )
    if want.app.role not in {None, role}:
        return NoMatch(reason="UnfulfilledRole", detail=f"the offer is for role {role}")
    return match if isinstance(match, NoMatch) else _new(state, turn, want.app, offer, match)


def _part(left: Resources, id: str) -> Resources:
    return left.filter(lambda kind: label_of(kind, TASK_LABEL) == id)


def without_homes(left: Resources) -> Resources:
    """What is not reserved for a resident: others may not settle there while it is away."""
    return left.filter(lambda kind: label_of(kind, TASK_LABEL) is None)


def _holds(part: Resources, residence: Residence) -> bool:
    return part.unallocate().contains(Resources.of(residence.resources).unallocate())


def _again(residence: Residence, offer: mesos.Offer) -> Residence:
    # An agent that had to begin anew, as after maintenance, has another id and still the volumes.
    return msgspec.structs.replace(
        residence,
        incarnation=residence.incarnation + 1,
        agent_id=offer.agent_id.value,
        host=offer.hostname,
        is_lost=False,
    )


def _match(residence: Residence, part: Resources, left: Resources, offer: mesos.Offer) -> Match:
    ports = residence.ports
    return Match(
        resources=part,
        left=left - part,
        ports=ports,
        seen=tuple(port for port in ports if port is not None),
        placement=matcher.placement_of(offer),
    )


def _new(state: State, turn: Turn, app: AppDefinition, offer: mesos.Offer, match: Match) -> Home:
    id = InstanceId(taskinfo.instance_id(app.id, state.new_uuid()))
    settings = state.settings
    labels = (
        mesos.Label(key=FRAMEWORK_LABEL, value=state.framework_id),
        mesos.Label(key=TASK_LABEL, value=id),
    )
    reservation = mesos.ReservationInfo(
        type="DYNAMIC",
        role=settings.role if app.role is None else app.role,
        principal=settings.principal,
        labels=mesos.Labels(labels=labels),
    )
    reserved = match.resources.push_reservation(reservation)
    volumes = [_volume(state, app, volume) for volume in apps.persistent_volumes(app)]
    held = reserved
    for size, disk, _ in volumes:
        taken = matcher.take(held, "disk", scalar.from_float(float(size)))
        assert taken is not None  # the match was for the sum
        [(kind, _amount)] = taken.items()
        held = held - Resources(taken) + Resources({kind.replace(disk=disk): taken[kind]})
    created = held.persistent_volumes()
    operations = (
        mesos.OfferOperation(type="RESERVE", reserve=mesos.Reserve(resources=_wire(reserved))),
        mesos.OfferOperation(type="CREATE", create=mesos.Create(volumes=_wire(created))),
    )
    residence = Residence(
        id=id,
        app_id=app.id,
        agent_id=offer.agent_id.value,
        host=offer.hostname,
        ports=match.ports,
        resources=_wire(held.unallocate()),
        volumes=tuple(view for _, _, view in volumes),
        created_at=turn.wall_s,
    )
    return Home(residence, msgspec.structs.replace(match, resources=held), operations)


def _wire(resources: Resources) -> tuple[mesos.Resource, ...]:
    # PRE: the framework does not claim RESERVATION_REFINEMENT
    return resources.to_wire("PRE")


def _volume(
    state: State, app: AppDefinition, volume: Volume
) -> tuple[int, mesos.DiskInfo, LocalVolume]:
    assert volume.persistent is not None  # the caller chose those
    unique = state.new_uuid()
    name = f"{paths.safe(app.id)}#{volume.container_path}#{unique}"
    disk = mesos.DiskInfo(
        persistence=mesos.Persistence(id=name, principal=state.settings.principal),
        volume=mesos.Volume(mode="RW", container_path=volume.container_path),
    )
    view = LocalVolume(
        run_spec_id=app.id,
        container_path=volume.container_path,
        uuid=unique,
        persistence_id=name,
    )
    return volume.persistent.size, disk, view


# -- what becomes of them ---------------------------------------------------------------------


def index(state: State, now: float, residence: Residence) -> None:
    """Take a residence in without writing it: it was just read."""
    id = residence.id
    state.residences[id] = residence
    state.homes.setdefault(residence.app_id, {})[id] = None
    if residence.is_lost:
        state.lost_since.setdefault(id, now)
    else:
        state.lost_since.pop(id, None)
    if residence.is_lost or residence.is_leaving:
        state.awaited[id] = residence.role
    else:
        state.awaited.pop(id, None)


def keep(state: State, turn: Turn, residence: Residence) -> None:
    """Take a residence in, or a changed one, and write it."""
    index(state, turn.now, residence)
    turn.put(repository.residence_path(residence.id), repository.write(residence))


def follow(state: State, turn: Turn, instance: Instance, status: mesos.TaskStatus) -> None:
    """A resident instance changed by `status`: its place is confirmed, or never was, or is gone."""
    residence = state.residences.get(instance.id)
    if residence is None:
        return
    if instance.is_running and not residence.is_confirmed:
        keep(state, turn, msgspec.structs.replace(residence, is_confirmed=True))
    if instance.state == "TASK_GONE_BY_OPERATOR":
        _lose(state, turn, msgspec.structs.replace(residence, is_leaving=True))
    elif instance.is_terminal and not residence.is_confirmed:
        # An agent that lost its records to a power cut knows nothing of what ran there.
        is_unseen = instance.condition in _UNSEEN or status.reason == "REASON_RECONCILIATION"
        is_leaving = residence.is_leaving or not is_unseen
        _lose(state, turn, msgspec.structs.replace(residence, is_leaving=is_leaving))


def expunged(state: State, turn: Turn, instance: Instance) -> None:
    """Nobody waits for an unreachable instance any more.

    If none was seen to run there may be no place to wait for either.
    """
    residence = state.residences.get(instance.id)
    if residence is not None and not residence.is_confirmed:
        _lose(state, turn, residence)


def _lose(state: State, turn: Turn, residence: Residence) -> None:
    """Let nothing wait for the place; it is looked for, from now on."""
    turn.note("Losing residence", id=residence.id, host=residence.host)
    state.lost_since[residence.id] = turn.now
    keep(state, turn, msgspec.structs.replace(residence, is_lost=True))


def _found(state: State, turn: Turn, ours: Resources) -> None:
    """Lost places of which all is offered are there again; those without volumes are given back.

    What is offered in part is left alone, for the rest may follow: of a pod its executor's.
    """
    for residence in [state.residences.get(InstanceId(id)) for id in _ids(ours)]:
        if residence is None or not residence.is_lost or residence.id in state.instances:
            continue
        part = _part(ours, residence.id)
        if _holds(part, residence):
            turn.note("Finding residence", id=residence.id, host=residence.host)
            there = msgspec.structs.replace(residence, is_lost=False, is_confirmed=True)
            keep(state, turn, there)
        elif part.unallocate().contains(_without_volumes(residence)):
            reserved = _wire(_without_volumes(residence))
            half = msgspec.structs.replace(residence, is_leaving=True, resources=reserved)
            keep(state, turn, half)


def _without_volumes(residence: Residence) -> Resources:
    """What there is if RESERVE reached the agent, and CREATE did not."""
    held = Resources.of(residence.resources).unallocate()
    volumes = held.persistent_volumes()
    return held - volumes + _emptied(volumes)


def _emptied(volumes: Resources) -> Resources:
    """The reserved disk that volumes are made of."""
    return Resources.of([msgspec.structs.replace(each, disk=None) for each in _wire(volumes)])


def search_anew(state: State, now: float) -> None:
    """A new subscription: agents come back to its master, and all is offered again."""
    state.lost_since = dict.fromkeys(state.lost_since, now)


def stop_searches(state: State, turn: Turn) -> None:
    """Ask for no more offers for places that did not turn up in time.

    What was to be given back is struck out. Another place may have data of a task that ran unheard:
    it is kept, if it turns up after all, as long as its app is there.
    """
    over = [id for id, since in state.lost_since.items() if turn.now - since >= LOST_S]
    for id in over:
        residence = state.residences[id]
        turn.note("Looking no longer for residence", id=id, host=residence.host)
        if residence.is_leaving:
            forget(state, turn, residence)
        else:
            del state.lost_since[id], state.awaited[id]


def forget(state: State, turn: Turn, residence: Residence) -> None:
    """Strike a residence out; if its reservation turns up, it is given back."""
    del state.residences[residence.id]
    of_app = state.homes[residence.app_id]
    del of_app[residence.id]
    if not of_app:
        del state.homes[residence.app_id]
    state.lost_since.pop(residence.id, None)
    state.awaited.pop(residence.id, None)
    turn.delete(repository.residence_path(residence.id))


def leave(state: State, turn: Turn, residences: Sequence[Residence]) -> None:
    """Give these back once no instance lives there: the data is destroyed."""
    for residence in residences:
        turn.note("Leaving residence", id=residence.id, host=residence.host)
        state.lost_since.pop(residence.id, None)  # if it is lost, it is looked for from now on
        keep(state, turn, msgspec.structs.replace(residence, is_leaving=True))


def given_back(state: State, turn: Turn, offer: mesos.Offer) -> tuple[mesos.OfferOperation, ...]:
    """DESTROY and UNRESERVE for what is in the offer and nobody's home any more."""
    if not any(each.reservations or each.reservation is not None for each in offer.resources):
        return ()  # nearly every offer
    left = Resources.of(offer.resources)
    ours = left.filter(lambda kind: label_of(kind, FRAMEWORK_LABEL) == state.framework_id)
    if not ours:
        return ()
    _found(state, turn, ours)
    over = ours.filter(lambda kind: _is_over(state, kind))
    for id in _ids(over):
        residence = state.residences.get(InstanceId(id))
        turn.note("Giving back", id=id, host=offer.hostname)
        if residence is not None:
            _shrink(state, turn, residence, _part(over, residence.id))
    operations = []
    volumes = over.persistent_volumes()
    if volumes:
        destroy = mesos.Destroy(volumes=_wire(volumes))
        operations.append(mesos.OfferOperation(type="DESTROY", destroy=destroy))
    plain = over - volumes + _emptied(volumes)
    if plain:
        unreserve = mesos.Unreserve(resources=_wire(plain))
        operations.append(mesos.OfferOperation(type="UNRESERVE", unreserve=unreserve))
    return tuple(operations)


def _ids(ours: Resources) -> list[str]:
    return sorted({label_of(kind, TASK_LABEL) or "" for kind, _ in ours.items()})


def _shrink(state: State, turn: Turn, residence: Residence, part: Resources) -> None:
    """A part of a residence is given back; the rest is waited for.

    What a pod's executor held is offered after what its tasks did.
    """
    rest = Resources.of(residence.resources).unallocate() - part.unallocate()
    if rest:
        keep(state, turn, msgspec.structs.replace(residence, resources=_wire(rest)))
    else:
        # The ACCEPT may be lost on its way: then all of it is offered once more.
        state.lost_since[residence.id] = turn.now
        keep(state, turn, msgspec.structs.replace(residence, is_lost=True))


def _is_over(state: State, kind: Kind) -> bool:
    id = InstanceId(label_of(kind, TASK_LABEL) or "")
    residence = state.residences.get(id)
    return id not in state.instances and (residence is None or residence.is_leaving)
