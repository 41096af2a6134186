"""Replays that people have started from a page, and how far they are."""

from collections.abc import Awaitable, Callable
from typing import Literal

import trio
from msgspec import Struct

from hookrelay.model import LocalTrouble, Refused, Webhook, random_ulid

KEPT = 20
"""Replays of one tenant that are remembered, the newest; those under way are never forgotten."""
AT_ONCE = 20
OF_TENANT = 5
"""Replays under way, and of these of one tenant's webhooks (THREATS §3)."""


class Running(Struct):
    """One replay."""

    id: str
    webhook_id: str
    tenant: str
    total: int
    """How many deliveries matched when it was asked for."""
    done: int = 0
    state: Literal["running", "finished", "failed"] = "running"
    trouble: str = ""


Work = Callable[[Callable[[int], None]], Awaitable[int]]
"""Replays, telling each step how many it was; returns how many in all."""


class Replays:
    """All of them. `run` is the task that they are part of."""

    def __init__(self, limit_met: Callable[[str], None] = lambda limit: None) -> None:
        self._limit_met = limit_met
        self._known: dict[str, Running] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, stopping: trio.Event) -> None:
        """Carry out what `start` is given, until `stopping`: what is under way then stays where it is."""
        async with trio.open_nursery() as self._nursery:
            await stopping.wait()
            self._nursery.cancel_scope.cancel()

    def start(self, webhook: Webhook, total: int, work: Work, *, now_ms: int, luck: int) -> Running:
        """Begin a replay. Refused where too many are under way."""
        under_way = [each.tenant for each in self._known.values() if each.state == "running"]
        theirs = under_way.count(webhook.tenant)
        if theirs >= OF_TENANT:
            self._limit_met("replays")
            raise Refused("rate_limited", f"{theirs} of your replays are under way: wait until one has ended")
        if self._nursery is None or len(under_way) >= AT_ONCE:
            self._limit_met("replays")
            raise Refused("unavailable", f"{len(under_way)} replays are under way: wait until one has ended")
        started = Running("rpl_" + random_ulid(now_ms, luck), webhook.id, webhook.tenant, total)
        self._known[started.id] = started
        ended = [each.id for each in self._known.values() if each.tenant == webhook.tenant and each.state != "running"]
        for id in ended[: max(0, len(ended) + theirs + 1 - KEPT)]:
            del self._known[id]
        self._nursery.start_soon(_carry_out, started, work)
        return started

    def find(self, id: str) -> Running | None:
        """The replay with this id, as long as it is remembered."""
        return self._known.get(id)


async def _carry_out(running: Running, work: Work) -> None:
    def tell(count: int) -> None:
        running.done += count

    try:
        running.done = await work(tell)
        running.state = "finished"
    except Refused as refused:
        running.state, running.trouble = "failed", refused.detail
    except LocalTrouble as trouble:
        running.state, running.trouble = "failed", trouble.detail
