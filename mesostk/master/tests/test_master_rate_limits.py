"""`--rate_limits`: calls of a principal's frameworks wait for their turn."""

from __future__ import annotations

from typing import Any

from mesostk.master import events as ev
from mesostk.master.figures import figures
from mesostk.wire import scheduler
from mesostk.wire.mesos import RateLimit, RateLimits, TaskID

ONE_A_SECOND = RateLimits(
    limits=(
        RateLimit(principal="slow", qps=1.0, capacity=2),
        RateLimit(principal="free"),
        RateLimit(principal="patient", qps=1.0),
    ),
    aggregate_default_qps=2.0,
    aggregate_default_capacity=1,
)


def counted(bench: Any, principal: str) -> tuple[float, float]:
    """Messages received and processed of the principal."""
    shown = figures(bench.master, 2.0, elected=True, per_framework=True)
    prefix = f"frameworks/{principal}/messages_"
    return shown[f"{prefix}received"], shown[f"{prefix}processed"]


def kill(bench: Any, framework_id: str, task_id: str) -> None:
    """A call that is seen to be processed: an unknown task is reconciled."""
    bench.call(framework_id, "KILL", scheduler.Kill(task_id=TaskID(task_id)))


def heard(bench: Any, stream: str) -> list[str]:
    return [status.task_id.value for status in bench.statuses(stream)]


def test_calls_beyond_the_rate_wait_in_order(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    stream, framework_id = bench.framework("f", principal="patient")
    kill(bench, framework_id, "t0")
    assert heard(bench, stream) == ["t0"]
    for number in (1, 2, 3):
        kill(bench, framework_id, f"t{number}")
        assert heard(bench, stream) == []
    assert counted(bench, "patient") == (5, 2)  # SUBSCRIBE is one of them
    bench.run(0.9)
    assert heard(bench, stream) == []
    bench.run(0.1)
    assert heard(bench, stream) == ["t1"]
    bench.run(2.0)
    assert heard(bench, stream) == ["t2", "t3"]
    assert counted(bench, "patient") == (5, 5)
    bench.run(0.5)
    kill(bench, framework_id, "t4")
    assert heard(bench, stream) == []
    bench.run(0.5)
    assert heard(bench, stream) == ["t4"]
    bench.run(1.0)
    kill(bench, framework_id, "t5")
    assert heard(bench, stream) == ["t5"]


def test_a_principal_without_qps_is_not_limited_at_all(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    stream, framework_id = bench.framework("f", principal="free")
    for number in range(20):
        kill(bench, framework_id, f"t{number}")
        assert heard(bench, stream) == [f"t{number}"]
    assert counted(bench, "free") == (21, 21)


def test_frameworks_of_one_principal_share_its_rate(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    first, one = bench.framework("f", principal="slow")
    second, two = bench.framework("g", principal="slow")
    kill(bench, one, "t1")
    assert heard(bench, first) == ["t1"]
    kill(bench, two, "t2")
    assert heard(bench, second) == []
    bench.run(1.0)
    assert heard(bench, second) == ["t2"]


def test_more_than_the_capacity_is_dropped_with_an_error(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    stream, framework_id = bench.framework("f", principal="slow")
    for number in range(4):
        kill(bench, framework_id, f"t{number}")
    [error] = bench.heard(stream, "ERROR")
    text = "Message mesos.scheduler.Call dropped: capacity(2) exceeded"
    assert error.error.message == text
    assert bench.of(ev.CloseSchedulerStream) == []
    assert counted(bench, "slow") == (5, 2)
    bench.run(5.0)
    assert heard(bench, stream) == ["t1", "t2"]
    assert counted(bench, "slow") == (5, 4)
    kill(bench, framework_id, "t4")
    assert heard(bench, stream) == ["t4"]


def test_the_others_are_limited_together(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    first, one = bench.framework("f", principal="nobody knows")
    second, two = bench.framework("g")
    kill(bench, one, "t1")
    kill(bench, two, "t2")
    assert heard(bench, second) == []
    kill(bench, one, "t3")
    assert [item.error.message for item in bench.heard(first, "ERROR")] == [
        "Message mesos.scheduler.Call dropped: capacity(1) exceeded"
    ]
    bench.run(0.5)
    assert heard(bench, second) == ["t2"]


def test_a_scheduler_that_goes_is_gone_after_its_last_call(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    stream, framework_id = bench.framework("f", principal="patient", failover_timeout=0.0)
    kill(bench, framework_id, "t0")
    bench.call(framework_id, "SUPPRESS")
    bench.feed(ev.SchedulerStreamClosed(stream))
    assert bench.master.frameworks[framework_id].stream == stream
    bench.run(1.0)
    assert bench.master.frameworks[framework_id].suppressed == {"*"}
    bench.run(1.0)
    assert framework_id in bench.master.completed_frameworks


def test_calls_of_a_scheduler_that_was_failed_over_are_dropped(make_bench: Any) -> None:
    bench = make_bench(rate_limits=ONE_A_SECOND)
    stream, framework_id = bench.framework("f", principal="patient")
    kill(bench, framework_id, "t0")
    bench.call(framework_id, "SUPPRESS")
    bench.feed(ev.SchedulerStreamClosed(stream))
    info = bench.master.frameworks[framework_id].info
    again = bench.subscribe(info)
    assert bench.master.frameworks[framework_id].stream == again
    bench.run(3.0)
    framework = bench.master.frameworks[framework_id]
    assert framework.stream == again
    assert framework.suppressed == set()
    kill(bench, framework_id, "t1")
    assert heard(bench, again) == ["t1"]


def test_without_the_flag_nothing_waits(bench: Any) -> None:
    stream, framework_id = bench.framework("f", principal="slow")
    for number in range(50):
        kill(bench, framework_id, f"t{number}")
        assert heard(bench, stream) == [f"t{number}"]
