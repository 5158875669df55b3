"""The judge of probe results (spec/marathon §2.4, §3.10)."""

from mesostk.marathon.health import CheckHealth, Limits, ProbeOutcome, judge, overall

LIMITS = Limits(grace_period_s=10.0, max_consecutive_failures=3)
GOOD = ProbeOutcome(alive=True)
BAD = ProbeOutcome(alive=False, cause="HTTP 500")


def test_failures_in_the_grace_period_before_a_success_are_ignored() -> None:
    verdict = judge(CheckHealth(), BAD, LIMITS, 100.0, running_for_s=9.9)
    assert verdict.health == CheckHealth()
    assert not verdict.failed


def test_grace_ends_with_the_first_success() -> None:
    good = judge(CheckHealth(), GOOD, LIMITS, 100.0, running_for_s=1.0)
    assert good.changed
    bad = judge(good.health, BAD, LIMITS, 101.0, running_for_s=2.0)
    assert bad.changed
    assert bad.health.last_failure_cause == "HTTP 500"
    assert bad.health.first_success_at == 100.0


def test_the_third_failure_in_a_row_kills() -> None:
    health = CheckHealth()
    kills = []
    for second in range(3):
        verdict = judge(health, BAD, LIMITS, 100.0 + second, running_for_s=60.0)
        health = verdict.health
        kills.append(verdict.kill)
    assert kills == [False, False, True]


def test_a_success_between_starts_the_count_anew() -> None:
    health = CheckHealth()
    for outcome in (BAD, BAD, GOOD, BAD, BAD):
        verdict = judge(health, outcome, LIMITS, 100.0, running_for_s=60.0)
        health = verdict.health
        assert not verdict.kill


def test_zero_failures_allowed_means_never_kill() -> None:
    never = Limits(grace_period_s=0.0, max_consecutive_failures=0)
    assert not judge(CheckHealth(consecutive_failures=99), BAD, never, 1.0, 60.0).kill


def test_health_is_unknown_until_all_checks_reported() -> None:
    alive, dead, unknown = CheckHealth(alive=True), CheckHealth(alive=False), CheckHealth()
    assert overall([]) is None
    assert overall([alive, unknown]) is None
    assert overall([alive, alive]) is True
    assert overall([unknown, dead]) is False
