"""How webhooks have done of late: attempts counted by outcome and duration, in periods of time.

An attempt adds 1 to a number in memory; once a minute the numbers go to the store. A crash loses what was counted
since, which only drawings show: the history itself is exact.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import trio

from hookrelay.clock import NeverAhead
from hookrelay.rules.tally import NOTHING, OURS, Totals, counter, outcome_of, scope_of_tenant, totals
from hookrelay.store import tally
from hookrelay.store.db import Store
from hookrelay.store.tally import Failure

FINE_S, COARSE_S = 120, 1800
"""The periods that are kept: short ones for the last hour, long ones for the last week."""
KEPT_S = {FINE_S: 3 * 3600, COARSE_S: 8 * 86400}
WRITE_S = 60
STEP = 150
"""Webhooks whose counters one write takes: so many delay nobody's commit."""
PRUNED = 5000
PATIENCE_S = 1.0
"""How long a reader waits for a write to end. One that takes longer waits for the disk, and may be counted twice."""
WHOLE = 0
"""The scope of all webhooks together."""

Counted = dict[int, dict[int, int]]
"""Counters and their counts, by webhook."""


class Tally:
    """The counters. `run` is its task: it writes them down."""

    def __init__(self, store: Store, tenant_of: Callable[[int], str | None], wall: Callable[[], float]) -> None:
        self._store = store
        self._tenant_of = tenant_of
        self._wall = wall
        self._never_ahead = NeverAhead(wall)
        self._now: Counted = {}
        self._since = self._period()
        self._past: list[tuple[int, Counted]] = []
        """What was counted in earlier periods, or is on its way to the disk, and is not there yet."""
        self._moving = trio.Lock()
        """Held while something goes from memory to disk, and by readers: they see each number in one of the places."""
        self._noted: dict[int, int] = {}
        self._failures: dict[int, Failure] = {}
        self._new_failures: dict[int, Failure] = {}

    def note(
        self, webhook: int, delivery: int, error: str | None, response_code: int | None, duration_s: float, at_ms: int
    ) -> None:
        """An attempt has ended. Costs the way of deliveries about a microsecond."""
        if error is None:
            number = counter(0, duration_s)
        else:
            outcome = outcome_of(error, response_code)
            number = counter(outcome, duration_s)
            if outcome != OURS:
                self._failures[webhook] = self._new_failures[webhook] = Failure(at_ms, delivery, error, response_code)
        if at_ms >= (self._since + FINE_S) * 1000:
            self._turn()
        counts = self._now.get(webhook)
        if counts is None:
            counts = self._now[webhook] = {}
        counts[number] = counts.get(number, 0) + 1
        self._noted[webhook] = self._noted.get(webhook, 0) + 1

    def note_test(self, webhook: int) -> None:
        """A test has ended: it counts in nothing, but whoever looks at the webhook sees it."""
        self._noted[webhook] = self._noted.get(webhook, 0) + 1

    def attempts(self, webhook: int) -> int:
        """A number that grows with every attempt of this webhook, tests too."""
        return self._noted.get(webhook, 0)

    # --- reading ------------------------------------------------------------------------------------------------

    async def series(self, scope: int, width_s: int, count: int) -> list[tuple[int, Totals]]:
        """The last `count` slots of `width_s` (unix seconds of each beginning, and its totals), the present one last.

        `scope` is a webhook's number, `WHOLE`, or `rules.tally.scope_of_tenant`.
        """
        found = await self.summaries([scope], width_s, count)
        first = self._first(width_s, count)
        return [(first + index * width_s, each) for index, each in enumerate(found[scope])]

    async def summaries(self, scopes: Sequence[int], width_s: int, count: int) -> dict[int, list[Totals]]:
        """The same for several scopes at once, without the beginnings."""
        size = COARSE_S if width_s % COARSE_S == 0 else FINE_S
        first = self._first(width_s, count)
        end = first + count * width_s
        async with self._in_one_place():
            rows = self._unwritten(scopes, size)
            rows += await self._store.read(tally.sums, size, scopes, first, end, width_s)
        counted: dict[int, list[dict[int, int]]] = {scope: [{} for _ in range(count)] for scope in scopes}
        for scope, start, number, times in rows:
            if first <= start < end:
                slot = counted[scope][(start - first) // width_s]
                slot[number] = slot.get(number, 0) + times
        return {scope: [totals(slot) if slot else NOTHING for slot in slots] for scope, slots in counted.items()}

    async def failures(self, webhooks: Sequence[int]) -> dict[int, Failure]:
        """The newest failed attempt of each of these webhooks that has one."""
        found = dict(await self._store.read(tally.failures, webhooks))
        return found | {webhook: self._failures[webhook] for webhook in webhooks if webhook in self._failures}

    @asynccontextmanager
    async def _in_one_place(self) -> AsyncIterator[None]:
        with trio.move_on_after(PATIENCE_S) as patience:
            await self._moving.acquire()
        try:
            yield
        finally:
            if not patience.cancelled_caught:
                self._moving.release()

    def _first(self, width_s: int, count: int) -> int:
        return (int(self._wall()) // width_s + 1 - count) * width_s

    def _unwritten(self, scopes: Iterable[int], size: int) -> list[tuple[int, int, int, int]]:
        """Scope, start, counter and count of what the store does not have yet."""
        rows = []
        for since, counted in (*self._past, (self._since, self._now)):
            start = since // size * size
            for scope in scopes:
                if scope > 0:
                    found: Iterable[dict[int, int]] = filter(None, [counted.get(scope)])
                else:
                    found = (counts for webhook, counts in counted.items() if scope in self._wider(webhook))
                rows += [(scope, start, number, times) for counts in found for number, times in counts.items()]
        return rows

    def _wider(self, webhook: int) -> tuple[int, ...]:
        """The scopes that a webhook is part of."""
        tenant = self._tenant_of(webhook)
        return (WHOLE,) if tenant is None else (WHOLE, scope_of_tenant(tenant))

    # --- writing ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write down what was counted, every minute and at the end. Never returns."""
        try:
            while True:
                await trio.sleep(WRITE_S - self._wall() % WRITE_S)
                await self._write()
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._write()

    def _turn(self) -> None:
        """Begin a period."""
        if self._now:
            self._past.append((self._since, self._now))
        self._now, self._since = {}, self._period()

    async def _write(self) -> None:
        self._turn()
        has_news = bool(self._past)
        while self._past:
            since, counted = self._past[0]
            webhooks = list(islice(counted, STEP))
            rows = list(self._rows(since, counted, webhooks))
            async with self._moving:
                # once the writer has it, it is written once, whatever becomes of us: it must not be counted again
                with trio.move_on_after(PATIENCE_S, shield=True):
                    await self._store.change(tally.add, rows, keep=True)
                for webhook in webhooks:
                    del counted[webhook]
            if not counted:
                del self._past[0]
        failures, self._new_failures = list(self._new_failures.items()), {}
        for at in range(0, len(failures), STEP):
            await self._store.change(tally.note_failures, failures[at : at + STEP], keep=True)
        if has_news:
            for size, kept_s in KEPT_S.items():
                await self._store.change(tally.prune, size, int(self._never_ahead()) - kept_s, PRUNED, keep=True)

    def _rows(self, since: int, counted: Counted, webhooks: Sequence[int]) -> Iterator[tuple[int, int, int, int, int]]:
        wider: Counted = {}
        for webhook in webhooks:
            for scope in self._wider(webhook):
                sums = wider.setdefault(scope, {})
                for number, times in counted[webhook].items():
                    sums[number] = sums.get(number, 0) + times
        for size in KEPT_S:
            start = since // size * size
            for scope in (*webhooks, *wider):
                for number, times in (counted[scope] if scope > 0 else wider[scope]).items():
                    yield size, start, scope, number, times

    def _period(self) -> int:
        """The present short period (unix seconds of its beginning)."""
        return int(self._wall()) // FINE_S * FINE_S
