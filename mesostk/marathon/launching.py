"""From offers to launches.

::

    OFFERS ─▶ each wanted app that may launch now ─▶ matcher ─▶ Instance saved ─▶ ACCEPT
                                                       └─ no ─▶ booked as a reason ─▶ DECLINE

An offer is made for one role, and serves only apps of that role (and residences that are reserved
for it).

The instance is durable before the ACCEPT leaves, so a crash between the two leaves a record whose
task the master does not know; reconciliation then clears it. Source: spec/marathon §3.8, §3.9.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesostk.marathon import apps, matcher, podinfo, residents, roles, taskinfo
from mesostk.marathon.constraints import Placement
from mesostk.marathon.instances import Goal, Instance, InstanceId, PodTask
from mesostk.marathon.matcher import Match, NoMatch, Rules
from mesostk.marathon.queue import Reasons
from mesostk.marathon.residents import Home
from mesostk.marathon.reviving import hungry, roles_of
from mesostk.marathon.state import State, Turn, Want
from mesostk.marathon.versions import config_version
from mesostk.resources import scalar
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.marathon import AppDefinition
from mesostk.wire.mesos import Filters, Launch, Offer, OfferID, OfferOperation, TaskInfo

#: With more apps waiting than this, each offer is shown to some of them, drawn anew: matching all
#: would keep the loop busy for too long.
MATCHES_PER_OFFER = 300

#: An offer whose rest is still wanted comes back with the master's next allocation.
AT_ONCE_S = 0.0


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
    role = role_of(state, offer)
    waiting = hungry(state, turn.now)
    candidates = list(waiting)
    if state.roles != {role} or state.refused_roles:  # seldom; else all apps are of this role
        candidates = [id for id, want in waiting.items() if role in roles_of(state, want)]
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
            usable = left.unreserved() if is_resident else residents.without_homes(left)
            result = matcher.match(want.app, offer, usable, placed, state.rng, turn.wall_s, rules)
            home = None
            if is_resident:
                found = residents.find_home(state, turn, want, offer, left, result, role)
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
    """Book one more instance, and what to ask of the master for it."""
    incarnation = 1
    if home is not None:
        id, incarnation = home.residence.id, home.residence.incarnation
        residents.keep(state, turn, home.residence)
    else:
        id = InstanceId(taskinfo.instance_id(want.app.id, state.new_uuid()))
    instance = _instance(state, turn, want.app, offer, match, id, incarnation)
    turn.note("Launching", task=instance.task_id, agent=instance.agent_id, host=instance.host)
    state.put_instance(turn, instance)
    state.unconfirmed.add(id)
    state.tokens.take(turn.now)
    want.count -= 1
    made = _described(state, want.app, offer, match, instance, incarnation)
    if home is None:
        return made if isinstance(made, TaskInfo) else (made,)
    if isinstance(made, TaskInfo):
        made = OfferOperation(type="LAUNCH", launch=Launch(task_infos=(made,)))
    return (*home.operations, made)


def _instance(
    state: State,
    turn: Turn,
    app: AppDefinition,
    offer: Offer,
    match: Match,
    id: InstanceId,
    incarnation: int,
) -> Instance:
    """The record of an instance that is about to be launched."""
    assert app.version is not None  # apps in the root are stamped
    containers = tuple(
        PodTask(
            name=each.name,
            task_id=podinfo.task_id(id, each.name, incarnation),
            since=turn.wall_s,
        )
        for each in (() if app.pod is None else app.pod.containers)
    )
    return Instance(
        id=id,
        app_id=app.id,
        version=app.version,
        config_version=config_version(app),
        task_id=containers[0].task_id if containers else taskinfo.task_id(id, incarnation),
        agent_id=offer.agent_id.value,
        host=offer.hostname,
        role=role_of(state, offer),
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


def _described(
    state: State,
    app: AppDefinition,
    offer: Offer,
    match: Match,
    instance: Instance,
    incarnation: int,
) -> TaskInfo | OfferOperation:
    """An app's task, or the operation that launches a pod's containers."""
    enforce_role = roles.is_enforced(state.root, app.id, state.app_settings)
    agent = offer.agent_id
    options = taskinfo.Options(
        executor=state.settings.executor,
        env_vars_prefix=state.settings.env_vars_prefix,
        bridge_name=state.settings.bridge_name,
        enforce_role=enforce_role,
    )
    if app.pod is not None:
        return podinfo.build(app, match, agent, instance.id, options, incarnation)
    return taskinfo.build(app, match, agent, instance.task_id, options)


def role_of(state: State, offer: Offer) -> str:
    """The role that an offer is made for; masters before MULTI_ROLE do not say it."""
    allocation = offer.allocation_info
    if allocation is None or allocation.role is None:
        return state.settings.role
    return allocation.role
