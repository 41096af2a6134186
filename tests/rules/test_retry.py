from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import BLAMELESS, AttemptError, Outcome, Verdict
from hookrelay.rules.retry import judge, longest_ms, retry_after_s

DELAYS = (0.0, 5.0, 300.0)
NOW = 1_000_000
BLAMED = sorted(set(get_args(AttemptError)) - BLAMELESS)


def outcome(error: AttemptError | None = None) -> Outcome:
    return Outcome(NOW - 50, 0.05, error)


@pytest.mark.parametrize("strikes", [0, 2])
def test_a_success_ends_the_delivery_and_keeps_its_strikes(strikes: int):
    assert judge(outcome(), strikes, DELAYS, NOW, 0.5) == Verdict("succeeded", strikes)


@pytest.mark.parametrize("error", BLAMED)
def test_a_receivers_fault_is_a_strike_and_waits_by_the_schedule(error: AttemptError):
    assert judge(outcome(error), 0, DELAYS, NOW, 0.5) == Verdict("pending", 1, NOW + 5_000)
    assert judge(outcome(error), 1, DELAYS, NOW, 0.5) == Verdict("pending", 2, NOW + 300_000)
    assert judge(outcome(error), 2, DELAYS, NOW, 0.5) == Verdict("failed", 3)


@pytest.mark.parametrize(("roll", "due"), [(0.0, 270_000), (0.25, 285_000), (0.75, 315_000), (0.999999, 330_000)])
def test_the_wait_is_spread_by_ten_percent(roll: float, due: int):
    verdict = judge(outcome("timeout"), 1, DELAYS, NOW, roll)
    assert verdict.due_ms == pytest.approx(NOW + due, abs=1)


@pytest.mark.parametrize("strikes", [0, 2, 50])
def test_an_interrupted_attempt_uses_nothing_up_and_is_due_at_once(strikes: int):
    assert judge(outcome("interrupted"), strikes, DELAYS, NOW, 0.9) == Verdict("pending", strikes, NOW)


@pytest.mark.parametrize(("roll", "wait"), [(0.0, 1000), (0.5, 1500), (0.999, 1999)])
def test_our_own_trouble_uses_nothing_up_and_gets_a_moment_to_pass(roll: float, wait: int):
    assert judge(outcome("local_fault"), 2, DELAYS, NOW, roll) == Verdict("pending", 2, NOW + wait)


@pytest.mark.parametrize("delays", [(), (0.0,)])
def test_a_schedule_of_one_attempt_fails_at_the_first(delays: tuple[float, ...]):
    assert judge(outcome("http_status"), 0, delays, NOW, 0.0) == Verdict("failed", 1)


def test_strikes_beyond_a_schedule_that_was_shortened_fail():
    assert judge(outcome("reset"), 7, DELAYS, NOW, 0.0) == Verdict("failed", 8)


@pytest.mark.parametrize(
    ("delays", "longest"),
    [((0.0, 5.0, 300.0), 330_000), ((), 2000), ((0.0, 7 * 86400.0, 1.0), round(7.7 * 86_400_000))],
)
def test_the_longest_wait_counts_the_spread(delays: tuple[float, ...], longest: int):
    assert longest_ms(delays) == longest


@given(
    st.sampled_from([None, *get_args(AttemptError)]),
    st.integers(0, 20),
    st.lists(st.floats(0, 604_800), max_size=12).map(tuple),
    st.floats(0, 1, exclude_max=True),
)
def test_a_verdict_is_due_exactly_where_it_is_pending_and_never_later_than_the_longest_wait(
    error: AttemptError | None, strikes: int, delays: tuple[float, ...], roll: float
):
    verdict = judge(outcome(error), strikes, delays, NOW, roll)
    assert (verdict.state == "pending") is (verdict.due_ms is not None)
    assert verdict.due_ms is None or NOW <= verdict.due_ms <= NOW + longest_ms(delays)
    assert verdict.strikes == strikes + (error is not None and error not in BLAMELESS)


@pytest.mark.parametrize("strikes", [0, 2, 50])
def test_a_damaged_payload_ends_the_delivery_at_once_and_is_no_strike(strikes: int):
    assert judge(outcome("payload_damaged"), strikes, DELAYS, NOW, 0.5, NOW + 9) == Verdict("failed", strikes)


@given(st.lists(st.sampled_from([*BLAMED, "interrupted", "local_fault"]), max_size=60))
def test_a_delivery_fails_after_exactly_as_many_blamed_attempts_as_its_schedule_has(errors: list[AttemptError]):
    strikes, blamed = 0, 0
    for error in errors:
        blamed += error not in BLAMELESS
        verdict = judge(outcome(error), strikes, DELAYS, NOW, 0.5)
        assert (verdict.state == "failed") is (blamed == len(DELAYS))
        if verdict.state == "failed":
            break
        strikes = verdict.strikes


def test_nothing_is_due_before_the_receiver_said():
    held = NOW + 20_000
    assert judge(outcome("http_status"), 0, DELAYS, NOW, 0.0, held) == Verdict("pending", 1, held)
    assert judge(outcome("http_status"), 1, DELAYS, NOW, 0.5, held) == Verdict("pending", 2, NOW + 300_000)
    assert judge(outcome("http_status"), 2, DELAYS, NOW, 0.5, held) == Verdict("failed", 3)


# --- Retry-After ------------------------------------------------------------------------------------------------

MOMENT = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", None),
        ("1", 1.0),
        ("120", 120.0),
        ("  120 ", 120.0),
        ("86400", 86400.0),
        ("86401", 86400.0),
        ("9" * 40, 86400.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
        ("Sun Nov  6 08:50:07 1994", 30.0),
        ("Mon, 07 Nov 1994 08:49:38 GMT", 86400.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 86400.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:36 GMT", None),
        ("Sun, 99 Nov 1994 08:50:07 GMT", None),
        ("-5", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("5 seconds", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("9" * 5000, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_ahead_and_at_most_a_day(text: str, seconds: float | None):
    head = f"HTTP/1.1 503 Busy\r\nserver: x\r\nRetry-After: {text}\r\nvia: y".encode()
    assert retry_after_s(head, MOMENT) == seconds
    assert retry_after_s(f"HTTP/1.1 503 Busy\r\nretry-after:{text}".encode(), MOMENT) == seconds


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 503 Retry-After: 9",
        b"HTTP/1.1 503 Busy\r\nx-retry-after: 9",
        b"HTTP/1.1 503 Busy\r\nx: y\nretry-after: 9",
    ],
)
def test_who_does_not_ask_gets_no_hold(head: bytes):
    assert retry_after_s(head, MOMENT) is None


def test_who_asks_twice_gets_the_longer_time():
    assert retry_after_s(b"HTTP/1.1 503 X\r\nretry-after: 5\r\nRETRY-AFTER: junk\r\nRetry-After: 70", MOMENT) == 70


@given(st.binary(max_size=60), st.floats(0, 4e9))
def test_whatever_it_says_is_no_error_and_no_more_than_a_day(text: bytes, now: float):
    seconds = retry_after_s(b"HTTP/1.1 503 Busy\r\nretry-after: " + text, now)
    assert seconds is None or 0 < seconds <= 86400
