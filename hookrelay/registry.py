"""Which webhooks are in force: what the files say of them, and what has become of each.

Whatever changes there is told to ingest and dispatch by one assignment each, so that no event sees half of it.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import trio
from msgspec import structs

from hookrelay.dispatch import Dispatcher
from hookrelay.ingest import Ingest
from hookrelay.model import Webhook
from hookrelay.rules.match import Catalog
from hookrelay.store import queue, webhooks
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger

CANCEL_STEP = 500
"""Deliveries that one transaction cancels: so many delay nobody's commit."""


class Prepared(NamedTuple):
    """Webhooks that are on disk and not in force yet."""

    catalog: Catalog
    removed: list[int]


class Registry:
    """The one place where the webhooks in force change. `run` is its task."""

    def __init__(self, store: Store, log: Logger, wall: Callable[[], float]) -> None:
        self.catalog = Catalog(())
        self._store = store
        self._log = log
        self._wall = wall
        self._ingest: Ingest
        self._dispatcher: Dispatcher
        self._disabled_meanwhile: dict[int, Webhook] = {}
        self._to_cancel, self._removed = trio.open_memory_channel[int](math.inf)

    def attach(self, ingest: Ingest, dispatcher: Dispatcher) -> None:
        """Whom to tell of changes."""
        self._ingest, self._dispatcher = ingest, dispatcher

    async def prepare(self, said: Sequence[Webhook]) -> Prepared:
        """Write down what the files say; nothing of it is in force before `put_in_force`.

        Refused where the disk does not take it.
        """
        self._disabled_meanwhile.clear()
        declared = [webhooks.Declared(w.id, w.tenant, w.source, w.status, _definition(w)) for w in said]
        known, removed = await self._store.change(webhooks.declare, declared, self._now_ms())
        in_force = [
            structs.replace(
                webhook,
                seq=row.seq,
                status=row.status,
                disabled_reason=row.disabled_reason,
                created_ms=row.created_ms,
                updated_ms=row.updated_ms,
            )
            for webhook, row in zip(said, known, strict=True)
        ]
        for webhook in in_force:
            before = self.catalog.by_seq.get(webhook.seq)
            if webhook.held == "discard" and webhook.status == "active" and before and before.status != "active":
                await self._cancel_all(webhook.seq, "its webhook became active with held = discard")
        return Prepared(Catalog(in_force), removed)

    def put_in_force(self, prepared: Prepared) -> None:
        """From now on these are the webhooks."""
        catalog = prepared.catalog
        for seq, webhook in self._disabled_meanwhile.items():
            # disabled by an answer that came after the row was read: as the store has it by now
            if (known := catalog.by_seq.get(seq)) is not None and known.status == "active":
                disabled = structs.replace(known, status="disabled", disabled_reason=webhook.disabled_reason)
                catalog = catalog.with_status(disabled)
        self._replace(catalog)
        self._dispatcher.replace_webhooks(catalog.by_seq.values())
        for seq in prepared.removed:
            self._to_cancel.send_nowait(seq)

    def show_disabled(self, webhook: Webhook) -> None:
        """An answer has disabled this webhook; the dispatcher knows already."""
        self._disabled_meanwhile[webhook.seq] = webhook
        self._replace(self.catalog.with_status(webhook))

    def _replace(self, catalog: Catalog) -> None:
        self.catalog = self._ingest.catalog = catalog

    # --- what waits for webhooks that are gone ------------------------------------------------------------------

    async def run(self) -> None:
        """End what waits for removed webhooks, those of earlier daemons first. Never returns."""
        for seq in await self._store.read(webhooks.removed_with_work):
            self._to_cancel.send_nowait(seq)
        async with trio.open_nursery() as nursery:
            async for seq in self._removed:
                nursery.start_soon(self._cancel_removed, seq)

    async def _cancel_removed(self, seq: int) -> None:
        """In steps that delay nobody's commit; what is in flight goes on to its end."""
        await self._dispatcher.lane_closed(seq)
        # twice: an event that still saw the webhook may be in the batch of the first look
        for _ in range(2):
            if seq not in self.catalog.by_seq:
                await self._cancel_all(seq, "their webhook was removed")
        if seq in self.catalog.by_seq:
            self._dispatcher.look_again(seq)

    async def _cancel_all(self, seq: int, why: str) -> None:
        total = 0
        cancel = partial(self._store.change, queue.cancel_waiting, keep=True)
        while count := await cancel(seq, self._now_ms(), CANCEL_STEP):
            total += count
            self._dispatcher.forget(seq, count)
        if total:
            self._log.warning("deliveries_cancelled", webhook_key=seq, count=total, detail=why)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


def _definition(webhook: Webhook) -> dict[str, Any]:
    """A webhook as it is kept beside its deliveries: no secret, and no header's value."""
    return {
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "status": webhook.status,
        "rate_limit": webhook.rate_limit,
        "max_in_flight": webhook.max_in_flight,
        "timeout_s": webhook.timeout_s,
        "retry": webhook.retry,
        "headers": [name for name, _ in webhook.headers],
        "ordered": webhook.ordered,
        "metadata": webhook.metadata,
    }
