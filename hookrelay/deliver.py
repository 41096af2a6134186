"""One attempt: sign, post, judge, record."""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import trio
from msgspec import Struct

from hookrelay import __version__, audit
from hookrelay.feed import Feed
from hookrelay.model import OPERATORS, Delivery, Event, Outcome, Verdict, Webhook
from hookrelay.rules.health import HEALTHY, Health, after
from hookrelay.rules.payload import body
from hookrelay.rules.redirect import for_logs
from hookrelay.rules.retry import judge, retry_after_s
from hookrelay.rules.sign import Envelope
from hookrelay.rules.webhook import told
from hookrelay.store import queue
from hookrelay.store.db import Store
from hookrelay.tally import Tally
from hookrelay.telemetry.logs import Logger
from hookrelay.telemetry.metrics import Metrics
from hookrelay.telemetry.traces import Tracer
from hookrelay.units import format_time

Recorded = Callable[[Delivery, Verdict, object], None]
"""Told once an attempt and its verdict are on disk; the last argument is what the store answers, or an exception."""


class Posts(Protocol):
    """A worker's way to its webhook (`net.post.Poster`, `net.proxy.ProxyPoster`)."""

    async def post(self, request: bytes, started_ms: int, scope: trio.CancelScope) -> Outcome:
        """Send a request and judge its answer."""


Announce = Callable[[str, Mapping[str, object]], None]
"""`announce(event type, data)`: tell operators (`ingest.Ingest.announce`)."""

DAMAGED = "the stored payload is not what was accepted (this host's fault): nothing was sent"
_SUCCEEDED = judge(Outcome(0, 0.0), 0, (0.0,), 0, 0.0)
"""What nearly all attempts come to, judged once."""


class Outside(Struct, frozen=True):
    """What an attempt needs of the rest of the daemon."""

    store: Store
    metrics: Metrics
    log: Logger
    wall: Callable[[], float]
    """Unix seconds; may jump."""
    due: Callable[[], float]
    """Unix seconds by which it is written and asked when something is due (`clock.NeverBack`)."""
    announce: Announce
    feed: Feed
    """Who watches deliveries."""
    tally: Tally
    disable_after_s: float | None = None
    """How long a webhook may only fail until it is disabled; None: for ever."""
    roll: Callable[[], float] = random.random
    tracer: Tracer | None = None
    """None where no spans are made."""


class Deliverer:
    """What every attempt to one webhook needs. Knows neither lanes nor connections but the one it is handed."""

    def __init__(self, webhook: Webhook, outside: Outside, health: Health = HEALTHY) -> None:
        self.webhook = webhook
        self.health = health
        """How the webhook does after all attempts that were recorded so far; moments by the loop's clock."""
        self.is_current = True
        """Whether the webhook is still the one that customers know: an answer to an older one says nothing of it."""
        self._outside = outside
        self._envelope = Envelope(webhook, __version__)
        self._outcome_keys: dict[str, tuple[str, str]] = {}

    async def deliver(self, delivery: Delivery, poster: Posts, scope: trio.CancelScope) -> Outcome:
        """Post the delivery; the outcome is not recorded yet. Cancelled by `scope`: ask the poster what it came to."""
        return await self.attempt(delivery.event, delivery.attempt_count + 1, poster, scope)

    async def attempt(self, event: Event, number: int, poster: Posts, scope: trio.CancelScope) -> Outcome:
        """Post attempt `number` of the event, as `deliver`; what comes of it is the caller's alone."""
        now = self._outside.wall()
        started_ms = int(now * 1000)
        try:
            text = body(event)
            tracer = self._outside.tracer
            trace = event.traceparent if tracer is None else tracer.header(event, self.webhook, number, started_ms)
            head = self._envelope.head(event, text, number, int(now), trace)
            return await poster.post(head + text, started_ms, scope)
        except MemoryError:
            return Outcome(started_ms, 0.0, "local_fault", "no memory (this host's limit, not the receiver's fault)")

    def record(
        self,
        delivery: Delivery,
        outcome: Outcome,
        begun_s: float,
        recorded: Recorded,
        *,
        is_called_off: bool = False,
    ) -> None:
        """Judge the outcome of an attempt that began at `begun_s`, for the delivery and for the webhook.

        Returns at once with both on their way to the disk; `recorded` is told when they are there. Where the delivery
        `is_called_off`, the attempt changes nothing of it any more.
        """
        now_ms = int(self._outside.wall() * 1000)
        standing = None
        if outcome.error is None and not delivery.strikes and self.health is HEALTHY:
            verdict = _SUCCEEDED
        else:
            verdict, standing = self._judge(delivery, outcome, begun_s, now_ms)
        webhook = self.webhook
        result = queue.Result(
            delivery.seq,
            delivery.attempt_count + 1,
            outcome,
            verdict,
            webhook.seq,
            delivery.chain,
            webhook.ordered,
            standing,
            is_called_off,
        )
        store = self._outside.store
        store.enqueue(queue.record, (result,), partial(recorded, delivery, verdict), keep=True)
        if delivery.chain is not None:
            store.hurry()  # the next of the chain waits for it
        self._count(delivery, outcome, verdict, now_ms, is_called_off=is_called_off)
        if self._outside.tracer is not None:
            id = store.ids.make("dlv", delivery.event.created_ms, delivery.seq)
            state = "cancelled" if is_called_off else verdict.state
            self._outside.tracer.attempted(delivery.event, webhook, id, delivery.attempt_count + 1, outcome, state)
        if outcome.error is not None and not is_called_off:
            self._tell(delivery, outcome, verdict, now_ms)
        if standing is not None and standing.disabled is not None:
            self._tell_disabled(standing, now_ms)

    def record_damaged(self, delivery: Delivery, recorded: Recorded) -> None:
        """End a delivery that cannot be sent, for its payload is not what was accepted. `recorded` as in `record`."""
        outside = self._outside
        outside.metrics.local_faults["payload_damaged"] += 1
        outside.log.error(
            "payload_damaged",
            delivery=outside.store.ids.make("dlv", delivery.event.created_ms, delivery.seq),
            event_id=delivery.event.id,
            webhook=self.webhook.id,
            tenant=self.webhook.tenant,
            detail="what the store holds of this event is not what was accepted, so it was not sent: look at the disk"
            " and the memory of this host, run `hookrelay doctor`, and submit the event again",
        )
        outcome = Outcome(int(outside.wall() * 1000), 0.0, "payload_damaged", DAMAGED)
        self.record(delivery, outcome, trio.current_time(), recorded)

    def _judge(
        self, delivery: Delivery, outcome: Outcome, begun_s: float, now_ms: int
    ) -> tuple[Verdict, queue.Standing | None]:
        before, now_s = self.health, trio.current_time()
        webhook = self.webhook
        due_now_ms = int(self._outside.due() * 1000)
        if not self.is_current:
            return judge(outcome, delivery.strikes, webhook.delays, due_now_ms, self._outside.roll()), None
        self.health = health = after(
            before,
            outcome,
            begun_s=begun_s,
            now_s=now_s,
            most=webhook.max_in_flight,
            delays=webhook.delays,
            disable_after_s=self._outside.disable_after_s,
            retry_after_s=None if outcome.error is None else retry_after_s(outcome.response_head, now_ms / 1000),
            is_counted=not (delivery.by_hand or delivery.event.test),
        )
        held_ms = round(max(0.0, health.held_until_s - now_s) * 1000)
        verdict = judge(
            outcome, delivery.strikes, webhook.delays, due_now_ms, self._outside.roll(), due_now_ms + held_ms
        )
        standing = None
        if (health.failures, health.held_until_s) != (before.failures, before.held_until_s):
            since_s = health.failing_since_s
            disabled = health.disabled if before.disabled is None else None
            standing = queue.Standing(
                health.failures,
                None if since_s is None else now_ms - round((now_s - since_s) * 1000),
                now_ms + held_ms if held_ms else None,
                disabled,
                None if disabled is None else audit.row_of(self._disabled(disabled), now_ms),
            )
        return verdict, standing

    def _count(
        self, delivery: Delivery, outcome: Outcome, verdict: Verdict, now_ms: int, *, is_called_off: bool
    ) -> None:
        metrics = self._outside.metrics
        name = outcome.error or "success"
        metrics.attempts[name] += 1
        key = self._outcome_keys.get(name)
        if key is None:
            key = self._outcome_keys[name] = (self.webhook.id, name)
        metrics.webhook_attempts[key] += 1
        metrics.attempt_seconds.observe(outcome.duration_s)
        self._outside.tally.note(
            self.webhook.seq, delivery.seq, outcome.error, outcome.response_code, outcome.duration_s, now_ms
        )
        if is_called_off:
            return
        if verdict.state != "pending":
            metrics.deliveries[verdict.state] += 1
            if verdict.state == "succeeded" and not delivery.attempt_count:
                metrics.latency_seconds.observe((now_ms - delivery.event.created_ms) / 1000)
        elif outcome.error == "local_fault":
            metrics.local_faults["attempt"] += 1

    def _tell(self, delivery: Delivery, outcome: Outcome, verdict: Verdict, now_ms: int) -> None:
        has_failed = verdict.state == "failed"
        event, webhook = delivery.event, self.webhook
        id = self._outside.store.ids.make("dlv", event.created_ms, delivery.seq)
        self._outside.log.log(
            30 if has_failed else 20,
            "delivery_failed" if has_failed else "attempt_failed",
            **told(webhook),
            delivery=id,
            event_id=event.id,
            attempt=delivery.attempt_count + 1,
            error=outcome.error,
            detail=for_logs(outcome.reason or outcome.detail),
            response_code=outcome.response_code,
            next_attempt_at=None if verdict.due_ms is None else format_time(verdict.due_ms),
        )
        if has_failed and event.tenant != OPERATORS:  # a failed announcement is not announced in turn
            self._outside.announce(
                "hookrelay.delivery.failed",
                {
                    "delivery_id": id,
                    "event_id": event.id,
                    "event_type": event.type,
                    "webhook_id": webhook.id,
                    "tenant": webhook.tenant,
                    "attempt_count": delivery.attempt_count + 1,
                    "response_code": outcome.response_code,
                    "error": {"code": outcome.error, "detail": outcome.reason or outcome.detail},
                    "created_at": format_time(event.created_ms),
                    "failed_at": format_time(now_ms),
                },
            )

    def _disabled(self, reason: str) -> audit.Entry:
        webhook = self.webhook
        return audit.Entry(
            action="webhook.disabled",
            by=audit.DAEMON,
            tenant=webhook.tenant,
            object=webhook.id,
            fields=("status",),
            details={"status": "disabled", "reason": reason},
        )

    def _tell_disabled(self, standing: queue.Standing, now_ms: int) -> None:
        webhook = self.webhook
        self._outside.log.warning(
            "webhook_disabled",
            **told(webhook),
            source=webhook.source,
            reason=standing.disabled,
            failures=standing.failures,
            detail="its deliveries are held until it is active again",
        )
        audit.tell(self._outside.log, self._disabled(str(standing.disabled)))
        self._outside.announce(
            "hookrelay.webhook.disabled",
            {
                "webhook_id": webhook.id,
                "tenant": webhook.tenant,
                "description": webhook.description,
                "source": webhook.source,
                "reason": standing.disabled,
                "failures": standing.failures,
                "failing_since": None if standing.failing_since_ms is None else format_time(standing.failing_since_ms),
                "disabled_at": format_time(now_ms),
            },
        )
