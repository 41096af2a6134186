"""Copies of a store, whole and verified: of one that is in use, step by step, and of one that nobody uses.

A copy is one file, with no write-ahead log beside it. Where it goes, and when a step may be made, is the caller's.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import apsw

from hookrelay.store.check import damage_told, damaged_payloads
from hookrelay.store.files import APPLICATION_ID, StoreDamaged, StoreUnusable

COPYING = ".copying"
"""Ends the name of the file beside the store that a running daemon makes a copy in."""
ASKED_EVERY = 100_000
"""Instructions of SQLite between two questions whether a check is still wanted: some milliseconds."""
FAULTS_SHOWN = 5


class Facts(NamedTuple):
    """What a store's file says of itself."""

    store_id: str
    commits: int
    schema: int
    size: int
    """Bytes."""


class Step(NamedTuple):
    """How long a step took (seconds), and, after the last one, how many commits the copy holds: all there are then."""

    took_s: float
    commits: int | None


class Given(Exception):
    """Whoever wanted a check does not want it any more."""


class Copying:
    """A copy on its way into a file that is not there yet: mode 0600, not on disk before `settle`.

    Source and copy are used by one thread at a time, the one that owns the source. What is written to the source on
    its own connection between two steps is in the copy too, so that no step is made twice.
    """

    def __init__(self, source: apsw.Connection, path: Path) -> None:
        """Raises StoreUnusable where the file cannot be made."""
        self.path = path
        self._source = source
        with _told(path):
            _create(path)
            self._conn = apsw.Connection(str(path))
            self._conn.pragma("journal_mode", "off")  # it is made anew after any trouble
            self._conn.pragma("synchronous", "off")
            self._backup = self._conn.backup("main", source, "main")
        self._is_open = True

    def step(self, pages: int) -> Step:
        """Copy up to so many pages more, all of them with -1; after the last the copy is closed."""
        started = time.perf_counter()
        commits = None
        with _told(self.path):
            self._backup.step(pages)
            if self._backup.done:
                commits = self._source.execute("SELECT commits FROM store").get
                self._backup.finish()
                self.close()
        return Step(time.perf_counter() - started, commits)

    def close(self) -> None:
        """Give the file up, wherever the copy has got to. To be called in any case."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(apsw.Error):
                self._backup.close(True)
            self._conn.close(True)


def settle(path: Path) -> None:
    """Make a finished copy one that needs no file beside it, and have it on disk. Raises StoreUnusable."""
    with _told(path):
        conn = apsw.Connection(str(path))
        try:
            conn.pragma("journal_mode", "delete")
        finally:
            conn.close()
        sync(path)


def sync(path: Path) -> None:
    """Have a file that SQLite does not hold open on disk, and its name too."""
    for each in (path, path.parent):
        fd = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def copy(source: Path, path: Path) -> int:
    """Copy a store that nobody else has open, its write-ahead log included; how many commits it holds.

    To be called by whoever holds its lock. The source is only read. Raises StoreDamaged and StoreUnusable.
    """
    with _told(source):
        conn = reading(source, is_alone=False)
    try:
        with _told(source):
            _check_kind(conn, source)
        copying = Copying(conn, path)
        try:
            commits = copying.step(-1).commits
        finally:
            copying.close()
    finally:
        conn.close()
    settle(path)
    return commits or 0


def reading(path: Path, *, is_alone: bool) -> apsw.Connection:
    """A connection that can only read. `is_alone`: there is no write-ahead log, and nobody writes, so that none of
    SQLite's other files is made; else what only the log holds is seen too.
    """
    if not is_alone:
        return apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    place = f"file:{quote(str(path.absolute()))}?immutable=1"
    return apsw.Connection(place, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def verify(path: Path, *, whole: bool = True, is_wanted: Callable[[], bool] = lambda: True) -> Facts:
    """Read all of a copy, and say what it holds. Raises StoreDamaged where it is no sound store of ours.

    Not `whole`: that every index has every row is not looked at, which takes most of the time. Given is raised soon
    after `is_wanted` says no. Nothing is written, and no file made beside it.
    """
    with _told(path):
        conn = reading(path, is_alone=True)
        try:
            _check_kind(conn, path)
            check(conn, path, whole=whole, is_wanted=is_wanted)
            row = conn.execute("SELECT id, commits FROM store").get
            return Facts(row[0], row[1], conn.pragma("user_version"), path.stat().st_size)
        finally:
            conn.close()


def check_store(path: Path) -> Facts:
    """The same of a store that nobody else has open, its write-ahead log included. Raises StoreUnusable, too.

    To be called by whoever holds its lock. The store is only read.
    """
    with _told(path):
        conn = reading(path, is_alone=False)
        try:
            _check_kind(conn, path)
            check(conn, path, whole=True)
            count, first = damaged_payloads(conn)
            if count:
                raise StoreDamaged(f"{path}: {damage_told(count, first)}")
            row = conn.execute("SELECT id, commits FROM store").get
            return Facts(row[0], row[1], conn.pragma("user_version"), path.stat().st_size)
        finally:
            conn.close()


def check(conn: apsw.Connection, path: Path, *, whole: bool, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """SQLite's own check. StoreDamaged says what it found."""
    conn.set_progress_handler(lambda: not is_wanted(), ASKED_EVERY)
    try:
        rows = conn.execute(f"PRAGMA {'integrity_check' if whole else 'quick_check'}({FAULTS_SHOWN})").fetchall()
    except apsw.InterruptError as error:
        raise Given from error
    finally:
        conn.set_progress_handler(None)
    faults = [str(text) for (text,) in rows if text != "ok"]
    if faults:
        raise StoreDamaged(f"{path}: {'; '.join(faults)}")


def forget_copying(store: Path) -> None:
    """Remove what a daemon that was killed has left of a copy. To be called by whoever holds the store's lock."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        store.with_name(f"{store.name}{COPYING}{suffix}").unlink(missing_ok=True)


def _check_kind(conn: apsw.Connection, path: Path) -> None:
    kind = conn.pragma("application_id")
    if kind != APPLICATION_ID:
        raise StoreDamaged(f"{path}: not a hookrelay store (application id {kind})")


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say of a file into ours."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError, apsw.FormatError) as error:
        raise StoreDamaged(f"{path}: {error}") from error
    except apsw.FullError as error:
        raise StoreUnusable(f"{path}: no space is left on that disk") from error
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.BusyError) as error:
        raise StoreUnusable(f"{path}: {error}") from error
    except OSError as error:
        raise StoreUnusable(f"{path}: {error.strerror}") from error
