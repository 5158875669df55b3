"""Back-off and launch rate (spec/marathon §3.8)."""

import pytest

from mesostk.marathon.queue import BackOff, Delays, Tokens

KEY = ("/a", "2016-06-20T12:00:00.000Z")
SETTINGS = BackOff(first_s=1.0, factor=2.0, longest_s=5.0)


def test_each_failure_waits_longer_up_to_the_longest() -> None:
    delays = Delays()
    waits = [delays.failed(KEY, 0.0, SETTINGS).delay_s for _ in range(5)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_quiet_time_of_the_longest_delay_forgets_it() -> None:
    delays = Delays()
    delays.failed(KEY, 0.0, SETTINGS)
    delays.failed(KEY, 0.0, SETTINGS)
    assert delays.until(KEY, 6.0) == 6.0
    assert delays.failed(KEY, 6.0, SETTINGS).delay_s == 1.0


def test_progress_runs_the_same_delay_anew() -> None:
    delays = Delays()
    delays.failed(KEY, 0.0, SETTINGS)
    delays.failed(KEY, 1.0, SETTINGS)
    delays.progressed(KEY, 2.0, SETTINGS)
    assert delays.until(KEY, 2.0) == 4.0
    assert delays.next_end(2.0) == 4.0


def test_progress_without_failure_delays_nothing() -> None:
    delays = Delays()
    delays.progressed(KEY, 2.0, SETTINGS)
    assert delays.until(KEY, 2.0) == 2.0


def test_an_apps_delays_are_cleared_in_all_versions() -> None:
    delays = Delays()
    delays.failed(KEY, 0.0, SETTINGS)
    delays.failed(("/a", "later"), 0.0, SETTINGS)
    delays.failed(("/b", "v"), 0.0, SETTINGS)
    delays.clear_app("/a")
    assert delays.until(KEY, 0.0) == 0.0
    assert delays.until(("/b", "v"), 0.0) == 1.0


def test_tokens_run_out_and_come_back_by_time_and_by_running_tasks() -> None:
    tokens = Tokens(limit=2, refresh_s=30.0)
    for _ in range(2):
        assert tokens.available(0.0) > 0
        tokens.take(0.0)
    assert tokens.available(1.0) == 0
    assert tokens.deadline() == pytest.approx(30.0)
    tokens.give_back()
    assert tokens.available(1.0) == 1
    assert tokens.available(30.0) == 2
