"""Query parameters and bodies: each kind read, every mistake told at once."""

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Refused
from hookrelay.web.body import decode_object
from hookrelay.web.query import Query, listed, read_moment

NOW_MS = 1_800_000_000_000


def query(*known: str, **given: str) -> Query:
    return Query({name: [value] for name, value in given.items()}, known)


def mistakes(asked: Query) -> dict[str, str]:
    with pytest.raises(Refused) as caught:
        asked.done()
    assert caught.value.code == "invalid_field"
    return {error.field: error.detail for error in caught.value.errors}


def test_every_mistake_is_told_at_once():
    asked = Query(
        {"limit": ["0"], "status": ["sleepy"], "sinse": ["1h"], "type": ["a", "b"]},
        ("limit", "since", "status", "type"),
    )
    asked.window("x")
    asked.word("status", ("active", "paused"))
    told = mistakes(asked)
    assert told.keys() == {"limit", "status", "sinse", "type"}
    assert "did you mean since?" in told["sinse"]
    assert told["type"] == "stands there twice: give it once"


@pytest.mark.parametrize("limit", ["0", "251", "-1", "1.5", "1e2", "", "٣", "9" * 30])
def test_a_limit_is_a_whole_number_within_bounds(limit: str):
    asked = query("limit", limit=limit)
    asked.window("x")
    assert "limit" in mistakes(asked)


@given(st.integers(0, (1 << 62) - 1))
def test_a_cursor_leads_back_to_the_row_it_was_made_of_and_into_no_other_list(number: int):
    cursor = listed([], "deliveries:wh_1", str(number))["next_cursor"]
    asked = query("limit", "cursor", cursor=cursor)
    assert asked.numbered_window("deliveries:wh_1") == (50, number)
    asked.done()
    other = query("limit", "cursor", cursor=cursor)
    other.numbered_window("deliveries:wh_2")
    assert "cursor" in mistakes(other)


ENDS = st.one_of(
    st.from_regex(r"[0-9]{0,30}", fullmatch=True),
    st.text(max_size=30),
    st.just("9" * 5000),
    st.just("-1"),
    st.just("1:2"),
)


@given(kind=st.sampled_from(["events", "event", "events:1", ""]), end=ENDS)
def test_a_cursor_that_somebody_made_leads_to_a_row_that_there_can_be_or_is_told_as_a_mistake(kind: str, end: str):
    made = urlsafe_b64encode(f"{kind}:{end}".encode()).decode().rstrip("=")
    asked = query("limit", "cursor", cursor=made)
    _, before = asked.numbered_window("events")
    if before is None:
        assert mistakes(asked) == {"cursor": "not a cursor of this list: use next_cursor of its last page"}
    else:
        asked.done()
        assert (kind, before) == ("events", int(end))
        assert 0 <= before < 1 << 62


@given(st.integers(0, 1 << 40), st.integers(0), st.characters(codec="ascii"))
def test_a_cursor_with_another_character_in_it_is_a_cursor_of_the_list_or_a_mistake(number: int, at: int, other: str):
    cursor = listed([], "events", str(number))["next_cursor"]
    at %= len(cursor)
    asked = query("limit", "cursor", cursor=cursor[:at] + other + cursor[at + 1 :])
    if asked.numbered_window("events")[1] is None:
        assert "cursor" in mistakes(asked)
    else:
        asked.done()


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2027-01-15T08:00:00Z", NOW_MS),
        ("2027-01-15T08:00:00.5Z", NOW_MS + 500),
        ("2027-01-15T08:00:00.0019Z", NOW_MS + 1),
        ("2027-01-15T10:00:00+02:00", NOW_MS),
        ("24h", NOW_MS - 86_400_000),
        ("0s", NOW_MS),
        ("2016-12-31T23:59:60Z", 1_483_228_799_000),
    ],
)
def test_a_moment_is_a_time_or_how_long_ago(text: str, ms: int):
    assert read_moment(text, NOW_MS) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "2027-01-15", "2027-01-15 08:00:00", "1800000000", "-1h"])
def test_anything_else_is_no_moment(text: str):
    with pytest.raises(ValueError, match="is no time: write one as"):
        read_moment(text, NOW_MS)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[1]", "invalid_field"),
        (b'"x"', "invalid_field"),
        (b"null", "invalid_field"),
        (b"{", "invalid_json"),
        (b"\xff{}", "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a":' * 100_000, "invalid_json"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "invalid_json"),
        (b'{"a":"\\ud800"}', "invalid_json"),
    ],
)
def test_what_is_no_object_of_json_is_refused(body: bytes, code: str):
    with pytest.raises(Refused) as caught:
        decode_object(body)
    assert caught.value.code == code


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(body: bytes):
    code = "invalid_json"
    try:
        assert isinstance(decode_object(body), dict)
    except Refused as refused:
        code = refused.code
    assert code in ("invalid_json", "invalid_field")


def test_an_absent_body_is_an_empty_object():
    assert decode_object(b"") == decode_object(b" \n") == {}


def test_a_cursor_of_thousands_of_digits_is_refused_and_no_fault():
    asked = query("cursor", cursor=listed([], "events", "1" * 5000)["next_cursor"])
    asked.numbered_window("events")
    assert "cursor" in mistakes(asked)
