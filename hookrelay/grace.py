"""The end of webhooks that no file names any more: what waits for them is held for `delivery.removal_grace`, no longer.

Only running time counts, by a clock that no jump shakes. What is missing, and held, is `registry`'s to say.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import trio

from hookrelay.model import ConfigError, Refused
from hookrelay.registry import Registry
from hookrelay.store import webhooks
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger

NOTED_S = 30.0
"""So often it is written down how long they have been missing: a restart costs the count no more than that."""
NOTED_SHARE = 0.1
"""Or in such steps of a shorter grace."""
NOTED_LEAST_S = 1.0
AGAIN_S = 60.0
"""After a last look that could not tell: so long until the next one."""
LAST_NOTE_S = 1.0
"""How long the note at the end of the daemon may take."""


class Grace:
    """`run` is its task."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        log: Logger,
        *,
        grace_s: Callable[[], float],
        named: Callable[[], Awaitable[Collection[str]]],
    ) -> None:
        """`named` reads the files: the ids of the webhooks that they name (ConfigError where they cannot be read)."""
        self._registry = registry
        self._store = store
        self._log = log
        self._grace_s = grace_s
        self._named = named
        self._spared_until_s = float("-inf")

    async def run(self) -> None:
        """Count, and remove what has been missing for too long. Never returns."""
        while True:
            looked = self._registry.looked
            with trio.move_on_after(self._pause_s()):
                await looked.wait()
                continue
            await self.note()
            if self._due():
                async with self._registry.filing:
                    await self._remove()

    def left_s(self) -> float | None:
        """How much running time the first of them has left; None where none is missing."""
        missing = self._registry.missing
        if not missing:
            return None
        return max(0.0, min(missing.values()) + self._grace_s() - trio.current_time())

    async def note(self) -> None:
        """Write down how long each has been missing. What the disk does not take now is written at the next time."""
        now_s = trio.current_time()
        used_ms = {seq: round((now_s - since_s) * 1000) for seq, since_s in self._registry.missing.items()}
        if used_ms:
            with suppress(Refused):
                await self._store.change(webhooks.note_missing, used_ms)

    async def finish(self) -> None:
        """The last note, before the daemon ends."""
        with trio.move_on_after(LAST_NOTE_S):
            await self.note()

    def _pause_s(self) -> float:
        left_s = self.left_s()
        if left_s is None:
            return float("inf")
        spared_s = max(0.0, self._spared_until_s - trio.current_time())
        return min(max(left_s, spared_s), max(NOTED_LEAST_S, min(NOTED_S, self._grace_s() * NOTED_SHARE)))

    def _due(self) -> list[int]:
        now_s, grace_s = trio.current_time(), self._grace_s()
        if now_s < self._spared_until_s:
            return []
        return [seq for seq, since_s in self._registry.missing.items() if since_s + grace_s <= now_s]

    async def _remove(self) -> None:
        """After a last look at the files: what is named there by now, and only was not reloaded, is not lost."""
        try:
            named = await self._named()
        except ConfigError as error:
            self._spare(f"the files cannot be read: {error.mistakes[0]}")
            return
        due, by_seq = self._due(), self._registry.catalog.by_seq
        gone = [seq for seq in due if by_seq[seq].id not in named]
        if len(gone) < len(due):
            self._spare("files name them again, which `hookrelay reload` puts in force")
        if not gone:
            return
        try:
            removal = await self._registry.remove_missing(gone)
        except Refused as refused:
            self._spare(refused.detail)
            return
        self._log.warning(
            "webhooks_removed",
            webhooks=removal.webhooks,
            cancelled=removal.deliveries,
            detail="no file has named them for delivery.removal_grace: what waited for them is cancelled",
        )

    def _spare(self, why: str) -> None:
        self._spared_until_s = trio.current_time() + AGAIN_S
        self._log.warning("removal_waits", detail=f"webhooks that were missing for too long are not removed yet: {why}")
