"""What event types, patterns and tenants are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.match import matches
from hookrelay.rules.pattern import covers, is_event_type, is_pattern, is_simple, is_tenant, parts, sample_type

TYPES = ["booking.created", "orders/create", "invoice:paid", "trial.will-end", "a", "-", "_", "A/b:c.d-e", "a" * 128]
NO_TYPES = ["", ".", "a.", ".a", "a..b", "a./b", "a b", "a\n", "a*", "*", "ä", "a.é", "a" * 129, "a%2F", "a\\b", "a,b"]
PATTERNS = ["booking.*", "*.created", "a.*.b", "orders/*", "*", "*.*", "*/*:*", "*-a.b".replace("*-", "x-")]
NO_PATTERNS = ["book*", "*ing.created", "a.b*", "a.*b", "**", "a.**", "*.", ".*", "a.*.", "*..*", "* ", "*.a" * 50]


@pytest.mark.parametrize("text", TYPES)
def test_a_type_is_segments_with_one_separator_between(text: str):
    assert is_event_type(text)
    assert is_pattern(text)


@pytest.mark.parametrize("text", NO_TYPES)
def test_anything_else_is_no_type(text: str):
    assert not is_event_type(text)


@pytest.mark.parametrize("text", PATTERNS)
def test_in_a_pattern_a_star_stands_in_the_place_of_a_segment(text: str):
    assert is_pattern(text)


@pytest.mark.parametrize("text", NO_PATTERNS)
def test_a_star_within_a_segment_is_no_pattern(text: str):
    assert not is_pattern(text)


@pytest.mark.parametrize("text", ["acme", "a.b:c@d-e_f", "user@example.com", "urn:x:1", "A" * 128, "hookrelay", "."])
def test_a_tenant_is_up_to_128_of_a_few_characters(text: str):
    assert is_tenant(text)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "é", "A" * 129, "a\n", "*", "a%"])
def test_anything_else_is_no_tenant(text: str):
    assert not is_tenant(text)


@pytest.mark.parametrize("text", [*PATTERNS, *TYPES])
def test_the_sample_of_a_pattern_is_a_type_that_it_lets_through(text: str):
    assert is_event_type(sample_type(text))
    assert matches([text], sample_type(text))


@pytest.mark.parametrize(
    ("pattern", "simple"), [("a.b", True), ("*", True), ("a.*", True), ("*.a", True), ("*.*", False), ("a.*.b", False)]
)
def test_patterns_that_begin_or_end_with_their_only_star_are_found_by_what_a_type_begins_or_ends_with(
    pattern: str, simple: bool
):
    assert is_simple(pattern) is simple


@given(st.text(max_size=30))
def test_what_is_no_pattern_never_raises(text: str):
    assert is_pattern(text) in (True, False)
    assert is_event_type(text) <= is_pattern(text)


def steps(count: int) -> int:
    """How many steps the hardest pattern of so many stars takes."""
    pattern, type = parts(".".join(["*"] * count) + "/x"), parts(".".join(["a"] * 2 * count) + "/y")
    taken = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal taken
            taken += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    assert not covers(pattern, [Counted(part) for part in type])
    return taken


def test_no_pattern_takes_more_steps_than_its_length_times_that_of_the_type():
    assert steps(16) <= 33 * 65
    assert steps(60) <= 121 * 241
