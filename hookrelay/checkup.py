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
                await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))
        return Checked(rows, len(tables), faults[:FAULTS_MOST])
