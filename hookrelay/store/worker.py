"""A thread that lives as long as the store and makes one call after another for tasks.

Starting a call in one of trio's own threads takes 55 µs and more, which is as long as a commit.
"""

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import outcome
import trio

from hookrelay.model import LocalTrouble

T = TypeVar("T")


class Worker:
    """One such thread. `run` is its task; one call at a time."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._waiting: trio.lowlevel.Task | None = None
        self._has_stopped = False

    async def run(self) -> None:
        """Lend the thread to whoever calls. Returns after `stop`; not to be cancelled before."""
        token = trio.lowlevel.current_trio_token()
        await trio.to_thread.run_sync(self._serve, token, limiter=trio.CapacityLimiter(1))

    def stop(self) -> None:
        """Let the thread end, once the call that it is at has ended."""
        self._has_stopped = True
        self._work.put(None)

    def _serve(self, token: trio.lowlevel.TrioToken) -> None:
        while (work := self._work.get()) is not None:
            token.run_sync_soon(self._came_back, outcome.capture(work))

    def _came_back(self, result: outcome.Outcome[Any]) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            trio.lowlevel.reschedule(waiting, result)

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, called in the thread. Not to be cancelled: it would go on there.

        LocalTrouble where the thread has ended: nobody would ever answer.
        """
        if self._has_stopped:
            raise LocalTrouble("store_io", "the store is closed")
        self._waiting = trio.lowlevel.current_task()
        self._work.put(work)
        answer: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return answer
