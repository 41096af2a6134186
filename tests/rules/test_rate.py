import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.rate import Rate, parse_rate

FULL = float("-inf")


@pytest.mark.parametrize(
    ("text", "interval_s", "burst"),
    [
        ("10/s", 0.1, 10),
        ("600/m", 0.1, 10),
        ("10/s burst 50", 0.1, 50),
        ("10/s burst 1", 0.1, 1),
        ("90/m", 60 / 90, 1),
        ("1/h", 3600.0, 1),
        ("7200/h", 0.5, 2),
        ("999999/s", 1 / 999_999, 999_999),
    ],
)
def test_a_rate_bursts_by_one_second_s_worth_unless_it_says_otherwise(text: str, interval_s: float, burst: int):
    assert parse_rate(text) == Rate(pytest.approx(interval_s), burst)


@pytest.mark.parametrize(
    "text", ["", "10", "10/d", "0/s", "-1/s", "10 /s", "1.5/s", "10/s burst 0", "10/s burst", "٣/s"]
)
def test_what_is_no_rate_is_refused_with_examples_of_right_ones(text: str):
    with pytest.raises(ValueError, match=r'"10/s", "600/m" or "10/s burst 50"'):
        parse_rate(text)


RATES = st.builds(Rate, st.sampled_from([0.01, 0.1, 1.0, 7.0, 3600.0]), st.integers(1, 60))


def starts(rate: Rate, wanted: list[float], bucket: float = FULL) -> list[float]:
    """When attempts start that are wanted at these moments, each as soon as it may."""
    found, now = [], 0.0
    for at in sorted(wanted):
        now = max(now, at, rate.opens_at(bucket))
        bucket = rate.spend(bucket, now)
        found.append(now)
    return found


@given(RATES, st.lists(st.floats(0, 1000), min_size=1, max_size=150))
def test_a_bucket_never_lets_more_than_rate_times_t_and_burst_through(rate: Rate, wanted: list[float]):
    found = starts(rate, wanted)
    for first in range(len(found)):
        for last in range(first, len(found)):
            most = (found[last] - found[first]) / rate.interval_s + rate.burst
            assert last - first + 1 <= most + 1e-6


@given(RATES, st.integers(1, 200))
def test_nothing_waits_longer_than_the_rate_asks(rate: Rate, count: int):
    found = starts(rate, [0.0] * count)
    for number, at in enumerate(found):
        assert at == pytest.approx(max(0, number - rate.burst + 1) * rate.interval_s, abs=1e-6)


@given(RATES, st.floats(0, 1000))
def test_a_spent_bucket_lets_one_through_and_then_the_rate(rate: Rate, now: float):
    found = starts(rate, [now, now, now], rate.spent(now))
    assert [at - now for at in found] == pytest.approx([0, rate.interval_s, 2 * rate.interval_s], abs=1e-6)
