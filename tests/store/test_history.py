"""The history's pages against a look at every row."""

from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from builders import START_MS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from hookrelay.store import history, paging
from hookrelay.store.open import open_memory

HOOKS = {1: "acme", 2: "acme", 3: "other"}
STATES = ("pending", "succeeded", "failed", "cancelled")


class Past:
    """A store with a past: each row is an event with deliveries for some webhooks."""

    def __init__(self) -> None:
        self.conn: apsw.Connection = open_memory(START_MS).writer
        for seq, tenant in HOOKS.items():
            self.conn.execute(
                "INSERT INTO webhook (seq, id, tenant, source, status, definition, created_ms, updated_ms)"
                " VALUES (?, ?, ?, 'api', ?, '{}', 0, 0)",
                (seq, f"wh_{seq}", tenant, "paused" if seq == 2 else "active"),
            )
        self.rows: list[dict[str, Any]] = []
        self.events = 0

    def add(self, tenant: str, type: str, at_ms: int, deliveries: list[tuple[int, str, int | None]]) -> None:
        self.events += 1
        event = self.events
        self.conn.execute(
            "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data) VALUES (?, ?, ?, ?, 't', x'31')",
            (event, at_ms, tenant, type),
        )
        for hook, state, code in deliveries:
            if HOOKS[hook] != tenant:
                continue
            seq = len(self.rows) + 1
            due_ms = 5 if state == "pending" else None
            self.conn.execute(
                "INSERT INTO delivery (seq, event, webhook, created_ms, state, due_ms, response_code)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (seq, event, hook, at_ms, state, due_ms, code),
            )
            self.rows.append(
                {
                    "seq": seq,
                    "event": event,
                    "webhook": hook,
                    "tenant": tenant,
                    "type": type,
                    "at": at_ms,
                    "state": state,
                    "code": code,
                }
            )

    def pages(self, wanted: history.Wanted, limit: int) -> list[int]:
        found: list[int] = []
        before: int | None = None
        while True:
            page = history.deliveries(self.conn, wanted, before, limit)
            assert len(page.rows) <= limit
            found += [row.seq for row in page.rows]
            before = page.next
            if before is None:
                return found

    def matching(self, wanted: history.Wanted) -> list[int]:
        def matches(row: dict[str, Any]) -> bool:
            return (
                wanted.webhook in (None, row["webhook"])
                and wanted.tenant in (None, row["tenant"])
                and wanted.event in (None, row["event"])
                and wanted.state in (None, row["state"])
                and wanted.is_held in (None, row["webhook"] == 2)
                and wanted.type in (None, row["type"])
                and wanted.code in (None, row["code"])
                and (wanted.since_ms is None or row["at"] >= wanted.since_ms)
                and (wanted.until_ms is None or row["at"] < wanted.until_ms)
            )

        return [row["seq"] for row in reversed(self.rows) if matches(row)]


@pytest.fixture
def past() -> Iterator[Past]:
    made = Past()
    yield made
    made.conn.close()


TYPES = st.sampled_from(["a", "b"])
DELIVERIES = st.lists(
    st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from(STATES), st.sampled_from([None, 200, 500])), max_size=4
)
EVENTS = st.lists(st.tuples(st.sampled_from(["acme", "other"]), TYPES, st.integers(0, 90_000), DELIVERIES), max_size=25)
WANTED = st.builds(
    history.Wanted,
    webhook=st.none() | st.sampled_from([1, 2, 3]),
    tenant=st.none() | st.sampled_from(["acme", "other", "nobody"]),
    event=st.none() | st.integers(1, 25),
    state=st.none() | st.sampled_from(STATES),
    is_held=st.none() | st.booleans(),
    type=st.none() | TYPES,
    since_ms=st.none() | st.integers(0, 500_000),
    until_ms=st.none() | st.integers(0, 500_000),
    code=st.none() | st.sampled_from([200, 500]),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, WANTED, st.integers(1, 7), st.sampled_from([(1, 2, 3, 4), (50, 250, 1000, 5000)]))
def test_the_pages_hold_what_a_look_at_every_row_finds_newest_first(
    events: list[Any], wanted: history.Wanted, limit: int, steps: tuple[int, ...]
):
    if wanted.webhook is not None and wanted.tenant is not None:
        # a call that names a webhook has found out before whose it is
        wanted = structs.replace(wanted, tenant=HOOKS[wanted.webhook])
    made = Past()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paging, "STEPS", steps)
        at_ms = 0
        for tenant, type, later_ms, deliveries in events:
            at_ms += later_ms
            made.add(tenant, type, at_ms, deliveries)
        assert made.pages(wanted, limit) == made.matching(wanted)
    made.conn.close()


def test_a_page_looks_at_no_more_than_its_share_and_the_next_goes_on_from_there(
    past: Past, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(paging, "LOOKED_THROUGH", 100)
    monkeypatch.setattr(paging, "STEPS", (10, 20, 40, 40))
    past.add("acme", "rare", 0, [(1, "succeeded", 200)])
    for number in range(500):
        past.add("acme", "a", number, [(1, "succeeded", 200)])
    wanted = history.Wanted(webhook=1, type="rare")
    first = history.deliveries(past.conn, wanted, None, 10)
    assert (first.rows, first.next is None) == ([], False)
    assert past.pages(wanted, 10) == [1]


def test_the_same_is_true_of_events(past: Past):
    for number in range(30):
        past.add("acme" if number % 3 else "other", "ab"[number % 2], number * 1000, [])
    found: list[int] = []
    before: int | None = None
    while True:
        page = history.events(past.conn, "acme", "a", (5_000, 25_000), before, 2)
        found += [row.seq for row in page.rows]
        if (before := page.next) is None:
            break
    assert found == [number + 1 for number in reversed(range(5, 25)) if number % 3 and number % 2 == 0]


def test_an_event_is_shown_with_its_own_deliveries_and_their_number(past: Past):
    past.add("acme", "a", 1, [(1, "failed", 500), (2, "pending", None)])
    past.add("acme", "b", 2, [(1, "succeeded", 200)])
    past.add("acme", "c", 3, [])
    for event, seqs in ((1, [1, 2]), (2, [3]), (3, [])):
        found = history.event(past.conn, event, 10)
        assert found is not None
        row, data, count, rows = found
        assert (row.seq, data, count, [each.seq for each in rows]) == (event, b"1", len(seqs), seqs)
    assert history.event(past.conn, 4, 10) is None


def test_events_after_a_number_come_oldest_first_with_their_data(past: Past):
    for tenant in ("acme", "other", "acme"):
        past.add(tenant, "a", 1, [])
    assert [row.seq for row, _ in history.events_after(past.conn, None, 1, 10)] == [2, 3]
    assert [(row.seq, data) for row, data in history.events_after(past.conn, "acme", 0, 10)] == [(1, b"1"), (3, b"1")]
