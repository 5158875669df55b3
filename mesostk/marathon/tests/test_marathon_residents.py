"""Residents in the core: what is asked of the master, and what is remembered (spec §3.11)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mesostk.base.core import Effect
from mesostk.marathon import podviews, residents
from mesostk.marathon.events import (
    CreateApp,
    CreatePod,
    DeleteApp,
    Disconnected,
    FromMaster,
    KillInstances,
    KillTasks,
    PutApps,
    PutPod,
    Send,
)
from mesostk.marathon.residence import FRAMEWORK_LABEL, TASK_LABEL, Residence
from mesostk.marathon.state import Settings
from mesostk.marathon.tests.conftest import Crash, World
from mesostk.resources.resources import Resources
from mesostk.wire import scheduler
from mesostk.wire.mesos import AgentID, FrameworkID, Offer, OfferID, Resource, TaskState
from mesostk.wire.pods import InstanceStatus

VOLUME = {"containerPath": "data", "mode": "RW", "persistent": {"size": 16}}

#: Until a lost place is no longer looked for; seconds.
OVER_S = residents.LOST_S + 5.0


def app(**fields: Any) -> dict[str, Any]:
    container = {"type": "MESOS", "volumes": [VOLUME]}
    return {"id": "/db", "cmd": "x", "cpus": 0.1, "mem": 32, "container": container, **fields}


def world(role: str = "web") -> World:
    made = World(settings=Settings(role=role, principal="marathon"))
    made.connect()
    return made


def kinds(made: World) -> list[str]:
    return [str(operation.type) for operation in made.accepted]


def offer_home(made: World, agent: str | None = None) -> None:
    """An offer of just what is reserved for the only residence."""
    [residence] = made.core.state.residences.values()
    offer_part(made, residence.agent_id if agent is None else agent, residence.resources)


def offer_part(made: World, agent: str, resources: Any) -> None:
    made.offers += 1
    offer = Offer(
        id=OfferID(f"O{made.offers}"),
        framework_id=FrameworkID("F1"),
        agent_id=AgentID(agent),
        hostname=made.agents[agent],
        resources=Resources.of(resources).allocate("web").to_wire("POST"),
    )
    made.offered[offer.id.value] = agent
    made.feed(FromMaster(scheduler.Event(type="OFFERS", offers=scheduler.Offers(offers=(offer,)))))


def test_a_first_launch_reserves_creates_and_launches_at_once() -> None:
    made = world()
    assert made.ask(CreateApp, body=app()).status == 201
    made.offer()
    assert kinds(made) == ["RESERVE", "CREATE", "LAUNCH"]
    reserve, create, _ = made.accepted
    assert reserve.reserve is not None
    assert create.create is not None
    [residence] = made.core.state.residences.values()
    for resource in reserve.reserve.resources:
        assert resource.role == "web"
        assert resource.reservation is not None
        assert resource.reservation.principal == "marathon"
        assert resource.reservation.labels is not None
        labels = {each.key: each.value for each in resource.reservation.labels.labels}
        assert labels == {FRAMEWORK_LABEL: "F1", TASK_LABEL: residence.id}
    [volume] = create.create.volumes
    assert volume.disk is not None
    assert volume.disk.persistence is not None
    assert volume.disk.persistence.id.startswith("db#data#")
    assert made.core.state.residences[residence.id].is_confirmed, "it runs"


def test_a_lost_task_waits_for_its_own_volume_and_nobody_elses() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    made.end(next(iter(made.tasks)))
    made.advance(5.0)
    made.offer()
    assert not made.tasks
    [residence] = made.core.state.residences.values()
    book = made.core.state.reasons["/db"]
    assert "NoCorrespondingReservationFound" in book.declined
    offer_home(made)
    [task] = made.tasks
    assert task == f"{residence.id}._app.2"
    assert kinds(made)[3:] == ["LAUNCH"]


def test_a_place_is_found_again_under_the_agents_new_id() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer(agents=1)
    [residence] = made.core.state.residences.values()
    made.end(next(iter(made.tasks)))
    made.advance(5.0)
    other = next(id for id in made.agents if id != residence.agent_id)
    offer_home(made, other)
    assert list(made.tasks) == [f"{residence.id}._app.2"]
    assert made.core.state.residences[residence.id].agent_id == other


def test_another_app_does_not_settle_in_the_place_of_a_resident_that_is_away() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    made.end(next(iter(made.tasks)))
    made.ask(CreateApp, body={"id": "/web", "cmd": "x", "cpus": 0.1, "mem": 32})
    offer_home(made)
    assert not made.tasks
    made.advance(5.0)
    offer_home(made)
    assert [task.partition(".")[0] for task in made.tasks] == ["db"]


def test_a_place_that_was_never_made_holds_nothing_up_and_is_struck_out() -> None:
    made = world()
    made.obey = False
    made.ask(CreateApp, body=app())
    made.offer(agents=1)
    [first] = residents_of(made)
    made.update(next(iter(made.tasks)), "TASK_ERROR")
    made.feed()
    assert residents.of_app(made.core.state, "/db") == []
    made.obey = True
    made.advance(5.0)
    made.offer()
    assert len(residents.of_app(made.core.state, "/db")) == 1
    assert is_looking(made), "what there is of it may be offered"
    made.advance(OVER_S)
    assert made.suppressed
    assert first not in residents_of(made)
    assert len(residents_of(made)) == 1


def test_what_a_deleted_app_leaves_is_given_back_in_the_next_offer() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    [residence] = made.core.state.residences.values()
    made.ask(DeleteApp, app_id="/db")
    before = made.revives
    made.advance(6.0)
    assert made.revives > before, "offers are wanted for it"
    offer_home(made)
    assert kinds(made)[3:] == ["DESTROY", "UNRESERVE"]
    # It was lost on the way, perhaps with its master: the next leader looks for it, too.
    made.start()
    made.connect()
    made.advance(6.0)
    offer_home(made)
    assert kinds(made)[5:] == ["DESTROY", "UNRESERVE"]
    made.advance(OVER_S)
    assert made.suppressed
    assert not made.core.state.residences
    assert not [path for path in made.store if path.startswith("residences/")]
    # What carries our label and is nobody's goes, whenever it is offered.
    offer_part(made, residence.agent_id, residence.resources)
    assert kinds(made)[7:] == ["DESTROY", "UNRESERVE"]


def test_what_is_offered_in_parts_is_given_back_to_the_last() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    [residence] = made.core.state.residences.values()
    made.ask(DeleteApp, app_id="/db")
    made.advance(6.0)
    disk = [each for each in residence.resources if each.name == "disk"]
    offer_part(made, residence.agent_id, [each for each in residence.resources if each not in disk])
    assert kinds(made)[3:] == ["UNRESERVE"]
    [rest] = made.core.state.residences.values()
    assert list(rest.resources) == disk
    before = made.revives
    made.start()
    made.connect()
    made.advance(6.0)
    assert made.revives > before, "offers are wanted for the rest, by the next leader too"
    offer_home(made)
    assert kinds(made)[4:] == ["DESTROY", "UNRESERVE"]
    offer_part(made, residence.agent_id, residence.resources)
    assert kinds(made)[6:] == ["DESTROY", "UNRESERVE"], "neither part was given back"
    made.advance(OVER_S)
    assert not made.core.state.residences


def test_scaling_down_keeps_the_place_and_a_wipe_does_not() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    made.ask(PutApps, app_id="/db", bodies=({"instances": 0},))
    assert not made.tasks
    assert [r.is_leaving for r in made.core.state.residences.values()] == [False]
    made.start()
    made.connect()
    made.ask(PutApps, app_id="/db", bodies=({"instances": 1},))
    offer_home(made)
    assert len(made.tasks) == 1
    made.ask(KillTasks, app_id="/db", wipe=True)
    assert [r.is_leaving for r in made.core.state.residences.values()] == [True]
    assert residents.of_app(made.core.state, "/db") == []


def lose_agent(made: World) -> Residence:
    """An app runs at another place than before, whose agent was marked gone."""
    made.ask(CreateApp, body=app())
    made.offer()
    [task] = made.tasks
    made.update(task, "TASK_RUNNING")
    made.update(task, "TASK_GONE_BY_OPERATOR")
    made.tasks.pop(task)
    made.feed()
    [lost] = made.core.state.residences.values()
    made.advance(6.0)
    made.offer()
    [task] = made.tasks
    made.update(task, "TASK_RUNNING")
    assert kinds(made) == ["RESERVE", "CREATE", "LAUNCH"] * 2
    assert not made.suppressed, "what is on the lost agent may be offered"
    return lost


def test_what_an_agent_that_is_gone_brings_back_with_another_id_is_given_back() -> None:
    made = world()
    lost = lose_agent(made)
    made.start()
    made.connect()
    made.advance(6.0)
    assert not made.suppressed, "the next leader looks for it, too"
    made.agents["A9"] = lost.host
    offer_part(made, "A9", lost.resources)
    assert kinds(made)[6:] == ["DESTROY", "UNRESERVE"]
    made.advance(OVER_S)
    assert [each.is_lost for each in made.core.state.residences.values()] == [False]
    assert made.suppressed


def test_what_is_on_an_agent_that_does_not_come_back_is_not_looked_for_for_ever() -> None:
    made = world()
    lost = lose_agent(made)
    made.advance(residents.LOST_S - 10.0)
    assert lost.id in made.core.state.residences
    made.advance(10.0)
    assert made.suppressed
    assert [each.is_lost for each in made.core.state.residences.values()] == [False]
    assert not made.core.state.lost_since
    offer_part(made, lost.agent_id, lost.resources)
    assert kinds(made)[6:] == ["DESTROY", "UNRESERVE"], "it is late, and not kept"


def lose_launch(made: World) -> Residence:
    """An app's only agent was lost before the task was there, and another place was made."""
    made.ask(CreateApp, body=app())
    made.obey = False
    made.offer()
    [lost] = made.core.state.residences.values()
    [task] = made.tasks
    made.update(task, "TASK_UNREACHABLE")
    made.ask(PutApps, app_id="/db", bodies=({"instances": 0},), force=True)
    assert not made.core.state.instances
    made.tasks.pop(task)
    made.obey = True
    made.ask(PutApps, app_id="/db", bodies=({"instances": 1},))
    made.advance(6.0)
    made.offer()
    assert kinds(made) == ["RESERVE", "CREATE", "LAUNCH"] * 2, "nobody waits for the first place"
    assert [each.is_lost for each in made.core.state.residences.values()] == [True, False]
    assert not made.suppressed
    return lost


def test_a_place_that_was_lost_before_a_task_ran_there_is_kept_if_it_turns_up() -> None:
    made = world()
    lost = lose_launch(made)
    offer_part(made, lost.agent_id, lost.resources)
    assert kinds(made)[6:] == []
    assert [each.is_lost for each in made.core.state.residences.values()] == [False, False]
    assert made.suppressed
    made.ask(PutApps, app_id="/db", bodies=({"instances": 2},))
    made.advance(6.0)
    offer_part(made, lost.agent_id, lost.resources)
    assert kinds(made)[6:] == ["LAUNCH"]


def half_of(residence: Residence) -> list[Resource]:
    """What is there of a place if CREATE did not reach its agent."""
    return [msgspec.structs.replace(each, disk=None) for each in residence.resources]


def test_a_place_that_was_lost_half_made_is_given_back() -> None:
    made = world()
    lost = lose_launch(made)
    offer_part(made, lost.agent_id, half_of(lost))
    assert kinds(made)[6:] == ["UNRESERVE"]
    offer_part(made, lost.agent_id, half_of(lost))
    assert kinds(made)[7:] == ["UNRESERVE"], "it was lost on the way"
    made.advance(OVER_S)
    assert lost.id not in made.core.state.residences
    assert made.suppressed


def test_a_lost_place_that_is_offered_in_parts_is_not_given_back() -> None:
    made = world()
    lost = lose_launch(made)
    plain = [each for each in lost.resources if each.disk is None]
    offer_part(made, lost.agent_id, plain)  # as of a pod: what its executor holds comes later
    offer_part(made, lost.agent_id, [each for each in lost.resources if each not in plain])
    assert kinds(made)[6:] == []
    assert lost_ids(made) == [lost.id]
    offer_part(made, lost.agent_id, lost.resources)
    assert kinds(made)[6:] == []
    assert lost_ids(made) == []


def is_looking(made: World) -> bool:
    """Whether offers are asked for."""
    return not made.suppressed


def lost_ids(made: World) -> list[str]:
    return [each.id for each in residents_of(made) if each.is_lost]


def test_a_lost_place_where_a_task_may_have_run_unheard_is_kept_however_late_it_turns_up() -> None:
    made = world()
    lost = lose_launch(made)
    made.advance(OVER_S)
    assert not is_looking(made)
    assert lost_ids(made) == [lost.id]
    made.start()
    made.connect()
    made.advance(6.0)
    assert is_looking(made), "the next leader does, too"
    made.advance(OVER_S)
    assert not is_looking(made)
    made.ask(PutApps, app_id="/db", bodies=({"instances": 2},))
    made.advance(6.0)
    offer_part(made, lost.agent_id, lost.resources)
    assert kinds(made)[6:] == ["LAUNCH"]
    task = next(task for task in made.tasks if task.startswith(lost.id))
    made.update(task, "TASK_UNREACHABLE")
    made.ask(PutApps, app_id="/db", bodies=({"instances": 1},), force=True)
    assert lost_ids(made) == [], "it was there, so it is waited for"


def test_a_lost_place_is_given_back_with_its_app_however_late_it_turns_up() -> None:
    made = world()
    lost = lose_launch(made)
    made.advance(OVER_S)
    made.ask(DeleteApp, app_id="/db")
    for residence in residents_of(made):
        offer_part(made, residence.agent_id, residence.resources)
    assert kinds(made)[6:] == ["DESTROY", "UNRESERVE"] * 2
    made.advance(OVER_S)
    assert made.suppressed
    assert lost.id not in made.core.state.residences


def residents_of(made: World) -> list[Residence]:
    return list(made.core.state.residences.values())


@pytest.mark.parametrize("end", ["TASK_GONE", "TASK_DROPPED"])
def test_what_a_task_may_have_written_that_nobody_knows_of_is_not_given_back(
    end: TaskState,
) -> None:
    made = world()
    made.obey = False
    made.ask(CreateApp, body=app())
    made.offer()
    [task] = made.tasks
    made.update(task, end, reason="REASON_RECONCILIATION")
    made.feed()
    made.tasks.pop(task, None)
    [residence] = residents_of(made)
    made.obey = True
    made.advance(6.0)
    offer_home(made)
    assert list(made.tasks) == [f"{residence.id}._app.2"]


def test_the_search_begins_anew_with_each_master() -> None:
    made = world()
    lost = lose_agent(made)
    for _ in range(3):
        made.advance(residents.LOST_S - 10.0)
        made.feed(Disconnected("gone"))
        made.advance(OVER_S)
        assert lost.id in made.core.state.residences, "nothing could be offered"
        made.connect()
    made.advance(OVER_S)
    assert lost.id not in made.core.state.residences


def test_a_place_with_data_is_waited_for_when_its_agent_is_given_up() -> None:
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    [residence] = residents_of(made)
    [task] = made.tasks
    made.update(task, "TASK_RUNNING")
    made.update(task, "TASK_UNREACHABLE")
    made.ask(PutApps, app_id="/db", bodies=({"instances": 0},), force=True)
    assert not made.core.state.instances
    made.tasks.pop(task)
    made.advance(OVER_S)
    made.ask(PutApps, app_id="/db", bodies=({"instances": 1},))
    made.advance(6.0)
    made.offer()
    assert not made.tasks
    assert residents_of(made) == [msgspec.structs.replace(residence, is_confirmed=True)]
    offer_home(made)
    assert list(made.tasks) == [f"{residence.id}._app.2"]


def test_residents_need_a_role_and_cannot_change_their_needs() -> None:
    refused = world("*").ask(CreateApp, body=app())
    assert refused.status == 422
    made = world()
    made.ask(CreateApp, body=app())
    made.offer()
    assert made.ask(PutApps, app_id="/db", bodies=({"mem": 64},)).status == 422
    other = {"type": "MESOS", "volumes": [{**VOLUME, "persistent": {"size": 32}}]}
    assert made.ask(PutApps, app_id="/db", bodies=({"container": other},)).status == 422
    mount = {**VOLUME, "persistent": {"size": 1, "type": "mount"}}
    body = app(id="/m", container={"type": "MESOS", "volumes": [mount]})
    assert made.ask(CreateApp, body=body).status == 422


def test_a_place_whose_record_outlived_a_crash_before_the_accept_holds_nothing_up() -> None:
    made = world()
    made.ask(CreateApp, body=app())

    def die(effect: Effect) -> None:
        if isinstance(effect, Send) and effect.call.accept is not None:
            raise Crash

    made.before = die
    with pytest.raises(Crash):
        made.offer()
    made.before = lambda _effect: None
    made.offered.clear()
    made.start()
    assert len(made.core.state.residences) == 1
    made.connect()  # the master knows of no such task
    made.advance(5.0)
    made.offer()
    assert len(made.tasks) == 1


# -- pods -------------------------------------------------------------------------------------

POD: dict[str, Any] = {
    "id": "/store",
    "containers": [
        {
            "name": name,
            "exec": {"command": {"shell": "x"}},
            "resources": {"cpus": 0.1, "mem": 32},
            "volumeMounts": [{"name": "data", "mountPath": "kept"}],
        }
        for name in ("db", "copier")
    ],
    "volumes": [{"name": "data", "persistent": {"size": 16}}],
}


def test_a_pods_volume_is_its_executors_and_found_again_by_the_next_life() -> None:
    made = world()
    assert made.ask(CreatePod, body=POD).status == 201
    made.offer()
    assert kinds(made) == ["RESERVE", "CREATE", "LAUNCH_GROUP"]
    group = made.accepted[2].launch_group
    assert group is not None
    [disk] = [each.disk for each in group.executor.resources if each.disk is not None]
    assert disk.volume is not None
    assert disk.volume.container_path == "data"
    for task in group.task_group.tasks:
        assert all(each.disk is None for each in task.resources)
        assert task.container is not None
        [mounted] = task.container.volumes
        assert mounted.source is not None
        assert mounted.source.sandbox_path is not None
        assert (mounted.container_path, mounted.source.sandbox_path.type) == ("kept", "PARENT")
    [residence] = made.core.state.residences.values()
    [shown] = instance_of(made).local_volumes
    assert (shown.container_path, shown.run_spec_id) == ("data", "/store")
    for task_id in list(made.tasks):
        made.end(task_id)
    made.advance(5.0)
    offer_home(made)
    assert set(made.tasks) == {f"{residence.id}.{name}.2" for name in ("db", "copier")}
    assert instance_of(made).id == residence.id


def instance_of(made: World) -> InstanceStatus:
    found = podviews.pod_status(made.core.state, "/store")
    assert found is not None
    [instance] = found.instances
    return instance


def test_a_pods_volume_stays_as_it_is_until_it_is_wiped() -> None:
    made = world()
    made.ask(CreatePod, body=POD)
    made.offer()
    for changes in (
        {"volumes": [{"name": "data", "persistent": {"size": 32}}]},
        {"executorResources": {"cpus": 0.2}},
    ):
        assert made.ask(PutPod, pod_id="/store", body={**POD, **changes}).status == 422
    [residence] = made.core.state.residences.values()
    made.ask(KillInstances, pod_id="/store", instance_ids=(residence.id,), wipe=True)
    for task_id in list(made.tasks):
        made.end(task_id)
    made.advance(5.0)
    offer_part(made, residence.agent_id, residence.resources)
    assert kinds(made)[3:] == ["DESTROY", "UNRESERVE"]
    made.offer()
    [other] = residents.of_app(made.core.state, "/store")
    assert other.id != residence.id
