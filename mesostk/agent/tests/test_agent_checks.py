"""Health checks: when to probe and what a result means (spec: Mesos §3.6)."""

from __future__ import annotations

import pytest

from mesostk.agent.checks import Verdict, judge, kind_of
from mesostk.agent.events import Exited, KillRun, Probe, Probed
from mesostk.agent.state import Checker
from mesostk.agent.tests.agent_bench import Bench, of_type, one, task, updates
from mesostk.wire.link import Kill
from mesostk.wire.mesos import (
    CommandInfo,
    FrameworkID,
    HealthCheck,
    HTTPCheckInfo,
    TaskID,
    TCPCheckInfo,
)


def checked(**changes: float) -> HealthCheck:
    return HealthCheck(type="TCP", tcp=TCPCheckInfo(port=80), **changes)  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.register()
    return bench


def test_the_first_probe_waits_the_delay_and_the_next_an_interval_after_the_result(
    bench: Bench,
) -> None:
    cid = bench.run(task(health_check=checked(delay_seconds=15, interval_seconds=10)))
    assert not of_type(bench.advance(14.9), Probe)
    assert one(bench.advance(0.1), Probe).number == 0
    assert not of_type(bench.advance(100), Probe)
    bench.feed(Probed(cid, 0, None))
    assert not of_type(bench.advance(9.9), Probe)
    assert one(bench.advance(0.1), Probe).number == 1


def test_health_is_told_at_first_success_at_each_failure_and_at_recovery(bench: Bench) -> None:
    check = checked(delay_seconds=0, interval_seconds=1, grace_period_seconds=0)
    cid = bench.run(task(health_check=check))
    said: list[bool | None] = []
    for number, error in enumerate([None, None, "refused", "refused", None, None]):
        bench.advance(1)
        for update in updates(bench.feed(Probed(cid, number, error))):
            assert update.status.state == "TASK_RUNNING"
            assert update.status.reason == "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
            said.append(update.status.healthy)
            while update is not None:
                after = updates(bench.acknowledge(update))
                update = after[0] if after else None  # type: ignore[assignment]
    assert said == [True, False, False, True]


def test_enough_failures_in_a_row_kill_the_task_as_unhealthy(bench: Bench) -> None:
    check = checked(delay_seconds=0, grace_period_seconds=0, consecutive_failures=2)
    cid = bench.run(task(health_check=check))
    bench.advance(0)
    unhealthy = bench.feed(Probed(cid, 0, "refused"))
    assert not of_type(unhealthy, KillRun)
    bench.acknowledge(updates(unhealthy)[0])
    bench.advance(10)
    killed = bench.feed(Probed(cid, 1, "refused"))
    assert one(killed, KillRun).container_id == cid
    bench.feed(Exited(cid, 15))
    end = updates(bench.acknowledge(updates(killed)[0]))[0].status
    assert (end.state, end.healthy) == ("TASK_KILLED", False)


def test_results_of_a_killed_task_are_ignored(bench: Bench) -> None:
    cid = bench.run(task(health_check=checked(delay_seconds=0)))
    bench.advance(0)
    bench.down(Kill(framework_id=FrameworkID("F"), task_id=TaskID("t1")))
    assert not bench.feed(Probed(cid, 0, "refused"))
    assert not of_type(bench.advance(9), Probe)


def test_failures_count_for_nothing_in_the_grace_period_until_the_first_success() -> None:
    checker = Checker(check=checked(grace_period_seconds=10, consecutive_failures=1), since=100.0)
    assert judge(checker, 110.0, healthy=False) == Verdict(tell=False, kill=False)
    assert judge(checker, 105.0, healthy=True) == Verdict(tell=True, kill=False)
    assert judge(checker, 106.0, healthy=False) == Verdict(tell=True, kill=True)


def test_after_the_grace_period_failures_count() -> None:
    checker = Checker(check=checked(grace_period_seconds=10, consecutive_failures=2), since=100.0)
    assert judge(checker, 110.1, healthy=False) == Verdict(tell=True, kill=False)
    assert judge(checker, 111.0, healthy=False) == Verdict(tell=True, kill=True)


def test_the_kind_is_inferred_only_where_one_is_described() -> None:
    http, tcp = HTTPCheckInfo(port=1), TCPCheckInfo(port=1)
    assert kind_of(HealthCheck(http=http)) == "HTTP"
    assert kind_of(HealthCheck(command=CommandInfo(value="true"))) == "COMMAND"
    assert kind_of(HealthCheck(http=http, tcp=tcp)) is None
    assert kind_of(HealthCheck(type="TCP", http=http, tcp=tcp)) == "TCP"
