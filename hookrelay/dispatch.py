"""Who is due and may go: one lane for every webhook with work, each with at most `max_in_flight` workers.

A lane holds at most a few hundred deliveries in memory. Fresh ones are handed to it as soon as they are on disk; when
it has enough of them they stay in the store, from where it takes them in pages. What is in flight is known here only.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import ceil

import trio

from hookrelay.deliver import Deliverer
from hookrelay.model import Delivery, Outcome, Verdict, Webhook
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.post import Poster
from hookrelay.rules.egress import target
from hookrelay.rules.lane import START, next_move
from hookrelay.store import queue
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger
from hookrelay.telemetry.metrics import Metrics

UNRECORDED = 8
"""Attempts that have ended and are not on disk yet, for each that may be in flight: they may come twice after kill -9,
so there is a bound, and a delivery that is recorded with others costs half of one that is recorded alone."""
DEADLINE_GRID = 32
"""Deadlines are rounded up to this part of a second: most then need not be set anew, which costs 4 µs."""
IDLE_S = 60.0
"""How long a worker keeps its connection without work (THREATS §1)."""
PAGE = 256
"""Deliveries that one page brings at most."""
READY_LIMIT = 512
READY_BYTES = 2 << 20
"""What a lane keeps in memory at most, beyond its first delivery."""
TROUBLE_NAP_S = 1.0
LONGEST_SLEEP_S = 60.0
"""Due times are by the wall clock, which can be set; sleeping is not."""


class Lane:
    """The way to one webhook. `run` is its one task; it returns when nothing is left to do or `stop` was called."""

    def __init__(
        self,
        webhook: Webhook,
        deliverer: Deliverer,
        store: Store,
        dialer: Dialer,
        wall: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self.webhook = webhook
        self._deliverer = deliverer
        self._store = store
        self._dialer = dialer
        self._wall = wall
        self._metrics = metrics
        self._origin: Origin = Origin(*target(webhook.url)[:3])
        self.pending = 0
        """Deliveries that have not ended, in memory or in the store."""
        self.next_due_ms: int | None = None
        """Not later than the first due time among pending deliveries that are not in memory; None: there are none."""
        self._ready: deque[Delivery] = deque()
        self._ready_bytes = 0
        self._taken: set[int] = set()
        self._is_reading = False
        self._flying = 0
        self._unrecorded = 0
        self._unrecorded_limit = UNRECORDED * webhook.max_in_flight
        self._workers = 0
        self._parked: list[trio.lowlevel.Task] = []
        self._bell = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.is_stopping = False

    # --- what others tell the lane ------------------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> None:
        """A delivery that has just been stored and is due at once."""
        self.pending += 1
        due_ms = delivery.event.created_ms
        if self._is_reading or (self.next_due_ms is not None and self.next_due_ms <= due_ms) or self._is_full():
            self._expect(due_ms)  # others came before it: it waits its turn in the store
            return
        self._take_in(delivery)
        self._wake_worker()

    def expect(self, pending: int, due_ms: int) -> None:
        """`pending` deliveries wait in the store, the first of them due at `due_ms`."""
        self.pending += pending
        self._expect(due_ms)

    def stop(self) -> None:
        """Start nothing more; what is in flight goes on to its end."""
        self.is_stopping = True
        self._bell.set()
        while self._parked:
            trio.lowlevel.reschedule(self._parked.pop())

    def oldest_due_ms(self) -> int | None:
        """When the most overdue delivery that waits was due; None where none waits."""
        ready = self._ready[0].due_ms if self._ready else None
        known = [due for due in (ready, self.next_due_ms) if due is not None]
        return min(known) if known else None

    # --- the lane's own task: brings in what is due -------------------------------------------------------------

    async def run(self) -> None:
        """Deliver until nothing is left, or until stopped; all outcomes are on disk then.

        Cancelled: attempts in flight end as `interrupted`, which the store's writer still records.
        """
        async with trio.open_nursery() as self._nursery:
            try:
                for _ in range(min(len(self._ready), self.webhook.max_in_flight)):
                    self._wake_worker()
                await self._bring_in()
            finally:
                self._nursery = None  # whoever comes now waits for the next run
        while self._unrecorded:
            self._bell = trio.Event()
            self._store.hurry()
            await self._bell.wait()

    async def _bring_in(self) -> None:
        while not self.is_stopping and (self.pending or self._workers):
            self._bell = trio.Event()
            now_ms = int(self._wall() * 1000)
            if self.next_due_ms is not None and self.next_due_ms <= now_ms and not self._has_enough():
                await self._read_page(now_ms)
                continue
            with trio.move_on_after(self._nap_s(now_ms)):
                await self._bell.wait()
            if self._store.trouble is None:
                for _ in range(min(len(self._ready), self.webhook.max_in_flight)):
                    self._wake_worker()

    def _nap_s(self, now_ms: int) -> float:
        if self._store.trouble is not None:
            return TROUBLE_NAP_S
        if self.next_due_ms is None or self._has_enough():
            return LONGEST_SLEEP_S
        return min(max(self.next_due_ms - now_ms, 0) / 1000, LONGEST_SLEEP_S)

    async def _read_page(self, now_ms: int) -> None:
        self._is_reading = True
        self.next_due_ms = None
        taken = list(self._taken)
        page = await self._store.read(queue.due, self._store.ids, self.webhook.seq, now_ms, taken, PAGE)
        self._is_reading = False
        for delivery in page.deliveries:
            self._take_in(delivery)
            self._wake_worker()
        if page.next_due_ms is not None:
            self._expect(page.next_due_ms)
        if self.next_due_ms is None:
            self.pending = len(self._taken)  # what was cancelled in the store is waited for no more

    def _expect(self, due_ms: int) -> None:
        if self.next_due_ms is None or due_ms < self.next_due_ms:
            self.next_due_ms = due_ms
            self._bell.set()

    def _take_in(self, delivery: Delivery) -> None:
        self._ready.append(delivery)
        self._ready_bytes += len(delivery.event.data)
        self._taken.add(delivery.seq)

    def _is_full(self) -> bool:
        return len(self._ready) >= READY_LIMIT or self._ready_bytes > READY_BYTES

    def _has_enough(self) -> bool:
        """Whether the workers are busy for longer than a page takes to be read."""
        return len(self._ready) >= PAGE or self._ready_bytes > READY_BYTES

    # --- the workers --------------------------------------------------------------------------------------------

    def _wake_worker(self) -> None:
        if self._parked:
            trio.lowlevel.reschedule(self._parked.pop())
        elif self._workers < self.webhook.max_in_flight and self._nursery is not None and not self.is_stopping:
            self._workers += 1
            self._nursery.start_soon(self._work)

    async def _work(self) -> None:
        """One connection, delivery after delivery, until there was none for a while."""
        poster = Poster(self._dialer, self._origin)
        delivery: Delivery | None = None
        timeout_s = self.webhook.timeout_s
        idle_until: float | None = None
        try:
            while True:
                with trio.CancelScope() as scope:
                    # a deadline that struck between two deliveries leaves the scope cancelled: take a fresh one
                    while not scope.cancel_called:
                        delivery = self._next()
                        if delivery is None:
                            if self.is_stopping:
                                return
                            if idle_until is None:
                                idle_until = trio.current_time() + IDLE_S
                            # the last attempt's deadline may strike first: cheaper than a new one at every pause
                            if scope.deadline > idle_until:
                                scope.deadline = idle_until
                            await self._park()
                            continue
                        idle_until = None
                        deadline = ceil((trio.current_time() + timeout_s) * DEADLINE_GRID) / DEADLINE_GRID
                        if scope.deadline != deadline:
                            scope.deadline = deadline
                        outcome = await self._deliverer.deliver(delivery, poster, scope)
                        self._end(delivery, outcome)
                        delivery = None
                if not scope.cancelled_caught:
                    continue
                if delivery is not None:
                    self._end(delivery, poster.timed_out())
                    delivery = None
                elif idle_until is not None and trio.current_time() >= idle_until:
                    poster.hang_up()
                    if not self._ready or self.is_stopping:  # one may have come in the very moment of giving up
                        return
        finally:
            if delivery is not None:
                self._end(delivery, poster.cut_short())
            poster.hang_up()
            self._workers -= 1
            self._bell.set()

    def _next(self) -> Delivery | None:
        if self.is_stopping:
            return None
        ready = len(self._ready)
        if self._store.trouble is not None:
            self._bell.set()  # the lane's task looks again until it is over
            ready = 0
        in_flight = self._flying if self._unrecorded < self._unrecorded_limit else self.webhook.max_in_flight
        if next_move(ready, in_flight, self.webhook.max_in_flight, None, 0) is not START:
            return None
        delivery = self._ready.popleft()
        self._ready_bytes -= len(delivery.event.data)
        self._flying += 1
        self._metrics.in_flight += 1
        if self.next_due_ms is not None and len(self._ready) < PAGE // 2:
            self._bell.set()
        return delivery

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._parked.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _end(self, delivery: Delivery, outcome: Outcome) -> None:
        self._flying -= 1
        self._unrecorded += 1
        self._metrics.in_flight -= 1
        self._deliverer.record(delivery, outcome, self._recorded)

    def _recorded(self, delivery: Delivery, verdict: Verdict, answer: object) -> None:
        if isinstance(answer, BaseException):
            raise answer
        self._unrecorded -= 1
        self._taken.discard(delivery.seq)
        if verdict.state == "pending" and verdict.due_ms is not None:
            self._expect(verdict.due_ms)
        else:
            self.pending -= 1
        if not (self.pending and self._unrecorded):
            self._bell.set()
        if self._ready and self._parked:
            self._wake_worker()


class Dispatcher:
    """All lanes. `run` is its task; lanes begin when there is something for them and end when there is not."""

    def __init__(
        self,
        store: Store,
        dialer: Dialer,
        webhooks: Iterable[Webhook],
        *,
        metrics: Metrics,
        log: Logger,
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._dialer = dialer
        self._webhooks = {webhook.seq: webhook for webhook in webhooks}
        self._metrics = metrics
        self._log = log
        self._wall = wall
        self._lanes: dict[int, Lane] = {}
        self._held: dict[int, int] = {}
        self._nursery: trio.Nursery | None = None
        self._stopping = trio.Event()
        self._closed = trio.Event()
        self._draining: trio.CancelScope | None = None
        self._drain_by = float("inf")

    async def run(
        self, standings: Iterable[queue.Standing], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Deliver until `stop`, then until what is in flight has ended or its time is over. Returns with all recorded.

        `standings` is what waited in the store at the start.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for webhook, pending, next_due_ms in standings:
                self._expect(webhook, pending, next_due_ms)
            task_status.started()
            await self._stopping.wait()
            self._nursery = None
            self._draining = nursery.cancel_scope
            self._draining.deadline = self._drain_by
            for lane in self._lanes.values():
                lane.stop()

    def stop(self, within_s: float) -> None:
        """Start nothing more; attempts in flight may take `within_s` to end. A second call can only shorten it."""
        self._drain_by = min(self._drain_by, trio.current_time() + within_s)
        if self._stopping.is_set() and self._draining is not None:
            self._draining.deadline = self._drain_by
        self._stopping.set()

    def offer(self, webhook: int, delivery: Delivery) -> None:
        """A delivery that is on disk and due now (`ingest.Offer`)."""
        lane = self._lanes.get(webhook)
        if lane is None:
            known = self._webhooks.get(webhook)
            if known is None:
                return  # removed: its deliveries are being cancelled
            if known.status != "active":
                self._held[webhook] = self._held.get(webhook, 0) + 1
                return
            lane = self._open(known)
        lane.offer(delivery)

    def replace_webhooks(self, webhooks: Iterable[Webhook]) -> None:
        """Take these for the webhooks in force: lanes of removed and changed ones end, the others are not disturbed.

        What was held for a webhook that is active now becomes due.
        """
        before, self._webhooks = self._webhooks, {webhook.seq: webhook for webhook in webhooks}
        for seq, lane in self._lanes.items():
            if self._webhooks.get(seq) != before.get(seq):
                lane.stop()
        for seq in [seq for seq in self._held if seq not in self._lanes]:
            self._expect(seq, self._held.pop(seq), 0)

    async def lane_closed(self, webhook: int) -> None:
        """Wait until nothing is in flight for a webhook that was removed. Returns at once where it has no lane."""
        while webhook in self._lanes:
            await self._closed.wait()

    def forget(self, webhook: int, cancelled: int) -> None:
        """`cancelled` waiting deliveries of a removed webhook have ended in the store."""
        self._metrics.deliveries["cancelled"] += cancelled
        self._held.pop(webhook, None)

    def look_again(self, webhook: int) -> None:
        """Deliveries that nobody counts any more may wait in the store for this webhook: see."""
        self._expect(webhook, 1, 0)

    def pending(self) -> int:
        """Deliveries that wait or are in flight, held ones not counted."""
        return sum(lane.pending for lane in self._lanes.values())

    def held(self) -> int:
        """Deliveries whose webhook takes none just now."""
        return sum(self._held.values())

    def overdue(self) -> Iterator[tuple[Webhook, int, float]]:
        """For each lane its webhook, its pending deliveries, and by how many seconds the first is overdue."""
        now_ms = int(self._wall() * 1000)
        for lane in list(self._lanes.values()):
            due_ms = lane.oldest_due_ms()
            yield lane.webhook, lane.pending, 0.0 if due_ms is None else max(0.0, (now_ms - due_ms) / 1000)

    def _expect(self, webhook: int, pending: int, due_ms: int) -> None:
        known = self._webhooks.get(webhook)
        if known is None:
            return  # removed: its deliveries are being cancelled
        if known.status != "active":
            self._held[webhook] = self._held.get(webhook, 0) + pending
        else:
            self._open(known).expect(pending, due_ms)

    def _open(self, webhook: Webhook) -> Lane:
        deliverer = Deliverer(webhook, self._store, metrics=self._metrics, log=self._log, wall=self._wall)
        lane = Lane(webhook, deliverer, self._store, self._dialer, self._wall, self._metrics)
        self._lanes[webhook.seq] = lane
        if self._nursery is not None:
            self._nursery.start_soon(self._keep, lane)
        return lane

    async def _keep(self, lane: Lane) -> None:
        """Run the lane for as long as there is work, then close it; a changed webhook gets a new one."""
        while lane.pending and not lane.is_stopping:
            await lane.run()
        del self._lanes[lane.webhook.seq]
        closed, self._closed = self._closed, trio.Event()
        closed.set()
        if lane.pending and not self._stopping.is_set():
            self._expect(lane.webhook.seq, lane.pending, 0)
