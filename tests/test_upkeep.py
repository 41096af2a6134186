"""Retention beside a running store: by age, by size, never by a jump of the clock, and in small steps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from builders import START_MS, wall
from doubles import listening_log, new_store

from hookrelay.store.audit import AuditRow, insert
from hookrelay.store.db import Store
from hookrelay.upkeep import (
    CLOCK_S,
    FIRST_S,
    LOOK_S,
    PATIENCE_S,
    RECORD_BYTES,
    RECORDS_SHARE,
    Limits,
    Upkeep,
    watch_clock,
)

DAY_S = 86_400.0


class Clock:
    """A wall clock that people set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return wall() + self.ahead_s


class Yard:
    """A store with events, and its upkeep."""

    def __init__(self, limits: Limits) -> None:
        self.store: Store = new_store()
        self.clock = Clock()
        self.limits = limits
        log, self.told = listening_log()
        self.upkeep = Upkeep(self.store, log, lambda: self.limits, self.clock)

    def fill(self, count: int, *, age_s: float, state: str = "succeeded", size: int = 2) -> None:
        conn = self.store._conn
        first = (conn.execute("SELECT max(seq) FROM event").get or 0) + 1
        at_ms = START_MS - round(age_s * 1000)
        with conn:
            conn.execute(
                "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + ?2 - 1)"
                " INSERT INTO event (seq, created_ms, tenant, type, timestamp, data)"
                " SELECT i, ?3, 't', 'a.b', '', zeroblob(?4) FROM n",
                (first, count, at_ms, size),
            )
            conn.execute(
                "INSERT INTO delivery (seq, event, webhook, created_ms, state, due_ms, completed_ms)"
                " SELECT seq, seq, 1, created_ms, ?2, created_ms, iif(?2 = 'pending', NULL, created_ms)"
                " FROM event WHERE seq >= ?1",
                (first, state),
            )

    def note(self, count: int, *, age_s: float, tenant: str = "t") -> None:
        """Records of the audit trail."""
        at_ms = START_MS - round(age_s * 1000)
        for _ in range(count):
            insert(
                self.store._conn,
                AuditRow(0, at_ms, tenant, "key.created", None, "key_0", 0, None, None, None, "{}"),
            )

    def noted(self) -> dict[str, int]:
        return dict(self.store._conn.execute("SELECT tenant, count(*) FROM audit GROUP BY tenant"))

    def count(self) -> tuple[int, int]:
        conn = self.store._conn
        return conn.execute("SELECT count(*) FROM event").get, conn.execute("SELECT count(*) FROM delivery").get

    def said(self, event: str) -> list[Any]:
        return [each for each in self.told if each["event"] == event]


@asynccontextmanager
async def keeping(limits: Limits | None = None) -> AsyncIterator[Yard]:
    yard = Yard(limits or Limits(30 * DAY_S, 30 * DAY_S, 1 << 30))
    async with trio.open_nursery() as nursery:
        await nursery.start(yard.store.run)
        yield yard
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def at_work(yard: Yard, newest_ms: int | None = START_MS) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(yard.upkeep.run, newest_ms)
        yield
        nursery.cancel_scope.cancel()


async def test_what_is_past_its_retention_goes_and_all_else_stays(autojump_clock):
    async with keeping() as yard:
        yard.fill(2500, age_s=31 * DAY_S)
        yard.fill(10, age_s=31 * DAY_S, state="pending")
        yard.fill(100, age_s=28.5 * DAY_S)
        async with at_work(yard):
            await trio.sleep(FIRST_S + LOOK_S)
            assert yard.count() == (110, 110)
            assert [each["deliveries"] for each in yard.said("pruned")] == [2500]
            await trio.sleep(DAY_S)
            assert yard.count() == (110, 110)
            await trio.sleep(DAY_S)
            assert yard.count() == (11, 11)  # the newest of all stays


async def test_a_reload_changes_how_long_things_are_kept(autojump_clock):
    async with keeping() as yard:
        yard.fill(100, age_s=5 * DAY_S)
        async with at_work(yard):
            await trio.sleep(2 * LOOK_S)
            assert yard.count() == (100, 100)
            yard.limits = Limits(DAY_S, 30 * DAY_S, 1 << 30)
            await trio.sleep(2 * LOOK_S)
            assert yard.count() == (1, 1)


async def test_records_of_who_changed_what_go_after_a_time_of_their_own(autojump_clock):
    async with keeping(Limits(30 * DAY_S, 30 * DAY_S, 1 << 30, 365 * DAY_S)) as yard:
        yard.note(600, age_s=366 * DAY_S)
        yard.note(100, age_s=363.5 * DAY_S)
        yard.note(1, age_s=0)
        async with at_work(yard):
            await trio.sleep(2 * LOOK_S)
            assert yard.noted() == {"t": 101}
            await trio.sleep(2 * DAY_S)
            assert yard.noted() == {"t": 1}
            assert yard.said("audit_pruned_early") == []


async def test_who_changes_things_without_end_loses_records_of_its_own_and_nobody_elses(autojump_clock):
    most = round(RECORDS_SHARE * (2 << 20)) // RECORD_BYTES
    async with keeping(Limits(30 * DAY_S, 30 * DAY_S, 2 << 20)) as yard:
        yard.note(100, age_s=10 * DAY_S, tenant="quiet")
        yard.note(most + 900, age_s=DAY_S, tenant="busy")
        async with at_work(yard):
            await trio.sleep(2 * LOOK_S)
            assert yard.noted() == {"quiet": 100, "busy": most - 100}
            (told,) = yard.said("audit_pruned_early")
            assert (told["tenant"], told["records"]) == ("busy", 1000)


async def test_a_clock_that_jumps_ahead_expires_nothing(autojump_clock):
    async with keeping() as yard:
        yard.fill(100, age_s=5 * DAY_S)
        yard.note(100, age_s=5 * DAY_S)
        async with at_work(yard):
            await trio.sleep(2 * LOOK_S)
            yard.clock.ahead_s = 5 * 365 * DAY_S
            await trio.sleep(DAY_S)
            assert yard.count() == (100, 100)
            assert yard.noted() == {"t": 100}


async def test_a_clock_far_ahead_of_the_newest_event_is_given_an_hour_to_be_set_right(autojump_clock):
    async with keeping() as yard:
        yard.fill(100, age_s=40 * DAY_S)
        async with at_work(yard, START_MS - round(40 * DAY_S * 1000)):
            await trio.sleep(PATIENCE_S)
            assert yard.count() == (100, 100)
            assert [each["hours"] for each in yard.said("retention_waits")] == [960]
            await trio.sleep(2 * LOOK_S)
            assert yard.count() == (1, 1)


async def test_a_store_that_is_nearly_full_loses_the_oldest_of_what_has_ended_and_says_so(autojump_clock):
    async with keeping(Limits(30 * DAY_S, 30 * DAY_S, 20 << 20)) as yard:
        yard.fill(500, age_s=3 * DAY_S, state="pending", size=2000)
        yard.fill(8500, age_s=2 * DAY_S, size=2000)
        async with at_work(yard):
            await trio.sleep(FIRST_S + 2 * LOOK_S)
            events, deliveries = yard.count()
            assert 6000 < events < 8800
            assert deliveries == events
            (told,) = yard.said("pruned_early")
            assert told["deliveries"] == 9000 - events
            waiting = yard.store._conn.execute("SELECT count(*) FROM delivery WHERE state = 'pending'").get
            assert waiting == 500


async def test_pages_that_nothing_uses_go_back_but_for_a_reserve(autojump_clock):
    async with keeping() as yard:
        yard.fill(8000, age_s=31 * DAY_S, size=4000)
        yard.fill(100, age_s=DAY_S)
        before = yard.store._conn.pragma("page_count")
        async with at_work(yard):
            await trio.sleep(FIRST_S + LOOK_S)
        assert before > 8000
        assert yard.store._conn.pragma("freelist_count") <= 2000
        assert yard.store._conn.pragma("page_count") < 2500


async def test_what_ends_after_a_clock_was_set_back_is_kept_for_as_long_as_anything(autojump_clock):
    async with keeping() as yard, at_work(yard):
        await trio.sleep(2 * LOOK_S)
        yard.clock.ahead_s = -365 * DAY_S
        yard.fill(100, age_s=365 * DAY_S)
        await trio.sleep(29 * DAY_S)
        assert yard.count() == (100, 100)
        await trio.sleep(2 * DAY_S)
        assert yard.count() == (1, 1)


async def test_each_jump_of_the_clock_is_told_and_counted_and_drift_is_not(autojump_clock):
    clock, faults = Clock(), []
    log, told = listening_log()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_clock, clock, log, faults.append)
        for ahead_s in (0.0, 1.5, 3.0, 3603.0, 3603.0, -7.0):
            clock.ahead_s = ahead_s
            await trio.sleep(CLOCK_S + 0.01)
        nursery.cancel_scope.cancel()
    assert faults == ["clock_jump", "clock_jump"]
    assert [each["seconds"] for each in told] == [3600.0, -3610.0]
