import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.rules.same import is_same, spelled

SAME = [
    (b'{"booking": 7}', b'{"booking":7}'),
    (b'{"a":1,"b":2}', b' { "b" : 2 ,\n"a"\t:1 }'),
    (b'"\\u00e9"', '"é"'.encode()),
    (b'"a\\/b"', b'"a/b"'),
    (b'{"\\u0061":[true,null,false]}', b'{"a": [true, null, false]}'),
    (b'"\\ud83d\\ude00"', '"😀"'.encode()),
    (b"12345678901234567890123", b" 12345678901234567890123 "),
    (b'{"a":1,"a":2}', b'{"a":1,"a":2}'),
    (b"[" * 64 + b"]" * 64, b"[ " * 64 + b"]" * 64),
    (b"9" * 6000, b" " + b"9" * 6000),
]
OTHER = [
    (b"1", b"1.0"),
    (b"1", b'"1"'),
    (b"1e2", b"100"),
    (b"0", b"-0"),
    (b"1E2", b"1e2"),
    (b"[1,2]", b"[2,1]"),
    (b"[[1],2]", b"[[1,2]]"),
    (b"{}", b"[]"),
    (b"null", b'"null"'),
    (b"true", b"1"),
    (b'{"a":null}', b"{}"),
    (b'{"a":1,"a":2}', b'{"a":2}'),
    (b'{"a":1,"a":2}', b'{"a":1, "a":2}'),
    (b'{"x":{"a":1,"a":1},"b":1}', b'{"b":1,"x":{"a":1,"a":1}}'),
    (b'{"a":"1,"}', b'{"a":"1"}'),
    (b'{"a,":1}', b'{"a":1}'),
    (b"nonsense", b"1"),
    (b"\xff", b"1"),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=range(len(SAME)))
def test_texts_of_one_value_are_the_same(one: bytes, other: bytes):
    assert is_same(one, other)
    assert is_same(other, one)
    assert spelled(one) == spelled(other)


@pytest.mark.parametrize(("one", "other"), OTHER, ids=range(len(OTHER)))
def test_texts_of_other_values_or_of_no_one_value_are_not(one: bytes, other: bytes):
    assert not is_same(one, other)
    assert not is_same(other, one)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES, VALUES, st.randoms(use_true_random=False))
def test_values_are_the_same_exactly_where_they_are_equal(one, other, luck):
    def shuffled(value):
        if isinstance(value, dict):
            names = list(value)
            luck.shuffle(names)
            return {name: shuffled(value[name]) for name in names}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    text = json.dumps(one).encode()
    assert is_same(text, json.dumps(shuffled(one), ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))
    # Python holds True for 1
    assert is_same(text, json.dumps(other).encode()) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


def test_the_time_grows_with_the_length():
    def took_s(count: int) -> float:
        data = json.dumps([{"name": str(number), "a": [number, None]} for number in range(count)]).encode()
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            spelled(data)
            best = min(best, time.thread_time() - began)
        return best

    assert took_s(8000) < 8 * took_s(2000)
