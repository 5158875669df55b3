"""From offers to launches, and from wants to asking for offers.

::

    OFFERS ─▶ each wanted app that may launch now ─▶ matcher ─▶ Instance saved ─▶ ACCEPT
                                                       └─ no ─▶ booked as a reason ─▶ DECLINE
    wants grow ─▶ REVIVE (few a minute, once more a little later) · nothing wanted ─▶ SUPPRESS

The instance is durable before the ACCEPT leaves, so a crash between the two leaves a record whose
task the master does not know; reconciliation then clears it. Source: spec/marathon §3.8, §3.9.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesostk.marathon import apps, groups, matcher, paths, podinfo, residents, taskinfo
from mesostk.marathon.constraints import Placement
from mesostk.marathon.instances import Goal, Instance, InstanceId, PodTask
from mesostk.marathon.matcher import Match, NoMatch, Rules
from mesostk.marathon.queue import REVIVE_BURST, Hunger, Reasons
from mesostk.marathon.residents import Home
from mesostk.marathon.state import State, Turn, Want
from mesostk.marathon.versions import config_version
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.mesos import Filters, Launch, Offer, OfferID, OfferOperation, TaskInfo

#: With more apps waiting than this, each offer is shown to some of them, drawn anew: matching all
#: would keep the loop busy for too long.
MATCHES_PER_OFFER = 300

#: Stands among the apps that offers are asked for; no app has that id.
LEAVING = ""

#: An offer whose rest is still wanted comes back with the master's next allocation.
AT_ONCE_S = 0.0


def subscribed(state: State) -> None:
    """A new subscription starts with all roles revived and no filters."""
    state.hunger = Hunger(
        counts=dict(state.hunger.counts),
        credits=state.hunger.credits,
        credited_at=state.hunger.credited_at,
    )


def hungry(state: State, now: float) -> dict[str, Want]:
    """The wants that may be launched now: out of their back-off, with launch tokens left."""
    if state.tokens.available(now) <= 0:
        return {}
    return {id: want for id, want in state.wants.items() if _is_hungry(state, want, now)}


def _is_hungry(state: State, want: Want, now: float) -> bool:
    key = (want.app.id, config_version(want.app))
    return want.count > 0 and state.delays.until(key, now) <= now


# -- offers -----------------------------------------------------------------------------------


def on_offers(state: State, turn: Turn, offers: Sequence[Offer]) -> None:
    """Use what suits, decline the rest in one call."""
    declined = []
    leaving = {each.agent_id for each in state.instances.values() if each.is_leaving}
    for offer in offers:
        if offer.agent_id.value in leaving:
            _refuse_evacuated(state, turn, offer)
            declined.append(offer.id)
            continue
        given_back = residents.given_back(state, turn, offer)
        if given_back:
            _send_accept(turn, offer, given_back, AT_ONCE_S)
            continue
        launches = _launches(state, turn, offer)
        if launches:
            _accept(state, turn, offer, launches)
        else:
            declined.append(offer.id)
    if declined:
        seconds = state.settings.decline_offer_duration_s
        turn.send(
            scheduler.Call(
                type="DECLINE",
                decline=scheduler.Decline(
                    offer_ids=tuple(declined), filters=Filters(refuse_seconds=seconds)
                ),
            )
        )


def _refuse_evacuated(state: State, turn: Turn, offer: Offer) -> None:
    why = NoMatch(reason="AgentMaintenance", detail=f"{offer.hostname} is being evacuated")
    for app_id in hungry(state, turn.now):
        reasons_of(state, app_id).refused(offer, why, turn.at)


#: An app's task, or the operations that launch a pod or make the place of a resident first.
Launchable = TaskInfo | tuple[OfferOperation, ...]


def _accept(state: State, turn: Turn, offer: Offer, launches: Sequence[Launchable]) -> None:
    still_wanted = bool(hungry(state, turn.now))
    seconds = AT_ONCE_S if still_wanted else state.settings.decline_offer_duration_s
    tasks = tuple(each for each in launches if isinstance(each, TaskInfo))
    operations = [op for each in launches if isinstance(each, tuple) for op in each]
    if tasks:
        operations.insert(0, OfferOperation(type="LAUNCH", launch=Launch(task_infos=tasks)))
    _send_accept(turn, offer, operations, seconds)


def _send_accept(
    turn: Turn, offer: Offer, operations: Sequence[OfferOperation], seconds: float
) -> None:
    turn.send(
        scheduler.Call(
            type="ACCEPT",
            accept=scheduler.Accept(
                offer_ids=(OfferID(offer.id.value),),
                operations=tuple(operations),
                filters=Filters(refuse_seconds=seconds),
            ),
        )
    )


def _launches(state: State, turn: Turn, offer: Offer) -> list[Launchable]:
    """What is launched on one offer: pass after pass over the wanted apps, in random order."""
    left = Resources.of(offer.resources)
    rules = rules_of(state)
    tasks: list[Launchable] = []
    candidates = list(hungry(state, turn.now))
    state.rng.shuffle(candidates)
    del candidates[MATCHES_PER_OFFER:]
    while candidates:
        for app_id in list(candidates):
            if len(tasks) >= state.settings.max_instances_per_offer:
                return tasks
            if state.tokens.available(turn.now) <= 0:
                return tasks
            want = state.wants[app_id]
            placed = _placed(state, want)
            is_resident = apps.is_resident(want.app)
            usable = left.unreserved() if is_resident else left
            result = matcher.match(want.app, offer, usable, placed, state.rng, turn.wall_s, rules)
            home = None
            if is_resident:
                found = residents.find_home(state, turn, want, offer, left, result)
                home = found if isinstance(found, Home) else None
                result = found if isinstance(found, NoMatch) else found.match
            if isinstance(result, NoMatch):
                reasons_of(state, app_id).refused(offer, result, turn.at)
                candidates.remove(app_id)
                continue
            reasons_of(state, app_id).used(turn.at)
            tasks.append(_launch(state, turn, want, offer, result, home))
            left = left - taken_of(result, home)
            if want.count == 0:
                candidates.remove(app_id)
    return tasks


def rules_of(state: State) -> Rules:
    """The flags that decide on offers."""
    settings = state.settings
    return Rules(
        role=settings.role,
        role_behaviour=settings.role_behaviour,
        gpus_are_scarce=settings.gpus_are_scarce,
        draining_s=settings.draining_s,
        maintenance_mode=settings.maintenance_mode,
    )


def reasons_of(state: State, app_id: str) -> Reasons:
    """The book of an app's offers."""
    return state.reasons.setdefault(app_id, Reasons())


def _placed(state: State, want: Want) -> list[Placement]:
    if not want.app.constraints:
        return []
    version = config_version(want.app)
    return [
        instance.placement
        for instance in state.of_app(want.app.id)
        if instance.config_version == version
        and instance.goal is Goal.RUNNING
        and not instance.is_unreachable
    ]


def taken_of(match: Match, home: Home | None) -> Resources:
    """What a launch takes out of the offer as it was made: of a new residence not yet reserved."""
    if home is None or not home.operations:
        return match.resources
    plain = match.resources - match.resources.persistent_volumes()
    for kind, amount in match.resources.persistent_volumes().items():
        plain += Resources({kind.replace(disk=None): amount})
    return plain.pop_reservation()


def _launch(
    state: State, turn: Turn, want: Want, offer: Offer, match: Match, home: Home | None
) -> Launchable:
    app = want.app
    assert app.version is not None  # apps in the root are stamped
    incarnation = 1
    if home is not None:
        id, incarnation = home.residence.id, home.residence.incarnation
        residents.keep(state, turn, home.residence)
    else:
        id = InstanceId(taskinfo.instance_id(app.id, state.new_uuid()))
    containers = (
        ()
        if app.pod is None
        else tuple(
            PodTask(
                name=each.name,
                task_id=podinfo.task_id(id, each.name, incarnation),
                since=turn.wall_s,
            )
            for each in app.pod.containers
        )
    )
    task_id = containers[0].task_id if containers else taskinfo.task_id(id, incarnation)
    instance = Instance(
        id=id,
        app_id=app.id,
        version=app.version,
        config_version=config_version(app),
        task_id=task_id,
        agent_id=offer.agent_id.value,
        host=offer.hostname,
        role=_role(match, state.settings.role),
        ports=match.host_ports,
        placement=match.placement,
        cpus=scalar.to_float(match.resources.scalar("cpus")),
        mem=scalar.to_float(match.resources.scalar("mem")),
        disk=scalar.to_float(match.resources.scalar("disk")),
        gpus=scalar.to_float(match.resources.scalar("gpus")),
        provisioned_at=turn.wall_s,
        since=turn.wall_s,
        tasks=containers,
    )
    turn.note("Launching", task=task_id, agent=instance.agent_id, host=instance.host)
    state.put_instance(turn, instance)
    state.unconfirmed.add(id)
    state.tokens.take(turn.now)
    want.count -= 1
    if app.pod is not None:
        group = podinfo.build(app, match, offer.agent_id, id, incarnation)
        return (group,) if home is None else (*home.operations, group)
    options = taskinfo.Options(
        executor=state.settings.executor,
        env_vars_prefix=state.settings.env_vars_prefix,
        bridge_name=state.settings.bridge_name,
        enforce_role=_enforces_role(state, app.id),
    )
    task = taskinfo.build(app, match, offer.agent_id, task_id, options)
    if home is None:
        return task
    launch = OfferOperation(type="LAUNCH", launch=Launch(task_infos=(task,)))
    return (*home.operations, launch)


def _enforces_role(state: State, app_id: str) -> bool:
    top = groups.find(state.root, "/" + paths.segments(app_id)[0])
    return top is not None and top.enforce_role


def _role(match: Match, default: str) -> str:
    roles = {kind.role for kind, _ in match.resources.items()}
    return min(roles - {default}, default=default)


# -- asking for offers ------------------------------------------------------------------------


def ask_for_offers(state: State, turn: Turn, *, all_apps: bool) -> None:
    """REVIVE when more is wanted than was asked for, SUPPRESS when nothing is.

    Only apps whose want changed are looked at, or with `all_apps` every one: back-offs end.
    """
    if not state.connected:
        return
    hunger = state.hunger
    changed = set(state.wants) | set(hunger.counts) if all_apps else set(state.reconsider)
    state.reconsider.clear()
    _count_leaving(state, turn)
    changed.discard(LEAVING)
    has_tokens = state.tokens.available(turn.now) > 0
    for id in changed:
        want = state.wants.get(id)
        if not has_tokens or want is None or not _is_hungry(state, want, turn.now):
            hunger.counts.pop(id, None)
            continue
        if want.count > hunger.counts.get(id, 0):
            hunger.revive_due = True
            hunger.again_at = turn.now + state.settings.min_revive_interval_s
        hunger.counts[id] = want.count
    if not hunger.counts:
        hunger.revive_due = False
        hunger.again_at = None
        if not state.wants and not hunger.suppressed:
            hunger.suppressed = True
            turn.send(scheduler.Call(type="SUPPRESS", suppress=scheduler.Roles()))
        return
    if hunger.again_at is not None and turn.now >= hunger.again_at:
        # The first may have met a master that was just losing us; repeated once.
        hunger.again_at = None
        hunger.revive_due = True
    if hunger.suppressed:
        hunger.revive_due = True
    if hunger.revive_due and _take_credit(state, turn.now):
        hunger.revive_due = False
        hunger.suppressed = False
        turn.send(scheduler.Call(type="REVIVE", revive=scheduler.Roles()))


def _count_leaving(state: State, turn: Turn) -> None:
    """Residences are given back in offers, so these are wanted although nothing is launched."""
    hunger = state.hunger
    leaving = residents.leaving(state)
    if leaving > hunger.counts.get(LEAVING, 0):
        hunger.revive_due = True
        hunger.again_at = turn.now + state.settings.min_revive_interval_s
    if leaving:
        hunger.counts[LEAVING] = leaving
    else:
        hunger.counts.pop(LEAVING, None)


def _take_credit(state: State, now: float) -> bool:
    hunger = state.hunger
    interval_s = state.settings.min_revive_interval_s
    gained = REVIVE_BURST if interval_s <= 0 else (now - hunger.credited_at) / interval_s
    hunger.credits = min(float(REVIVE_BURST), hunger.credits + gained)
    hunger.credited_at = now
    if hunger.credits < 1.0:
        return False
    hunger.credits -= 1.0
    return True


def deadline(state: State) -> float | None:
    """When launches or a REVIVE become possible that are not now; None if nothing waits."""
    hunger = state.hunger
    if not state.wants and not hunger.counts:
        return None
    times = [state.delays.next_end(state.now), state.tokens.deadline(), hunger.again_at]
    if hunger.revive_due and hunger.counts:
        missing = max(0.0, 1.0 - hunger.credits)
        # A little later than exactly, or rounding would ask too early again and again.
        times.append(hunger.credited_at + missing * state.settings.min_revive_interval_s + 0.001)
    return min((time for time in times if time is not None), default=None)
