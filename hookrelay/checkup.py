"""Looking through all of the running daemon's store, beside all else."""

import trio
from msgspec import Struct

from hookrelay.model import Refused
from hookrelay.store import check
from hookrelay.store.db import Store

SHARE = 0.5
"""Of the time: a look at a large store takes long, and hurries nobody."""
FAULTS_MOST = 5


class Checked(Struct, frozen=True):
    """How many rows of how many tables were read, and what was wrong with them."""

    rows: int
    tables: int
    damaged_payloads: int
    """Events whose payload is not what was accepted."""
    faults: list[str]


class Checkup:
    """Reads a store, for one who asks at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_busy = False

    async def look(self) -> Checked:
        """Read every row, and see whether every index finds it. Refused("conflict") where that is being done."""
        if self._is_busy:
            raise Refused("conflict", "the store is being looked through already: ask again when that has ended")
        self._is_busy = True
        try:
            return await self._look()
        finally:
            self._is_busy = False

    async def _look(self) -> Checked:
        rows, faults = 0, list[str]()
        tables = await self._store.read(check.tables)
        for table in tables:
            after = None
            while len(faults) < FAULTS_MOST:
                started_s = trio.current_time()
                step = await self._store.read(check.look, table, after)
                rows, after = rows + step.rows, step.after
                faults += step.faults
                if after is None:
                    break
                await _rest(started_s)
        count, first = await self._damaged_payloads()
        told = [check.damage_told(count, first)] if count else []
        return Checked(rows, len(tables), count, [*faults[:FAULTS_MOST], *told])

    async def _damaged_payloads(self) -> tuple[int, int | None]:
        """How many events have one, and the number of the first."""
        count, first = 0, None
        after: int | None = 0
        while after is not None:
            started_s = trio.current_time()
            step = await self._store.read(check.look_at_payloads, after)
            count, after = count + len(step.damaged), step.after
            first = first or next(iter(step.damaged), None)
            await _rest(started_s)
        return count, first


async def _rest(started_s: float) -> None:
    await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
