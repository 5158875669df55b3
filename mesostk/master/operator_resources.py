"""RESERVE_RESOURCES, CREATE_VOLUMES and their like: operators change what an agent has.

Offers that hold what is needed are rescinded, just enough of them. Source: spec/mesos.md §4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mesostk.errors import WireError
from mesostk.master import conversion_rules, converting, offers
from mesostk.master.conversion_rules import Asker
from mesostk.master.events import OperatorCalled, Reply
from mesostk.master.permits import may_convert
from mesostk.master.state import Agent
from mesostk.resources import conversions
from mesostk.resources.resources import Resources
from mesostk.wire import operator
from mesostk.wire.mesos import (
    Create,
    Destroy,
    GrowVolume,
    OfferOperation,
    Reserve,
    ShrinkVolume,
    Unreserve,
)

if TYPE_CHECKING:
    from mesostk.master.core import Master


def called(master: Master, now: float, event: OperatorCalled) -> None:
    """A call of `OPERATIONS`: 202 once it is on its way, 400 or 409 with the reason."""
    call = event.call
    assert call.type is not None
    body: Any = getattr(call, call.type.lower())
    status, why = _perform(master, now, body, OPERATIONS[call.type](body), event.principal)
    master.emit(Reply(event.request, status, why))


def _perform(
    master: Master, now: float, body: Any, operation: OfferOperation, principal: str | None
) -> tuple[int, str]:
    if body.agent_id is None:
        return 400, "Expecting 'agent_id' to be present"
    agent = master.agents.get(body.agent_id.value)
    if agent is None:
        return 400, "No agent found with specified ID"
    if agent.stream is None:
        return 409, f"Agent '{agent.id}' is not connected; try again when it is back"
    try:
        why = conversion_rules.why_not(operation, Asker(principal), agent)
        conversion = conversions.of(converting.for_agent(operation)) if why is None else why
    except WireError as error:
        conversion = str(error)
    if isinstance(conversion, str):
        return 400, (
            f"Invalid {operation.type} operation on agent {agent.id} at {agent.pid}"
            f" ({agent.info.hostname}): {conversion}"
        )
    if not may_convert(master.config.acls, operation, principal):
        return 403, "403 Forbidden."
    refusal = _make_free(master, now, agent, conversion.consumed)
    if refusal is not None:
        return 409, refusal
    converting.book(master, agent, None, operation, conversion)
    offers.end_destroyed(master, now, agent)
    master.allocator.mark(agent.id, now)
    return 202, ""


def _make_free(master: Master, now: float, agent: Agent, needed: Resources) -> str | None:
    """Rescind offers until `needed` is free; or why that does not help, and none is rescinded."""
    free, ending = agent.free, []
    for offer_id in sorted(agent.offers):
        missing = needed - free
        if not missing:
            break
        offered = master.offers[offer_id].resources.unallocate()
        if missing - offered != missing:
            free += offered.non_shared()
            ending.append(master.offers[offer_id])
    if not free.contains(needed):
        return f"{free} does not contain {needed}"
    for offer in ending:
        offers.end(master, now, offer, rescind=True)
        offers.refuse(master, now, offer, offer.resources, None)
    return None


def _reserve(body: operator.ReserveResources) -> OfferOperation:
    return OfferOperation(
        type="RESERVE", reserve=Reserve(source=body.source, resources=body.resources)
    )


def _unreserve(body: operator.UnreserveResources) -> OfferOperation:
    return OfferOperation(type="UNRESERVE", unreserve=Unreserve(resources=body.resources))


def _create(body: operator.Volumes) -> OfferOperation:
    return OfferOperation(type="CREATE", create=Create(volumes=body.volumes))


def _destroy(body: operator.Volumes) -> OfferOperation:
    return OfferOperation(type="DESTROY", destroy=Destroy(volumes=body.volumes))


def _grow(body: operator.GrowVolume) -> OfferOperation:
    resized = GrowVolume(volume=body.volume, addition=body.addition)
    return OfferOperation(type="GROW_VOLUME", grow_volume=resized)


def _shrink(body: operator.ShrinkVolume) -> OfferOperation:
    resized = ShrinkVolume(volume=body.volume, subtract=body.subtract)
    return OfferOperation(type="SHRINK_VOLUME", shrink_volume=resized)


OPERATIONS: dict[str, Callable[[Any], OfferOperation]] = {
    "RESERVE_RESOURCES": _reserve,
    "UNRESERVE_RESOURCES": _unreserve,
    "CREATE_VOLUMES": _create,
    "DESTROY_VOLUMES": _destroy,
    "GROW_VOLUME": _grow,
    "SHRINK_VOLUME": _shrink,
}
