import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Webhook
from hookrelay.rules.match import Catalog


def webhook(seq: int, *events: str, tenant: str = "acme", **fields: object) -> Webhook:
    given = {"url": "https://example.com/", "retry": (), "delays": (0.0,), "secrets": (b"k",)}
    return Webhook(**given | {"id": f"wh_{seq}", "seq": seq, "tenant": tenant, "events": events} | fields)


def wanting(catalog: Catalog, type: str, tenant: str = "acme") -> list[int]:
    return [each.seq for each in catalog.wanting(tenant, type)]


@pytest.mark.parametrize(
    ("pattern", "type", "matches"),
    [
        ("booking.created", "booking.created", True),
        ("booking.created", "booking.created.late", False),
        ("booking.created", "booking", False),
        ("booking.created", "Booking.created", False),
        ("booking.*", "booking.created", True),
        ("booking.*", "booking.a.b", True),
        ("booking.*", "booking", False),
        ("booking.*", "bookings.created", False),
        ("booking.*", "x.booking.created", False),
        ("a.b.*", "a.b.c", True),
        ("a.b.*", "a.b.c.d", True),
        ("a.b.*", "a.c", False),
        ("a.b.*", "a.b", False),
        ("booking.*", "booking/x", False),
        ("booking.*", "booking.a/b:c", True),
        ("orders/create", "orders/create", True),
        ("orders/*", "orders/create", True),
        ("orders/*", "orders.create", False),
        ("invoice:*", "invoice:paid", True),
        ("trial.will-*", "trial.will-end", False),
        ("*.created", "booking.created", True),
        ("*.created", "a/b.created", True),
        ("*.created", "created", False),
        ("*.created", "booking/created", False),
        ("*.created", "booking.created.late", False),
        ("a.*.b", "a.x.b", True),
        ("a.*.b", "a.x/y:z.b", True),
        ("a.*.b", "a.b", False),
        ("a.*.b", "a.x.b.c", False),
        ("a.*.b", "a.b.b.b", True),
        ("*.*", "a.b", True),
        ("*.*", "a", False),
        ("*.*", "a/b", False),
        ("*.*", "a/b.c/d", True),
        ("*/*.x", "a/b/c.x", True),
        ("*", "booking", True),
        ("*", "a.b.c", True),
        ("*", "a/b:c-d", True),
    ],
)
def test_a_star_stands_for_whole_segments_and_everything_else_for_itself(pattern: str, type: str, matches: bool):
    assert wanting(Catalog([webhook(1, pattern)]), type) == [1] * matches


def test_each_webhook_comes_once_in_the_order_of_their_keys():
    catalog = Catalog([webhook(9, "*", "a.*"), webhook(3, "a.b"), webhook(7, "a.b", "a.*", "a.b.*"), webhook(5, "c")])
    for _ in range(2):
        assert wanting(catalog, "a.b") == [3, 7, 9]
        assert wanting(catalog, "a.x") == [7, 9]
        assert wanting(catalog, "a.b.c") == [7, 9]
        assert wanting(catalog, "c") == [5, 9]
        assert wanting(catalog, "z.z") == [9]


def test_that_order_holds_for_a_few_among_many():
    # few among many, found in another order than theirs
    wishes = {0: "*", 8: "a", 16: "*", 40: "a"}
    catalog = Catalog([webhook(seq, wishes.get(seq, "b")) for seq in range(64)])
    assert wanting(catalog, "a") == [0, 8, 16, 40]


def test_a_tenants_events_are_for_its_own_webhooks_only():
    catalog = Catalog([webhook(1, "*"), webhook(2, "*", tenant="other")])
    assert wanting(catalog, "a", "other") == [2]
    assert wanting(catalog, "a", "nobody") == []


def test_paused_and_disabled_webhooks_match_too():
    catalog = Catalog([webhook(1, "*", status="paused"), webhook(2, "a", status="disabled")])
    assert wanting(catalog, "a") == [1, 2]


def test_webhooks_are_found_by_seq_and_by_id():
    one, two = webhook(1, "*"), webhook(2, "a")
    catalog = Catalog([one, two])
    assert (catalog.by_seq[2], catalog.by_id["wh_1"]) == (two, one)
    assert 3 not in catalog.by_seq


def test_an_empty_catalogue_wants_nothing():
    assert Catalog(()).wanting("default", "a") == ()


def test_ever_new_types_are_answered_by_what_is_already_there():
    catalog = Catalog([webhook(1, "*"), webhook(2, "a.*")])
    assert len({id(catalog.wanting("acme", f"a.x{number}")) for number in range(100)}) == 1
    assert len({id(catalog.wanting("acme", f"b{number}")) for number in range(100)}) == 1


def test_long_answers_are_not_all_kept():
    everything = [webhook(seq, "*") for seq in range(1000)]
    special = [webhook(1000 + number, f"t{number}") for number in range(100)]
    catalog = Catalog(everything + special)
    kept = [catalog.wanting("acme", f"t{number}") for number in range(100)]
    assert [len(each) for each in kept] == [1001] * 100
    again = [catalog.wanting("acme", f"t{number}") for number in range(100)]
    assert again == kept
    assert sum(len(new) for new, old in zip(again, kept, strict=True) if new is old) < 20_000
    assert sum(catalog.wanting("acme", "t99") is each for each in again) == 1


WORDS = st.sampled_from(["a", "b", "ab", "a_b", "a-b"])
SEPARATORS = st.sampled_from("../:")
TYPES = st.builds(
    lambda first, rest: first + "".join(map("".join, rest)),
    WORDS,
    st.lists(st.tuples(SEPARATORS, WORDS), max_size=4),
)
STARRED = st.builds(
    lambda first, rest: first + "".join(map("".join, rest)),
    WORDS | st.just("*"),
    st.lists(st.tuples(SEPARATORS, WORDS | st.just("*")), max_size=4),
)
PATTERNS = TYPES | STARRED | TYPES.map(lambda text: f"{text}.*") | st.just("*")
HOOKS = st.lists(st.tuples(st.lists(PATTERNS, min_size=1, max_size=4), st.sampled_from(["acme", "b"])), max_size=30)


def wants(pattern: str, type: str) -> bool:
    segment = "[A-Za-z0-9_-]+"
    return re.fullmatch(re.escape(pattern).replace(r"\*", f"{segment}(?:[./:]{segment})*"), type) is not None


CHANGES = st.lists(
    st.tuples(
        st.integers(0, 9), st.lists(PATTERNS, min_size=1, max_size=3) | st.none(), st.sampled_from(["acme", "b"]), TYPES
    ),
    max_size=40,
)


@given(CHANGES)
def test_webhooks_that_come_change_and_go_one_by_one_leave_the_index_that_a_new_one_would_be(
    changes: list[tuple[int, list[str] | None, str, str]],
):
    catalog, known = Catalog(), dict[int, Webhook]()
    for seq, events, tenant, type in changes:
        if events is not None:
            known[seq] = webhook(seq, *events, tenant=tenant)
            catalog.put(known[seq])
        elif known.pop(seq, None) is not None:
            catalog.remove(seq)
        fresh = Catalog(known.values())
        for each in ("acme", "b"):
            assert catalog.wanting(each, type) == fresh.wanting(each, type)
            assert list(catalog.after(each, None)) == list(fresh.after(each, None))
        assert list(catalog.after(None, "wh_4")) == list(fresh.after(None, "wh_4"))
        assert catalog.by_id.keys() == {each.id for each in known.values()}


@given(HOOKS, st.lists(st.tuples(st.sampled_from(["acme", "b", "c"]), TYPES)))
def test_the_index_answers_as_looking_at_every_webhook_would(
    hooks: list[tuple[list[str], str]], questions: list[tuple[str, str]]
):
    webhooks = [webhook(seq, *events, tenant=tenant) for seq, (events, tenant) in enumerate(hooks)]
    catalog = Catalog(webhooks)
    for tenant, type in questions:
        assert catalog.wanting(tenant, type) == tuple(
            each for each in webhooks if each.tenant == tenant and any(wants(pattern, type) for pattern in each.events)
        )
