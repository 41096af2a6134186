import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import SEQ_LIMIT, ConfigError, ConfigMistake, Ids, random_ulid

MS = st.integers(0, (1 << 48) - 1)
SEQ = st.integers(0, SEQ_LIMIT - 1)
TAG = st.integers(0, (1 << 30) - 1)
CROCKFORD = frozenset("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_an_id_is_a_prefix_and_a_ulid():
    assert Ids(0).make("evt", 0, 0) == "evt_00000000000000000000000000"
    assert Ids((1 << 30) - 1).make("dlv", (1 << 48) - 1, SEQ_LIMIT - 1) == "dlv_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"


def test_a_ulids_first_ten_characters_are_its_time():
    assert Ids(0).make("evt", 1469918176385, 0).startswith("evt_01ARYZ6S41")


@given(TAG, MS, SEQ)
def test_an_id_leads_back_to_its_row_and_time(tag: int, ms: int, seq: int):
    ids = Ids(tag)
    text = ids.make("evt", ms, seq)
    assert len(text) == 30
    assert set(text[4:]) <= CROCKFORD
    assert ids.seq("evt", text) == (seq, ms)


@given(TAG, st.lists(st.tuples(MS, SEQ), min_size=2))
def test_ids_sort_by_time_then_by_order_of_acceptance(tag: int, moments: list[tuple[int, int]]):
    ids = Ids(tag)
    assert sorted(ids.make("evt", *each) for each in moments) == [ids.make("evt", *each) for each in sorted(moments)]


@given(TAG, TAG, MS, SEQ)
def test_another_stores_id_is_none(tag: int, other: int, ms: int, seq: int):
    assert (Ids(tag).seq("evt", Ids(other).make("evt", ms, seq)) is None) is (tag != other)


@given(st.text() | st.text("evt_0123ABCZ", min_size=28, max_size=32))
def test_what_is_no_id_is_none_or_made_so_again(text: str):
    ids = Ids(0)
    found = ids.seq("evt", text)
    assert found is None or ids.make("evt", found[1], found[0]) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evt",
        "evt_",
        "dlv_01ARYZ6S410000000000000000",
        "evt-01ARYZ6S410000000000000000",
        "evt_01ARYZ6S4100000000000000000",
        "evt_01ARYZ6S41000000000000000",
        "evt_01aryz6s410000000000000000",
        "evt_01ARYZ6S41000000000I000000",
        "evt_01ARYZ6S41000000000é000000",
        "evt_evt_01ARYZ6S41000000000000",
    ],
)
def test_a_foreign_text_is_no_id(text: str):
    assert Ids(0).seq("evt", text) is None


@given(TAG, MS, SEQ, st.lists(st.integers(1, (1 << 20) - 1), min_size=2, max_size=2, unique=True))
def test_attempts_of_a_delivery_have_ids_of_their_own_that_sort_by_number(
    tag: int, ms: int, seq: int, numbers: list[int]
):
    first, second = (Ids(tag).attempt(ms, seq, number) for number in sorted(numbers))
    assert first < second
    assert len(first) == 30


@given(MS, st.integers(0, (1 << 80) - 1), st.integers(0, (1 << 80) - 1))
def test_random_ulids_differ_where_their_randomness_does(ms: int, one: int, other: int):
    assert (random_ulid(ms, one) == random_ulid(ms, other)) is (one == other)
    assert len(random_ulid(ms, one)) == 26


def test_a_configuration_error_tells_every_mistake():
    mistakes = [ConfigMistake("a.toml", 3, "url", "is missing"), ConfigMistake("a.toml", None, "", "is not TOML")]
    assert str(ConfigError(mistakes)) == "a.toml:3: url: is missing\na.toml: is not TOML"
