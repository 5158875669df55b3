"""Restarts: what is taken up, what is told, and what damage costs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from mesostk.agent import layout, recovery
from mesostk.agent.events import (
    Connect,
    ExecutorSubscribed,
    Exited,
    KillRun,
    Launch,
    RecoveredRun,
    RunOver,
    RunSeen,
)
from mesostk.agent.tests.agent_bench import (
    AGENT,
    BOOT,
    Bench,
    World,
    framework,
    of_type,
    one,
    settings,
    states,
    task,
    updates,
)
from mesostk.wire import executor as wire
from mesostk.wire.link import Drain, Kill, RunTask
from mesostk.wire.mesos import (
    TERMINAL_STATES,
    CommandInfo,
    DrainConfig,
    ExecutorID,
    ExecutorInfo,
    FrameworkCapabilityType,
    FrameworkID,
    TaskID,
)


def running(**owner: object) -> tuple[Bench, str]:
    bench = Bench()
    bench.register()
    return bench, bench.run(owner=framework("F", **owner))  # type: ignore[arg-type]


def record(bench: Bench, name: str) -> str:
    return next(path for path in bench.disk.files if path.endswith(name))


def test_a_task_that_still_runs_is_taken_up_silently() -> None:
    bench, cid = running()
    bench.start({cid: RunSeen(alive=True)})
    effects = bench.register()
    assert not updates(effects)
    subscribe = of_type(bench.effects, Connect)[-1].subscribe
    assert [(t.task_id.value, t.state) for t in subscribe.tasks] == [("t1", "TASK_RUNNING")]
    assert subscribe.agent_info.id == AGENT
    assert states(bench.feed(Exited(cid, 0))) == ["TASK_FINISHED"]


def test_a_task_that_ended_meanwhile_reports_its_true_exit_code() -> None:
    bench, cid = running()
    bench.start({cid: RunSeen(ended=Exited(cid, 7 << 8))})
    update = updates(bench.register())[0].status
    assert (update.state, update.message) == ("TASK_FAILED", "Command exited with status 7")


@pytest.mark.parametrize(
    ("capability", "boot", "state", "reason"),
    [
        ((), BOOT, "TASK_FAILED", "REASON_EXECUTOR_TERMINATED"),
        ((), "boot-2", "TASK_LOST", "REASON_EXECUTOR_TERMINATED"),
        (("PARTITION_AWARE",), "boot-2", "TASK_FAILED", "REASON_EXECUTOR_TERMINATED"),
    ],
)
def test_a_task_of_which_nothing_is_found_counts_as_terminated(
    capability: tuple[FrameworkCapabilityType, ...], boot: str, state: str, reason: str
) -> None:
    bench = Bench()
    bench.disk.files[layout.BOOT_ID] = BOOT.encode()
    bench.register()
    bench.run(owner=framework("F", *capability))
    bench.start({}, boot)
    update = updates(bench.register())[0].status
    assert (update.state, update.reason) == (state, reason)


def test_a_task_recorded_but_never_started_is_dropped() -> None:
    bench = Bench()
    bench.register()
    bench.hold_disk = True
    bench.down(RunTask(framework=framework("F", "PARTITION_AWARE"), task=task()))
    for op in bench.held.popleft().ops:
        bench.disk.apply(op)
    bench.hold_disk = False
    bench.start({})
    update = updates(bench.register())[0].status
    assert (update.state, update.reason) == ("TASK_DROPPED", "REASON_AGENT_RESTARTED")


def test_a_task_started_whose_running_was_not_recorded_says_so_after_the_restart() -> None:
    bench = Bench()
    bench.register()
    effects = bench.down(RunTask(framework=framework(), task=task()))
    cid = one(effects, Launch).spec.container_id
    bench.start({cid: RunSeen(alive=True)})
    starting = bench.register()
    assert states(starting) == ["TASK_STARTING"]
    assert states(bench.acknowledge(updates(starting)[0])) == ["TASK_RUNNING"]


def test_a_kill_is_not_forgotten_by_a_restart() -> None:
    bench, cid = running()
    bench.down(Kill(framework_id=FrameworkID("F"), task_id=TaskID("t1")))
    bench.start({cid: RunSeen(alive=True)})
    assert one(bench.effects, KillRun).container_id == cid
    bench.register()
    assert states(bench.feed(Exited(cid, 15))) == ["TASK_KILLED"]


def test_an_end_that_was_not_acknowledged_is_told_again_and_only_then_forgotten() -> None:
    bench, cid = running()
    told = updates(bench.feed(Exited(cid, 0)))[0]
    bench.start({cid: RunSeen(ended=Exited(cid, 0))})
    again = updates(bench.register())
    assert [u.status.uuid for u in again] == [told.status.uuid]
    assert of_type(bench.acknowledge(again[0]), RunOver)
    bench.start({})
    assert not bench.core.state.frameworks


def test_an_acknowledged_end_without_a_sentinel_is_closed_quietly() -> None:
    bench, cid = running()
    told = updates(bench.feed(Exited(cid, 0)))[0]
    bench.acknowledge(told)
    del bench.disk.files[record(bench, "executor.sentinel")]
    bench.start({cid: RunSeen(ended=Exited(cid, 0))})
    assert record(bench, "executor.sentinel")
    assert not updates(bench.register())


def test_tasks_of_frameworks_that_do_not_checkpoint_end_before_the_agent_registers() -> None:
    bench, cid = running(checkpoint=False)
    bench.start({cid: RunSeen(alive=True)})
    assert one(bench.effects, KillRun) == KillRun(cid, 0.0)
    bench.core.state.leader = "http://x"
    assert not of_type(bench.advance(5.0), Connect)
    bench.feed(Exited(cid, 9))
    assert one(bench.advance(5.0), Connect).subscribe.tasks == ()


def test_draining_goes_on_after_a_restart() -> None:
    bench, cid = running()
    bench.down(Drain(config=DrainConfig()))
    bench.start({cid: RunSeen(alive=True)})
    bench.register()
    assert of_type(bench.effects, KillRun)[0].container_id == cid
    refused = updates(bench.down(RunTask(framework=framework(), task=task("t2"))))
    assert refused[0].status.reason == "REASON_AGENT_DRAINING"


def test_updates_cut_off_anywhere_cost_only_what_was_cut() -> None:
    bench, cid = running()
    bench.feed(Exited(cid, 0))
    path = record(bench, "task.updates")
    whole = bench.disk.files[path]
    for cut in range(len(whole)):
        bench.disk.files[path] = whole[:cut]
        bench.start({cid: RunSeen(ended=Exited(cid, 0))})
        told = bench.register()
        while updates(told)[-1].status.state not in TERMINAL_STATES:
            told = bench.acknowledge(updates(told)[-1])
        assert updates(told)[-1].status.state == "TASK_FINISHED"
        assert not recovery.read(bench.disk.files, AGENT.value, BOOT).notes


@pytest.mark.parametrize("name", ["task.info", "executor.info", "framework.info", "task.updates"])
@pytest.mark.parametrize("damage", [b"", b"garbage", b"7\nnot jso"])
def test_no_unreadable_record_ends_a_task_that_runs(name: str, damage: bytes) -> None:
    bench, cid = running()
    bench.disk.files[record(bench, name)] = damage
    found = recovery.read(bench.disk.files, AGENT.value, BOOT)
    bench.start({cid: RunSeen(alive=True)})
    assert not of_type(bench.effects, KillRun)
    bench.register()
    subscribe = of_type(bench.effects, Connect)[-1].subscribe
    assert [t.task_id.value for t in subscribe.tasks] == ["t1"]
    lost = [n for n in found.notes if n.verb == "Losing"]
    assert len(lost) == (0 if name == "task.updates" and damage == b"" else 1)
    assert bench.core.state.lost_records == len(lost)


@pytest.mark.parametrize("names", [("executor.info",), ("executor.info", "task.info")])
@pytest.mark.parametrize("alive", [True, False])
def test_an_executor_whose_record_is_unreadable_is_still_one(
    names: tuple[str, ...], alive: bool
) -> None:
    executor = ExecutorInfo(executor_id=ExecutorID("e"), command=CommandInfo(value="./run"))
    bench = Bench()
    bench.register()
    for id in ("t1", "t2"):
        info = replace(task(id), command=None, executor=executor)
        bench.down(RunTask(framework=framework(), task=info))
    cid = next(iter(bench.core.state.runs))
    for path in [path for path in bench.disk.files if path.endswith(names)]:
        bench.disk.files[path] = b"cut"
    bench.start({cid: RunSeen(alive=alive)})
    if alive:
        known = wire.Subscribe(unacknowledged_tasks=(task("t1"), task("t2")))
        bench.feed(
            ExecutorSubscribed(stream="s", framework_id="F", executor_id="e", subscribe=known)
        )
    told = bench.register()
    subscribe = one(bench.effects, Connect).subscribe
    assert [t.task_id.value for t in subscribe.tasks] == ["t1", "t2"]
    executors = [item.executor.executor_id.value for item in subscribe.executors]
    assert executors == (["e"] if alive else [])
    # Each of the tasks that are no more has an end.
    assert states(told) == ([] if alive else ["TASK_LOST", "TASK_LOST"])


@pytest.mark.parametrize("name", ["epoch", "slave.info"])
def test_damage_to_who_the_agent_is_does_not_stop_it(name: str) -> None:
    bench, cid = running()
    bench.disk.files[record(bench, name)] = b"\xff"
    bench.start({cid: RunSeen(alive=True)})
    bench.register()
    assert bench.core.state.phase == "RUNNING"


def test_of_two_open_runs_of_one_executor_the_live_one_is_taken() -> None:
    bench, cid = running()
    for path in list(bench.disk.files):
        if cid in path:
            bench.disk.files[path.replace(cid, "zz")] = bench.disk.files[path]
    found = recovery.read(bench.disk.files, AGENT.value, BOOT)
    runs = [e for e in found.events({cid: RunSeen(alive=True)}) if isinstance(e, RecoveredRun)]
    assert [run.container_id for run in runs] == [cid]


def test_foreign_files_are_left_alone() -> None:
    bench, _ = running()
    bench.disk.files["meta/slaves/M-S0/frameworks/F/notes.txt"] = b"hello"
    bench.disk.files["meta/resources/old"] = b"hello"
    assert not recovery.read(bench.disk.files, AGENT.value, BOOT).notes


def test_ids_cannot_leave_their_directory() -> None:
    path = layout.task_dir("a", "../../x", "..", "r", "t/../../y")
    assert "/../" not in path
    place = layout.place(f"{path}/task.info")
    assert place is not None
    assert (place.framework, place.executor, place.task) == ("../../x", "..", "t/../../y")


@pytest.mark.parametrize("seed", range(150))
def test_no_task_is_lost_whatever_happens_in_whatever_order(seed: int) -> None:
    world = World(seed)
    for _ in range(500):
        world.step()
    world.has_faults = False
    for _ in range(20_000):
        if not world.to_launch and all(world.is_done(t) for t in world.known):
            break
        world.step()
    for task_id, heard in world.known.items():
        ends = {u.status.state for u in heard if u.status.state in TERMINAL_STATES}
        assert len(ends) == 1, f"{task_id} ended as {ends}, seed {seed}"
        cid = world.of_task.get(task_id)
        if cid is None:
            assert ends <= {"TASK_LOST", "TASK_KILLED" if task_id in world.killed else ""}
            continue
        ended = world.processes[cid].ended
        assert ended is not None, f"{task_id} runs on, seed {seed}"
        by_itself = "TASK_FINISHED" if ended.status == 0 else "TASK_FAILED"
        if world.processes[cid].kill_at is not None:
            assert ends == {"TASK_KILLED"}
        elif task_id in world.killed:  # it may have ended before the order reached it
            assert ends <= {by_itself, "TASK_KILLED"}
        else:
            assert ends == {by_itself}
        order = [u.status.state for u in heard]
        first_end = next(i for i, s in enumerate(order) if s in TERMINAL_STATES)
        assert all(s in TERMINAL_STATES for s in order[first_end:]), f"said after the end: {order}"


@pytest.mark.parametrize("seed", range(150))
def test_groups_end_together_whatever_happens_in_whatever_order(seed: int) -> None:
    world = World(seed, groups=True)
    for _ in range(500):
        world.step()
    world.has_faults = False
    for _ in range(20_000):
        if not world.to_launch and all(world.is_done(t) for t in world.known):
            break
        world.step()
    for task_id, heard in world.known.items():
        ends = {u.status.state for u in heard if u.status.state in TERMINAL_STATES}
        assert len(ends) == 1, f"{task_id} ended as {ends}, seed {seed}"
        cid = world.of_task.get(task_id)
        if cid is None:
            assert ends <= {"TASK_LOST", "TASK_KILLED"}
            continue
        ended = world.processes[cid].ended
        assert ended is not None, f"{task_id} runs on, seed {seed}"
        by_itself = "TASK_FINISHED" if ended.status == 0 else "TASK_FAILED"
        assert ends <= {by_itself, "TASK_KILLED"}
        order = [u.status.state for u in heard]
        first_end = next(i for i, s in enumerate(order) if s in TERMINAL_STATES)
        assert all(s in TERMINAL_STATES for s in order[first_end:]), f"said after the end: {order}"
    # What the last acknowledgements ask for is still on its way to the disk.
    for _ in range(200):
        world.step()
    assert not any(run.is_default for run in world.core.state.runs.values())


def test_the_random_worlds_do_crash_and_lose_links() -> None:
    worlds = [World(seed) for seed in range(20)]
    for world in worlds:
        for _ in range(500):
            world.step()
    assert sum(w.crashes for w in worlds) > 100
    assert sum(w.lost for w in worlds) > 20
    assert sum(len(w.killed) for w in worlds) > 10
    assert sum(len(w.processes) for w in worlds) > 60


def test_settings_need_no_io() -> None:
    assert settings().work_dir == "/w"
