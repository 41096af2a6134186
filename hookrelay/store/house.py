"""Keeping the store's files in order beside the writer: checkpoints, the marker, and how much room is left.

All of it in one thread that lives as long as the store, so that it goes on where this host can start none.
"""

import contextlib
import math
import os
from collections.abc import Awaitable, Callable
from functools import partial

import apsw
import trio

from hookrelay.store import open as opening
from hookrelay.store.files import Mark
from hookrelay.store.space import Space
from hookrelay.store.trouble import DAMAGE, PASSING, damaged
from hookrelay.store.worker import Worker

CHECKPOINT_S = 0.1
LOOK_S = 1.0
QUIET_S = 2.0
WAL_LIMIT = 64 << 20
"""Bytes of write-ahead log over which it is cut at once (THREATS §5.4)."""
IDLE_S = 30.0
IDLE_WAL_LIMIT = 1 << 20
"""Over so many it is cut when nothing was written for so long."""
CUT_PATIENCE_MS = 50
"""How long cutting the log may wait for readers: commits wait meanwhile, and there is a next time."""


class House:
    """`run` is its only task. What it finds is told by `looked`, on the loop's thread, every second."""

    def __init__(
        self,
        opened: opening.Opened,
        commits: Callable[[], int],
        looked: Callable[[], None],
        cut: Callable[[], Awaitable[None]],
    ) -> None:
        """`cut` has the writer cut the log (`cut_log`)."""
        self._opened = opened
        self._commits = commits
        self._looked = looked
        self._cut = cut
        self._marked = opened.identity.commits
        self._written = (opened.identity.commits, 0.0)
        """How many commits there were when it was last looked, and since when there have been so many."""
        self._wal_bytes = 0
        self._worker = Worker()
        self.space = Space(os.path.dirname(opened.path) or ".")
        self.size_bytes = 0

    async def run(self) -> None:
        """Keep order until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._worker.run)
            try:
                await self._keep()
            finally:
                self._worker.stop()

    def _is_log_long(self) -> bool:
        """It grew too long, or nobody needs it."""
        since = self._written[1]
        is_idle = trio.current_time() - since >= IDLE_S
        return self._wal_bytes > (IDLE_WAL_LIMIT if is_idle else WAL_LIMIT)

    def _is_quiet(self) -> bool:
        """Nothing has been written for a while: ten looks a second would be most of what an idle daemon does."""
        commits, since = self._written
        return self._commits() == commits and trio.current_time() - since > QUIET_S

    def mark(self) -> None:
        """Write down how many commits are on disk at least."""
        marker, commits = self._opened.marker, self._commits()
        if marker is not None and commits != self._marked:
            # a marker that lags only proves less; what ails the disk shows in the commits
            with contextlib.suppress(OSError):
                marker.write(Mark(self._opened.identity.id, commits))
                self._marked = commits

    def close(self) -> None:
        """The last mark; then everything that is held is given back, the lock too."""
        self.space.close()
        if self._opened.marker is not None:
            self.mark()
            self._opened.marker.close()
        if self._opened.lock is not None:
            self._opened.lock.close()

    async def _keep(self) -> None:
        call = self._worker.call
        conn: apsw.Connection | None = None
        seen = -1
        looked_s = -math.inf
        try:
            while True:
                if trio.current_time() - looked_s >= LOOK_S:
                    looked_s = trio.current_time()
                    await call(self._look)
                    if self._commits() != self._written[0]:
                        self._written = (self._commits(), trio.current_time())
                    self._looked()
                    if self._is_log_long():
                        await self._cut()
                if self._commits() != seen:
                    seen = self._commits()
                    conn = await call(partial(_checkpoint, self._opened.path, conn))
                await trio.sleep(LOOK_S if self._is_quiet() else CHECKPOINT_S)
        finally:
            if conn is not None:
                conn.close()

    def _look(self) -> None:
        path = self._opened.path
        self._wal_bytes = file_size(path + "-wal")
        self.size_bytes = file_size(path) + self._wal_bytes
        self.space.look()
        self.mark()


def cut_log(conn: apsw.Connection, patience_ms: int = CUT_PATIENCE_MS) -> bool:
    """Bring all of the log into the store and shorten it to nothing. By the writer only, outside of a transaction.

    False where that could not be done just now: somebody reads, or the host is in trouble.
    """
    conn.set_busy_timeout(patience_ms)
    try:
        conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except PASSING:
        return False
    finally:
        conn.set_busy_timeout(opening.BUSY_MS)
    return True


def file_size(path: str) -> int:
    """0 where there is no such file."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _checkpoint(path: str, conn: apsw.Connection | None) -> apsw.Connection | None:
    """The connection, opened where there was none; what ails the disk is told by the commits: there is a next time."""
    with contextlib.suppress(*PASSING):
        try:
            if conn is None:
                conn = opening.checkpointer(path)
            conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except DAMAGE as error:
            raise damaged(path, error) from error
    return conn
