"""Keeping the store small while the daemon runs: by age and by size, in small steps between which others write.

Only what has ended is removed; what waits stays, however old it is. A wall clock that is set, by years and either way,
expires nothing (THREATS §4).
"""

from collections.abc import Callable
from typing import Any, Protocol

import trio
from msgspec import Struct

from hookrelay.clock import NeverAhead
from hookrelay.store import prune
from hookrelay.store.db import Store
from hookrelay.store.prune import Step
from hookrelay.telemetry.logs import Logger

FIRST_S = 5.0
"""After the start: others have much to do then."""
LOOK_S = 60.0
STEP = 500
"""Rows of one transaction: 3 to 5 ms."""
SHARE = 0.4
"""Of the time, waiting for the turn to write included: on a busy store that is most of a step's."""
FULL, ROOMY = 0.9, 0.85
"""Over the first share of `store.max_size` what has ended goes, however new, until no more than the second is used."""
PAGES = 200
"""Pages that one step gives back to the disk."""
SPARE_PAGES = 2000
SPARE_SHARE = 0.1
"""What is kept of free pages: the next events need them."""
HOUR_S = 3600.0
"""So often all is looked through from its beginning, idempotency keys too: what waited may have ended."""
FRESH_S = 600.0
"""What ended so lately stays also where the store is full."""
RECORDS_SHARE = 0.1
"""Of `store.max_size`, for the audit trail: whoever changes things without end takes no more."""
RECORD_BYTES = 400
"""What a record takes about, with its place in the index."""
REQUESTS_KEPT_S = 2 * 86400.0
DOUBTFUL_S = 86400.0
"""Where the clock is so far ahead of the newest event at the start, it may be wrong."""
PATIENCE_S = 3600.0
"""What is done then: nothing is removed for so long, in which somebody may set it right."""


CLOCK_S = 5.0
JUMP_S = 2.0
"""By so much more than time has passed a clock moves when somebody sets it; one that is kept right moves by less."""


class Limits(Struct, frozen=True):
    """What may be kept."""

    retention_s: float
    key_window_s: float
    """Of idempotency keys."""
    max_size: int
    """Bytes."""
    audit_s: float = 365 * 86400.0
    """Of records of the audit trail."""


class Prune(Protocol):
    """One of `store.prune`'s steps."""

    def __call__(self, conn: Any, above: int, before_ms: int, limit: int, /) -> Step:
        """Remove what is old of the next `limit` rows above a key."""


async def watch_clock(wall: Callable[[], float], log: Logger, fault: Callable[[str], None]) -> None:
    """Tell of every jump of the wall clock: signatures and the history carry its time. Never returns."""
    before = wall() - trio.current_time()
    while True:
        await trio.sleep(CLOCK_S)
        offset = wall() - trio.current_time()
        if abs(offset - before) > JUMP_S:
            fault("clock_jump")
            log.warning(
                "clock_jumped",
                seconds=round(offset - before, 1),
                detail="the clock was set, or the machine slept: receivers refuse signatures of another time. Keep it"
                " right by chrony or systemd-timesyncd",
            )
        before = offset


class Upkeep:
    """Retention. `run` is its task."""

    def __init__(self, store: Store, log: Logger, limits: Callable[[], Limits], wall: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._limits = limits
        self._now_s = NeverAhead(wall)
        self._hour_s = 0.0
        self._reached: dict[Prune, int] = {}
        """How far each kind has been looked through since the hour began: what was left there waits."""

    async def run(self, newest_ms: int | None) -> None:
        """Look every minute. Never returns. `newest_ms`: when the newest event of before the start was accepted."""
        ahead_s = 0.0 if newest_ms is None else self._now_s() - newest_ms / 1000
        await trio.sleep(FIRST_S)
        if ahead_s > DOUBTFUL_S:
            self._log.warning(
                "retention_waits",
                hours=round(ahead_s / 3600),
                detail="the clock is over a day ahead of the newest event: nothing is removed for an hour, lest it be"
                " wrong. Set it right and restart, or wait",
            )
            await trio.sleep(PATIENCE_S)
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Remove what is too old, or too much, and give its room back."""
        limits, now_ms = self._limits(), round(self._now_s() * 1000)
        before_ms = now_ms - round(limits.retention_s * 1000)
        is_hour = trio.current_time() >= self._hour_s
        if is_hour:
            self._hour_s = trio.current_time() + HOUR_S
            self._reached.clear()
        removed = await self._remove(before_ms)
        room = await self._store.read(prune.room, keep=True)
        if room.used > FULL * limits.max_size:
            self._reached.clear()
            early = await self._remove(now_ms - round(FRESH_S * 1000), until_used=ROOMY * limits.max_size)
            if early:
                self._log.warning(
                    "pruned_early",
                    deliveries=early,
                    detail="the store was nearly full, so deliveries that have ended were removed before their time:"
                    " raise store.max_size, or lower store.retention",
                )
        await self._bound_records(round(RECORDS_SHARE * limits.max_size) // RECORD_BYTES)
        if is_hour:
            await self._walk(prune.records, now_ms - round(limits.audit_s * 1000))
            running_ms = self._store.running_ms()
            await self._walk(prune.keys, running_ms - round(limits.key_window_s * 1000))
            await self._store.change(prune.webhooks, before_ms, running_ms - round(REQUESTS_KEPT_S * 1000), keep=True)
        if removed:
            self._log.info("pruned", deliveries=removed)
        await self._give_back()

    async def _remove(self, before_ms: int, until_used: float | None = None) -> int:
        """Deliveries that ended before, then the events that have none left; how many deliveries."""
        removed = await self._walk(prune.deliveries, before_ms, until_used=until_used)
        if removed or until_used is None:
            await self._walk(prune.events, before_ms)
        return removed

    async def _walk(self, step: Prune, before_ms: int, *, until_used: float | None = None) -> int:
        removed = 0
        while True:
            started_s = trio.current_time()
            at = self._reached.get(step, -1)
            done: Step = await self._store.change(step, at, before_ms, STEP, keep=True)
            removed += done.removed
            if done.at is None:
                return removed
            self._reached[step] = done.at
            await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
            if until_used is not None and (await self._store.read(prune.room, keep=True)).used <= until_used:
                return removed

    async def _bound_records(self, most: int) -> None:
        """Let the audit trail take no more than its share: whose records are most loses its oldest."""
        surplus = await self._store.read(prune.surplus, most, keep=True)
        if surplus is None:
            return
        removed = 0
        while removed < surplus.records:
            started_s = trio.current_time()
            count = min(STEP, surplus.records - removed)
            removed += await self._store.change(prune.oldest_records, surplus.tenant, count, keep=True)
            await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
        self._log.warning(
            "audit_pruned_early",
            tenant=surplus.tenant,
            records=surplus.records,
            detail="records of the audit trail take over a tenth of store.max_size: the oldest of the tenant that has"
            " most were removed before their time. Look who changes so much, or raise store.max_size",
        )

    async def _give_back(self) -> None:
        before = None
        while True:
            room = await self._store.read(prune.room, keep=True)
            if before is not None and room.free >= before:
                return  # it was made without room to shrink in
            before = room.free
            spare = max(SPARE_PAGES, round(SPARE_SHARE * (room.used + room.free) / room.page))
            if room.free <= spare * room.page:
                return
            started_s = trio.current_time()
            await self._store.change(prune.give_back, PAGES, keep=True)
            await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
