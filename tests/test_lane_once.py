"""A lane takes each delivery once, whoever brings it, in whatever order pages, offers and outcomes come."""

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import trio
from builders import START_MS, wall
from doubles import HANG, Receiver
from house import House, house
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from hookrelay.model import LocalTrouble, Refused
from hookrelay.store.db import Store
from hookrelay.store.open import open_memory

TROUBLE = LocalTrouble("store_io", "the disk does not answer")


class Slow(Store):
    """The real store, whose commits are told late and whose pages arrive late, as threads do: by as much as is said."""

    def __init__(self, tells_s: Callable[[], float], reads_s: Callable[[], float]) -> None:
        super().__init__(open_memory(START_MS), inline=True)
        self._tells_s, self._reads_s = tells_s, reads_s
        self.fails = False

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        answer = await super()._in_thread(work)
        await trio.sleep(self._tells_s())
        return answer

    def _commit(self, batch: list[Any]) -> list[Any]:
        return [TROUBLE] * len(batch) if self.fails else super()._commit(batch)

    async def read(self, job: Callable[..., Any], *args: Any, keep: bool = False) -> Any:
        answer = await super().read(job, *args, keep=keep)
        await trio.sleep(self._reads_s())
        return answer


async def test_a_page_that_shows_a_delivery_before_it_is_offered_delivers_it_once(autojump_clock):
    tells_s = 0.0
    store = Slow(lambda: tells_s, lambda: 0.1)
    receiver = Receiver()
    async with house(receiver, store) as made:
        hook = await made.make(max_in_flight=4)
        receiver.answers(HANG, 200, host="r1.example")
        await made.submit()  # keeps the lane alive
        tells_s = 5.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.submit)
            await trio.sleep(1)  # on disk, and not told
            made.dispatcher.expect(hook.seq, 0, START_MS)  # somebody has the lane look
        await trio.sleep(20)
        tells_s = 0.0
        receiver.recover()
        await trio.sleep(20)
        assert Counter((request.id, request.attempt) for request in receiver.requests).most_common(1)[0][1] == 1
        assert [row.attempt_count for row in await made.rows(hook)] == [1, 1]
        assert made.dispatcher.pending() == 0


KEYS = st.sampled_from([None, None, "k", "l"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 5), KEYS),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.01, 0.3, 2.0, 30.0])),
        st.tuples(st.just("status"), st.sampled_from(["active", "paused"])),
        st.tuples(st.just("change"), st.integers(1, 5)),
        st.tuples(st.just("reload")),
        st.tuples(st.just("look")),
        st.tuples(st.just("answers"), st.sampled_from([200, 500, 503, HANG])),
        st.tuples(st.just("trouble"), st.booleans()),
        st.tuples(st.just("retry")),
        st.tuples(st.just("cancel")),
    ),
    max_size=25,
)
DELAYS = st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.3]), min_size=1, max_size=7)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS, DELAYS, DELAYS, st.booleans())
def test_whatever_happens_in_whatever_order_nothing_is_sent_twice_lost_or_overtaken(
    operations: list[tuple[Any, ...]], tells: list[float], reads: list[float], is_ordered: bool
):
    clock = MockClock(autojump_threshold=0)
    trio.run(_live_through, operations, tells, reads, is_ordered, clock=clock)


def turns(of: list[float]) -> Callable[[], float]:
    count = 0

    def next_one() -> float:
        nonlocal count
        count += 1
        return of[count % len(of)]

    return next_one


async def _live_through(operations: list[tuple[Any, ...]], tells: list[float], reads: list[float], is_ordered: bool):
    store, receiver = Slow(turns(tells), turns(reads)), Receiver()
    async with house(receiver, store) as made:
        await made.make(max_in_flight=3, ordered=is_ordered, retry="exponential(1s, 2, 60s, 50)")
        by_hand: set[int] = set()
        for number, (name, *rest) in enumerate(operations):
            await _do(made, name, rest, number, by_hand)
        store.fails = False
        receiver.recover()
        await trio.sleep(5)
        await made.change(status="active")
        with trio.fail_after(4 * 3600):
            while made.dispatcher.pending() or made.dispatcher.held() or await _waiting(made):  # noqa: ASYNC110 -- the mock clock's
                await trio.sleep(1)
        rows = await made.rows(made.hook)
        keys = await made.store.read(lambda conn: dict(conn.execute("SELECT seq, ordering FROM delivery").fetchall()))
        _judge(made, receiver, rows, by_hand, keys)


async def _waiting(made: House) -> int:
    count: int = await made.store.read(
        lambda conn: conn.execute("SELECT count(*) FROM delivery WHERE state = 'pending'").get
    )
    return count


async def _do(made: House, name: str, rest: list[Any], number: int, by_hand: set[int]) -> None:
    hook = made.hook
    match name:
        case "submit":
            count, key = rest
            event = {"type": "a.b", "data": number} | ({"ordering_key": key} if key else {})
            made.ingest.submit([json.dumps(event).encode()] * count, lambda answer: None)
        case "wait":
            await trio.sleep(rest[0])
        case "status" | "change" | "reload" if made.store.fails:  # type: ignore[attr-defined] # a Slow one
            pass  # nobody can change anything then
        case "status":
            await made.change(status=rest[0])
        case "change":
            await made.change(max_in_flight=rest[0])
        case "reload":
            made.registry.put_in_force(await made.registry.prepare([]))
        case "look":
            made.dispatcher.expect(hook.seq, 0, int(wall() * 1000))
        case "answers":
            made.dispatcher._shared.dialer.answers(rest[0])  # type: ignore[attr-defined] # a Receiver
        case "trouble":
            made.store.fails = rest[0]  # type: ignore[attr-defined] # a Slow one
        case "retry" | "cancel" if not made.store.fails:  # type: ignore[attr-defined] # a Slow one
            for row in (await made.rows(hook))[:1]:
                if (row.state == "pending") == (name == "cancel"):
                    by_hand.add(row.seq)
                    with contextlib.suppress(Refused):  # it has ended, or begun anew, meanwhile
                        await (made.redeliverer.retry(row) if name == "retry" else made.redeliverer.cancel(row))
        case _:
            pass


def _judge(made: House, receiver: Receiver, rows: list[Any], by_hand: set[int], keys: dict[int, str]) -> None:
    came = Counter((request.id, request.attempt) for request in receiver.requests)
    assert [each for each, count in came.items() if count > 1] == []
    attempts = Counter(request.id for request in receiver.requests)
    ids = {row.seq: made.store.ids.make("evt", row.created_ms, row.event) for row in rows}
    assert {row.seq: attempts[ids[row.seq]] for row in rows} == {row.seq: row.attempt_count for row in rows}
    # what a person has asked for once more is one attempt
    assert {row.state for row in rows if row.seq not in by_hand} <= {"succeeded"}
    assert (made.dispatcher.pending(), made.dispatcher.held()) == (0, 0)
    chains = defaultdict(list)
    for row in reversed(rows):
        if keys[row.seq] is not None and row.seq not in by_hand:
            chains[keys[row.seq]].append([each for each in receiver.requests if each.id == ids[row.seq]])
    for chain in chains.values():
        for earlier, later in pairwise(filter(None, chain)):
            assert earlier[-1].ended_at <= later[0].at
