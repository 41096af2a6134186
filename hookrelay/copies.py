"""Copies of the running daemon's store: made beside all else in small steps, verified, handed over, and gone again."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from hookrelay.audit import DAEMON, Actor, Entry, Trail
from hookrelay.model import Refused
from hookrelay.store import backup
from hookrelay.store.db import Store
from hookrelay.store.files import StoreDamaged, StoreUnusable
from hookrelay.store.space import FREE_AT_LEAST
from hookrelay.telemetry.logs import Logger

STEP_S = 0.003
"""How long a step is to take: all commits wait for it."""
FIRST_PAGES = 32
MOST_PAGES = 512
SHARE = 0.5
"""Of the time, waiting for the writer's turn included: on a busy store that is most of a step's."""
SYNC_BYTES = 32 << 20
"""So much of the copy goes to the disk at once: more would hold up the commits that wait for it too."""
CLOSING_S = 30.0
"""How long a copy that is not wanted any more may take to be closed."""


class Copies:
    """Makes copies of the store, one at a time."""

    def __init__(self, store: Store, log: Logger, wall: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._trail = Trail(store, log, wall)
        self._is_busy = False
        self._limiter = trio.CapacityLimiter(1)

    @asynccontextmanager
    async def make(self, *, by: Actor = DAEMON) -> AsyncIterator[tuple[Path, backup.Facts]]:
        """A verified copy of all that is committed by now, in a file that lasts as long as the context.

        Refused where one is being made already, where the disk has no room for it, or where it shows that the store
        is damaged. Nobody gets one of which there is no record.
        """
        if self._is_busy:
            raise Refused("conflict", "a backup is being made already: try again when it has ended")
        self._is_busy = True
        path = Path(self._store.path + backup.COPYING)
        try:
            try:
                facts = await self._copy(path)
            except StoreUnusable as error:
                raise Refused("store_full", f"the copy cannot be written: {error}") from error
            except StoreDamaged as error:
                self._log.error("store_damaged", detail=f"a copy of the store shows it: {error}")
                raise Refused(
                    "store_damaged", f"{error}: that is a copy, and the store is as damaged: restore an earlier backup"
                ) from error
            details = {"bytes": facts.size, "commits": facts.commits}
            await self._trail.note(Entry(action="store.backed_up", by=by, details=details))
            yield path, facts
        finally:
            with trio.move_on_after(CLOSING_S, shield=True):  # many gigabytes are not gone at once
                await self._in_thread(partial(backup.forget_copying, Path(self._store.path)))
            self._is_busy = False

    async def _copy(self, path: Path) -> backup.Facts:
        await self._check_room()
        started_s = trio.current_time()
        copying = await self._store.turn(partial(backup.Copying, path=path))
        try:
            commits = await self._step_through(copying)
        finally:
            with trio.move_on_after(CLOSING_S, shield=True):  # a step may be under way
                await self._store.turn(lambda _: copying.close())
        await self._in_thread(partial(backup.settle, path))
        facts = await self._verify(path)
        if facts.commits != commits:
            raise StoreDamaged(f"{path}: it holds {facts.commits} commits, not the {commits} that were copied")
        took_s = round(trio.current_time() - started_s, 3)
        self._log.info("copied", bytes=facts.size, commits=commits, took_s=took_s)
        return facts

    async def _step_through(self, copying: backup.Copying) -> int:
        pages, synced = FIRST_PAGES, 0
        while True:
            if self._store.is_low:
                raise Refused("store_full", "the disk is nearly full by now: make room, and try again")
            started_s = trio.current_time()
            step = await self._store.turn(partial(_step, copying, pages))
            if step.commits is not None:
                return step.commits
            pages = min(max(round(pages * STEP_S / step.took_s), 1), 2 * pages, MOST_PAGES)
            size = copying.path.stat().st_size
            if size - synced >= SYNC_BYTES:
                synced = size
                await self._in_thread(partial(backup.sync, copying.path))
            await trio.sleep((trio.current_time() - started_s) * (1 / SHARE - 1))

    async def _verify(self, path: Path) -> backup.Facts:
        is_wanted = [True]
        check = partial(backup.verify, path, whole=False, is_wanted=lambda: is_wanted[0])
        try:
            return await trio.to_thread.run_sync(check, limiter=self._limiter, abandon_on_cancel=True)
        finally:
            is_wanted[0] = False

    async def _check_room(self) -> None:
        needed = os.stat(self._store.path).st_size + FREE_AT_LEAST
        space = os.statvfs(os.path.dirname(self._store.path) or ".")
        free = space.f_bavail * space.f_frsize
        if free < needed:
            raise Refused(
                "store_full",
                f"a copy needs {needed >> 20} MiB beside the store while it is made, and {free >> 20} MiB are free on"
                " that disk: make room, or stop the daemon: then `hookrelay backup` needs none there",
            )

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work, limiter=self._limiter)


def _step(copying: backup.Copying, pages: int, _: object) -> backup.Step:
    return copying.step(pages)
