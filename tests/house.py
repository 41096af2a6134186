"""All of the daemon behind its doors, over a store in memory and a receiver on the mock clock."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from builders import wall
from doubles import Receiver, listening_log, new_store

from hookrelay.clock import NeverBack
from hookrelay.deliver import Outside
from hookrelay.dispatch import Dispatcher
from hookrelay.editor import Editor
from hookrelay.feed import Feed
from hookrelay.grace import Grace
from hookrelay.ingest import Ingest, Limits
from hookrelay.model import ConfigError, Webhook
from hookrelay.redeliver import Redeliverer
from hookrelay.registry import Registry, Removal
from hookrelay.rules.egress import Policy
from hookrelay.rules.webhook import Defaults
from hookrelay.store import history, queue
from hookrelay.store.db import Store
from hookrelay.store.seal import Seal
from hookrelay.tally import Tally
from hookrelay.telemetry.metrics import Metrics


class House:
    """All of the daemon behind its doors, over a store in memory."""

    def __init__(self, receiver: Receiver, store: Store | None = None) -> None:
        self.store = store or new_store()
        log, self.told = listening_log()
        self.metrics = Metrics()
        self.feed = Feed()
        self.registry = Registry(self.store, log, wall)
        self.tally = Tally(self.store, lambda seq: None, wall)
        outside = Outside(
            store=self.store,
            metrics=self.metrics,
            log=log,
            wall=wall,
            due=NeverBack(wall),
            announce=lambda type, data: self.ingest.announce(type, data),
            feed=self.feed,
            tally=self.tally,
        )
        self.limits_met: Counter[str] = Counter()
        self.dispatcher = Dispatcher(
            outside,
            receiver,
            disabled=self.registry.show_disabled,
            limit_met=lambda limit: self.limits_met.update([limit]),
        )
        self.ingest = Ingest(
            self.store,
            self.registry.catalog,
            Limits(),
            offer=self.dispatcher.offer,
            offer_many=self.dispatcher.offer_many,
            metrics=self.metrics,
            wall=wall,
            feed=self.feed,
        )
        self.registry.attach(self.ingest, self.dispatcher)
        self.grace_s = 600.0
        self.named: set[str] | ConfigError = set()
        """What the files name, where they are looked at once more before a webhook is removed."""
        self.grace = Grace(self.registry, self.store, log, grace_s=lambda: self.grace_s, named=self._look_at_files)
        self.policy = Policy(allow=(), deny=(), allow_http=False)
        self.editor = Editor(
            self.registry,
            self.store,
            Seal(),
            log,
            wall=wall,
            defaults=Defaults,
            policy=lambda: self.policy,
        )
        self.redeliverer = Redeliverer(
            self.store, self.registry, self.dispatcher, lambda: self.dispatcher.outside, wall
        )

    async def say(self, *hooks: Webhook, removes: bool = False) -> Removal:
        """What the files say from now on; `removes`: what they name no more is gone at once."""
        self.named = {hook.id for hook in hooks}
        async with self.registry.filing:
            return self.registry.put_in_force(await self.registry.prepare(hooks, removes=removes))

    async def _look_at_files(self) -> set[str]:
        if isinstance(self.named, ConfigError):
            raise self.named
        return self.named

    def saved(self) -> bytes:
        """What is on disk."""
        return self.store._conn.serialize("main")

    async def submit(self, count: int = 1, line: bytes = b'{"type":"a.b","data":1}') -> None:
        done = trio.Event()
        self.ingest.submit([line] * count, lambda answer: done.set())
        await done.wait()

    async def make(self, **fields: Any) -> Webhook:
        """A webhook made over the API."""
        made, _ = await self.editor.create({"url": "https://r1.example/hook", "events": ["*"], **fields})
        return made

    async def change(self, **fields: Any) -> None:
        """Change the one webhook over the API."""
        await self.editor.update(self.hook, fields, lambda webhook: True)

    async def rows(self, webhook: Webhook, **wanted: Any) -> list[history.DeliveryRow]:
        """The history of a webhook, newest first."""
        page = await self.store.read(history.deliveries, history.Wanted(webhook=webhook.seq, **wanted), None, 1000)
        return page.rows

    @property
    def hook(self) -> Webhook:
        (found,) = self.registry.catalog.by_seq.values()
        return found

    def statuses(self) -> list[tuple[Any, ...]]:
        return self.store._conn.execute("SELECT state, count(*) FROM delivery GROUP BY 1 ORDER BY 1").fetchall()


def restarted(saved: bytes) -> Store:
    """The store of the next daemon."""
    store = new_store()
    store._conn.deserialize("main", saved)
    return store


@asynccontextmanager
async def house(receiver: Receiver, store: Store | None = None) -> AsyncIterator[House]:
    made = House(receiver, store)
    async with trio.open_nursery() as keeping:
        await keeping.start(made.store.run)
        async with trio.open_nursery() as root:
            root.start_soon(made.registry.run)
            root.start_soon(made.grace.run)
            root.start_soon(made.editor.run)
            async with trio.open_nursery() as relay:
                await relay.start(made.dispatcher.run, await made.store.read(queue.backlogs), {})
                yield made
                made.dispatcher.stop(0)
            root.cancel_scope.cancel()
        made.store.close()
