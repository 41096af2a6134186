"""What leaves the store, and what must not."""

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookrelay.store import prune
from hookrelay.store.open import open_file, open_memory

STATES = ("succeeded", "failed", "cancelled", "pending")


class Shop:
    """Events, each with some deliveries, one a second."""

    def __init__(self) -> None:
        self.conn: apsw.Connection = open_memory(1).writer
        self._event = self._delivery = 0

    def event(self, at_ms: int, *deliveries: tuple[str, int]) -> int:
        """One accepted then, with deliveries of a state that ended at a moment."""
        self._event += 1
        self.conn.execute(
            "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data) VALUES (?, ?, 't', 'a.b', '', x'7b7d')",
            (self._event, at_ms),
        )
        for state, ended_ms in deliveries:
            self._delivery += 1
            is_waiting = state == "pending"
            self.conn.execute(
                "INSERT INTO delivery (seq, event, webhook, created_ms, state, due_ms, completed_ms, attempt_count)"
                " VALUES (?, ?, 1, ?, ?, ?, ?, 1)",
                (
                    self._delivery,
                    self._event,
                    at_ms,
                    state,
                    ended_ms if is_waiting else None,
                    None if is_waiting else ended_ms,
                ),
            )
            self.conn.execute(
                "INSERT INTO attempt (delivery, number, started_ms, duration_us) VALUES (?, 1, ?, 5)",
                (self._delivery, at_ms),
            )
        return self._event

    def left(self, table: str, column: str = "seq") -> list[int]:
        return [row[0] for row in self.conn.execute(f"SELECT {column} FROM {table} ORDER BY 1")]  # noqa: S608 -- our own names

    def prune(self, before_ms: int, limit: int = 3) -> None:
        for step in (prune.deliveries, prune.events):
            at: int | None = 0
            while at is not None:
                at = step(self.conn, at, before_ms, limit).at


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_what_ended_before_goes_with_its_attempts_and_its_event(shop):
    for number in range(10):
        shop.event(1000 * number, ("succeeded", 1000 * number + 5))
    shop.prune(5000)
    assert shop.left("event") == shop.left("delivery") == shop.left("attempt", "delivery") == [6, 7, 8, 9, 10]


def test_what_waits_stays_with_its_event_however_old_it_is(shop):
    shop.event(0, ("succeeded", 5), ("pending", 9), ("failed", 5))
    shop.event(1, ("failed", 5))
    shop.event(9_000_000, ("succeeded", 9_000_001))
    shop.prune(5000)
    assert (shop.left("event"), shop.left("delivery")) == ([1, 3], [2, 5])


def test_what_was_made_anew_lately_stays_though_its_event_is_old(shop):
    shop.event(0, ("succeeded", 9000))
    shop.event(1, ("succeeded", 5))
    shop.event(9_000_000, ("succeeded", 9_000_001))
    shop.prune(5000)
    assert (shop.left("event"), shop.left("delivery")) == ([1, 3], [1, 3])


def test_an_event_that_nobody_wanted_goes_too(shop):
    shop.event(0)
    shop.event(1, ("failed", 5))
    shop.event(2)
    shop.event(9_000_000, ("pending", 1))
    shop.prune(5000)
    assert shop.left("event") == [4]


def test_the_newest_rows_stay_so_that_no_number_is_given_twice(shop):
    for _ in range(4):
        shop.event(0, ("succeeded", 5))
    shop.prune(1 << 50)
    assert (shop.left("event"), shop.left("delivery")) == ([4], [4])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 60)), max_size=4)),
        max_size=20,
    ),
    st.integers(0, 70),
    st.integers(1, 7),
)
def test_the_law(rows, before_ms, limit):
    """Nothing that waits or ended later is removed; no delivery is left without its event, no attempt without it."""
    shop = Shop()
    at_ms = 0
    for later_ms, deliveries in rows:
        at_ms += later_ms % 7
        shop.event(at_ms, *((state, max(ended_ms, at_ms)) for state, ended_ms in deliveries))
    everything = shop.conn.execute("SELECT seq, state, completed_ms FROM delivery").fetchall()
    shop.prune(before_ms, limit)
    left = set(shop.left("delivery"))
    newest = max((seq for seq, _, _ in everything), default=0)
    for seq, state, completed_ms in everything:
        must_stay = state == "pending" or completed_ms >= before_ms or seq == newest
        assert not must_stay or seq in left
    assert not shop.conn.execute("SELECT 1 FROM delivery WHERE event NOT IN (SELECT seq FROM event)").fetchall()
    assert not shop.conn.execute("SELECT 1 FROM attempt WHERE delivery NOT IN (SELECT seq FROM delivery)").fetchall()


def test_keys_go_after_their_window_and_never_before_their_event(shop):
    shop.event(0, ("pending", 1))
    for hash, event, created_ms in ((5, 1, 0), (9, 77, 0), (12, 78, 9000), (1 << 62, 79, 10)):
        shop.conn.execute("INSERT INTO idempotency VALUES (?, x'00', x'00', ?, 0, 1, ?)", (hash, event, created_ms))
    at: int | None = -1
    while at is not None:
        at = prune.keys(shop.conn, at, 5000, 2).at
    assert shop.left("idempotency", "hash") == [5, 12]


def test_deleted_webhooks_go_once_nothing_of_theirs_is_left(shop):
    for seq, removed_ms in ((1, 10), (2, 10), (3, None), (4, 9000)):
        shop.conn.execute(
            "INSERT INTO webhook (seq, id, tenant, source, definition, created_ms, updated_ms, removed_ms)"
            " VALUES (?, ?, 't', 'api', '{}', 0, 0, ?)",
            (seq, f"wh_{seq}", removed_ms),
        )
    shop.event(0, ("succeeded", 5))
    assert prune.webhooks(shop.conn, 5000, 5000) == 1
    assert shop.left("webhook") == [1, 3, 4]


def test_the_file_becomes_smaller(tmp_path):
    opened = open_file(tmp_path / "h.db", max_size=1 << 30, now_ms=1)
    conn = opened.writer
    with conn:
        for seq in range(1, 2001):
            conn.execute(
                "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data) VALUES (?, 0, 't', 'a', '', ?)",
                (seq, b"x" * 4000),
            )
    before = prune.room(conn)
    at: int | None = 0
    while at is not None:
        at = prune.events(conn, at, 1, 500).at
    room = prune.room(conn)
    assert room.free > 0.9 * before.used
    while prune.room(conn).free > 0:
        left = prune.room(conn).free
        conn.execute("BEGIN IMMEDIATE")
        prune.give_back(conn, 200)
        conn.execute("COMMIT")
        assert left - 200 * room.page <= prune.room(conn).free < left
    conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert (tmp_path / "h.db").stat().st_size < before.used / 10
    conn.close()
    opened.marker.close()
    opened.lock.close()
