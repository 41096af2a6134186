from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.phases import STEPS, read, written


def test_each_step_lasts_until_the_next_begins() -> None:
    marks = [("look_up", 1.0), ("connect", 1.25), ("tls", 2.0), ("answer", 2.5)]
    assert written(marks, 4.0) == "look_up=250000 connect=750000 tls=500000 answer=1500000"


def test_a_step_made_twice_is_told_once_with_all_its_time() -> None:
    assert written([("connect", 0.0), ("tls", 1.0), ("connect", 2.0)], 4.0) == "connect=3000000 tls=1000000"


def test_without_steps_nothing_is_kept() -> None:
    assert written([], 4.0) is None
    assert read(None) == []


def test_what_is_kept_can_be_read_by_later_versions_that_know_other_steps() -> None:
    assert read("look_up=5 quic=7 answer=x tls=9") == [("look_up", 5), ("tls", 9)]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.floats(0, 100)), max_size=12))
def test_the_steps_together_last_as_long_as_all_of_it(waits: list[tuple[str, float]]) -> None:
    at, marks = 0.0, []
    for step, wait_s in waits:
        marks.append((step, at))
        at += wait_s
    steps = read(written(marks, at))
    assert {step for step, _ in steps} == {step for step, _ in waits}
    assert abs(sum(us for _, us in steps) - at * 1_000_000) <= len(STEPS)
