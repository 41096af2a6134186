"""Attempts are counted once, in their own time, wherever they stand between memory and disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing
from builders import START_MS, START_S, wall
from doubles import new_store

from hookrelay.rules.tally import OUTCOMES, scope_of_tenant
from hookrelay.store import tally as store_tally
from hookrelay.store.db import Store
from hookrelay.tally import COARSE_S, FINE_S, KEPT_S, STEP, WHOLE, WRITE_S, Tally


@asynccontextmanager
async def counting(store: Store | None = None) -> AsyncIterator[Tally]:
    """A tally at work over a store, which ends with it."""
    store = store or new_store()
    async with trio.open_nursery() as keeping:
        await keeping.start(store.run)
        made = Tally(store, lambda webhook: "acme" if webhook < 100 else None, wall)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.testing.wait_all_tasks_blocked()
            yield made
            nursery.cancel_scope.cancel()
        store.close()


async def attempts(tally: Tally, scope: int, width_s: int = COARSE_S, count: int = 48) -> int:
    return sum(totals.attempts for _, totals in await tally.series(scope, width_s, count))


def note(
    tally: Tally, webhook: int = 1, error: str | None = None, code: int | None = 200, took_s: float = 0.02
) -> None:
    tally.note(webhook, 77, error, code, took_s, int(wall() * 1000))


async def test_an_attempt_is_seen_at_once_and_after_it_was_written(autojump_clock):
    async with counting() as tally:
        note(tally)
        note(tally, error="http_status", code=503)
        note(tally, error="interrupted", code=None)
        for _ in range(3):
            for scope in (1, WHOLE, scope_of_tenant("acme")):
                for width_s, count in ((FINE_S, 30), (COARSE_S, 48), (COARSE_S * 8, 42)):
                    found = [totals for _, totals in await tally.series(scope, width_s, count)]
                    whole = sum(found[1:], found[0])
                    assert dict(zip(OUTCOMES, whole.counts, strict=True)) == {
                        "succeeded": 1,
                        "answered_4xx": 0,
                        "answered_5xx": 1,
                        "timed_out": 0,
                        "not_reached": 0,
                        "ours": 1,
                    }
            await trio.sleep(WRITE_S)
        assert tally.attempts(1) == 3
        assert tally._now == {}


async def test_slots_begin_at_multiples_of_their_length_and_the_last_is_the_present_one(autojump_clock):
    async with counting() as tally:
        await trio.sleep(1000)
        note(tally)
        for width_s, count in ((FINE_S, 30), (COARSE_S, 48), (COARSE_S * 8, 42)):
            found = await tally.series(1, width_s, count)
            starts = [start for start, _ in found]
            assert starts == [starts[0] + index * width_s for index in range(count)]
            assert starts[0] % width_s == 0
            assert starts[-1] <= wall() < starts[-1] + width_s
            assert found[-1][1].attempts == 1


async def test_what_was_counted_in_one_period_is_written_to_that_one(autojump_clock):
    async with counting() as tally:
        for number in range(10):
            for _ in range(number):
                note(tally)
            await trio.sleep(FINE_S)
        found = await tally.series(1, FINE_S, 30)
        assert [totals.attempts for _, totals in found][-11:] == [*range(10), 0]


async def test_a_reader_counts_nothing_twice_and_misses_nothing_while_it_is_being_written(autojump_clock):
    async with counting() as tally:
        for webhook in range(1, 3 * STEP + 2):
            note(tally, webhook)
        seen = []

        async def look() -> None:
            for _ in range(60):
                seen.append((await attempts(tally, WHOLE), await attempts(tally, 1), await attempts(tally, 3 * STEP)))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            nursery.start_soon(tally._write)
        assert set(seen) == {(3 * STEP + 1, 1, 1)}
        assert tally._past == []


async def test_all_is_written_when_the_daemon_stops(autojump_clock):
    store = new_store()
    async with trio.open_nursery() as keeping:
        await keeping.start(store.run)
        made = Tally(store, lambda webhook: None, wall)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            await trio.sleep(1)
            note(made)
            note(made, error="timeout", code=None)
            nursery.cancel_scope.cancel()
        later = Tally(store, lambda webhook: None, wall)
        assert await attempts(later, 1) == 2
        assert (await later.failures([1]))[1].error_code == "timeout"
        store.close()


async def test_the_newest_failure_of_a_webhook_is_known_and_our_own_trouble_is_none(autojump_clock):
    async with counting() as tally:
        note(tally, error="http_status", code=500)
        await trio.sleep(10)
        note(tally, error="dns_error", code=None)
        note(tally, error="local_fault", code=None)
        note(tally)
        for _ in range(2):
            (failure,) = (await tally.failures([1, 2])).values()
            assert (failure.error_code, failure.at_ms) == ("dns_error", START_MS + 10_000)
            await trio.sleep(2 * WRITE_S)


async def test_what_is_too_old_to_be_shown_is_forgotten(autojump_clock):
    store = new_store()
    async with counting(store) as tally:
        note(tally)
        await trio.sleep(2 * WRITE_S)
        await trio.sleep(KEPT_S[FINE_S] + 2 * FINE_S)
        note(tally)
        await trio.sleep(2 * WRITE_S)
        first = START_S // COARSE_S * COARSE_S
        fine = await store.read(store_tally.sums, FINE_S, [1], first, first + 4 * 3600, FINE_S)
        coarse = await store.read(store_tally.sums, COARSE_S, [1], first, first + 5 * 3600, COARSE_S)
        assert (len(fine), sum(row[3] for row in coarse)) == (1, 2)


async def test_a_webhook_that_nobody_knows_any_more_counts_for_the_whole(autojump_clock):
    async with counting() as tally:
        note(tally, webhook=500)
        assert await attempts(tally, WHOLE) == 1
        assert await attempts(tally, scope_of_tenant("acme")) == 0
