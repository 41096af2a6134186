"""The store: one writer that commits in groups, a few readers, and checkpoints beside them.

Whoever wants something written hands in a function of a connection and its rows; all that arrives while a batch is
being committed makes the next one. What is written is told elsewhere in this folder.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import apsw
import trio
from msgspec import Struct

from hookrelay.model import Ids, LocalTrouble, Refused
from hookrelay.store import open as opening
from hookrelay.store.files import StoreDamaged
from hookrelay.store.house import House, cut_log, file_size
from hookrelay.store.trouble import PASSING, damaged, refusal, told
from hookrelay.store.worker import Worker

Row = TypeVar("Row")
Answer = TypeVar("Answer")
Job = Callable[[apsw.Connection, Sequence[Row]], list[Answer]]
"""Writes rows of one kind and returns one answer a row. Runs in the writer's thread, inside a transaction."""
Done = Callable[[Any], None]
"""Told, on the loop's thread, the job's answers for its rows, or the exception that undid them."""

LINGER_S = 0.002
"""Above LINGER_RATE a commit waits this long for company: half the CPU, and a better p99 (measured)."""
LINGER_RATE = 1000.0
"""Rows a second, events and outcomes alike; below it every commit begins at once."""
LONG_LINGER_S = 0.004
LONG_LINGER_RATE = 12_000.0
"""Above this rate a commit costs most by being one more: 7 % of all CPU, for 2 ms."""
OUTCOME_LINGER_S = 0.005
"""Outcomes need no commit of their own: so long they wait for an event to ride with. Longer saves nothing more (2 to
40 ms measured), and what is not on disk comes twice after kill -9."""
UNNOTED_MS = 60_000
"""Of running time since the last commit at most so much is lost at the end: idempotency keys count that much longer."""
RETRY_S = 1.0
TRIES_AT_END = 3
SCRUB_TRIES = 100
READERS = 2


class _Request(Struct, frozen=True):
    job: Job[Any, Any]
    rows: Sequence[Any]
    done: Done
    keep: bool
    """Nobody waits who could be told of a failure: try again until it is written."""


class _Waiter:
    """One task that waits for its own batch."""

    __slots__ = ("_answer", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._answer: Any = None

    def done(self, answer: Any) -> None:
        self._answer = answer
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> Any:
        if self._answer is None:
            self._task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


class Stats:
    """What the store tells the metrics."""

    def __init__(self) -> None:
        self.commit_seconds: Callable[[float], None] = lambda seconds: None
        self.troubled: Callable[[str], None] = lambda kind: None
        """Told the kind of trouble of each batch that could not be written."""
        self.size_bytes = 0
        self.free_bytes = 0
        """On its disk."""


class Store:
    """Owns the connections; `run` is its only task and must outlive all who write.

    `inline` runs every job on the loop's own thread, after a checkpoint: for tests, whose clock does not wait for
    threads.
    """

    def __init__(self, opened: opening.Opened, *, inline: bool = False) -> None:
        self._opened = opened
        self._conn = opened.writer
        self._inline = inline or opened.path == ":memory:"
        self._queue: list[_Request] = []
        self._turns: deque[tuple[Callable[[apsw.Connection], Any], _Waiter]] = deque()
        self._urgent = trio.Event()
        self._soon = trio.Event()
        self._closing = False
        self._tries_at_end = 0
        self._commits = opened.identity.commits
        self._ran_ms = opened.identity.running_ms
        self._running_ms = self._ran_ms
        """What the next commit writes down."""
        self._since_s: float | None = None
        self._rate = 0.0
        self._waiting_rows = 0
        self._house = House(opened, lambda: self._commits, self._looked, self._cut_log)
        self._no_room: LocalTrouble | None = None
        self._batch_began: float | None = None
        self._told = trio.lowlevel.ParkingLot()
        self._damage: StoreDamaged | None = None
        self._is_damaged = trio.Event()
        self._writer = Worker()
        self._readers = [Worker() for _ in range(READERS)]
        self._workers = (self._writer, *self._readers)
        self._reading = trio.Semaphore(READERS)
        self._reader_conns: dict[Worker, apsw.Connection] = {}
        self.ids = Ids(opened.identity.tag)
        self.salt = opened.identity.salt
        self.last_written_ms = opened.last_written_ms
        """When the last daemon wrote here; None where there was none."""
        self.stats = Stats()
        self.trouble: LocalTrouble | None = None
        """Why nothing can be written just now; None when all is well. No attempt starts meanwhile."""
        self.is_low = False
        """Whether too little space is left to take more in."""
        last = self._conn.execute("SELECT (SELECT max(seq) FROM event), (SELECT max(seq) FROM delivery)").get
        self.last_event: int = last[0] or 0
        self.last_delivery: int = last[1] or 0

    # --- for those who write and read ---------------------------------------------------------------------------

    def take_numbers(self, deliveries: int) -> tuple[int, int]:
        """The next event's key and its first delivery's. Numbers that come to nothing leave gaps."""
        self.last_event += 1
        first = self.last_delivery + 1
        self.last_delivery += deliveries
        return self.last_event, first

    def running_ms(self) -> int:
        """For how long daemons have run on this store, in milliseconds: a clock that nobody can set."""
        if self._since_s is None:
            self._since_s = trio.current_time()
        return self._ran_ms + int((trio.current_time() - self._since_s) * 1000)

    def enqueue(self, job: Job[Row, Answer], rows: Sequence[Row], done: Done, *, keep: bool = False) -> None:
        """Have `rows` written with the next batch and `done` told. Returns at once.

        With `keep` the batch may wait a little for others, and trouble with the disk delays it but never loses it.
        """
        if self._closing and not keep:
            done(Refused("unavailable", "the daemon is stopping: send the event again"))
            return
        self._queue.append(_Request(job, rows, done, keep))
        self._soon.set()
        self._waiting_rows += len(rows)
        if not keep:
            self._urgent.set()

    def hurry(self) -> None:
        """Let the next batch start at once: somebody waits for what is queued."""
        self._urgent.set()

    async def write(self, job: Job[Row, Answer], rows: Sequence[Row], *, keep: bool = False) -> list[Answer]:
        """The job's answers, once they are on disk. Raises what undid it: Refused where the disk did not take it, or
        its own error. With `keep` trouble with the disk is waited for.
        """
        waiter = _Waiter()
        self.enqueue(job, rows, waiter.done, keep=keep)
        self.hurry()
        answers: list[Answer] = await waiter.wait()
        return answers

    async def change(self, job: Callable[..., Answer], *args: Any, keep: bool = False) -> Answer:
        """`job(connection, *args)` in a transaction; its answer once that is on disk (as `write`)."""
        answer: Answer = (await self.write(_call_each, [(job, args)], keep=keep))[0]
        return answer

    async def scrub(self, largest: int) -> bool:
        """Leave nothing in the files of what was overwritten or deleted. For the start: nobody may read meanwhile.

        False where that could not be done: the store has over `largest` bytes, for it is written anew as a whole, or
        there is no room for that. It is as it was then.
        """
        if self._inline or file_size(self._opened.path) > largest:
            return self._inline
        return await self._in_thread(partial(_scrub, self._conn))

    async def turn(self, work: Callable[[apsw.Connection], Answer]) -> Answer:
        """What `work` returns or raises, called with the writer's connection between two batches: in no transaction.

        All commits wait for it, so it must be short. Whoever is cancelled meanwhile does not stop it: what it uses is
        given up by another turn, which comes after it.
        """
        if self._closing:
            raise Refused("unavailable", "the daemon is stopping: ask again when it is back")
        waiter = _Waiter()
        self._turns.append((work, waiter))
        self._soon.set()
        answer: Answer = (await waiter.wait())[0]
        return answer

    @property
    def path(self) -> str:
        """The database's file; `:memory:` where there is none."""
        return self._opened.path

    async def read(self, job: Callable[..., Answer], *args: Any, keep: bool = False) -> Answer:
        """`job(connection, *args)` on a connection that can only read, in a thread.

        Refused where this host is in trouble just now; with `keep` that is waited for. Where SQLite finds its file
        damaged, `run` ends with that, and so does the daemon.
        """
        if self._inline:
            await trio.lowlevel.checkpoint()
            return job(self._conn, *args)
        while True:
            try:
                return await self._read_once(job, args)
            except LocalTrouble as trouble:
                self.stats.troubled(trouble.kind)
                if not keep:
                    raise refusal(trouble) from trouble
            except StoreDamaged as error:
                self._damage = error
                self._is_damaged.set()
                if not keep:
                    raise Refused("store_damaged", "the store is damaged: the daemon ends, and says more") from error
                await trio.sleep_forever()
            await trio.sleep(RETRY_S)

    async def told(self) -> None:
        """Wait until everybody has been told of what readers can have seen by now.

        A reader sees a commit as soon as it is on disk, which is before the writer's task hears of it.
        """
        if self._batch_began is not None:
            await self._told.park()

    async def _read_once(self, job: Callable[..., Answer], args: tuple[Any, ...]) -> Answer:
        async with self._reading:
            reader = self._readers.pop()
            try:
                return await reader.call(partial(self._read, reader, job, args))
            finally:
                self._readers.append(reader)

    async def answers(self, patience_s: float) -> bool:
        """Whether it can be read, and no batch has been under way for longer than `patience_s`."""
        try:
            await self.read(_look)
        except Refused:
            return False
        began = self._batch_began
        return began is None or trio.current_time() - began < patience_s

    def _read(self, reader: Worker, job: Callable[..., Answer], args: tuple[Any, ...]) -> Answer:
        try:
            return job(self._reader_conns[reader], *args)
        except apsw.CorruptError as error:
            raise damaged(self._opened.path, error) from error
        except PASSING as error:
            raise told(error) from error

    # --- the writer ---------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what is handed in until `close` was called and all of it is on disk. Owns every connection.

        StoreDamaged where SQLite finds its file damaged: nothing sound can be done after that.
        """
        try:
            async with trio.open_nursery() as nursery:
                if not self._inline:
                    for worker in self._workers:
                        nursery.start_soon(worker.run)
                    for reader in self._readers:
                        # now, not when it is first used: there may be no descriptor left then
                        self._reader_conns[reader] = await reader.call(partial(opening.reader, self._opened.path))
                    nursery.start_soon(self._house.run)
                    nursery.start_soon(self._end_where_damaged)
                task_status.started()
                try:
                    await self._write_batches()
                finally:
                    for worker in self._workers:
                        worker.stop()
                nursery.cancel_scope.cancel()
        finally:
            self._close()

    async def _end_where_damaged(self) -> None:
        await self._is_damaged.wait()
        if self._damage is not None:
            raise self._damage

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns or raises, called in the writer's thread. Not to be cancelled: it would go on there."""
        if self._inline:
            await trio.lowlevel.checkpoint()
            return work()
        return await self._writer.call(work)

    def close(self) -> None:
        """Take nothing more that could be refused; `run` returns once the rest is on disk."""
        self._closing = True
        self._soon.set()
        self._urgent.set()

    async def _write_batches(self) -> None:
        last = trio.current_time()
        while True:
            if self._turns:
                await self._take_turn()
            if not self._queue:
                if self._turns:
                    continue
                if self._closing:
                    if self.running_ms() - self._running_ms < UNNOTED_MS:
                        return
                    self.enqueue(_probe, (None,), _ignore, keep=True)
                    continue
                self._soon = trio.Event()
                self._urgent = trio.Event()
                is_failing = self.trouble is not None and self.trouble is not self._no_room
                with trio.move_on_after(RETRY_S if is_failing else float("inf")):
                    await self._soon.wait()
                if not self._queue and self.trouble is not None and is_failing:
                    self.enqueue(_probe, (None,), _ignore)
                if not self._queue:
                    continue  # a turn, or closed with nothing left to write: no commit of nothing
            if self._rate > LINGER_RATE and not self._closing:
                await self._linger()
            batch, self._queue = self._queue, []
            self._urgent = trio.Event()
            now = trio.current_time()
            rows, self._waiting_rows = self._waiting_rows, 0
            self._rate += (rows / max(now - last, 1e-6) - self._rate) * min(1.0, (now - last) / 0.05)
            last = now
            await self._write_batch(batch)

    async def _take_turn(self) -> None:
        work, waiter = self._turns.popleft()
        try:
            answer: Any = (await self._in_thread(partial(work, self._conn)),)
        except Exception as error:
            answer = error  # the caller's own, who waits for it
        waiter.done(answer)

    async def _linger(self) -> None:
        """Wait a little for company."""
        if self._urgent.is_set():
            await trio.sleep(LINGER_S if self._rate < LONG_LINGER_RATE else LONG_LINGER_S)
        else:
            with trio.move_on_after(OUTCOME_LINGER_S):
                await self._urgent.wait()

    async def _write_batch(self, batch: list[_Request]) -> None:
        started = time.perf_counter()
        self._batch_began = trio.current_time()
        self._running_ms = self.running_ms()
        answers = await self._in_thread(partial(self._commit, batch))
        self.stats.commit_seconds(time.perf_counter() - started)
        again: list[_Request] = []
        trouble: LocalTrouble | None = None
        for request, answer in zip(batch, answers, strict=True):
            if isinstance(answer, LocalTrouble):
                trouble = answer
                if request.keep:
                    again.append(request)
                    continue
                answer = refusal(answer)
            request.done(answer)
        self._batch_began = None
        self._told.unpark_all()
        self.trouble = trouble or self._no_room
        if trouble is not None:
            self.stats.troubled(trouble.kind)
        if again and self._closing:
            # the daemon's end cannot wait for a disk: what is not recorded is delivered once more after the start
            self._tries_at_end += 1
            again = again if self._tries_at_end < TRIES_AT_END else []
        if again:
            self._queue[:0] = again
            await trio.sleep(RETRY_S)

    def _commit(self, batch: list[_Request]) -> list[Any]:
        """All of `batch` in one transaction; where that fails, each request in one of its own. One answer each."""
        try:
            answers = self._transaction(batch)
        except apsw.CorruptError as error:
            raise damaged(self._opened.path, error) from error
        except Exception as error:
            if len(batch) == 1:
                return [told(error)]
            answers = []
            for request in batch:
                try:
                    answers += self._transaction([request])
                except Exception as own:
                    answers.append(told(own))
        return answers

    def _transaction(self, batch: list[_Request]) -> list[Any]:
        conn = self._conn
        conn.execute("BEGIN IMMEDIATE")
        try:
            answers: dict[int, list[Any]] = {}
            order = sorted(range(len(batch)), key=lambda index: id(batch[index].job))
            for _, group in groupby(order, key=lambda index: id(batch[index].job)):
                self._run_together(batch, list(group), answers)
            conn.execute("UPDATE store SET commits = ?, running_ms = ?", (self._commits + 1, self._running_ms))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
        self._commits += 1
        return [answers[index] for index in range(len(batch))]

    def _run_together(self, batch: list[_Request], indices: list[int], answers: dict[int, list[Any]]) -> None:
        """Rows of one kind in one go, in the order in which they came."""
        rows = batch[indices[0]].rows if len(indices) == 1 else [row for i in indices for row in batch[i].rows]
        found = batch[indices[0]].job(self._conn, rows)
        at = 0
        for index in indices:
            count = len(batch[index].rows)
            answers[index] = found[at : at + count]
            at += count

    # --- the files ----------------------------------------------------------------------------------------------

    def _looked(self) -> None:
        """Take note of what the house has found."""
        house = self._house
        self.stats.size_bytes, self.stats.free_bytes = house.size_bytes, house.space.free_bytes
        self.is_low = house.space.is_low
        if house.space.is_full and self._no_room is None:
            self._no_room = LocalTrouble("store_full", "the disk is full: nothing is begun until there is room again")
            self.trouble = self.trouble or self._no_room
            self.stats.troubled(self._no_room.kind)
        elif not house.space.is_full and self._no_room is not None:
            self.trouble = None if self.trouble is self._no_room else self.trouble
            self._no_room = None

    async def _cut_log(self) -> None:
        """Have the writer cut the log while none of our readers is at work: beside busy ones it never could."""
        for _ in range(READERS):
            await self._reading.acquire()
        try:
            with contextlib.suppress(Refused):  # it stops: the log is cut with the last connection
                await self.turn(cut_log)
        finally:
            for _ in range(READERS):
                self._reading.release()

    def _close(self) -> None:
        for conn in self._reader_conns.values():
            conn.close()
        self._conn.close()
        self._house.close()


def _call_each(conn: apsw.Connection, rows: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> list[Any]:
    return [job(conn, *args) for job, args in rows]


def _probe(conn: apsw.Connection, rows: Sequence[None]) -> list[None]:
    """Nothing to write but the commit's own count: shows whether writing works again."""
    return [None] * len(rows)


def _look(conn: apsw.Connection) -> None:
    conn.execute("SELECT commits FROM store").get  # noqa: B018 -- what it says does not matter


def _ignore(answer: object) -> None:
    """Nobody asked."""


def _scrub(conn: apsw.Connection) -> bool:
    try:
        conn.execute("VACUUM")
        for _ in range(SCRUB_TRIES):
            with contextlib.suppress(apsw.BusyError):
                conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                return True
            time.sleep(0.05)  # the house is at its own checkpoint
    except (apsw.FullError, apsw.IOError, apsw.CantOpenError):
        pass
    return False
