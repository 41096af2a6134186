import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.health import HEALTHY, Health
from hookrelay.rules.lane import EMPTY, FULL, START, Start, Wait, gate, next_move
from hookrelay.rules.rate import Rate

NOW = 1000


@pytest.mark.parametrize(
    ("ready", "in_flight", "next_due_ms", "move"),
    [
        (1, 0, None, START),
        (1, 7, None, START),
        (5, 0, 10, START),
        (5, 0, 5000, START),
        (1, 8, None, FULL),
        (1, 9, 5000, FULL),
        (0, 0, None, EMPTY),
        (0, 8, None, EMPTY),
        (0, 0, 1001, Wait("not_due", until_ms=1001)),
        (0, 8, 1001, Wait("not_due", until_ms=1001)),
        (0, 0, 1000, Wait("not_due", until_ms=1000)),
        (0, 0, 900, Wait("not_due", until_ms=900)),
        (0, 8, 900, FULL),
    ],
)
def test_a_lane_starts_what_is_ready_while_it_has_room(
    ready: int, in_flight: int, next_due_ms: int | None, move: Start | Wait
):
    assert next_move(ready, in_flight, 8, next_due_ms, NOW) == move


def test_start_is_one_shared_value():
    assert next_move(1, 0, 8, None, NOW) is START


COUNTS = st.integers(0, 10)


@given(COUNTS, COUNTS, st.integers(1, 10), st.none() | st.integers(0, 2000), st.integers(0, 2000))
def test_a_lane_never_starts_without_work_or_room_and_never_waits_with_both(
    ready: int, in_flight: int, most: int, next_due_ms: int | None, now_ms: int
):
    move = next_move(ready, in_flight, most, next_due_ms, now_ms)
    assert (move is START) is (ready > 0 and in_flight < most)


@given(COUNTS, st.integers(1, 10), st.none() | st.integers(0, 2000), st.integers(0, 2000))
def test_a_wait_that_no_attempts_end_will_cut_short_has_a_time_wherever_there_is_work(
    ready: int, most: int, next_due_ms: int | None, now_ms: int
):
    move = next_move(ready, 0, most, next_due_ms, now_ms)
    if isinstance(move, Wait):
        assert move.until_ms == next_due_ms


# --- what stands in the way -------------------------------------------------------------------------------------

ONE_A_SECOND = Rate(1.0, 1)


@pytest.mark.parametrize(
    ("health", "bucket_s", "closed"),
    [
        (HEALTHY, float("-inf"), None),
        (HEALTHY, 50.0, None),
        (HEALTHY, 51.0, Wait("rate_limit", until_s=51.0)),
        (Health(paused_until_s=60.0), 51.0, Wait("slowed", until_s=60.0)),
        (Health(held_until_s=70.0), 51.0, Wait("held", until_s=70.0)),
        (Health(paused_until_s=60.0, held_until_s=70.0), 0.0, Wait("held", until_s=70.0)),
        (Health(paused_until_s=80.0, held_until_s=70.0), 0.0, Wait("slowed", until_s=80.0)),
        (Health(paused_until_s=50.0, held_until_s=50.0), 0.0, None),
    ],
)
def test_a_gate_is_closed_until_the_last_of_its_reasons_has_passed(health: Health, bucket_s: float, closed: Wait):
    assert gate(health, ONE_A_SECOND, bucket_s, 50.0) == closed


def test_a_closed_gate_stops_what_is_ready_and_says_why_and_until_when():
    closed = Wait("held", until_s=70.0)
    assert next_move(3, 0, 8, None, NOW, closed) is closed
    assert next_move(3, 8, 8, None, NOW, closed) is FULL
    assert next_move(0, 0, 8, None, NOW, closed) is EMPTY


@given(
    st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.floats(0, 100), st.sampled_from([None, ONE_A_SECOND])
)
def test_a_gate_never_opens_before_it_says(paused: float, held: float, bucket: float, now: float, rate: Rate | None):
    health = Health(paused_until_s=paused, held_until_s=held)
    closed = gate(health, rate, bucket, now)
    for _ in range(3):
        if closed is None:
            assert now >= max(paused, held)
            assert rate is None or now >= rate.opens_at(bucket)
            return
        assert closed.until_s is not None
        assert closed.until_s > now
        now = closed.until_s
        closed = gate(health, rate, bucket, now)
    assert closed is None
