"""Custom executors and task groups in the core: subscription, updates, ends, recovery."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mesostk.agent import amounts, custom
from mesostk.agent.events import (
    CloseExecutorStream,
    Connect,
    ExecutorCalled,
    ExecutorStreamClosed,
    ExecutorSubscribed,
    Exited,
    GroupSandbox,
    KillRun,
    Launch,
    Launched,
    LaunchFailed,
    Resize,
    RunSeen,
    SendToExecutor,
    SendUp,
)
from mesostk.agent.tests.agent_bench import (
    Bench,
    cpus,
    framework,
    of_type,
    one,
    settings,
    states,
    task,
    updates,
)
from mesostk.base.core import Effect
from mesostk.errors import Rejected
from mesostk.wire import executor as wire
from mesostk.wire.link import (
    Drain,
    ExecutorMessage,
    ExitedExecutor,
    Kill,
    RunGroup,
    RunTask,
    SchedulerMessage,
    ShutdownExecutor,
    ShutdownFramework,
)
from mesostk.wire.mesos import (
    CommandInfo,
    ContainerInfo,
    DrainConfig,
    ExecutorID,
    ExecutorInfo,
    FrameworkCapabilityType,
    FrameworkID,
    FrameworkInfo,
    NetworkInfo,
    SandboxPath,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
    Volume,
    VolumeMode,
    VolumeSource,
)

F = FrameworkID("F")
E = ExecutorID("e")
INFO = ExecutorInfo(
    executor_id=E, command=CommandInfo(value="./run"), resources=(cpus(0.5),), type="CUSTOM"
)


def run_task(
    task_id: str = "t1", *, new: bool = True, owner: FrameworkInfo | None = None
) -> RunTask:
    info = replace(task(task_id), command=None, executor=INFO)
    return RunTask(framework=owner or framework(), task=info, launch_executor=new)


def call(kind: wire.CallType, **body: object) -> wire.Call:
    return wire.Call(executor_id=E, framework_id=F, type=kind, **body)  # type: ignore[arg-type]


def subscribe(
    stream: str = "s1", *tasks: TaskInfo, told: tuple[wire.Update, ...] = ()
) -> ExecutorSubscribed:
    body = wire.Subscribe(unacknowledged_tasks=tasks, unacknowledged_updates=told)
    return ExecutorSubscribed(stream=stream, framework_id="F", executor_id="e", subscribe=body)


def update(task_id: str, state: TaskState, number: int, **more: object) -> wire.Update:
    status = TaskStatus(
        task_id=TaskID(task_id), state=state, source="SOURCE_EXECUTOR",
        uuid=number.to_bytes(16, "big"), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return wire.Update(status=status)


SHORT = wire.Update(status=TaskStatus(task_id=TaskID("t1"), state="TASK_RUNNING", uuid=b"short"))


def say(task_id: str, state: TaskState, number: int) -> ExecutorCalled:
    return ExecutorCalled(call("UPDATE", update=update(task_id, state, number)))


def told(effects: list[Effect]) -> list[str]:
    return [str(effect.event.type) for effect in of_type(effects, SendToExecutor)]


def exited(effects: list[Effect]) -> list[ExitedExecutor]:
    sent = [effect.message for effect in of_type(effects, SendUp)]
    return [message for message in sent if isinstance(message, ExitedExecutor)]


def started(*capabilities: FrameworkCapabilityType) -> tuple[Bench, str]:
    """An executor that is subscribed and has its first task."""
    bench = Bench()
    bench.register()
    effects = bench.down(run_task(owner=framework("F", *capabilities)))
    cid = one(effects, Launch).spec.container_id
    bench.feed(Launched(cid, 4711))
    assert told(bench.feed(subscribe())) == ["SUBSCRIBED", "LAUNCH"]
    return bench, cid


def test_an_executor_gets_its_environment_and_resources() -> None:
    bench = Bench()
    bench.register()
    spec = one(bench.down(run_task()), Launch).spec
    assert spec.argv[-1] == "./run"
    assert (spec.amounts.cpus, spec.executor_id) == (1.5, "e")
    wanted = {"MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID", "MESOS_AGENT_ENDPOINT", "MESOS_SLAVE_ID",
              "MESOS_DIRECTORY", "MESOS_SANDBOX", "MESOS_CHECKPOINT", "MESOS_RECOVERY_TIMEOUT",
              "MESOS_SUBSCRIPTION_BACKOFF_MAX", "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"}  # fmt: skip
    assert wanted <= spec.env.keys()
    assert "LIBPROCESS_IP" not in spec.env


def test_an_executor_is_told_the_address_of_its_agent() -> None:
    bench = Bench(settings(libprocess_ip="10.0.0.7"))
    bench.register()
    assert one(bench.down(run_task()), Launch).spec.env["LIBPROCESS_IP"] == "10.0.0.7"


def test_the_limits_of_an_executor_follow_its_tasks() -> None:
    bench = Bench()
    bench.register()
    cid = one(bench.down(run_task()), Launch).spec.container_id
    assert not of_type(bench.down(run_task("t2", new=False)), Resize)  # not started yet

    def cpus_after(effects: list[Effect]) -> float:
        assert one(effects, Resize).container_id == cid
        return amounts.of_executor(bench.core.state.runs[cid]).cpus

    assert cpus_after(bench.feed(Launched(cid, 1))) == 2.5
    assert cpus_after(bench.down(run_task("t3", new=False))) == 3.5
    bench.feed(subscribe())
    assert cpus_after(bench.feed(say("t1", "TASK_FINISHED", 1))) == 2.5


def test_tasks_wait_for_the_executor_and_updates_for_the_disk() -> None:
    bench, _ = started()
    effects = bench.down(run_task("t2", new=False))
    assert (told(effects), of_type(effects, Launch)) == (["LAUNCH"], [])
    bench.hold_disk = True
    held = bench.feed(say("t2", "TASK_RUNNING", 1))
    assert (told(held), updates(held)) == ([], [])
    effects = bench.release_disk()
    assert (told(effects), states(effects)) == (["ACKNOWLEDGED"], ["TASK_RUNNING"])
    status = updates(effects)[0].status
    assert (status.executor_id, status.agent_id is not None) == (E, True)
    again = bench.feed(say("t2", "TASK_RUNNING", 1))
    assert (told(again), states(again)) == (["ACKNOWLEDGED"], [])


def test_an_ended_task_is_forgotten_and_its_executor_lives() -> None:
    bench, cid = started()
    effects = bench.feed(say("t1", "TASK_FINISHED", 1))
    bench.acknowledge(updates(effects)[0])
    run = bench.core.state.runs[cid]
    assert (run.tasks, [entry.state for entry in run.completed]) == ({}, ["TASK_FINISHED"])
    assert not any("tasks/t1" in path for path in bench.disk.files)
    assert told(bench.down(run_task("t2", new=False))) == ["LAUNCH"]


def test_messages_go_both_ways() -> None:
    bench, _ = started()
    down = SchedulerMessage(framework_id=F, executor_id=E, data=b"do")
    event = one(bench.down(down), SendToExecutor).event
    assert event.message == wire.ToExecutor(data=b"do")
    up = bench.feed(ExecutorCalled(call("MESSAGE", message=wire.ToFramework(data=b"done"))))
    assert one(up, SendUp).message == ExecutorMessage(framework_id=F, executor_id=E, data=b"done")


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        (call("SUBSCRIBE", subscribe=wire.Subscribe()), 0, ""),
        (replace(call("MESSAGE"), framework_id=FrameworkID("x")), 400, "Framework cannot be found"),
        (replace(call("MESSAGE"), executor_id=ExecutorID("x")), 400, "Executor cannot be found"),
        (call("UPDATE", update=SHORT), 400, "'uuid' must have 16 bytes"),
    ],
)
def test_calls_are_refused_with_the_originals_texts(
    message: wire.Call, status: int, text: str
) -> None:
    bench, _ = started()
    if not status:
        custom.refuse(bench.core.state, message)
        return
    with pytest.raises(Rejected) as refused:
        custom.refuse(bench.core.state, message)
    assert (refused.value.status, text in refused.value.message) == (status, True)


def test_an_executor_that_is_not_subscribed_may_only_subscribe() -> None:
    bench, _ = started()
    bench.feed(ExecutorStreamClosed("s1"))
    with pytest.raises(Rejected, match="Executor is not subscribed"):
        custom.refuse(bench.core.state, call("MESSAGE", message=wire.ToFramework(data=b"")))


def test_a_second_subscription_closes_the_first() -> None:
    bench, _ = started()
    effects = bench.feed(subscribe("s2"))
    assert one(effects, CloseExecutorStream).stream == "s1"
    assert told(effects) == ["SUBSCRIBED"]


def test_the_end_of_an_executor_ends_its_tasks_and_is_told() -> None:
    bench, cid = started()
    effects = bench.feed(Exited(cid, 9))
    assert (states(effects), exited(effects)[0].status) == (["TASK_FAILED"], 9)
    assert updates(effects)[0].status.reason == "REASON_EXECUTOR_TERMINATED"
    bench.acknowledge(updates(effects)[0])
    assert (bench.core.state.runs, bench.core.state.frameworks) == ({}, {})


def test_an_executor_that_cannot_be_started_is_no_executor_for_the_master() -> None:
    bench = Bench()
    bench.register()
    cid = one(bench.down(run_task()), Launch).spec.container_id
    effects = bench.feed(LaunchFailed(cid, "no such file"))
    assert (states(effects), len(exited(effects))) == (["TASK_FAILED"], 1)
    assert updates(effects)[0].status.reason == "REASON_CONTAINER_LAUNCH_FAILED"


def test_a_task_of_an_executor_that_has_ended_is_dropped() -> None:
    bench, cid = started("PARTITION_AWARE")
    effects = bench.feed(Exited(cid, 0))
    effects = bench.down(run_task("t2", new=False))
    assert updates(effects)[0].status.reason == "REASON_EXECUTOR_TERMINATED"
    assert not of_type(effects, Launch)


def test_an_executor_that_does_not_register_is_ended() -> None:
    bench = Bench()
    bench.register()
    cid = one(bench.down(run_task()), Launch).spec.container_id
    bench.feed(Launched(cid, 1))
    assert of_type(bench.advance(59.0), KillRun) == []
    assert one(bench.advance(2.0), KillRun).container_id == cid
    status = updates(bench.feed(Exited(cid, 9)))[0].status
    assert status.reason == "REASON_EXECUTOR_REGISTRATION_TIMEOUT"


def test_kill_is_the_executors_and_before_delivery_the_agents() -> None:
    bench, _ = started()
    assert told(bench.down(Kill(framework_id=F, task_id=TaskID("t1")))) == ["KILL"]
    bench.feed(ExecutorStreamClosed("s1"))
    bench.down(run_task("t2", new=False))
    effects = bench.down(Kill(framework_id=F, task_id=TaskID("t2")))
    assert updates(effects)[0].status.reason == "REASON_TASK_KILLED_DURING_LAUNCH"
    # Not before it is back can it be told of the other kill, again.
    assert told(bench.feed(subscribe("s2"))) == ["SUBSCRIBED", "KILL"]


def test_an_executor_whose_only_task_was_killed_before_it_came_is_shut_down() -> None:
    bench = Bench()
    bench.register()
    cid = one(bench.down(run_task()), Launch).spec.container_id
    effects = bench.down(Kill(framework_id=F, task_id=TaskID("t1")))
    assert states(effects) == ["TASK_KILLED"]
    assert one(bench.feed(Launched(cid, 1)), KillRun).container_id == cid


def test_shutdown_gives_a_grace_period() -> None:
    bench, cid = started()
    assert told(bench.down(ShutdownExecutor(framework_id=F, executor_id=E))) == ["SHUTDOWN"]
    assert states(bench.feed(say("t1", "TASK_KILLED", 1))) == ["TASK_KILLED"]
    assert of_type(bench.advance(4.0), KillRun) == []
    assert one(bench.advance(2.0), KillRun).container_id == cid


def test_a_torn_down_framework_hears_no_more() -> None:
    bench, cid = started()
    assert told(bench.down(ShutdownFramework(framework_id=F))) == ["SHUTDOWN"]
    effects = bench.feed(say("t1", "TASK_KILLED", 1))
    assert (told(effects), updates(effects)) == (["ACKNOWLEDGED"], [])
    assert (updates(bench.feed(Exited(cid, 0))), bench.core.state.frameworks) == ([], {})


def test_draining_ends_tasks_and_then_the_executor() -> None:
    bench, cid = started()
    assert told(bench.down(Drain(config=DrainConfig()))) == ["KILL"]
    killed = updates(bench.feed(say("t1", "TASK_KILLED", 1)))[0]
    assert killed.status.reason == "REASON_AGENT_DRAINING"
    assert told(bench.acknowledge(killed)) == ["SHUTDOWN"]
    bench.feed(Exited(cid, 0))
    assert bench.core.state.drain is None


# -- a restart of the agent ---------------------------------------------------------------------


def test_an_executor_comes_back_with_what_was_not_acknowledged() -> None:
    bench, cid = started()
    bench.start({cid: RunSeen(alive=True)})
    assert of_type(bench.effects, Connect) == []
    again = subscribe("s2", task("t1"), told=(update("t1", "TASK_RUNNING", 1),))
    assert told(bench.feed(again)) == ["SUBSCRIBED", "ACKNOWLEDGED"]
    assert states(bench.register()) == ["TASK_RUNNING"]


def test_a_task_that_the_executor_never_got_is_dropped() -> None:
    bench, cid = started("PARTITION_AWARE")
    bench.start({cid: RunSeen(alive=True)})
    bench.feed(subscribe("s2"))
    status = updates(bench.register())[0].status
    assert (status.state, status.reason) == ("TASK_DROPPED", "REASON_AGENT_RESTARTED")


def test_an_executor_that_does_not_come_back_is_ended_before_the_agent_registers() -> None:
    bench, cid = started("PARTITION_AWARE")
    bench.start({cid: RunSeen(alive=True)})
    assert one(bench.advance(2.5), KillRun).container_id == cid
    bench.feed(Exited(cid, 9))
    status = updates(bench.register())[0].status
    assert (status.state, status.reason) == ("TASK_GONE", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT")


def test_an_idle_executor_comes_back_and_stays() -> None:
    bench, cid = started()
    bench.acknowledge(updates(bench.feed(say("t1", "TASK_FINISHED", 1)))[0])
    bench.start({cid: RunSeen(alive=True)})
    assert told(bench.feed(subscribe("s2"))) == ["SUBSCRIBED"]
    bench.register()
    assert [
        item.executor.executor_id for item in one(bench.effects, Connect).subscribe.executors
    ] == [E]


@pytest.mark.parametrize("seen", [RunSeen(), RunSeen(ended=Exited("", 9))])
def test_an_executor_that_ended_meanwhile_takes_its_tasks_along(seen: RunSeen) -> None:
    bench, cid = started()
    bench.acknowledge(updates(bench.feed(say("t1", "TASK_RUNNING", 1)))[0])
    ended = None if seen.ended is None else replace(seen.ended, container_id=cid)
    bench.start({cid: RunSeen(ended=ended)})
    assert states(bench.register()) == ["TASK_FAILED"]


# -- task groups --------------------------------------------------------------------------------


def group(*task_ids: str, new: bool = True) -> RunGroup:
    info = ExecutorInfo(executor_id=E, type="DEFAULT", resources=(cpus(0.5),))
    tasks = TaskGroupInfo(tasks=tuple(task(task_id) for task_id in task_ids))
    return RunGroup(framework=framework(), executor=info, task_group=tasks, launch_executor=new)


def grouped(*task_ids: str) -> tuple[Bench, list[str]]:
    bench = Bench()
    bench.register()
    effects = bench.down(group(*task_ids))
    cids = [launch.spec.container_id for launch in of_type(effects, Launch)]
    for starting, cid in zip(updates(effects), cids, strict=True):
        bench.acknowledge(starting)
        bench.acknowledge(updates(bench.feed(Launched(cid, 1)))[0])
    return bench, cids


def test_each_task_of_a_group_has_a_container_below_the_executors() -> None:
    bench, cids = grouped("a", "b")
    assert len({cid.partition(".")[0] for cid in cids}) == 1
    assert len({cid.partition(".")[2] for cid in cids}) == 2
    assert sum(len(run.held) for run in bench.core.state.live_runs()) == 3


def sharing(task_id: str, user: str | None, mode: VolumeMode) -> TaskInfo:
    plain = task(task_id)
    assert plain.command is not None
    path = SandboxPath(type="PARENT", path="common")
    volume = Volume(
        mode=mode, container_path="d", source=VolumeSource(type="SANDBOX_PATH", sandbox_path=path)
    )
    container = ContainerInfo(type="MESOS", volumes=(volume,))
    return replace(plain, command=replace(plain.command, user=user), container=container)


@pytest.mark.parametrize(
    ("tasks", "user", "is_open", "owner"),
    [
        ((("bob", "RW"), ("bob", "RW")), "bob", False, "bob"),
        ((("bob", "RO"), ("eve", "RW"), (None, "RW")), "u", True, "eve"),
        ((("eve", "RO"), (None, "RO")), "u", True, "eve"),
        (((None, "RW"), (None, "RO")), "u", False, "u"),
    ],
)
def test_the_sandbox_of_a_group_lets_all_of_its_users_in(
    tasks: tuple[tuple[str | None, VolumeMode], ...], user: str, is_open: bool, owner: str
) -> None:
    bench = Bench(settings(switch_user=True))
    bench.register()
    infos = tuple(sharing(f"t{n}", user, mode) for n, (user, mode) in enumerate(tasks))
    message = replace(group(), task_group=TaskGroupInfo(tasks=infos))
    launched = of_type(bench.down(message), Launch)
    wanted = GroupSandbox(user=user, is_open=is_open, folders=(("common", owner),))
    assert [each.spec.around for each in launched] == [wanted] * len(tasks), "whichever is first"


def test_a_group_that_does_not_fit_is_refused_whole() -> None:
    bench = Bench()
    bench.register()
    effects = bench.down(group(*"abcdefgh"))
    assert states(effects) == ["TASK_LOST"] * 8
    for refused in updates(effects):
        effects = bench.acknowledge(refused)
    assert len(exited(effects)) == 1
    assert bench.core.state.frameworks == {}


@pytest.mark.parametrize(
    ("ended", "others"), [(Exited("", 256), 1), (Exited("", 0), 0), (Exited("", 9, oom=True), 1)]
)
def test_one_that_fails_ends_its_group_and_one_that_finishes_does_not(
    ended: Exited, others: int
) -> None:
    bench, cids = grouped("a", "b")
    effects = bench.feed(replace(ended, container_id=cids[0]))
    assert [effect.container_id for effect in of_type(effects, KillRun)] == cids[1:][:others]


def test_another_group_of_the_executor_is_not_concerned() -> None:
    bench, cids = grouped("a", "b")
    effects = bench.down(group("c", new=False))
    other = one(effects, Launch).spec.container_id
    bench.feed(Launched(other, 1))
    killed = of_type(bench.feed(Exited(cids[0], 256)), KillRun)
    assert [effect.container_id for effect in killed] == [cids[1]]


def test_the_executor_ends_with_the_last_acknowledgement() -> None:
    bench, cids = grouped("a", "b")
    ends = [updates(bench.feed(Exited(cid, 0)))[0] for cid in cids]
    assert exited(bench.acknowledge(ends[0])) == []
    assert len(exited(bench.acknowledge(ends[1]))) == 1
    assert bench.core.state.frameworks == {}


def test_a_group_goes_on_after_a_restart_and_still_ends_together() -> None:
    bench, cids = grouped("a", "b")
    bench.start({cid: RunSeen(alive=True) for cid in cids})
    bench.register()
    killed = of_type(bench.feed(Exited(cids[0], 256)), KillRun)
    assert [effect.container_id for effect in killed] == [cids[1]]


def test_what_ended_while_the_agent_was_away_ends_its_group() -> None:
    bench, cids = grouped("a", "b")
    bench.start({cids[0]: RunSeen(ended=Exited(cids[0], 256)), cids[1]: RunSeen(alive=True)})
    assert [effect.container_id for effect in of_type(bench.effects, KillRun)] == [cids[1]]


def test_what_a_restart_kept_from_being_launched_ends_its_group() -> None:
    bench, cids = grouped("a", "b")
    bench.start({cids[0]: RunSeen(), cids[1]: RunSeen(alive=True)})
    assert [effect.container_id for effect in of_type(bench.effects, KillRun)] == [cids[1]]


def test_a_torn_down_framework_ends_its_groups_silently() -> None:
    bench, cids = grouped("a", "b")
    bench.down(ShutdownFramework(framework_id=F))
    effects = [effect for cid in cids for effect in bench.feed(Exited(cid, 15, killed=True))]
    assert (updates(effects), bench.core.state.frameworks) == ([], {})


def test_a_group_on_a_full_disk_is_refused() -> None:
    bench = Bench()
    bench.register()
    bench.is_full = True
    effects = bench.down(group("a", "b"))
    assert states(effects) == ["TASK_LOST", "TASK_LOST"]
    for refused in updates(effects):
        effects = bench.acknowledge(refused)
    assert bench.core.state.frameworks == {}


def test_a_group_for_a_custom_executor_is_delivered_as_one() -> None:
    bench = Bench()
    bench.register()
    message = replace(group("a", "b"), executor=INFO)
    cid = one(bench.down(message), Launch).spec.container_id
    bench.feed(Launched(cid, 1))
    effects = bench.feed(subscribe())
    assert told(effects) == ["SUBSCRIBED", "LAUNCH_GROUP"]
    event = of_type(effects, SendToExecutor)[1].event
    assert event.launch_group is not None
    assert len(event.launch_group.task_group.tasks) == 2
    assert told(bench.down(replace(group("c", new=False), executor=INFO))) == ["LAUNCH_GROUP"]


def test_a_group_that_a_custom_executor_has_not_got_is_killed_whole() -> None:
    bench = Bench()
    bench.register()
    bench.down(replace(group("a", "b"), executor=INFO))
    effects = bench.down(Kill(framework_id=F, task_id=TaskID("a")))
    assert states(effects) == ["TASK_KILLED", "TASK_KILLED"]


def test_a_group_for_a_network_that_is_not_here_is_refused_and_not_run_in_the_hosts() -> None:
    bench = Bench()
    bench.register()
    whole = group("a", "b")
    network = ContainerInfo(type="MESOS", network_infos=(NetworkInfo(name="dc"),))
    asked = replace(whole, executor=replace(whole.executor, container=network))
    told = updates(bench.down(asked))
    assert [each.status.state for each in told] == ["TASK_FAILED"] * 2
    assert all("'dc' needs a CNI network" in (each.status.message or "") for each in told)
    unnamed = replace(network, network_infos=(NetworkInfo(),))
    other = group("c", "d")
    effects = bench.down(replace(other, executor=replace(other.executor, container=unnamed)))
    assert len(of_type(effects, Launch)) == 2
