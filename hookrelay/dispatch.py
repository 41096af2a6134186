"""Who is due and may go: one lane for every webhook with work, all of them within one budget of connections."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from math import ceil, inf
from typing import TYPE_CHECKING

import trio
from msgspec import Struct, field, structs

from hookrelay.connections import Connections, Visits
from hookrelay.deliver import Outside
from hookrelay.lane import Lane, Pace, Shared, new_poster
from hookrelay.model import Delivery, Refused, Webhook
from hookrelay.net.dial import Dialer
from hookrelay.net.post import Poster
from hookrelay.rules.health import HEALTHY, Health
from hookrelay.rules.lane import Wait
from hookrelay.rules.rate import parse_rate
from hookrelay.rules.retry import LONGEST_HOLD_S
from hookrelay.store import queue, redeliver

if TYPE_CHECKING:
    from hookrelay.net.proxy import ProxyPoster

SLICE = 3
"""First deliveries that one turn of the loop takes on: each may start a lane and a connection, some 0.5 ms in all.

Of an event for 5,000 webhooks others then notice 30 to 50 ms; with 16 a turn 60 to 250, with all at once 620.
"""


class _Fan(Struct):
    """Deliveries of one event that are offered in slices."""

    deliveries: Iterator[tuple[int, Delivery]]
    numbers: range
    """Of those that are still to be offered."""
    dropped: set[int] = field(default_factory=set)
    """Of these, what was cancelled meanwhile."""


class Dispatcher:
    """All lanes. `run` is its task; lanes begin when there is something for them and end when there is not."""

    def __init__(
        self,
        outside: Outside,
        dialer: Dialer,
        webhooks: Iterable[Webhook] = (),
        *,
        max_connections: int = 1000,
        disabled: Callable[[Webhook], None] = lambda webhook: None,
        limit_met: Callable[[str], None] = lambda limit: None,
    ) -> None:
        """`disabled` is told of every webhook that its receiver's answers have disabled, as it is now."""
        self._shared = Shared(outside, dialer, Connections(max_connections), self._disable, self._is_to_come)
        self._wall = outside.wall
        self._webhooks = {webhook.seq: webhook for webhook in webhooks}
        self._disabled = disabled
        self._lanes: dict[int, Lane] = {}
        self._paces: dict[int, Pace] = {}
        self._held: dict[int, int] = {}
        self._fans: dict[int, _Fan] = {}
        """Deliveries of events that many webhooks want, still to be offered, by the events' keys."""
        self._fanning = 0
        """How many these are."""
        self._fan_bell = trio.Event()
        self._visits = Visits()
        self._limit_met = limit_met
        self._last_sent_s: float | None = None
        """When the last daemon may have sent something, by the loop's clock."""
        self._nursery: trio.Nursery | None = None
        self._stopping = trio.Event()
        self._closed = trio.Event()
        self._draining: trio.CancelScope | None = None
        self._drain_by = float("inf")

    async def run(
        self,
        backlogs: Iterable[queue.Backlog],
        standings: Mapping[int, queue.Standing],
        *,
        last_written_ms: int | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Deliver until `stop`, then until what is in flight has ended or its time is over. Returns with all recorded.

        `backlogs` is what waited in the store at the start, `standings` how the webhooks did; `last_written_ms` is when
        the last daemon may have sent something, None where there was none.
        """
        if last_written_ms is not None:
            now_ms = int(self._wall() * 1000)
            self._last_sent_s = trio.current_time() - max(0, now_ms - last_written_ms) / 1000
        for seq, standing in standings.items():
            self._pace(seq).health = self._health(standing, last_written_ms)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for webhook, pending, next_due_ms in backlogs:
                self._expect(webhook, pending, next_due_ms)
            fanning = trio.CancelScope()
            nursery.start_soon(self._fan_out, fanning)
            task_status.started()
            await self._stopping.wait()
            self._nursery = None
            fanning.cancel()
            self._draining = nursery.cancel_scope
            self._draining.deadline = self._drain_by
            for lane in self._lanes.values():
                lane.stop()

    @property
    def outside(self) -> Outside:
        """What attempts need of the rest of the daemon, as it is now."""
        return self._shared.outside

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

    def offer_many(self, event: int, numbers: range, deliveries: Iterator[tuple[int, Delivery]]) -> None:
        """The same of an event's deliveries, in slices: thousands of lanes that begin at once would delay everybody.

        Those that have not been offered when the daemon ends are in the store.
        """
        self._fans[event] = _Fan(deliveries, numbers)
        self._fanning += len(numbers)
        self._fan_bell.set()

    async def _fan_out(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                while self._fans:
                    self._offer_slice(*next(iter(self._fans.items())))
                    await trio.lowlevel.checkpoint()
                self._fan_bell = trio.Event()
                await self._fan_bell.wait()

    def _offer_slice(self, event: int, fan: "_Fan") -> None:
        for webhook, delivery in islice(fan.deliveries, SLICE):
            fan.numbers = range(delivery.seq + 1, fan.numbers.stop)
            if delivery.seq not in fan.dropped:
                self._fanning -= 1
                self.offer(webhook, delivery)
        if not fan.numbers:
            del self._fans[event]
            next(fan.deliveries, None)  # so that whoever has made it hears of its end

    def _is_to_come(self, delivery: Delivery) -> bool:
        """Whether it is still to be offered: then no page of the store may bring it before."""
        fan = self._fans.get(delivery.event.seq)
        return fan is not None and delivery.seq in fan.numbers and delivery.seq not in fan.dropped

    def replace_webhooks(self, webhooks: Iterable[Webhook]) -> None:
        """Take these for the webhooks in force: lanes of removed and changed ones end, the others are not disturbed.

        What was held for a webhook that is active now becomes due.
        """
        before, self._webhooks = self._webhooks, {webhook.seq: webhook for webhook in webhooks}
        for seq, webhook in before.items():
            now = self._webhooks.get(seq)
            if now is not webhook and now != webhook:
                self._change(webhook, now, is_same_receiver=now is not None and self._only_missed(webhook, now))
        for seq in [seq for seq in self._held if seq not in self._lanes]:
            self._release(seq)

    def put_webhook(self, webhook: Webhook, *, is_same_receiver: bool = False) -> None:
        """Take this for the webhook of its key, as `replace_webhooks` would.

        With `is_same_receiver` what is known of how it does stays: only how it is addressed has changed.
        """
        before = self._webhooks.get(webhook.seq)
        self._webhooks[webhook.seq] = webhook
        if before is not None and before != webhook:
            self._change(before, webhook, is_same_receiver=is_same_receiver)
            self._release(webhook.seq)

    def remove_webhook(self, seq: int) -> None:
        """There is no such webhook any more: its lane ends, what waits is cancelled by others."""
        self._change(self._webhooks.pop(seq), None, is_same_receiver=False)

    def _only_missed(self, before: Webhook, now: Webhook) -> bool:
        """Whether a file names it no more, or again: that says nothing of how its receiver does."""
        pace = self._paces.get(before.seq)
        return (
            before.is_missing != now.is_missing
            and (before.url, before.rate_limit) == (now.url, now.rate_limit)
            and (pace is None or pace.health.disabled is None)
        )

    def _change(self, before: Webhook, now: Webhook | None, *, is_same_receiver: bool) -> None:
        seq = before.seq
        if seq in self._lanes:
            self._lanes[seq].stop(is_replaced=not is_same_receiver)
        if now is None:
            self._paces.pop(seq, None)
            self._held.pop(seq, None)
        elif seq in self._paces and not is_same_receiver:
            # whoever changed it begins anew, but what its receiver asked for still counts while it is the same one
            pace, asked = self._paces[seq], self._paces[seq].health.held_until_s
            pace.health = Health(held_until_s=asked) if now.url == before.url else HEALTHY
            if now.rate_limit != before.rate_limit:
                # what was spent at the old rate is at most a whole bucket of the new one
                rate, now_s = None if now.rate_limit is None else parse_rate(now.rate_limit), trio.current_time()
                pace.bucket_s = -inf if rate is None else min(pace.bucket_s, rate.spent(now_s) + rate.interval_s)

    def _release(self, seq: int) -> None:
        """Have what was held looked at again, where no lane does."""
        if seq in self._held and seq not in self._lanes:
            self._expect(seq, self._held.pop(seq), 0)

    def restart(self, max_connections: int, disable_after_s: float | None) -> None:
        """Let every lane begin anew on fresh connections: the way out, or what is allowed, has changed."""
        self._shared.connections.budget = max_connections
        self._shared.outside = structs.replace(self._shared.outside, disable_after_s=disable_after_s)
        for lane in self._lanes.values():
            lane.stop()

    async def lane_closed(self, webhook: int) -> None:
        """Wait until nothing is in flight for a webhook that was removed. Returns at once where it has no lane."""
        while webhook in self._lanes:
            await self._closed.wait()

    def forget(self, webhook: int, cancelled: int) -> None:
        """`cancelled` waiting deliveries of a removed webhook have ended in the store."""
        self._shared.outside.metrics.deliveries["cancelled"] += cancelled
        lane = self._lanes.get(webhook)
        if lane is not None:
            lane.forget(cancelled)
        elif webhook in self._held:
            self._held[webhook] = max(0, self._held[webhook] - cancelled)

    def look_again(self, webhook: int) -> None:
        """Deliveries that nobody counts any more may wait in the store for this webhook: see."""
        self.expect(webhook, 0, 0)

    # --- what people ask for ------------------------------------------------------------------------------------

    def expect(self, webhook: int, pending: int, due_ms: int, revived: Iterable[int] = ()) -> None:
        """So many deliveries more wait in the store for this webhook, and something may be due then.

        Those of them that are `revived` had ended before.
        """
        lane = self._lanes.get(webhook)
        if lane is not None:
            lane.expect(pending, due_ms, revived)
        else:
            self._expect(webhook, pending, due_ms)

    def cancelled(self, webhook: int, delivery: int, asked: redeliver.Asked) -> None:
        """Somebody has asked for the end of a delivery, and this is what became of it in the store."""
        if asked.state == "pending":
            self.drop(webhook, delivery)
        if asked.due_ms is not None:
            self.expect(webhook, 0, asked.due_ms)

    def drop(self, webhook: int, delivery: int) -> None:
        """A waiting delivery was cancelled in the store."""
        self._shared.outside.metrics.deliveries["cancelled"] += 1
        fans = (fan for fan in self._fans.values() if delivery in fan.numbers and delivery not in fan.dropped)
        fan = next(fans, None)
        lane = self._lanes.get(webhook)
        if fan is not None:
            fan.dropped.add(delivery)
            self._fanning -= 1
            if lane is not None:
                lane.leave_out(delivery)
        elif lane is not None:
            lane.drop(delivery)
        elif self._held.get(webhook):
            self._held[webhook] -= 1

    def has_in_hand(self, webhook: int, delivery: int) -> bool:
        """Whether the lane holds this delivery, waiting or in flight, or has not recorded yet what came of it."""
        lane = self._lanes.get(webhook)
        return lane is not None and lane.has_in_hand(delivery)

    @asynccontextmanager
    async def visit(self, webhook: Webhook, within_s: float) -> AsyncIterator["Poster | ProxyPoster"]:
        """A way to the webhook for one attempt now, beside its lane and within its limits and its tenant's share.

        Refused("rate_limited") where these leave no room for it `within_s`, which says why. Whoever is given up while
        it waits leaves everything as it was.
        """
        until_s = trio.current_time() + within_s
        await self._take_visit(webhook.tenant, until_s)
        try:
            async with self._room(webhook, until_s):
                poster = new_poster(self._shared.dialer, webhook)
                try:
                    yield poster
                finally:
                    poster.hang_up()
        finally:
            self._visits.release(webhook.tenant)

    def visits_under_way(self) -> int:
        """Attempts beside the lanes."""
        return self._visits.under_way

    async def _take_visit(self, tenant: str, until_s: float) -> None:
        with trio.CancelScope(deadline=until_s) as waiting:
            await self._visits.take(tenant)
        if waiting.cancelled_caught:
            self._limit_met("test_attempts")
            raise Refused("rate_limited", f"{self._visits.why_none(tenant)}: try again when one has ended")

    @asynccontextmanager
    async def _room(self, webhook: Webhook, until_s: float) -> AsyncIterator[None]:
        """A place in flight, and a start of the rate limit spent."""
        pace = self._pace(webhook.seq)
        self._check_open(webhook, pace, until_s)
        with trio.CancelScope(deadline=until_s) as waiting:
            await self._take_place(webhook, pace)
        if waiting.cancelled_caught:
            raise Refused("rate_limited", "as many attempts as it allows are in flight: try again when one ended")
        try:
            # last, so that whoever gets no place has spent no start
            await self._take_start(webhook, pace, until_s)
            yield
        finally:
            pace.visitors -= 1
            pace.make_way()
            lane = self._lanes.get(webhook.seq)
            if lane is not None:
                lane.look_again()

    async def _take_place(self, webhook: Webhook, pace: Pace) -> None:
        if self._has_place(webhook, pace):
            pace.visitors += 1
            return
        place = trio.Event()
        pace.waiting.append(place)
        try:
            await place.wait()
        finally:
            if not place.is_set():
                pace.waiting.remove(place)

    async def _take_start(self, webhook: Webhook, pace: Pace, until_s: float) -> None:
        while True:
            opens_s = self._check_open(webhook, pace, until_s)
            if opens_s <= trio.current_time():
                break
            await trio.sleep_until(opens_s)
        if webhook.rate_limit is not None:
            pace.bucket_s = parse_rate(webhook.rate_limit).spend(pace.bucket_s, trio.current_time())

    def _check_open(self, webhook: Webhook, pace: Pace, until_s: float) -> float:
        """From when on an attempt may start; Refused where that is after `until_s`."""
        rate = None if webhook.rate_limit is None else parse_rate(webhook.rate_limit)
        opens_s = max(pace.health.held_until_s, -inf if rate is None else rate.opens_at(pace.bucket_s))
        if opens_s > until_s:
            is_held = pace.health.held_until_s == opens_s
            why = "the webhook's receiver asked to be left alone" if is_held else "the webhook's rate limit is used up"
            raise Refused("rate_limited", f"{why}: try again in {ceil(opens_s - trio.current_time())} s")
        return opens_s

    def _has_place(self, webhook: Webhook, pace: Pace) -> bool:
        lane = self._lanes.get(webhook.seq)
        return pace.visitors < webhook.max_in_flight if lane is None else lane.has_place()

    def why_waiting(self, seq: int) -> tuple[int, int, Wait | None]:
        """Of one webhook: deliveries pending, deliveries held, and what keeps the next from starting."""
        lane = self._lanes.get(seq)
        return (0, self._held.get(seq, 0), None) if lane is None else (lane.pending, 0, lane.why_waiting())

    def pending(self) -> int:
        """Deliveries that wait or are in flight, held ones not counted."""
        return self._fanning + sum(lane.pending for lane in self._lanes.values())

    def held(self) -> int:
        """Deliveries whose webhook takes none just now."""
        return sum(self._held.values())

    def overdue(self) -> Iterator[tuple[Webhook, int, float]]:
        """For each lane its webhook, its pending deliveries, and by how many seconds the first is overdue."""
        now_ms = int(self._wall() * 1000)
        for lane in list(self._lanes.values()):
            due_ms = lane.oldest_due_ms()
            # 0: nobody has looked yet
            yield lane.webhook, lane.pending, max(0.0, (now_ms - due_ms) / 1000) if due_ms else 0.0

    def backlog(self) -> dict[int, tuple[int, int, float]]:
        """Webhooks for which something waits: pending, held, and by how many seconds the first is overdue."""
        found = {seq: (0, held, 0.0) for seq, held in self._held.items() if held}
        found |= {webhook.seq: (pending, 0, overdue) for webhook, pending, overdue in self.overdue() if pending}
        return found

    def _expect(self, webhook: int, pending: int, due_ms: int) -> None:
        known = self._webhooks.get(webhook)
        if known is None:
            return  # removed: its deliveries are being cancelled
        if known.status != "active":
            self._held[webhook] = self._held.get(webhook, 0) + pending
        else:
            self._open(known).expect(pending, due_ms)

    def is_up(self, webhook: Webhook) -> bool:
        """Whether nothing is wrong with the webhook: it is not disabled, and its last attempt was not a failure.

        One that somebody has paused is left in peace.
        """
        if webhook.status != "active":
            return webhook.status == "paused"
        pace = self._paces.get(webhook.seq)
        return pace is None or not pace.health.failures

    def _open(self, webhook: Webhook) -> Lane:
        lane = Lane(webhook, self._shared, self._pace(webhook.seq))
        self._lanes[webhook.seq] = lane
        self._shared.lanes = len(self._lanes)
        if self._nursery is not None:
            self._nursery.start_soon(self._keep, lane)
        return lane

    async def _keep(self, lane: Lane) -> None:
        """Run the lane for as long as there is work, then close it; a changed webhook gets a new one."""
        seq = lane.webhook.seq
        while lane.has_work() and not lane.is_stopping:
            await lane.run()
        del self._lanes[seq]
        self._shared.lanes = len(self._lanes)
        closed, self._closed = self._closed, trio.Event()
        closed.set()
        if lane.has_work() and not self._stopping.is_set():
            self._expect(seq, lane.pending, 0)
        elif (pace := self._paces.get(seq)) is not None and self._is_forgettable(pace):
            del self._paces[seq]

    # --- how webhooks do ----------------------------------------------------------------------------------------

    def _pace(self, seq: int) -> Pace:
        pace = self._paces.get(seq)
        if pace is None:
            pace = self._paces[seq] = Pace()
            webhook = self._webhooks.get(seq)
            if webhook is not None and webhook.rate_limit is not None and self._last_sent_s is not None:
                # what the last daemon sent just before its end is not known: no burst on top of it
                pace.bucket_s = parse_rate(webhook.rate_limit).spent(self._last_sent_s)
        return pace

    def _is_forgettable(self, pace: Pace) -> bool:
        return (
            pace.health is HEALTHY
            and pace.bucket_s <= trio.current_time()
            and not (pace.is_proven or pace.visitors or pace.waiting)
        )

    def _health(self, standing: queue.Standing, last_written_ms: int | None) -> Health:
        """What the store says, on the loop's clock. A time of failure does not begin in the future, nor a hold now.

        While no daemon ran nothing failed, and a clock may have been set.
        """
        now_ms, now_s = int(self._wall() * 1000), trio.current_time()
        since_s = held_s = None
        if standing.failing_since_ms is not None:
            until_ms = now_ms if last_written_ms is None else min(now_ms, last_written_ms)
            since_s = now_s - max(0, until_ms - standing.failing_since_ms) / 1000
        if standing.held_until_ms is not None and standing.held_until_ms > now_ms:
            held_s = now_s + min((standing.held_until_ms - now_ms) / 1000, LONGEST_HOLD_S)
        health = Health(failures=standing.failures, failing_since_s=since_s)
        return health if held_s is None else structs.replace(health, held_until_s=held_s)

    def _disable(self, webhook: Webhook, reason: str) -> None:
        """Its receiver's answers have disabled this webhook: what waits for it is held from now on."""
        if self._webhooks.get(webhook.seq) != webhook:
            return
        now_ms = int(self._wall() * 1000)
        webhook = structs.replace(webhook, status="disabled", disabled_reason=reason, updated_ms=now_ms)
        self._webhooks[webhook.seq] = webhook
        self._lanes[webhook.seq].stop(is_replaced=True)
        self._disabled(webhook)
