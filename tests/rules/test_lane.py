import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.lane import EMPTY, FULL, START, Start, Wait, next_move

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
