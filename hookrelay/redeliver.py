"""Deliveries that people ask for: a test event, one more attempt, many made anew, or none any more.

All of it obeys what every delivery obeys; none of it counts towards disabling a webhook.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio
from msgspec import Struct, structs

from hookrelay.audit import DAEMON, Action, Actor, Entry, Steps, Trail, moment
from hookrelay.deliver import Deliverer, Outside
from hookrelay.dispatch import Dispatcher
from hookrelay.model import Event, Outcome, Refused, Webhook
from hookrelay.registry import Registry
from hookrelay.store import history, redeliver
from hookrelay.store.db import Store
from hookrelay.store.trouble import refusal
from hookrelay.units import format_time

if TYPE_CHECKING:
    from hookrelay.net.post import Poster
    from hookrelay.net.proxy import ProxyPoster

STEP = 500
"""Deliveries that one transaction changes: so many delay nobody's commit."""
LOOKED_AT = 2000
"""Deliveries that one look at the history takes in."""
WITHIN_S = 5.0
"""How long a test waits for the webhook's limits to leave room for it."""


RECORD_S = 1.0
"""How long the record of a test may take that was given up."""


class Replay(Struct, frozen=True, kw_only=True):
    """Which deliveries of a webhook are made anew: those that ended so, of events accepted in [since, until)."""

    since_ms: int
    until_ms: int
    states: tuple[str, ...] = ("failed",)
    type: str | None = None


class Redeliverer:
    """What people ask of deliveries."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        outside: Callable[[], Outside],
        wall: Callable[[], float],
    ) -> None:
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._outside = outside
        self._wall = wall
        self._trail = Trail(store, outside().log, wall)

    async def test(self, webhook: Webhook, type: str, data: bytes, *, by: Actor = DAEMON) -> int:
        """Send a test event: one attempt now, within all limits, whatever becomes of it. The delivery's number.

        `data` is JSON text. Refused where the limits leave no room for it, or the store is in trouble.
        """
        outside = self._outside()
        if webhook.is_missing:
            raise Refused("conflict", "no file names the webhook any more, so its secret is not known: bring it back")
        if self._store.trouble is not None:
            raise refusal(self._store.trouble)  # what comes of the attempt could not be recorded
        async with self._dispatcher.visit(webhook, WITHIN_S) as poster:
            event_seq, seq = self._store.take_numbers(1)
            now_ms = self._now_ms()
            id = self._store.ids.make("evt", now_ms, event_seq)
            event = Event(event_seq, now_ms, id, type, webhook.tenant, format_time(now_ms), data, test=True)
            entry = Entry(
                action="webhook.tested",
                by=by,
                tenant=webhook.tenant,
                object=webhook.id,
                details={"event": id, "type": type},
            )
            with trio.CancelScope(shield=True):  # the store answers, or says that it cannot
                await self._trail.change(entry, redeliver.insert_test, event, webhook.seq, seq)
            outside.feed.tell_event()
            outcome = await self._attempt(webhook, event, seq, poster)
        await self._store.change(redeliver.record_test, seq, outcome)
        if outside.tracer is not None:
            state = "succeeded" if outcome.error is None else "failed"
            outside.tracer.attempted(event, webhook, self._store.ids.make("dlv", now_ms, seq), 1, outcome, state)
        outside.tally.note_test(webhook.seq)
        outside.feed.tell_delivery(webhook.seq, seq)
        return seq

    async def _attempt(self, webhook: Webhook, event: Event, seq: int, poster: "Poster | ProxyPoster") -> Outcome:
        """The test's one attempt. Where it is given up, that is on its way into the history by then."""
        outcome: Outcome | None = None
        scope = trio.CancelScope(deadline=trio.current_time() + webhook.timeout_s)
        try:
            with scope:
                outcome = await Deliverer(webhook, self._outside()).attempt(event, 1, poster, scope)
            return poster.timed_out() if outcome is None else outcome
        finally:
            if outcome is None and not scope.cancelled_caught:
                await self._note_cut(webhook.seq, seq, poster.cut_short())

    async def _note_cut(self, webhook: int, seq: int, outcome: Outcome) -> None:
        if outcome.error == "interrupted":
            detail = "whoever asked for the test hung up, or the daemon stopped, before the answer came"
            outcome = structs.replace(outcome, detail=detail)
        with trio.move_on_after(RECORD_S, shield=True):
            await self._store.change(redeliver.record_test, seq, outcome)
        self._outside().feed.tell_delivery(webhook, seq)

    async def retry(self, delivery: history.DeliveryRow, *, by: Actor = DAEMON) -> None:
        """Have one more attempt made now. Refused("conflict") where there can be none."""
        if delivery.test:
            raise Refused("conflict", "a test is one attempt: send another test instead")
        webhook = self._registry.catalog.by_seq.get(delivery.webhook)
        if webhook is None:
            raise Refused("conflict", "its webhook is deleted: there is nowhere to send it")
        now_ms, strikes = self._now_ms(), len(webhook.delays) - 1
        entry = self._entry("delivery.retried", by, delivery)

        def told(asked: redeliver.Asked) -> None:
            if asked.state != "purged":
                self._dispatcher.expect(webhook.seq, int(asked.state != "pending"), now_ms, (delivery.seq,))

        asked = await self._trail.change(entry, redeliver.retry, delivery.seq, now_ms, strikes, told=told)
        if asked.state == "purged":
            raise Refused("conflict", "its payload was purged: there is nothing left to send")
        self._outside().feed.tell_delivery(webhook.seq, delivery.seq)

    async def cancel(self, delivery: history.DeliveryRow, *, by: Actor = DAEMON) -> None:
        """Call it off; an attempt in flight goes on to its end. Refused("conflict") where it has ended already."""
        webhook = self._registry.catalog.by_seq.get(delivery.webhook)
        is_ordered = webhook is not None and webhook.ordered
        cancel = partial(redeliver.cancel, is_ordered=is_ordered)
        told = partial(self._dispatcher.cancelled, delivery.webhook, delivery.seq)
        entry = self._entry("delivery.cancelled", by, delivery)
        asked = await self._trail.change(entry, cancel, delivery.seq, self._now_ms(), told=told)
        if asked.state != "pending":
            raise Refused("conflict", f"the delivery has ended already: it is {asked.state}")
        self._outside().feed.tell_delivery(delivery.webhook, delivery.seq)

    async def replay(
        self,
        webhook: Webhook,
        wanted: Replay,
        *,
        dry_run: bool,
        tell: Callable[[int], None] = lambda count: None,
        by: Actor = DAEMON,
    ) -> int:
        """Have what matches made anew, each with its webhook's whole schedule; how many that is. `dry_run`: only that.

        `tell` hears of each step how many it was.
        A delivery that is being made anew no longer matches: asked for twice, nothing goes out twice.
        """
        look = history.Ended(
            webhook=webhook.seq,
            states=wanted.states,
            since_ms=wanted.since_ms,
            until_ms=wanted.until_ms,
            type=wanted.type,
        )
        details = {
            "status": wanted.states,
            "type": wanted.type,
            "since": moment(wanted.since_ms),
            "until": moment(wanted.until_ms),
        }
        entry = Entry(action="webhook.replayed", by=by, tenant=webhook.tenant, object=webhook.id, details=details)
        count = 0
        above: int | None = 0
        async with self._trail.steps(entry) as steps:
            while above is not None:
                found, above = await self._store.read(history.ended, look, above, LOOKED_AT)
                count += len(found) if dry_run else await self._replay(webhook, found, tell, steps)
        return count

    async def _replay(self, webhook: Webhook, numbers: list[int], tell: Callable[[int], None], steps: Steps) -> int:
        total = 0
        for start in range(0, len(numbers), STEP):
            now_ms = self._now_ms()
            # changed or deleted meanwhile: what is left of it is the registry's
            known = self._registry.catalog.by_seq.get(webhook.seq)
            if known is None:
                raise Refused("not_found", "there is no webhook with this id: it has just been deleted")
            replay = partial(redeliver.replay, is_ordered=known.ordered)
            some = numbers[start : start + STEP]

            def told(count: int, now_ms: int = now_ms, some: list[int] = some) -> None:
                if count:
                    self._dispatcher.expect(webhook.seq, count, now_ms, some)

            count = await steps.change(_counted, replay, some, now_ms, told=told)
            total += count
            tell(count)
        return total

    def _entry(self, action: Action, by: Actor, delivery: history.DeliveryRow) -> Entry:
        id = self._store.ids.make("dlv", delivery.created_ms, delivery.seq)
        details = {"webhook": delivery.webhook_id, "event_type": delivery.event_type}
        return Entry(action=action, by=by, tenant=delivery.tenant, object=id, details=details)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


def _counted(count: int) -> dict[str, int]:
    return {"deliveries": count}
