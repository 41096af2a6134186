"""JSON merge patch: the examples of RFC 7396, appendix A, and its law."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.merge import merged


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_patch_makes_of_a_document_what_rfc_7396_says(before: Any, patch: Any, after: Any):
    assert merged(before, patch) == after


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON)
def test_a_patch_that_is_applied_twice_changes_nothing_more(before: Any, patch: Any):
    once = merged(before, patch)
    assert merged(once, patch) == once


@given(JSON, st.dictionaries(st.text(max_size=2), JSON, max_size=3))
def test_nothing_that_was_there_is_touched(before: Any, patch: Any):
    kept = repr(before), repr(patch)
    merged(before, patch)
    assert (repr(before), repr(patch)) == kept
