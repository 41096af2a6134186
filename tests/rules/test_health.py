from typing import Any, get_args

import pytest
from builders import outcome
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import BLAMELESS, AttemptError, Outcome
from hookrelay.rules.health import FIRST_PAUSE_S, HEALTHY, LONGEST_PAUSE_S, Health, after

DELAYS = (0.0, 5.0, 30.0, 7200.0)
NEVER = float("-inf")


def code(number: int) -> Outcome:
    return outcome("http_status" if number >= 300 else None, response_code=number)


def fold(health: Health, *outcomes: Outcome, at: float = 100.0, step: float = 1.0, took: float = 0.5, **say: Any):
    """The healths after each of the outcomes, `step` seconds apart; each attempt `took` so long."""
    said = {"most": 8, "delays": DELAYS, "disable_after_s": 5 * 86400.0} | say
    found = []
    for one in outcomes:
        health = after(health, one, begun_s=at - took, now_s=at, **said)
        found.append(health)
        at += step
    return found


# --- slowing down, and recovering -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [code(429), code(502), code(503), code(504), outcome("timeout"), outcome("connect_timeout")]
)
def test_a_receiver_that_is_overloaded_or_away_gets_half_as_many_at_once_down_to_one(said: Outcome):
    assert [health.limit for health in fold(HEALTHY, said, said, said, said)] == [4, 2, 1, 1]


@pytest.mark.parametrize(
    "said",
    [code(500), code(404), code(301), code(501), *map(outcome, ("reset", "dns_error", "connect_refused", "tls_error"))],
)
def test_other_failures_slow_nothing(said: Outcome):
    assert fold(HEALTHY, said)[-1].limit is None


def test_attempts_that_began_before_a_cut_do_not_cut_again():
    first, *others = fold(HEALTHY, *[code(503)] * 8, step=0.0)
    assert first.limit == 4
    assert {health.limit for health in others} == {4}


def test_the_way_back_adds_one_for_each_round_of_successes_until_nothing_is_left_of_it():
    (slowed,) = fold(HEALTHY, code(503), most=2)
    assert slowed.limit == 1
    limits = [health.limit for health in fold(slowed, *[code(200)] * 10, most=5)]
    assert limits == [2, 2, 3, 3, 3, 4, 4, 4, 4, None]
    assert fold(slowed, *[code(200)] * 10, most=5)[-1] is HEALTHY


def test_a_single_probe_at_a_time_goes_by_the_schedule_s_own_steps_and_never_waits_longer_than_a_minute():
    healths = fold(HEALTHY, *[code(503)] * 5, most=1, step=100.0)
    pauses = [health.paused_until_s - (100 + 100 * number) for number, health in enumerate(healths)]
    assert pauses == [5.0, 30.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_the_first_probe_of_a_webhook_that_was_slowed_step_by_step_waits_as_long_as_the_first_retry():
    healths = fold(HEALTHY, *[code(503)] * 5, most=8, step=100.0)
    pauses = [health.paused_until_s - (100 + 100 * number) for number, health in enumerate(healths)]
    assert pauses == [NEVER, NEVER, 5.0, 30.0, LONGEST_PAUSE_S]
    assert [health.probes for health in healths] == [0, 0, 1, 2, 3]


def test_a_probe_that_fails_in_another_way_is_a_failed_probe_too():
    slowed = fold(HEALTHY, code(503), most=1)[-1]
    again = fold(slowed, outcome("connect_refused"), at=200.0, most=1)[-1]
    assert (again.limit, again.paused_until_s) == (1, 230.0)


def test_a_schedule_without_waits_has_probes_apart_all_the_same():
    assert fold(HEALTHY, code(503), most=1, delays=(0.0,))[-1].paused_until_s == 100 + FIRST_PAUSE_S


def test_a_success_ends_the_pause():
    assert fold(fold(HEALTHY, code(503), most=1)[-1], code(200), most=8)[-1].paused_until_s == NEVER


# --- what the receiver asks for ---------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [code(503), code(500), code(404), code(302)])
def test_any_failure_with_retry_after_holds_the_webhook(said: Outcome):
    assert fold(HEALTHY, said, retry_after_s=300.0)[-1].held_until_s == 400.0


def test_a_shorter_hold_does_not_shorten_a_longer_one_nor_does_a_success():
    (held,) = fold(HEALTHY, code(503), retry_after_s=300.0)
    assert fold(held, code(503), at=101.0, retry_after_s=1.0)[-1].held_until_s == 400.0
    recovered = fold(held, *[code(200)] * 100, at=102.0, step=0.0)[-1]
    assert (recovered.held_until_s, recovered.limit, recovered.failures) == (400.0, None, 0)


# --- disabling --------------------------------------------------------------------------------------------------


def test_410_disables_at_once():
    assert fold(HEALTHY, code(410))[-1].disabled == "gone"


@pytest.mark.parametrize(
    ("count", "apart_s", "disabled"),
    [
        (9, 86400.0, None),  # long enough, too few
        (10, 43200.0, None),  # enough, 4.5 days
        (10, 48000.0, "failing"),  # nine times 48,000 s are 5 days
        (11, 43200.0, "failing"),
        (10_000, 1.0, None),
    ],
)
def test_only_failures_for_five_days_and_in_ten_attempts_disable(count: int, apart_s: float, disabled: str | None):
    assert fold(HEALTHY, *[code(500)] * count, step=apart_s)[-1].disabled == disabled


def test_one_success_begins_the_time_anew():
    said = [*[code(500)] * 9, code(200), *[code(500)] * 9]
    assert fold(HEALTHY, *said, step=48_000.0)[-1].disabled is None


def test_never_is_never():
    assert fold(HEALTHY, *[code(500)] * 400, step=86400.0, disable_after_s=None)[-1].disabled is None


def test_tests_and_retries_by_hand_never_lead_to_disabling():
    healths = fold(HEALTHY, *[code(500)] * 30, code(410), step=86400.0, is_counted=False)
    assert {(health.failures, health.failing_since_s, health.disabled) for health in healths} == {(0, None, None)}


# --- laws -------------------------------------------------------------------------------------------------------

OUTCOMES = st.one_of(
    st.sampled_from(get_args(AttemptError)).filter(lambda error: error != "http_status").map(outcome),
    st.sampled_from([200, 204, 301, 404, 410, 429, 500, 503]).map(code),
)


@pytest.mark.parametrize("error", sorted(BLAMELESS))
def test_our_own_trouble_says_nothing_of_a_webhook(error: AttemptError):
    (slowed,) = fold(HEALTHY, code(503))
    for health in (HEALTHY, slowed):
        assert fold(health, outcome(error))[-1] is health


@given(st.lists(OUTCOMES, max_size=40), st.integers(1, 20), st.floats(0, 100_000))
def test_a_limit_is_at_least_one_and_below_what_the_webhook_allows_wherever_there_is_one(
    said: list[Outcome], most: int, step: float
):
    for health in fold(HEALTHY, *said, most=most, step=step):
        assert health.limit is None or 1 <= health.limit < max(most, 2)
        assert health.paused_until_s == NEVER or health.limit == 1


@given(st.lists(OUTCOMES, max_size=40), st.integers(1, 20))
def test_enough_successes_make_any_webhook_as_good_as_new_unless_it_is_disabled(said: list[Outcome], most: int):
    last = fold(HEALTHY, *said, *[code(200)] * (most * most), most=most, disable_after_s=None)[-1]
    assert last is HEALTHY
