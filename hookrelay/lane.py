"""The way to one webhook: what is due, in memory, and the workers that take it out, each with its own connection.

A lane holds at most a few hundred deliveries. Fresh ones are handed to it as soon as they are on disk; when it has
enough of them they stay in the store, from where it takes them in pages. What is in flight is known here only.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

import trio
from msgspec import Struct, field

from hookrelay.connections import Connections
from hookrelay.deliver import Deliverer, Outside
from hookrelay.model import Delivery, Outcome, Verdict, Webhook
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.post import Poster
from hookrelay.rules.egress import target
from hookrelay.rules.health import HEALTHY, Health
from hookrelay.rules.lane import START, Wait, gate, next_move
from hookrelay.rules.rate import Rate, parse_rate
from hookrelay.rules.retry import longest_ms
from hookrelay.shelf import PAGE, Shelf
from hookrelay.store import queue
from hookrelay.store.chains import BLOCKED_MS

if TYPE_CHECKING:
    from hookrelay.net.proxy import ProxyPoster

UNRECORDED = 8
"""Attempts that have ended and are not on disk yet, for each that may be in flight: they may come twice after kill -9,
so there is a bound, and a delivery that is recorded with others costs half of one that is recorded alone."""
DEADLINE_GRID = 32
"""Deadlines are rounded up to this part of a second: most then need not be set anew, which costs 4 µs."""
IDLE_S = 60.0
"""How long a worker keeps its connection without work (THREATS §1)."""
TROUBLE_NAP_S = 1.0
LONGEST_SLEEP_S = 60.0
"""Due times are by the wall clock, which can be set; sleeping is not."""


class Shared(Struct):
    """What all lanes have in common."""

    outside: Outside
    dialer: Dialer
    connections: Connections
    disabled: Callable[[Webhook, str], None]
    """Told when a webhook's answers have disabled it, and why."""
    is_to_come: Callable[[Delivery], bool] = lambda delivery: False
    """Whether a delivery that is on disk is still to be offered, of an event that many webhooks want."""
    lanes: int = 0
    """How many there are."""


class Pace(Struct):
    """What a lane knows of its webhook that outlives it."""

    health: Health = HEALTHY
    bucket_s: float = float("-inf")
    """The state of its rate limit."""
    is_proven: bool = False
    """Whether its receiver answered the last attempts."""
    visitors: int = 0
    """Attempts in flight beside the lane, within its limits."""
    waiting: deque[trio.Event] = field(default_factory=deque)
    """Visitors who wait for a place; set when one has it."""

    def make_way(self) -> None:
        """An attempt has ended: its place goes to the visitor who waits longest, before the lane can take it."""
        if self.waiting:
            self.visitors += 1
            self.waiting.popleft().set()


class Lane:
    """The way to one webhook. `run` is its one task; it returns when nothing is left to do or `stop` was called."""

    def __init__(self, webhook: Webhook, shared: Shared, pace: Pace) -> None:
        self.webhook = webhook
        self._shared = shared
        self._pace = pace
        self._store = shared.outside.store
        self._metrics = shared.outside.metrics
        self._due = shared.outside.due
        self._deliverer = Deliverer(webhook, shared.outside, pace.health)
        self._rate: Rate | None = None if webhook.rate_limit is None else parse_rate(webhook.rate_limit)
        self.pending = 0
        """Deliveries that have not ended, in memory or in the store."""
        self._shelf = Shelf()
        self._is_reading = False
        self._dropped: set[int] = set()
        self._called_off: set[int] = set()
        """What was cancelled while it was in flight."""
        self._flying = 0
        self._unrecorded = 0
        self._unrecorded_limit = UNRECORDED * webhook.max_in_flight
        self._workers = 0
        self._parked: list[trio.lowlevel.Task] = []
        self._leaving = 0
        self._bell = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.is_stopping = False
        self._limit = webhook.max_in_flight
        self._is_gated = False
        self._opens_s: float | None = None
        """When more may start; None where nothing stands in the way but the limits on what is in flight."""
        self._adjust(pace.health)

    # --- what others tell the lane ------------------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> None:
        """A delivery that has just been stored, and is due at once unless it waits for another one."""
        self.pending += 1
        shelf, due_ms = self._shelf, delivery.due_ms
        next_ms = shelf.next_first_ms
        if (
            self._is_reading
            or (next_ms is not None and next_ms <= due_ms)
            or due_ms >= BLOCKED_MS
            or shelf.is_full(self._limit, self._shared.lanes)
        ):
            self._expect(due_ms, is_retry=False)  # others came before it: it waits its turn in the store
            return
        shelf.put(delivery)
        self._wake_worker()

    def expect(self, pending: int, due_ms: int, revived: Iterable[int] = ()) -> None:
        """`pending` deliveries more wait in the store, and something is due there at `due_ms`.

        Those of them that are `revived` had ended before: one may be in flight still, since it was cancelled in flight.
        """
        self.pending += pending
        if self._called_off:
            self._called_off.difference_update(revived)
        self._expect(due_ms, is_retry=False)
        self._expect(due_ms, is_retry=True)

    def drop(self, delivery: int) -> None:
        """This delivery was cancelled in the store. One that is in flight goes on to its end."""
        self.pending -= 1
        self.leave_out(delivery)
        if delivery in self._shelf.taken and not self._shelf.drop(delivery):
            self._called_off.add(delivery)
        if not self.pending:
            self.expect(0, 0)  # the store is expected to hold nothing any more: see

    def leave_out(self, delivery: int) -> None:
        """It was cancelled in the store: the page that is being read may not know that yet."""
        if self._is_reading:
            self._dropped.add(delivery)

    def forget(self, cancelled: int) -> None:
        """So many were cancelled in the store after this lane was told to stop."""
        self.pending -= cancelled

    def has_work(self) -> bool:
        """Whether something is here, or may be in the store: what decides is what is known, not what was counted."""
        return bool(self._shelf.taken) or self._shelf.next_due_ms() is not None

    def has_in_hand(self, delivery: int) -> bool:
        """Whether this delivery waits or flies here, or what came of it is not on disk yet."""
        return delivery in self._shelf.taken

    def look_again(self) -> None:
        """More may start than could before."""
        self._bell.set()

    def has_place(self) -> bool:
        """Whether one more attempt may be in flight."""
        return self._flying + self._pace.visitors < self._limit

    def stop(self, *, is_replaced: bool = False) -> None:
        """Start nothing more; what is in flight goes on to its end. `is_replaced`: the webhook has changed."""
        self.is_stopping = True
        if is_replaced:
            self._deliverer.is_current = False
        self._bell.set()
        while self._parked:
            self._unpark()

    def has_room(self) -> bool:
        """A connection that was refused may be had now: whether it was taken (`connections.Holder`)."""
        workers = self._workers
        self._wake_workers()
        return self._workers > workers

    def give_up_idle(self) -> None:
        """Let a worker without work go, for another lane (`connections.Holder`)."""
        self._leaving += 1
        self._unpark()

    def oldest_due_ms(self) -> int | None:
        """When the most overdue delivery that waits was due; None where none waits."""
        return self._shelf.oldest_due_ms()

    def why_waiting(self) -> Wait | None:
        """What keeps the next delivery from starting; None where nothing does."""
        now_ms = self._now_ms()
        closed = gate(self._pace.health, self._rate, self._pace.bucket_s, trio.current_time())
        in_flight = self._flying + self._pace.visitors
        move = next_move(len(self._shelf), in_flight, self._limit, self._shelf.next_due_ms(), now_ms, closed)
        return move if isinstance(move, Wait) else None

    # --- the lane's own task: brings in what is due -------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until nothing is left, or until stopped; all outcomes are on disk then.

        Cancelled: attempts in flight end as `interrupted`, which the store's writer still records.
        """
        async with trio.open_nursery() as self._nursery:
            try:
                self._wake_workers()
                await self._bring_in()
            finally:
                self._nursery = None  # whoever comes now waits for the next run
                self._shared.connections.forget(self)
        while self._unrecorded:
            self._bell = trio.Event()
            self._store.hurry()
            await self._bell.wait()

    async def _bring_in(self) -> None:
        while not self.is_stopping and (self.has_work() or self._workers):
            self._bell = trio.Event()
            now_ms = self._now_ms()
            if self._shelf.wants_page(now_ms, self._limit, self._shared.lanes):
                await self._read_page(now_ms)
                continue
            for next_ms, is_retry in ((self._shelf.next_first_ms, False), (self._shelf.next_retry_ms, True)):
                if next_ms is not None and BLOCKED_MS > next_ms > self._latest_ms(now_ms, is_retry=is_retry):
                    await self._pull_in(self._latest_ms(now_ms, is_retry=is_retry), is_retry=is_retry)
            with trio.move_on_at(self._wakes_at(now_ms)):
                await self._bell.wait()
            if self._store.trouble is None:
                self._wake_workers()

    def _wakes_at(self, now_ms: int) -> float:
        """Until when nothing is to be done unless the bell rings."""
        now_s = trio.current_time()
        if self._store.trouble is not None:
            return now_s + TROUBLE_NAP_S
        nap_s = LONGEST_SLEEP_S
        for next_ms in (self._shelf.next_first_ms, self._shelf.next_retry_ms):
            if next_ms is not None and next_ms > now_ms:  # what is due already waits for room, which rings the bell
                nap_s = min(nap_s, (next_ms - now_ms) / 1000)
        if self._opens_s is not None and self._shelf:
            return min(now_s + nap_s, self._opens_s)
        return now_s + nap_s

    async def _read_page(self, now_ms: int) -> None:
        shelf = self._shelf
        self._is_reading = True
        shelf.next_first_ms = shelf.next_retry_ms = None
        taken, retries = list(shelf.taken), max(0, shelf.page - len(shelf.retries))
        store, seq = self._store, self.webhook.seq
        page = await store.read(queue.due, store.ids, seq, now_ms, taken, shelf.page, retries, keep=True)
        # what the page shows may not have been offered yet: once it was, none of it comes a second time
        await store.told()
        self._is_reading = False
        if self.is_stopping:
            self.expect(0, 0)  # what it has brought is for the lane that comes after this one
            return
        for delivery in page.deliveries:
            if self._is_wanted(delivery):
                shelf.put(delivery)
        for delivery in page.damaged:
            if self._is_wanted(delivery):
                self._end_damaged(delivery)
        self._dropped.clear()
        self._wake_workers()
        for due_ms, is_retry in ((page.next_first_ms, False), (page.next_retry_ms, True)):
            if due_ms is not None:
                self._expect(due_ms, is_retry=is_retry)
        here = len(shelf.taken) - len(self._called_off)
        self.pending = here if shelf.next_due_ms() is None else max(self.pending, here)

    def _is_wanted(self, delivery: Delivery) -> bool:
        """Whether the page is to bring it: neither was it cancelled meanwhile, nor will somebody else bring it."""
        return delivery.seq not in self._dropped and not self._shared.is_to_come(delivery)

    def _end_damaged(self, delivery: Delivery) -> None:
        """Its payload is not what was accepted: nothing is sent, and nobody is charged."""
        self._shelf.taken.add(delivery.seq)
        self._unrecorded += 1
        self._deliverer.record_damaged(delivery, self._recorded)

    def _now_ms(self) -> int:
        """The present, as due times are written."""
        return int(self._due() * 1000)

    def _latest_ms(self, now_ms: int, *, is_retry: bool) -> int:
        """Nothing is due later: where something is, the clock was ahead when it was written, by another daemon."""
        held_s = self._pace.health.held_until_s - trio.current_time()
        delays = self.webhook.delays if is_retry else ()
        return now_ms + max(longest_ms(delays), ceil(max(0.0, held_s) * 1000))

    async def _pull_in(self, latest_ms: int, *, is_retry: bool) -> None:
        await self._store.change(partial(queue.pull_in, is_retry=is_retry), self.webhook.seq, latest_ms, keep=True)
        self._expect(latest_ms, is_retry=is_retry)

    def _expect(self, due_ms: int, *, is_retry: bool) -> None:
        if self._shelf.expect(due_ms, is_retry=is_retry):
            self._bell.set()

    # --- the workers --------------------------------------------------------------------------------------------

    def _wake_workers(self) -> None:
        """As many as there is work for; with a rate limit each calls the next once it has got its start."""
        if self._opens_s is not None and trio.current_time() >= self._opens_s:
            self._opens_s = None
        for _ in range(min(1 if self._rate is not None else self._limit, len(self._shelf))):
            if not self._wake_worker():
                return

    def _wake_worker(self) -> bool:
        """Whether there was one, or could be: for work that came in just now."""
        if self._opens_s is not None:
            return False
        if self._parked:
            self._unpark()
            return True
        if self._workers >= self._limit or self._nursery is None or self.is_stopping:
            return False
        if not self._shared.connections.take(self, self._workers, self._pace.is_proven):
            return False
        self._workers += 1
        self._nursery.start_soon(self._work)
        return True

    async def _work(self) -> None:
        """One connection, delivery after delivery, until there was none for a while."""
        poster = new_poster(self._shared.dialer, self.webhook)
        delivery: Delivery | None = None
        timeout_s = self.webhook.timeout_s
        begun_s = 0.0
        idle_until: float | None = None
        try:
            while True:
                with trio.CancelScope() as scope:
                    # a deadline that struck between two deliveries leaves the scope cancelled: take a fresh one
                    while not scope.cancel_called:
                        delivery = self._next()
                        if delivery is None:
                            if self._is_superfluous(poster.is_open):
                                return
                            if idle_until is None:
                                idle_until = trio.current_time() + IDLE_S
                            # the last attempt's deadline may strike first: cheaper than a new one at every pause
                            if scope.deadline > idle_until:
                                scope.deadline = idle_until
                            await self._park()
                            continue
                        idle_until = None
                        begun_s = trio.current_time()
                        deadline = ceil((begun_s + timeout_s) * DEADLINE_GRID) / DEADLINE_GRID
                        if scope.deadline != deadline:
                            scope.deadline = deadline
                        outcome = await self._deliverer.deliver(delivery, poster, scope)
                        self._end(delivery, outcome, begun_s)
                        delivery = None
                if not scope.cancelled_caught:
                    continue
                if delivery is not None:
                    self._end(delivery, poster.timed_out(), begun_s)
                    delivery = None
                elif idle_until is not None and trio.current_time() >= idle_until:
                    poster.hang_up()
                    if not self._has_use_for_worker():
                        return
                    idle_until = None  # something has come in the very moment of giving up
        finally:
            if delivery is not None:
                self._end(delivery, poster.cut_short(), begun_s)
            poster.hang_up()
            self._workers -= 1
            self._shared.connections.release()
            self._bell.set()

    def _is_superfluous(self, is_connected: bool) -> bool:
        """Whether a worker that finds nothing to do should go, and leave its place in the budget to others."""
        if self._leaving:
            self._leaving -= 1
            return True
        if self.is_stopping or self._workers > self._limit:
            return True
        return self._opens_s is not None and not is_connected

    def _has_use_for_worker(self) -> bool:
        if self.is_stopping or self._opens_s is not None or self._workers > self._limit:
            return False
        return bool(self._shelf)

    def _next(self) -> Delivery | None:
        """The next delivery, started; None where nothing may start now, and then the lane knows until when."""
        if self.is_stopping:
            return None
        shelf = self._shelf
        first, retries = shelf.first, shelf.retries
        ready = len(first) + len(retries)
        if self._store.trouble is not None:
            self._bell.set()  # the lane's task looks again until it is over
            ready = 0
        in_flight = self._flying + self._pace.visitors if self._unrecorded < self._unrecorded_limit else self._limit
        move = next_move(ready, in_flight, self._limit, None, 0, self._gate() if self._is_gated else None)
        if move is not START:
            if isinstance(move, Wait) and move.until_s is not None and move.until_s != self._opens_s:
                self._metrics.rate_limit_waits += move.why == "rate_limit"
                self._opens_s = move.until_s
                self._bell.set()
            return None
        if first:
            delivery = first.popleft()
        elif self._is_reading or self._has_first_to_bring():
            self._bell.set()
            return None
        else:
            delivery = retries.popleft()
        shelf.bytes -= len(delivery.event.data)
        self._flying += 1
        self._metrics.in_flight += 1
        if self._rate is not None:
            self._pace.bucket_s = self._rate.spend(self._pace.bucket_s, trio.current_time())
            if first or retries:
                self._wake_worker()
        if ready < PAGE // 2 and (shelf.next_first_ms is not None or shelf.next_retry_ms is not None):
            self._bell.set()
        return delivery

    def _has_first_to_bring(self) -> bool:
        return self._shelf.next_first_ms is not None and self._shelf.wants_first(
            self._now_ms(), self._limit, self._shared.lanes
        )

    def _gate(self) -> Wait | None:
        now_s = trio.current_time()
        closed = gate(self._pace.health, self._rate, self._pace.bucket_s, now_s)
        if closed is None:
            self._opens_s = None
        return closed

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._parked.append(task)
        self._shared.connections.rest(self)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked.remove(task)
            self._shared.connections.wake(self, len(self._parked))
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _unpark(self) -> None:
        trio.lowlevel.reschedule(self._parked.pop())
        self._shared.connections.wake(self, len(self._parked))

    def _end(self, delivery: Delivery, outcome: Outcome, begun_s: float) -> None:
        self._flying -= 1
        self._unrecorded += 1
        self._metrics.in_flight -= 1
        deliverer, pace = self._deliverer, self._pace
        if pace.waiting:
            pace.make_way()
        is_called_off = bool(self._called_off) and delivery.seq in self._called_off
        deliverer.record(delivery, outcome, begun_s, self._recorded, is_called_off=is_called_off)
        if deliverer.health is not pace.health:
            before, pace.health = pace.health, deliverer.health
            self._adjust(pace.health)
            if pace.health.disabled is not None and before.disabled is None:
                self._shared.disabled(self.webhook, pace.health.disabled)
        pace.is_proven = outcome.error is None or (pace.is_proven and pace.health.limit is None)

    def _adjust(self, health: Health) -> None:
        """Obey what the outcomes say of the webhook."""
        most = self.webhook.max_in_flight
        self._limit = most if health.limit is None else min(most, health.limit)
        self._shelf.page = PAGE if self._limit == most else 2 * self._limit
        self._is_gated = health is not HEALTHY or self._rate is not None
        self._opens_s = None  # the next worker that asks finds out
        self._bell.set()
        if self._limit < most:
            self._shelf.give_back()

    def _recorded(self, delivery: Delivery, verdict: Verdict, answer: object) -> None:
        if isinstance(answer, BaseException):
            raise answer
        self._unrecorded -= 1
        self._shelf.taken.discard(delivery.seq)
        feed = self._shared.outside.feed
        if feed.watchers:
            feed.tell_delivery(self.webhook.seq, delivery.seq)
        if self._called_off:
            self._called_off.discard(delivery.seq)
        if isinstance(answer, list) and answer[0] == queue.CALLED_OFF:
            self.expect(0, 0)  # whoever cancelled it has it counted, or will; it may be wanted again by now
        elif verdict.state == "pending" and verdict.due_ms is not None:
            self._expect(verdict.due_ms, is_retry=verdict.strikes > 0)
        else:
            self.pending -= 1
            if isinstance(answer, list) and answer[0] is not None:
                self._expect(answer[0], is_retry=False)
        if not (self.pending and self._unrecorded):
            self._bell.set()
        if self._parked and self._shelf:
            self._wake_worker()


def new_poster(dialer: Dialer, webhook: Webhook) -> "Poster | ProxyPoster":
    """A way to the webhook: one connection at a time, which is made when it is first used."""
    origin = Origin(*target(webhook.url)[:3], webhook.trust)
    if dialer.proxy is None:
        return Poster(dialer, origin)
    from hookrelay.net.proxy import ProxyPoster  # takes 100 ms: only where there is a proxy

    return ProxyPoster(dialer, origin, dialer.proxy)
