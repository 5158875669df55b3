"""Finding, joining and following masters; the epoch fence."""

from __future__ import annotations

import pytest

from mesostk.agent.events import (
    Checkpoint,
    Connect,
    Disconnect,
    Exited,
    KillRun,
    Launch,
    LeaderChanged,
    LinkClosed,
    LinkMessage,
    SendUp,
    ShutdownRequested,
)
from mesostk.agent.registration import why_refused
from mesostk.agent.tests.agent_bench import (
    AGENT,
    EPOCH,
    MASTER,
    Bench,
    framework,
    of_type,
    one,
    registered,
    settings,
    states,
    task,
    updates,
)
from mesostk.base.core import Exit
from mesostk.wire.link import (
    ClusterEpoch,
    Heartbeat,
    Pong,
    Registered,
    RunTask,
    TaskRef,
    Unregister,
)
from mesostk.wire.mesos import AgentID, FrameworkID, TaskID


def test_the_first_connection_waits_a_random_part_of_the_back_off() -> None:
    bench = Bench()
    assert not of_type(bench.feed(LeaderChanged(MASTER)), Connect)
    connect = one(bench.advance(1.0), Connect)
    assert connect.url == MASTER
    assert connect.subscribe.agent_info.id is None


def test_id_and_epoch_are_synced_before_anything_is_done() -> None:
    bench = Bench()
    bench.feed(LeaderChanged(MASTER))
    bench.advance(1.0)
    bench.hold_disk = True
    checkpoint = one(bench.down(registered()), Checkpoint)
    assert checkpoint.sync
    effects = bench.down(RunTask(framework=framework(), task=task()))
    assert not effects
    assert bench.core.state.phase == "REGISTERING"
    bench.release_disk()
    assert of_type(bench.effects, Launch)
    assert bench.disk.links == {"meta/slaves/latest": AGENT.value}


def test_a_failed_save_of_the_id_is_tried_again_later() -> None:
    bench = Bench()
    bench.feed(LeaderChanged(MASTER))
    bench.advance(1.0)
    bench.is_full = True
    assert of_type(bench.down(registered()), Disconnect)
    assert bench.core.state.agent_id is None
    bench.is_full = False
    bench.register()
    assert bench.core.state.phase == "RUNNING"


@pytest.mark.parametrize(
    ("epoch", "words"),
    [
        (ClusterEpoch(cluster_id="c1", counter=4), "former leader"),
        (ClusterEpoch(cluster_id="c2", counter=9), "--adopt_cluster=c2"),
        (ClusterEpoch(cluster_id="c1", counter=5), None),
        (ClusterEpoch(cluster_id="c1", counter=1005), None),
    ],
)
def test_epochs_of_former_leaders_and_other_clusters_are_refused(
    epoch: ClusterEpoch, words: str | None
) -> None:
    bench = Bench()
    bench.register()
    why = why_refused(bench.core.state, epoch)
    assert why is None if words is None else why is not None and words in why
    bench.feed(LinkClosed(bench.link, "reset"))
    bench.register(epoch)
    assert (bench.core.state.phase == "RUNNING") is (words is None)


def test_a_foreign_cluster_is_followed_when_told_to() -> None:
    bench = Bench()
    bench.register()
    bench.settings = settings(adopt_cluster="c2")
    bench.start({})
    bench.register(ClusterEpoch(cluster_id="c2", counter=1))
    assert bench.core.state.phase == "RUNNING"
    assert bench.core.state.epoch == ClusterEpoch(cluster_id="c2", counter=1)


def test_another_id_than_the_own_ends_the_process() -> None:
    bench = Bench()
    bench.register()
    bench.feed(LinkClosed(bench.link, "reset"))
    bench.advance(2.0)
    effects = bench.down(
        Registered(
            agent_id=AgentID("M-S9"), epoch=EPOCH, heartbeat_s=15, ping_timeout_s=75, protocol=1
        )
    )
    assert "M-S9" in one(effects, Exit).reason


def test_re_registration_carries_tasks_and_resends_what_is_not_acknowledged() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"))
    bench.down(RunTask(framework=framework(), task=task("b")))
    bench.feed(LinkClosed(bench.link, "reset"))
    subscribe = one(bench.advance(61.0), Connect).subscribe
    brought = {t.task_id.value: t for t in subscribe.tasks}
    assert brought["a"].state == "TASK_RUNNING"
    assert brought["b"].state == "TASK_STARTING"
    assert brought["b"].status_update_state == "TASK_STARTING"
    assert brought["b"].status_update_uuid is not None
    assert brought["b"].executor_id is None
    assert [f.name for f in subscribe.frameworks] == ["F"]
    assert subscribe.last_epoch == EPOCH
    assert states(bench.register()) == ["TASK_STARTING"]


def test_tasks_that_never_arrived_are_answered_for() -> None:
    bench = Bench()
    bench.register()
    bench.run(task("a"))
    bench.feed(LinkClosed(bench.link, "reset"))
    refs = tuple(TaskRef(framework_id=FrameworkID("F"), task_id=TaskID(t)) for t in ("a", "never"))
    said = updates(bench.register(report=refs))
    assert [(u.status.task_id.value, u.status.state) for u in said] == [("never", "TASK_LOST")]


def test_back_off_doubles_to_a_minute_and_starts_afresh_when_registered() -> None:
    bench = Bench()
    bench.feed(LeaderChanged(MASTER))
    bench.advance(1.0)
    for _ in range(10):
        bench.feed(LinkClosed(bench.link, "refused"))
        bench.advance(60.0)
    assert bench.core.state.backoff_s == 60.0
    bench.register()
    assert bench.core.state.backoff_s == 1.0


@pytest.mark.parametrize("hears", [True, False])
def test_an_agent_that_its_operator_ends_unregisters_before_it_goes(hears: bool) -> None:
    bench = Bench()
    bench.register()
    cid = bench.run()
    effects = bench.feed(ShutdownRequested("SIGUSR1"))
    assert one(effects, SendUp).message == Unregister()
    assert one(effects, KillRun).container_id == cid
    assert not bench.feed(ShutdownRequested("SIGUSR1"))
    assert not of_type(bench.feed(Exited(cid, 15)), Exit)
    effects = bench.feed(LinkClosed(bench.link, "closed")) if hears else bench.advance(5.0)
    assert one(effects, Exit).code == 0
    assert not bench.disk.links


def test_an_agent_that_has_no_master_goes_without_a_word() -> None:
    bench = Bench()
    assert one(bench.feed(ShutdownRequested("SIGUSR1")), Exit).code == 0


def test_a_silent_link_is_replaced() -> None:
    bench = Bench()
    bench.register()
    bench.advance(70.0)
    assert one(bench.down(Heartbeat()), SendUp).message == Pong()
    assert not of_type(bench.advance(74.0), Disconnect)
    assert of_type(bench.advance(1.0), Disconnect)
    assert of_type(bench.advance(1.0), Connect)


def test_silence_is_noticed_whatever_the_rounding() -> None:
    for start in (0.1, 100.7, 31415.926, 1e6 / 3):
        bench = Bench()
        bench.now = start
        bench.register()
        bench.now += 1 / 3
        bench.down(Heartbeat())
        assert of_type(bench.advance(75.0 + 1e-6), Disconnect)


def test_told_to_be_disconnected_it_subscribes_again() -> None:
    bench = Bench()
    bench.register()
    assert of_type(bench.down(Heartbeat(connected=False)), Disconnect)
    assert of_type(bench.advance(1.0), Connect)


def test_words_of_an_old_link_count_for_nothing() -> None:
    bench = Bench()
    bench.register()
    old = bench.link
    bench.feed(LinkClosed(old, "reset"))
    bench.register()
    assert not bench.feed(LinkMessage(old, RunTask(framework=framework(), task=task())))
    assert not bench.feed(LinkClosed(old, "again"))


def test_a_new_leader_is_followed_and_the_same_one_is_no_news() -> None:
    bench = Bench()
    bench.register()
    assert not bench.feed(LeaderChanged(MASTER))
    assert of_type(bench.feed(LeaderChanged("http://127.0.0.2:5050")), Disconnect)
    assert one(bench.advance(1.0), Connect).url == "http://127.0.0.2:5050"


def test_a_link_that_works_outlives_the_detector() -> None:
    bench = Bench()
    bench.register()
    assert not bench.feed(LeaderChanged(None))
    assert not bench.feed(LeaderChanged(MASTER))
    assert bench.core.state.phase == "RUNNING"
    bench.feed(LeaderChanged(None))
    bench.feed(LinkClosed(bench.link, "reset"))
    assert not of_type(bench.advance(100.0), Connect)
    bench.feed(LeaderChanged(MASTER))
    assert of_type(bench.advance(1.0), Connect)
