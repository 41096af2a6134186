"""One attempt: sign, post, judge, record."""

import random
from collections.abc import Callable
from functools import partial

import trio

from hookrelay import __version__
from hookrelay.model import Delivery, Outcome, Verdict, Webhook
from hookrelay.net.post import Poster
from hookrelay.rules.payload import body
from hookrelay.rules.retry import judge
from hookrelay.rules.sign import Envelope
from hookrelay.store import queue
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger
from hookrelay.telemetry.metrics import Metrics

Recorded = Callable[[Delivery, Verdict, object], None]
"""Told once an attempt and its verdict are on disk; the last argument is an exception where they could not be."""


_SUCCEEDED = judge(Outcome(0, 0.0), 0, (0.0,), 0, 0.0)
"""What nearly all attempts come to, judged once."""


class Deliverer:
    """What every attempt to one webhook needs. Knows neither lanes nor connections but the one it is handed."""

    def __init__(
        self,
        webhook: Webhook,
        store: Store,
        *,
        metrics: Metrics,
        log: Logger,
        wall: Callable[[], float],
        roll: Callable[[], float] = random.random,
    ) -> None:
        self.webhook = webhook
        self._envelope = Envelope(webhook, __version__)
        self._store = store
        self._metrics = metrics
        self._log = log
        self._wall = wall
        self._roll = roll
        self._outcome_keys: dict[str, tuple[str, str]] = {}

    async def deliver(self, delivery: Delivery, poster: Poster, scope: trio.CancelScope) -> Outcome:
        """Post the delivery; the outcome is not recorded yet. Cancelled by `scope`: ask the poster what it came to."""
        event = delivery.event
        text = body(event)
        now = self._wall()
        head = self._envelope.head(event, text, delivery.attempt_count + 1, int(now))
        return await poster.post(head + text, int(now * 1000), scope)

    def record(self, delivery: Delivery, outcome: Outcome, recorded: Recorded) -> None:
        """Judge the outcome and have both written; returns at once, `recorded` is told when both are on disk."""
        now_ms = int(self._wall() * 1000)
        if outcome.error is None and not delivery.strikes:
            verdict = _SUCCEEDED
        else:
            verdict = judge(outcome, delivery.strikes, self.webhook.delays, now_ms, self._roll())
        result = queue.Result(delivery.seq, delivery.attempt_count + 1, outcome, verdict)
        self._store.enqueue(queue.record, (result,), partial(recorded, delivery, verdict), keep=True)
        self._count(delivery, outcome, verdict, now_ms)
        if outcome.error is not None:
            self._tell(delivery, outcome, verdict)

    def _count(self, delivery: Delivery, outcome: Outcome, verdict: Verdict, now_ms: int) -> None:
        metrics = self._metrics
        name = outcome.error or "success"
        metrics.attempts[name] += 1
        key = self._outcome_keys.get(name)
        if key is None:
            key = self._outcome_keys[name] = (self.webhook.id, name)
        metrics.webhook_attempts[key] += 1
        metrics.attempt_seconds.observe(outcome.duration_s)
        if verdict.state != "pending":
            metrics.deliveries[verdict.state] += 1
            if verdict.state == "succeeded" and not delivery.attempt_count:
                metrics.latency_seconds.observe((now_ms - delivery.event.created_ms) / 1000)
        elif outcome.error == "local_fault":
            metrics.local_faults["attempt"] += 1

    def _tell(self, delivery: Delivery, outcome: Outcome, verdict: Verdict) -> None:
        self._log.log(
            30 if verdict.state == "failed" else 20,
            "delivery_failed" if verdict.state == "failed" else "attempt_failed",
            delivery=self._store.ids.make("dlv", delivery.event.created_ms, delivery.seq),
            event_id=delivery.event.id,
            webhook=self.webhook.id,
            attempt=delivery.attempt_count + 1,
            error=outcome.error,
            detail=outcome.detail,
            response_code=outcome.response_code,
            next_attempt_ms=verdict.due_ms,
        )
