"""What the core does with tasks: launch, kill, exit, refusals."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mesostk.agent.endings import describe
from mesostk.agent.events import (
    CancelFetch,
    Exited,
    Fetch,
    Fetched,
    FetchFailed,
    KillRun,
    Launch,
    Launched,
    LaunchFailed,
    LinkClosed,
    RunOver,
    SaveFailed,
)
from mesostk.agent.tests.agent_bench import (
    AGENT,
    Bench,
    framework,
    of_type,
    one,
    settings,
    states,
    task,
    updates,
)
from mesostk.agent.views import figures
from mesostk.base.core import Exit
from mesostk.wire.link import (
    Drain,
    Kill,
    RunTask,
    Shutdown,
    ShutdownFramework,
)
from mesostk.wire.mesos import (
    AgentID,
    CommandInfo,
    CommandURI,
    ContainerInfo,
    DockerInfo,
    DrainConfig,
    DurationInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    KillPolicy,
    Resource,
    Scalar,
    TaskID,
    TaskResourceLimitation,
)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register()
    return bench


def kill(task_id: str = "t1", grace_s: float | None = None) -> Kill:
    policy = None
    if grace_s is not None:
        policy = KillPolicy(grace_period=DurationInfo(nanoseconds=int(grace_s * 1e9)))
    return Kill(framework_id=FrameworkID("F"), task_id=TaskID(task_id), kill_policy=policy)


def test_nothing_is_started_before_the_task_is_on_disk(bench: Bench) -> None:
    bench.hold_disk = True
    effects = bench.down(RunTask(framework=framework(), task=task()))
    assert not of_type(effects, Launch)
    effects = bench.release_disk()
    assert one(effects, Launch).spec.argv == ("sh", "-c", "sleep 9")
    assert any(path.endswith("tasks/t1/task.info") for path in bench.disk.files)


def test_updates_go_one_by_one_each_after_the_acknowledgement_of_the_last(bench: Bench) -> None:
    effects = bench.down(RunTask(framework=framework(), task=task()))
    cid = one(effects, Launch).spec.container_id
    assert states(effects) == ["TASK_STARTING"]
    assert not updates(bench.feed(Launched(cid, 11)))
    running = bench.acknowledge(updates(effects)[0])
    assert states(running) == ["TASK_RUNNING"]
    assert not updates(bench.feed(Exited(cid, 0)))
    finished = bench.acknowledge(updates(running)[0])
    assert states(finished) == ["TASK_FINISHED"]
    over = bench.acknowledge(updates(finished)[0])
    assert one(over, RunOver).container_id == cid
    assert any(path.endswith("executor.sentinel") for path in bench.disk.files)
    assert not bench.core.state.frameworks


def test_an_update_says_how_far_the_task_is_by_now(bench: Bench) -> None:
    effects = bench.down(RunTask(framework=framework(), task=task()))
    bench.feed(Launched(one(effects, Launch).spec.container_id, 11))
    again = bench.advance(10.0)
    assert [u.latest_state for u in updates(again)] == ["TASK_RUNNING"]
    assert states(again) == ["TASK_STARTING"]


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        (0, "TASK_FINISHED", "Command exited with status 0"),
        (7 << 8, "TASK_FAILED", "Command exited with status 7"),
        (9, "TASK_FAILED", "Command terminated with signal Killed"),
        (15, "TASK_FAILED", "Command terminated with signal Terminated"),
        (None, "TASK_FAILED", "Executor terminated"),
    ],
)
def test_exit_statuses_become_states_and_texts(
    bench: Bench, status: int | None, state: str, text: str
) -> None:
    update = updates(bench.feed(Exited(bench.run(), status)))[0].status
    assert (update.state, update.message) == (state, text)
    assert update.reason == ("REASON_EXECUTOR_TERMINATED" if status is None else None)


def test_updates_and_ended_executors_are_counted(bench: Bench) -> None:
    cid = bench.run()
    before = figures(bench.core.state, 1.0)
    assert (before["slave/valid_status_updates"], before["slave/executors_terminated"]) == (2, 0)
    bench.feed(Exited(cid, 0))
    bench.feed(Exited(cid, 0))
    after = figures(bench.core.state, 1.0)
    assert (after["slave/valid_status_updates"], after["slave/executors_terminated"]) == (3, 1)
    assert after["slave/tasks_finished"] == 1


def test_a_status_that_is_no_known_signal_is_told_by_number() -> None:
    assert describe(0x7E) == "Command terminated with signal 126"


def test_out_of_memory_is_told_as_a_limitation(bench: Bench) -> None:
    update = updates(bench.feed(Exited(bench.run(), 9, oom=True, peak_mib=64.0)))[0].status
    assert update.state == "TASK_FAILED"
    assert update.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    mem = Resource(name="mem", type="SCALAR", scalar=Scalar(64.0))
    assert update.limitation == TaskResourceLimitation(resources=(mem,))


def test_a_killed_task_is_killed_even_if_it_exits_with_zero(bench: Bench) -> None:
    cid = bench.run()
    effects = bench.down(kill())
    assert one(effects, KillRun) == KillRun(cid, 3.0)
    assert any(path.endswith("task.kill") for path in bench.disk.files)
    assert states(bench.feed(Exited(cid, 0))) == ["TASK_KILLED"]


def test_killing_is_told_to_frameworks_that_know_it(bench: Bench) -> None:
    cid = bench.run(owner=framework("F", "TASK_KILLING_STATE"))
    killing = bench.down(kill())
    assert states(killing) == ["TASK_KILLING"]
    bench.feed(Exited(cid, 15))
    assert states(bench.acknowledge(updates(killing)[0])) == ["TASK_KILLED"]


def test_grace_comes_from_the_kill_then_the_task_and_may_only_shrink(bench: Bench) -> None:
    policy = KillPolicy(grace_period=DurationInfo(nanoseconds=20_000_000_000))
    cid = bench.run(task(kill_policy=policy))
    assert one(bench.down(kill()), KillRun).grace_s == 20.0
    assert not of_type(bench.down(kill(grace_s=30)), KillRun)
    assert one(bench.down(kill(grace_s=5)), KillRun) == KillRun(cid, 5.0)


def test_a_kill_waits_until_its_reason_is_on_disk(bench: Bench) -> None:
    bench.run()
    bench.hold_disk = True
    assert not of_type(bench.down(kill()), KillRun)
    assert of_type(bench.release_disk(), KillRun)


def test_a_kill_is_repeated_if_the_run_stays(bench: Bench) -> None:
    cid = bench.run()
    bench.down(kill())
    assert of_type(bench.advance(13.5), KillRun) == [KillRun(cid, 0.0)]


def test_a_task_killed_while_it_is_recorded_is_never_started(bench: Bench) -> None:
    bench.hold_disk = True
    bench.down(RunTask(framework=framework(), task=task()))
    bench.down(kill())
    effects = bench.release_disk()
    assert not of_type(effects, Launch)
    bench.release_disk()
    status = updates(bench.effects)[-1].status
    assert (status.state, status.reason) == ("TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH")


def test_a_task_killed_while_it_starts_is_killed_once_it_runs(bench: Bench) -> None:
    cid = one(bench.down(RunTask(framework=framework(), task=task())), Launch).spec.container_id
    assert not of_type(bench.down(kill()), KillRun)
    assert one(bench.feed(Launched(cid, 1)), KillRun).container_id == cid


def test_a_kill_of_an_unknown_task_is_answered_until_acknowledged(bench: Bench) -> None:
    effects = bench.down(kill("nope"))
    status = updates(effects)[0].status
    assert (status.state, status.reason) == ("TASK_LOST", "REASON_EXECUTOR_TERMINATED")
    assert not updates(bench.down(kill("nope")))
    assert states(bench.advance(10.0)) == ["TASK_LOST"]
    bench.acknowledge(updates(effects)[0])
    assert not bench.core.state.streams


def test_uris_are_fetched_first_and_a_failure_fails_the_task(bench: Bench) -> None:
    command = CommandInfo(value="true", uris=(CommandURI(value="file:///x"),))
    with_uris = task(value="true")
    effects = bench.down(RunTask(framework=framework(), task=replace(with_uris, command=command)))
    fetch = one(effects, Fetch)
    assert not of_type(effects, Launch)
    failed = bench.feed(FetchFailed(fetch.container_id, "file:///x: no such file"))
    status = updates(failed)[0].status
    assert (status.state, status.reason) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
    assert status.message == (
        "Failed to launch container: Failed to fetch all URIs for container "
        f"'{fetch.container_id}': file:///x: no such file"
    )


def test_fetched_tasks_start_and_killed_ones_stop_fetching(bench: Bench) -> None:
    command = CommandInfo(value="true", uris=(CommandURI(value="file:///x"),))
    for task_id in ("a", "b"):
        info = replace(task(task_id), command=command)
        fetch = one(bench.down(RunTask(framework=framework(), task=info)), Fetch)
        if task_id == "a":
            assert of_type(bench.feed(Fetched(fetch.container_id)), Launch)
        else:
            effects = bench.down(kill("b"))
            assert one(effects, CancelFetch).container_id == fetch.container_id
            assert states(effects) == ["TASK_KILLED"]
            assert not bench.feed(Fetched(fetch.container_id))


def test_a_launch_that_fails_fails_the_task_with_the_reason(bench: Bench) -> None:
    effects = bench.down(RunTask(framework=framework(), task=task()))
    cid = one(effects, Launch).spec.container_id
    bench.feed(LaunchFailed(cid, "user 'x' does not exist"))
    status = updates(bench.acknowledge(updates(effects)[0]))[0].status
    assert status.message == "Failed to launch container: user 'x' does not exist"
    assert status.reason == "REASON_CONTAINER_LAUNCH_FAILED"


def test_a_full_disk_refuses_the_task_and_names_the_disk(bench: Bench) -> None:
    bench.is_full = True
    effects = bench.down(RunTask(framework=framework("F", "PARTITION_AWARE"), task=task()))
    assert not of_type(effects, Launch)
    status = updates(effects)[0].status
    assert status.state == "TASK_DROPPED"
    assert status.message is not None
    assert "/w" in status.message
    assert "No space left" in status.message
    assert not of_type(bench.effects, Exit)
    bench.is_full = False
    bench.acknowledge(updates(effects)[0])
    bench.run(task("t2"))


def test_a_full_disk_does_not_silence_running_tasks(bench: Bench) -> None:
    cid = bench.run()
    bench.is_full = True
    assert states(bench.feed(Exited(cid, 0))) == ["TASK_FINISHED"]


def test_resources_in_use_are_not_given_twice(bench: Bench) -> None:
    bench.run(task("a", amount=5.0))
    effects = bench.down(RunTask(framework=framework(), task=task("b", amount=5.0)))
    status = updates(effects)[0].status
    assert (status.state, status.reason) == ("TASK_LOST", "REASON_INVALID_OFFERS")
    assert status.message == "cpus would come to 10 of 8 on this agent"


@pytest.mark.parametrize(
    ("changes", "state", "text"),
    [
        ({"agent_id": AgentID("other")}, "TASK_LOST", "Task is meant for agent other"),
        (
            {"container": ContainerInfo(type="DOCKER", docker=DockerInfo(image="x"))},
            "TASK_FAILED",
            "None of the enabled containerizers (mesos) could create a container",
        ),
        (
            {"executor": ExecutorInfo(executor_id=ExecutorID("e")), "command": None},
            "TASK_ERROR",
            "Executor 'e' has no 'command'",
        ),
        ({"command": CommandInfo()}, "TASK_ERROR", "has no 'value'"),
        ({"command": None}, "TASK_ERROR", "neither 'command' nor 'executor'"),
    ],
)
def test_tasks_that_cannot_run_here_are_refused_with_the_reason(
    bench: Bench, changes: dict[str, object], state: str, text: str
) -> None:
    effects = bench.down(RunTask(framework=framework(), task=replace(task(), **changes)))
    assert not of_type(effects, Launch)
    status = updates(effects)[0].status
    assert status.state == state
    assert status.message is not None
    assert text in status.message


def test_amounts_that_are_no_amounts_are_refused(bench: Bench) -> None:
    effects = bench.down(RunTask(framework=framework(), task=task(amount=float("inf"))))
    status = updates(effects)[0].status
    assert (status.state, status.reason) == ("TASK_ERROR", "REASON_TASK_INVALID")


def test_a_launch_without_a_framework_id_is_ignored(bench: Bench) -> None:
    assert not bench.down(RunTask(framework=replace(framework(), id=None), task=task()))


def test_a_second_launch_of_the_same_task_is_ignored(bench: Bench) -> None:
    bench.run()
    assert not bench.down(RunTask(framework=framework(), task=task()))


def test_max_completion_time_ends_the_task_as_failed(bench: Bench) -> None:
    cid = bench.run(task(max_completion_time=DurationInfo(nanoseconds=5_000_000_000)))
    assert one(bench.advance(5.0), KillRun).container_id == cid
    status = updates(bench.feed(Exited(cid, 15)))[0].status
    assert (status.state, status.reason) == ("TASK_FAILED", "REASON_MAX_COMPLETION_TIME_REACHED")


def test_the_environment_has_what_frameworks_rely_on() -> None:
    bench = Bench(settings(base_env={"LANG": "C"}))
    bench.register()
    spec = one(bench.down(RunTask(framework=framework(), task=task())), Launch).spec
    assert spec.env["LANG"] == "C"
    assert spec.env["MESOS_EXECUTOR_ID"] == "t1"
    assert spec.env["MESOS_SLAVE_ID"] == AGENT.value
    assert spec.env["MESOS_SLAVE_PID"] == "slave(1)@127.0.0.1:5051"
    assert spec.env["MESOS_SANDBOX"] == f"/w/{spec.sandbox}"
    assert spec.env["MESOS_CHECKPOINT"] == "1"
    assert spec.env["MESOS_RECOVERY_TIMEOUT"] == "15mins"
    assert spec.env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] == "5secs"


@pytest.mark.parametrize(("limit", "score"), [(None, None), (64.0, None), (128.0, 938)])
def test_a_task_that_may_use_more_memory_than_it_asked_for_is_ended_sooner(
    limit: float | None, score: int | None
) -> None:
    mem = Resource(name="mem", type="SCALAR", scalar=Scalar(64.0))
    bench = Bench(settings(memory_bytes=1 << 30, resources=(*settings().resources, mem)))
    bench.register()
    limits = {"mem": Scalar(limit)} if limit is not None else {}
    info = replace(task(), resources=(*task().resources, mem), limits=limits)
    spec = one(bench.down(RunTask(framework=framework(), task=info)), Launch).spec
    assert spec.oom_score_adj == score


def test_executors_can_read_the_longest_durations() -> None:
    bench = Bench(settings(shutdown_grace_s=1e6, recovery_timeout_s=6e7))
    bench.register()
    spec = one(bench.down(RunTask(framework=framework(), task=task())), Launch).spec
    assert spec.env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] == "1.65343915343915weeks"
    assert spec.env["MESOS_RECOVERY_TIMEOUT"] == "99.2063492063492weeks"


def test_a_framework_that_is_gone_is_ended_without_a_word(bench: Bench) -> None:
    cid = bench.run()
    effects = bench.down(ShutdownFramework(framework_id=FrameworkID("F")))
    assert one(effects, KillRun) == KillRun(cid, 5.0)
    over = bench.feed(Exited(cid, 15))
    assert not updates(over)
    assert of_type(over, RunOver)
    assert not bench.core.state.frameworks


def test_draining_ends_tasks_refuses_others_and_is_forgotten_when_done(bench: Bench) -> None:
    cid = bench.run()
    config = DrainConfig(max_grace_period=DurationInfo(nanoseconds=9_000_000_000))
    assert one(bench.down(Drain(config=config)), KillRun) == KillRun(cid, 9.0)
    refused = updates(bench.down(RunTask(framework=framework(), task=task("t2"))))[0]
    assert refused.status.reason == "REASON_AGENT_DRAINING"
    killed = updates(bench.feed(Exited(cid, 15)))[0]
    assert (killed.status.state, killed.status.reason) == ("TASK_KILLED", "REASON_AGENT_DRAINING")
    bench.acknowledge(refused)
    assert any(path.endswith("drain.config") for path in bench.disk.files)
    bench.acknowledge(killed)
    assert bench.core.state.drain is None
    assert not any(path.endswith("drain.config") for path in bench.disk.files)


def test_shutdown_ends_all_tasks_forgets_the_id_and_ends_the_process(bench: Bench) -> None:
    cid = bench.run()
    effects = bench.down(Shutdown(message="marked gone"))
    assert one(effects, KillRun).container_id == cid
    assert not of_type(effects, Exit)
    assert "marked gone" in one(bench.feed(Exited(cid, 15)), Exit).reason
    assert not bench.disk.links


def test_updates_are_resent_with_growing_waits(bench: Bench) -> None:
    bench.feed(Exited(bench.run(), 0))
    at = []
    start = bench.now
    while bench.now < start + 80:
        bench.now += 1
        at += [bench.now - start for _ in updates(bench.advance(0))]
    assert at == [10.0, 30.0, 70.0]


def test_an_acknowledgement_of_another_update_is_ignored(bench: Bench) -> None:
    finished = updates(bench.feed(Exited(bench.run(), 0)))[0]
    wrong = replace(finished, status=replace(finished.status, uuid=b"x" * 16))
    bench.acknowledge(wrong)
    assert bench.core.state.streams


def test_no_update_is_sent_before_it_is_on_disk(bench: Bench) -> None:
    cid = bench.run()
    bench.hold_disk = True
    assert not updates(bench.feed(Exited(cid, 0)))
    bench.feed(LinkClosed(bench.link, "reset"))
    assert not updates(bench.register())
    assert states(bench.release_disk()) == ["TASK_FINISHED"]


def test_a_save_that_fails_is_counted(bench: Bench) -> None:
    bench.hold_disk = True
    bench.down(RunTask(framework=framework(), task=task()))
    bench.feed(SaveFailed(bench.held.popleft().token, "x", "Input/output error"))
    assert bench.core.state.counters["checkpoint_errors"] == 1
