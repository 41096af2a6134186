"""Deliveries that must not overtake each other, on a connection alone."""

import random
from collections.abc import Iterator

import apsw
import pytest
from builders import START_MS, event, outcome
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Ids, Verdict
from hookrelay.store import events, queue
from hookrelay.store.chains import BLOCKED_MS, WHOLE
from hookrelay.store.open import open_memory

DONE = Verdict("succeeded", 0)
FAILED = Verdict("failed", 9)
AGAIN = Verdict("pending", 1, START_MS + 60_000)
LATER = START_MS + 3_600_000


class Queue:
    """A store whose webhooks get deliveries numbered from 1."""

    def __init__(self) -> None:
        self.conn: apsw.Connection = open_memory(START_MS).writer
        self.last = 0

    def insert(self, *batches: list[tuple[int, str | None]]) -> list[tuple[int, ...]]:
        """One transaction of events, each for `(webhook, chain)` pairs; which deliveries are blocked."""
        entries = []
        for wanting in batches:
            hooks = tuple(hook for hook, _ in wanting)
            first = self.last + 1
            self.last += len(hooks)
            entries.append(events.Entry(event(first), None, hooks, first, tuple(chain for _, chain in wanting)))
        return [receipt.blocked for receipt in events.insert(self.conn, entries)]

    def due(self, webhook: int = 1, taken: tuple[int, ...] = ()) -> list[int]:
        page = queue.due(self.conn, Ids(7), webhook, LATER, taken, 100)
        return [delivery.seq for delivery in page.deliveries]

    def end(self, seq: int, verdict: Verdict = DONE, *, webhook: int = 1, is_ordered: bool = False) -> int | None:
        chain: str | None = self.conn.execute("SELECT ordering FROM delivery WHERE seq = ?", (seq,)).get
        result = queue.Result(seq, 1, outcome(), verdict, webhook, chain, is_ordered)
        return queue.record(self.conn, [result])[0]

    def cancel(self, limit: int, webhook: int = 1) -> int:
        return queue.cancel_waiting(self.conn, webhook, START_MS, limit)


@pytest.fixture
def queued() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.conn.close()


def test_of_a_key_one_is_due_and_the_end_of_each_frees_the_next(queued: Queue):
    assert queued.insert([(1, "a")], [(1, "a")], [(1, "a")]) == [(), (2,), (3,)]
    assert queued.due() == [1]
    assert queued.end(1) == START_MS
    assert queued.due() == [2]
    assert queued.end(2, FAILED) == START_MS
    assert queued.due() == [3]
    assert queued.end(3) is None


def test_a_retry_keeps_the_others_of_its_key_waiting(queued: Queue):
    queued.insert([(1, "a")], [(1, "a")])
    assert queued.end(1, AGAIN) is None
    assert queued.due() == [1]
    queued.end(1, FAILED)
    assert queued.due() == [2]


def test_other_keys_other_webhooks_and_those_without_a_key_go_on(queued: Queue):
    queued.insert([(1, "a"), (2, "a")], [(1, "a"), (2, "a")], [(1, "b")], [(1, None)], [(1, None)])
    assert queued.due(1) == [1, 5, 6, 7]
    assert queued.due(2) == [2]
    queued.end(2, webhook=2)
    assert queued.due(2) == [4]
    assert queued.due(1) == [1, 5, 6, 7]


def test_a_key_that_has_run_out_begins_anew(queued: Queue):
    queued.insert([(1, "a")])
    queued.end(1)
    assert queued.insert([(1, "a")]) == [()]


def test_an_ordered_webhook_has_one_due_at_a_time(queued: Queue):
    assert queued.insert([(1, WHOLE)], [(1, WHOLE)], [(1, WHOLE)]) == [(), (2,), (3,)]
    assert queued.due() == [1]
    queued.end(1, is_ordered=True)
    assert queued.due() == [2]


def test_a_webhook_that_becomes_ordered_first_ends_what_came_before(queued: Queue):
    queued.insert([(1, None)], [(1, "a")], [(1, "a")])
    assert queued.insert([(1, WHOLE)], [(1, WHOLE)]) == [(4,), (5,)]
    assert queued.due() == [1, 2]
    assert queued.end(1, is_ordered=True) is None
    queued.end(2, is_ordered=True)
    assert queued.due() == [3]
    queued.end(3, is_ordered=True)
    assert queued.due() == [4]


def test_a_webhook_that_is_ordered_no_longer_still_ends_its_old_ones_in_order(queued: Queue):
    queued.insert([(1, WHOLE)], [(1, WHOLE)], [(1, WHOLE)])
    queued.insert([(1, None)], [(1, None)])
    assert queued.due() == [1, 4, 5]
    queued.end(1)
    assert queued.due() == [2, 4, 5]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_wherever_cancelling_stops_what_is_left_of_a_key_goes_on(queued: Queue, limit: int):
    queued.insert(*[[(1, key)] for key in "abacab"], [(1, None)])
    queued.end(1, AGAIN)
    left = 7
    while left:
        waiting = queued.conn.execute(
            "SELECT ordering, min(due_ms) FROM delivery WHERE state = 'pending' AND ordering IS NOT NULL GROUP BY 1"
        )
        assert all(due_ms < BLOCKED_MS for _, due_ms in waiting)
        left -= queued.cancel(limit)
    assert queued.cancel(limit) == 0


def test_a_clock_that_was_set_back_pulls_in_what_is_due_too_late_and_nothing_that_is_blocked(queued: Queue):
    queued.insert([(1, "a")], [(1, "a")], [(2, None)])
    queued.end(1, Verdict("pending", 1, START_MS + 10 * LATER))
    assert queue.pull_in(queued.conn, 1, LATER, is_retry=True) == 1
    assert queued.due() == [1]
    assert queue.pull_in(queued.conn, 1, LATER, is_retry=True) == 0


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([None, "a", "b"])), max_size=30), st.randoms())
def test_whatever_ends_in_whatever_order_no_key_is_overtaken_and_all_get_their_turn(
    wanted: list[tuple[int, str | None]], luck: random.Random
):
    queued = Queue()
    waiting = dict(enumerate(wanted, 1))
    flying: list[int] = []
    cuts = sorted(luck.randrange(len(wanted) + 1) for _ in range(3))
    for start, end in zip([0, *cuts], [*cuts, len(wanted)], strict=True):
        queued.insert(*[[pair] for pair in wanted[start:end]])
        for _ in range(luck.randrange(10)):
            _go_on(queued, waiting, flying, luck)
    while any(queued.due(hook) for hook in (1, 2)):
        _go_on(queued, waiting, flying, luck)
    assert waiting == {}
    queued.conn.close()


def _go_on(queued: Queue, waiting: dict[int, tuple[int, str | None]], flying: list[int], luck: random.Random) -> None:
    due = [(seq, hook) for hook in (1, 2) for seq in queued.due(hook, tuple(flying))]
    if due and (not flying or luck.random() < 0.6):
        seq, hook = luck.choice(due)
        key = waiting[seq][1]
        assert key is None or all(other >= seq for other, pair in waiting.items() if pair == (hook, key))
        flying.append(seq)
    elif flying:
        seq = flying.pop(luck.randrange(len(flying)))
        verdict = luck.choice([DONE, FAILED, AGAIN])
        queued.end(seq, verdict, webhook=waiting[seq][0])
        if verdict is not AGAIN:
            del waiting[seq]
