"""Instances that keep data: reservations and persistent volumes, and their return to the cluster.

::

    want ─▶ a free residence in this offer? ─▶ LAUNCH on it, incarnation + 1
             └─ none is free anywhere ─▶ RESERVE, CREATE, LAUNCH in one ACCEPT ─▶ a Residence, saved
    task ends, app is scaled down ─▶ the residence waits, data and all
    app deleted, task wiped, agent gone ─▶ leaving ─▶ DESTROY, UNRESERVE on the next offer of it

A reservation that carries our framework id and that no residence stands for is given back, too: its
record was lost, or its launch never took place. Source: spec/marathon §3.11.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesostk.marathon import apps, matcher, paths, repository, taskinfo
from mesostk.marathon.instances import Instance, InstanceId
from mesostk.marathon.matcher import Match, NoMatch
from mesostk.marathon.residence import FRAMEWORK_LABEL, TASK_LABEL, Residence, label_of
from mesostk.marathon.state import State, Turn, Want
from mesostk.resources import scalar
from mesostk.resources.kinds import Kind
from mesostk.resources.resources import Resources
from mesostk.wire import mesos
from mesostk.wire.marathon import AppDefinition, LocalVolume, Volume


class Home(msgspec.Struct, frozen=True):
    """Where a resident instance may be launched, and the operations that make the place."""

    residence: Residence
    match: Match
    operations: tuple[mesos.OfferOperation, ...] = ()


def of_app(state: State, app_id: str) -> list[Residence]:
    """The residences of an app that are kept."""
    return [r for r in state.residences.values() if r.app_id == app_id and not r.is_leaving]


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
    if len(free) >= want.count:
        return NoMatch(
            reason="NoCorrespondingReservationFound",
            detail=f"waits for its volumes on {', '.join(sorted({r.host for r in free}))}",
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


def keep(state: State, turn: Turn, residence: Residence) -> None:
    """Take a residence in, or a changed one, and write it."""
    state.residences[residence.id] = residence
    turn.put(repository.residence_path(residence.id), repository.write(residence))


def follow(state: State, turn: Turn, instance: Instance) -> None:
    """A resident instance changed: its place is confirmed, or was never there, or is gone."""
    residence = state.residences.get(instance.id)
    if residence is None:
        return
    if instance.is_running and not residence.is_confirmed:
        keep(state, turn, msgspec.structs.replace(residence, is_confirmed=True))
    lost = instance.is_terminal and not residence.is_confirmed
    if lost or instance.state == "TASK_GONE_BY_OPERATOR":
        turn.note("Giving up residence", id=residence.id, host=residence.host)
        forget(state, turn, residence)


def forget(state: State, turn: Turn, residence: Residence) -> None:
    """Strike a residence out; if its reservation turns up, it is given back."""
    del state.residences[residence.id]
    turn.delete(repository.residence_path(residence.id))


def leave(state: State, turn: Turn, residences: Sequence[Residence]) -> None:
    """Give these back once no instance lives there: the data is destroyed."""
    for residence in residences:
        turn.note("Leaving residence", id=residence.id, host=residence.host)
        keep(state, turn, msgspec.structs.replace(residence, is_leaving=True))


def given_back(state: State, turn: Turn, offer: mesos.Offer) -> tuple[mesos.OfferOperation, ...]:
    """DESTROY and UNRESERVE for what is in the offer and nobody's home any more."""
    if not any(each.reservations or each.reservation is not None for each in offer.resources):
        return ()  # nearly every offer
    left = Resources.of(offer.resources)
    ours = left.filter(lambda kind: label_of(kind, FRAMEWORK_LABEL) == state.framework_id)
    if not ours:
        return ()
    over = ours.filter(lambda kind: _is_over(state, kind))
    for id in {label_of(kind, TASK_LABEL) for kind, _ in over.items()}:
        residence = state.residences.get(InstanceId(id or ""))
        turn.note("Giving back", id=id, host=offer.hostname)
        if residence is not None:
            _shrink(state, turn, residence, _part(over, residence.id))
    operations = []
    volumes = over.persistent_volumes()
    if volumes:
        destroy = mesos.Destroy(volumes=_wire(volumes))
        operations.append(mesos.OfferOperation(type="DESTROY", destroy=destroy))
    plain = over - volumes
    for kind, amount in volumes.items():
        plain += Resources({kind.replace(disk=None): amount})
    if plain:
        unreserve = mesos.Unreserve(resources=_wire(plain))
        operations.append(mesos.OfferOperation(type="UNRESERVE", unreserve=unreserve))
    return tuple(operations)


def _shrink(state: State, turn: Turn, residence: Residence, part: Resources) -> None:
    """A part of a residence is given back; the rest is waited for.

    What a pod's executor held is offered after what its tasks did.
    """
    rest = Resources.of(residence.resources).unallocate() - part.unallocate()
    if rest:
        keep(state, turn, msgspec.structs.replace(residence, resources=_wire(rest)))
    else:
        forget(state, turn, residence)


def _is_over(state: State, kind: Kind) -> bool:
    id = InstanceId(label_of(kind, TASK_LABEL) or "")
    residence = state.residences.get(id)
    return id not in state.instances and (residence is None or residence.is_leaving)


def leaving(state: State) -> int:
    """How many residences wait for an offer in which they can be given back."""
    return sum(1 for residence in state.residences.values() if residence.is_leaving)
