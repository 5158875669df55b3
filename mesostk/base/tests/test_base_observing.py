"""Log lines, metrics and what systemd is told."""

from __future__ import annotations

import io
import logging
import math
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesostk.base.core import note
from mesostk.base.log import ForwardingHandler, Log, line, quoted
from mesostk.base.metrics import Metrics, Timer, prometheus_name
from mesostk.base.systemd import Notifier
from mesostk.errors import ConfigError, MesostkError


class FixedClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1466424000.125


def test_an_entry_has_time_level_verb_and_fields() -> None:
    out = io.StringIO()
    log = Log(stream=out, clock=FixedClock())
    log.note(note("Launching", task="web.1", agent="S3", why="two words"))
    assert out.getvalue() == (
        '2016-06-20T12:00:00.125Z INFO Launching task=web.1 agent=S3 why="two words"\n'
    )


def test_levels() -> None:
    out = io.StringIO()
    log = Log("warning", out)
    log.info("no")
    log.debug("no")
    log.error("yes")
    log.set_level("DEBUG")
    log.debug("now")
    assert [text.split(" ")[2] for text in out.getvalue().splitlines()] == ["yes", "now"]
    assert log.level == "DEBUG"
    with pytest.raises(ConfigError, match="LOUD"):
        log.set_level("LOUD")


@given(st.text(), st.text())
def test_no_value_forges_a_line(verb: str, value: str) -> None:
    out = io.StringIO()
    Log(stream=out, clock=FixedClock()).info(verb, field=value)
    text = out.getvalue()
    assert len(text.splitlines()) == 1
    assert text.removesuffix("\n").isprintable()


@given(st.text(min_size=1, max_size=30))
def test_a_quoted_value_is_one_word_or_in_quotes(value: str) -> None:
    word = quoted(value)
    assert word == value or (word.startswith('"') and word.endswith('"'))
    if not word.startswith('"'):
        assert " " not in word
        assert "=" not in word


def test_long_values_are_cut() -> None:
    assert len(line("Saying", {"text": "x" * 10**6})) < 5000


def test_a_crash_is_logged_with_its_traceback_indented() -> None:
    out = io.StringIO()
    try:
        raise ValueError("bad\n2016 ERROR forged")
    except ValueError as error:
        Log(stream=out, clock=FixedClock()).crash("Failed", error, part="x")
    first, *rest = out.getvalue().splitlines()
    assert first.endswith('Failed part=x error="ValueError: bad\\n2016 ERROR forged"')
    assert rest
    assert all(text.startswith("    ") for text in rest)


def test_libraries_speak_through_the_log() -> None:
    out = io.StringIO()
    logger = logging.getLogger("test.library")
    logger.propagate = False
    handler = ForwardingHandler(Log(stream=out))
    logger.addHandler(handler)
    logger.warning("odd %s", "thing")
    logger.info("not this")
    logger.removeHandler(handler)
    assert 'WARNING Library says logger=test.library message="odd thing"' in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1


def test_a_log_that_cannot_write_does_not_stop_the_daemon() -> None:
    out = io.StringIO()
    log = Log(stream=out)
    out.close()
    log.info("Anything")


def test_the_snapshot_has_every_kind_under_its_name() -> None:
    metrics = Metrics()
    metrics.counter("master/messages").inc()
    metrics.counter("master/messages").value += 2
    metrics.gauge("master/uptime_secs", lambda: 1.5)
    metrics.source(lambda: {"master/tasks_running": 4})
    timer = metrics.timer("registrar/state_store")
    for milliseconds in range(1, 102):
        timer.record(milliseconds / 1000)
    figures = metrics.snapshot()
    assert figures["master/messages"] == 3.0
    assert figures["master/uptime_secs"] == 1.5
    assert figures["master/tasks_running"] == 4.0
    assert figures["registrar/state_store_ms"] == pytest.approx(101)
    prefix = "registrar/state_store_ms/"
    keys = {key.removeprefix(prefix) for key in figures if key.startswith(prefix)}
    assert keys == {"count", "min", "max", "p50", "p90", "p95", "p99", "p999", "p9999"}
    assert figures[prefix + "p50"] == pytest.approx(51)
    assert figures[prefix + "count"] == 101
    assert list(figures) == sorted(figures)


def test_an_unused_timer_has_a_count_of_nothing() -> None:
    metrics = Metrics()
    metrics.timer("x")
    assert metrics.snapshot() == {"x_ms/count": 0.0}


def test_a_name_has_one_meaning() -> None:
    metrics = Metrics()
    metrics.counter("a")
    with pytest.raises(MesostkError, match="declared twice"):
        metrics.gauge("a", lambda: 1.0)
    with pytest.raises(MesostkError, match="declared twice"):
        metrics.timer("a")
    metrics.gauge("b", lambda: 1.0)
    with pytest.raises(MesostkError, match="declared twice"):
        metrics.gauge("b", lambda: 1.0)


def test_prometheus_text() -> None:
    metrics = Metrics()
    metrics.counter("master/messages").inc(2)
    metrics.gauge("load", lambda: math.inf)
    metrics.timer("x/y").record(0.5)
    metrics.source(lambda: {"roles/*/count": 3})
    text = metrics.prometheus()
    assert "# TYPE master_messages_total counter\nmaster_messages_total 2.0\n" in text
    assert "load +Inf\n" in text
    assert 'x_y_ms{quantile="0.99"} 500.0\n' in text
    assert "x_y_ms_count 1\n" in text
    assert "roles___count 3.0\n" in text


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_the_samples(samples: list[float]) -> None:
    timer = Timer()
    for sample in samples:
        timer.record(sample)
    figures = timer.statistics()
    rising = [figures[k] for k in ("min", "p50", "p90", "p95", "p99", "p999", "p9999", "max")]
    assert rising == sorted(rising)


@given(st.text(min_size=1))
def test_prometheus_names_are_legal(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", prometheus_name(name))


def test_systemd_hears_of_it(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
        notifier = Notifier.from_environ(environ, 7)
        assert notifier.watchdog_s == 30.0
        assert Notifier.from_environ(environ, 8).watchdog_s is None
        notifier.ready("leading\nREADY=0")
        notifier.watchdog()
        notifier.stopping()
        heard = [sock.recv(200) for _ in range(3)]
    assert heard == [b"READY=1\nSTATUS=leading READY=0", b"WATCHDOG=1", b"STOPPING=1"]
    # Nobody listens any more, or nobody ever did.
    notifier.status("still fine")
    Notifier.from_environ({}, 1).ready()


def test_systemd_by_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0mesostk-test-notify")
        Notifier("@mesostk-test-notify").status("x")
        assert sock.recv(100) == b"STATUS=x"
