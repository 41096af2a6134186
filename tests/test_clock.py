"""Clocks that do not follow every jump of the wall clock."""

import trio
from builders import START_S, wall
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.clock import NeverAhead, NeverBack

HOUR_S = 3600.0
YEARS_S = 3e8


class Wall:
    """A wall clock that people set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return wall() + self.ahead_s


async def test_what_is_due_follows_a_clock_that_is_set_ahead_and_not_one_that_is_set_back(autojump_clock):
    clock = Wall()
    due = NeverBack(clock)
    assert due() == START_S
    await trio.sleep(10)
    clock.ahead_s = HOUR_S
    assert due() == START_S + 10 + HOUR_S
    clock.ahead_s = -YEARS_S
    await trio.sleep(10)
    assert due() == START_S + 20 + HOUR_S
    clock.ahead_s = YEARS_S
    assert due() == START_S + 20 + YEARS_S


async def test_what_expires_follows_a_clock_that_is_set_back_and_not_one_that_is_set_ahead(autojump_clock):
    clock = Wall()
    now = NeverAhead(clock)
    assert now() == START_S
    clock.ahead_s = YEARS_S
    await trio.sleep(10)
    assert now() == START_S + 10
    clock.ahead_s = -HOUR_S
    assert now() == START_S + 10 - HOUR_S
    clock.ahead_s = 0
    assert now() == START_S + 10


@given(st.lists(st.tuples(st.floats(-YEARS_S, YEARS_S), st.floats(0, HOUR_S)), max_size=20))
def test_neither_clock_moves_by_less_or_more_than_time_passes_however_often_it_is_set(jumps):
    async def follow() -> None:
        clock = Wall()
        due, now = NeverBack(clock), NeverAhead(clock)
        start_s = now()
        before = due()
        for ahead_s, passes_s in jumps:
            await trio.sleep(passes_s)
            assert due() >= before + passes_s - 1e-3
            clock.ahead_s = ahead_s
            assert now() <= start_s + trio.current_time() + 1e-3
            before = due()

    trio.run(follow, clock=trio.testing.MockClock(autojump_threshold=0))
