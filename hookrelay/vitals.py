"""How the daemon does: for `/v1/status`, the metrics, the watchdog and `systemctl status`."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import trio

from hookrelay.config.settings import Config
from hookrelay.dispatch import Dispatcher
from hookrelay.model import Webhook
from hookrelay.net.dial import Dialer
from hookrelay.registry import Registry
from hookrelay.rules.webhook import called
from hookrelay.store.chains import BLOCKED_MS
from hookrelay.store.db import Store
from hookrelay.telemetry.metrics import Metrics, Reading
from hookrelay.units import format_time

DISABLED_SHOWN = 20
BEHIND_SHOWN = 10
"""Webhooks that `/v1/status` names."""
STUCK_S = 20.0
"""A batch that has been under way for so long has the watchdog end the daemon: its restart loses nothing."""
BREATH = 250
"""Lanes that the metrics look at in one go: 1 ms."""


class Vitals:
    """Looks at the parts, and changes none of them."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        dialer: Dialer,
        metrics: Metrics,
        config: Callable[[], Config],
        removal_s: Callable[[], float | None],
    ) -> None:
        """`removal_s`: the running time in which the first webhook that no file names is removed."""
        self._store = store
        self._registry = registry
        self._dispatcher = dispatcher
        self._dialer = dialer
        self._metrics = metrics
        self._config = config
        self._removal_s = removal_s

    def health(self) -> dict[str, Any]:
        """What `/v1/status` says beside the numbers of the metrics."""
        webhooks = self._registry.catalog.by_seq.values()
        stats, trouble = self._store.stats, self._store.trouble
        overdue = sorted(self._dispatcher.overdue(), key=lambda row: -row[2])
        disabled = [webhook for webhook in webhooks if webhook.status == "disabled"]
        missing, held_for_missing = self._registry.waiting_for_missing()
        removal_s = self._removal_s()
        return {
            "started_at": format_time(int(self._metrics.started_at * 1000)),
            "trouble": None if trouble is None else f"{trouble.kind}: {trouble.detail}",
            "webhooks": _by_status(webhooks),
            "pending": self._dispatcher.pending(),
            "held": self._dispatcher.held(),
            "missing_from_files": {
                "webhooks": missing,
                "held": held_for_missing,
                "removal_in_seconds": None if removal_s is None else round(removal_s, 3),
            },
            "oldest_due_seconds": round(max((row[2] for row in overdue), default=0.0), 3),
            "open_connections": self._dialer.open_connections,
            "store": {"size_bytes": stats.size_bytes, "is_low": self._store.is_low},
            "reload": {
                "successful": self._metrics.reload_successful,
                "at": format_time(int(self._metrics.reload_at * 1000)),
            },
            "disabled": [
                {
                    "id": webhook.id,
                    "tenant": webhook.tenant,
                    "url": webhook.url,
                    "disabled_reason": webhook.disabled_reason,
                    "updated_at": format_time(webhook.updated_ms),
                }
                for webhook in sorted(disabled, key=lambda webhook: -webhook.updated_ms)[:DISABLED_SHOWN]
            ],
            "behind": [
                {
                    "id": webhook.id,
                    "tenant": webhook.tenant,
                    "url": webhook.url,
                    "pending": pending,
                    "overdue_seconds": round(seconds, 3),
                    "why": self.waiting(webhook)["why"],
                }
                for webhook, pending, seconds in overdue[:BEHIND_SHOWN]
                if pending and seconds > 0
            ],
        }

    def waiting(self, webhook: Webhook) -> dict[str, Any]:
        """How many deliveries wait for a webhook, and what for until when."""
        pending, held, wait = self._dispatcher.why_waiting(webhook.seq)
        until_ms = None if wait is None else wait.until_ms
        if wait is not None and wait.until_s is not None:
            until_ms = int(time.time() * 1000) + round((wait.until_s - trio.current_time()) * 1000)
        return {
            "pending": pending,
            "held": held,
            "why": None if wait is None or wait.why == "empty" else wait.why,
            "until": None if until_ms is None or until_ms >= BLOCKED_MS else format_time(until_ms),
        }

    def status(self) -> str:
        """One line for `systemctl status`."""
        if self._store.trouble is not None:
            return f"cannot write the store: {self._store.trouble.detail}"
        counts = _by_status(self._registry.catalog.by_seq.values())
        webhooks = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
        refused = "" if self._metrics.reload_successful else "the last reload was refused (see the journal); "
        return (
            f"{refused}webhooks: {webhooks}; deliveries: {self._dispatcher.pending()} pending,"
            f" {self._dispatcher.held()} held, {self._metrics.in_flight} in flight"
        )

    async def answers(self) -> bool:
        """For the watchdog."""
        return await self._store.answers(STUCK_S)

    async def gauges(self) -> Reading:
        """For the metrics: a look at every lane, and at every webhook where each is told of. Others run between."""
        dispatcher, stats, catalog = self._dispatcher, self._store.stats, self._registry.catalog
        waiting: dict[int, tuple[int, float]] = {}
        for number, (webhook, pending, overdue) in enumerate(dispatcher.overdue(), 1):
            waiting[webhook.seq] = (pending, overdue)
            if not number % BREATH:
                await trio.lowlevel.checkpoint()
        webhooks, told, named = list(catalog.by_seq.values()), [], []
        metrics = self._config().metrics
        if len(webhooks) <= metrics.per_webhook_limit:
            for number, webhook in enumerate(webhooks, 1):
                told.append((webhook.id, *waiting.get(webhook.seq, (0, 0.0)), dispatcher.is_up(webhook)))
                if metrics.webhook_info:
                    named.append((webhook.id, webhook.tenant, called(webhook)))
                if not number % BREATH:
                    await trio.lowlevel.checkpoint()
        by_status = _by_status(webhooks)
        await trio.lowlevel.checkpoint()
        return Reading(
            {
                "hookrelay_pending_deliveries": dispatcher.pending(),
                "hookrelay_held_deliveries": dispatcher.held(),
                "hookrelay_oldest_due_seconds": max((overdue for _, overdue in waiting.values()), default=0.0),
                "hookrelay_open_connections": self._dialer.open_connections,
                "hookrelay_store_size_bytes": stats.size_bytes,
                "hookrelay_store_max_size_bytes": self._config().store.max_size,
                "hookrelay_store_free_bytes": stats.free_bytes,
            },
            by_status,
            told,
            catalog.by_id,
            named,
        )


def _by_status(webhooks: Iterable[Webhook]) -> dict[str, int]:
    return {"active": 0, "paused": 0, "disabled": 0, **Counter(webhook.status for webhook in webhooks)}
