"""Expunging payloads while the daemon runs: what waits is called off, what is in flight may end, then bytes go.

In small steps, between which others write. The history's rows stay and say that their payload was purged.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import trio
from msgspec import Struct

from hookrelay.audit import DAEMON, Actor, Entry, Steps, Trail, moment
from hookrelay.dispatch import Dispatcher
from hookrelay.feed import Feed
from hookrelay.model import Refused
from hookrelay.registry import Registry
from hookrelay.store import prune, purge, redeliver
from hookrelay.store.db import Store
from hookrelay.store.house import cut_log
from hookrelay.store.purge import Found, Purge
from hookrelay.store.wipe import wipe
from hookrelay.telemetry.logs import Logger

T = TypeVar("T")

EVENTS = 50
"""Events that are dealt with at once."""
LOOKED_AT = 500
DELIVERIES = 200
"""Deliveries that one transaction changes: so many delay nobody's commit."""
PAGES = 200
"""Pages that one step gives back to the disk."""
WIPED_PAGES = 1024
"""Pages that one step looks at: 5 ms."""
SHARE = 0.5
"""Of the time, waiting for the turn to write included."""
LOOK_S = 0.05
"""How often it is seen whether attempts in flight have ended."""
PATIENCE_MS = 200
"""How long emptying the write-ahead log waits for readers, and all commits with it."""
EMPTYING_S = 30.0
"""How long the write-ahead log may take to be empty once."""


class Purged(Struct, frozen=True):
    """How many events' payloads are gone, and how many deliveries were called off for it."""

    events: int
    cancelled: int


class _Wiped(Struct, frozen=True):
    """Whether a step could be made, and the page that the next one begins with; None: there is none."""

    is_done: bool
    next: int | None = None


class Expunger:
    """Removes payloads, of one wish after the other."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        feed: Feed,
        log: Logger,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._feed = feed
        self._log = log
        self._trail = Trail(store, log, wall)
        self._wall = wall
        self._turn = trio.Lock()

    async def count(self, wanted: Purge) -> int:
        """How many events `purge` would deal with."""
        count, above, upto = 0, 0, self._store.last_event
        while True:
            found = await self._store.read(purge.events, wanted, above, upto, LOOKED_AT)
            count += len(found.events)
            if found.above is None:
                return count
            above = found.above

    async def purge(self, wanted: Purge, event_id: str, *, by: Actor = DAEMON) -> Purged:
        """Remove the payloads of all that is there by now. Returns when their bytes are in no file of the store.

        Where it is cut short, some are gone and others not: asked for again, it goes on. Attempts in flight are waited
        for. Refused where the write-ahead log is in use for too long.
        """
        async with self._turn:
            upto = self._store.last_event
            own = partial(self._store.read, purge.events, wanted)
            told = partial(self._store.read, purge.announcements, wanted, event_id)
            entry = Entry(
                action="events.purged",
                by=by,
                tenant=wanted.tenant,
                object=None if wanted.event is None else event_id,
                details={"before": moment(wanted.before_ms)},
            )
            async with self._trail.steps(entry) as steps:
                count, cancelled = await self._walk(own, upto, steps)
                _, more = await self._walk(told, upto, steps)
            await self._shrink()
            await self._wipe()
        self._log.info("purged", tenant=wanted.tenant, events=count, cancelled=cancelled + more)
        return Purged(count, cancelled + more)

    async def _walk(
        self, look: Callable[[int, int, int], Awaitable[Found]], upto: int, steps: Steps
    ) -> tuple[int, int]:
        count = cancelled = 0
        above: int | None = 0
        while above is not None:
            found = await look(above, upto, LOOKED_AT)
            for start in range(0, len(found.events), EVENTS):
                some = found.events[start : start + EVENTS]
                count += len(some)
                cancelled += await self._expunge(some, steps)
            above = found.above
        return count, cancelled

    async def _expunge(self, events: list[int], steps: Steps) -> int:
        """Remove these payloads; how many deliveries were called off."""
        cancelled = 0
        while events:
            deliveries = await self._store.read(purge.deliveries_of, events)
            parts = [deliveries[at : at + DELIVERIES] for at in range(0, len(deliveries), DELIVERIES)]
            for part in parts:
                cancelled += await self._call_off(part, steps)
            for part in parts:
                await self._rest(steps.change(_nothing, purge.blank_deliveries, part, keep=True))
            blank = partial(purge.blank_events, now_ms=int(self._wall() * 1000))
            done = await self._rest(steps.change(_gone, blank, events, deliveries, keep=True))
            events = [event for event in events if event not in done]  # what somebody has just had tried again
        return cancelled

    async def _call_off(self, deliveries: list[int], steps: Steps) -> int:
        """Cancel what waits of these, and see to it that no lane has any of them in hand."""
        waiting = await self._store.read(purge.waiting, deliveries)
        if waiting:
            catalog, now_ms = self._registry.catalog.by_seq, int(self._wall() * 1000)
            each = [(seq, (known := catalog.get(webhook)) is not None and known.ordered) for seq, webhook in waiting]

            def told(answers: list[redeliver.Asked]) -> None:
                for (seq, webhook), asked in zip(waiting, answers, strict=True):
                    self._dispatcher.cancelled(webhook, seq, asked)
                    if asked.state == "pending":
                        self._feed.tell_delivery(webhook, seq)

            await self._rest(steps.change(_called_off, redeliver.cancel_each, each, now_ms, told=told))
        has = self._dispatcher.has_in_hand
        while any(has(webhook, seq) for seq, webhook in waiting):  # noqa: ASYNC110 -- no event tells of each end
            await trio.sleep(LOOK_S)
        return len(waiting)

    async def _shrink(self) -> None:
        """Give all free pages back to the disk: older copies of what is gone now may stand in them."""
        before = None
        while True:
            room = await self._store.read(prune.room)
            if not room.free or (before is not None and room.free >= before):
                return
            before = room.free
            await self._rest(self._store.change(prune.give_back, PAGES, keep=True))

    async def _wipe(self) -> None:
        """Empty the write-ahead log, and overwrite what is unused in the file."""
        page: int | None = 1
        busy_since_s = None
        while page is not None:
            step = await self._rest(self._store.turn(partial(_wipe, path=self._store.path, first=page)))
            if step.is_done:
                page, busy_since_s = step.next, None
                continue
            busy_since_s = busy_since_s or trio.current_time()
            if trio.current_time() - busy_since_s > EMPTYING_S:
                raise Refused("unavailable", "the payloads are gone from the rows, but readers keep them: ask again")
            await trio.sleep(LOOK_S)

    async def _rest(self, step: Awaitable[T]) -> T:
        """What the step returns; then leave as much time to others."""
        started_s = trio.current_time()
        done = await step
        await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
        return done


def _nothing(answer: object) -> dict[str, int]:
    return {}


def _gone(events: list[int]) -> dict[str, int]:
    return {"payloads": len(events)}


def _called_off(each: Sequence[redeliver.Asked]) -> dict[str, int]:
    return {"cancelled": sum(asked.state == "pending" for asked in each)}


def _wipe(conn: Any, *, path: str, first: int) -> _Wiped:
    # what is written between two steps is in the log again, and would take the place of what was wiped
    if not cut_log(conn, PATIENCE_MS):
        return _Wiped(is_done=False)
    return _Wiped(is_done=True, next=None if path == ":memory:" else wipe(conn, path, first, WIPED_PAGES))
