"""Opening a SQLite store: lock, checks, schema. What can be wrong is told here, before anything is written."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from hookrelay.store import backup
from hookrelay.store.files import APPLICATION_ID, Lock, Mark, Marker, StoreDamaged, StoreTooNew, StoreUnusable
from hookrelay.store.space import FREE_AT_LEAST, free_bytes
from hookrelay.units import format_size

OLDEST_SQLITE = (3, 51, 3)
"""Before it two connections that write or checkpoint at the same instant can corrupt a WAL (THREATS §5.2)."""
WRITER_CACHE_KIB = 32 * 1024
READER_CACHE_KIB = 4 * 1024
BUSY_MS = 5000
LEAST_ROOM = 1 << 20
"""Bytes without which nothing can even be opened."""


class Identity(NamedTuple):
    """What makes this store this one."""

    id: str
    tag: int
    salt: bytes
    commits: int
    running_ms: int
    """For how long daemons have run on it."""


class Opened(NamedTuple):
    """A store ready for use; the caller closes it all."""

    path: str
    identity: Identity
    writer: apsw.Connection
    lock: Lock | None
    marker: Marker | None
    last_written_ms: int | None
    """When a daemon wrote here before; None where the store is new."""


def open_file(path: Path, *, max_size: int, now_ms: int, accept_loss: bool = False) -> Opened:
    """Open the store at `path`, making it where there never was one, and bring its schema up to date.

    Raises StoreTaken, StoreDamaged, StoreUnusable or StoreTooNew, each with what to do; the files are then as before.
    """
    _check_sqlite()
    if not path.parent.is_dir():
        raise StoreUnusable(f"{path.parent}: no such folder: create it, or point store.url elsewhere")
    lock = Lock(path.with_name(path.name + ".lock"))
    marker = Marker(path.with_name(path.name + ".id"))
    try:
        backup.forget_copying(path)
        _check_room(path.parent)
        is_new = not path.exists() or path.stat().st_size == 0
        written_ms = None if is_new else _last_written_ms(path)
        if is_new:
            _check_never_was(path, marker)
        writer = _connect(path, max_size)
        try:
            if not is_new:
                _check(writer, path, marker, accept_loss=accept_loss)
            # only now: whatever was refused above, its log is as it was
            writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            identity = _prepare(writer, path, now_ms=now_ms)
        except BaseException:
            writer.close()
            raise
        try:
            marker.write(Mark(identity.id, identity.commits))
        except OSError as error:
            writer.close()
            raise StoreUnusable(f"{marker.path}: {error.strerror}") from error
    except BaseException:
        marker.close()
        lock.close()
        raise
    return Opened(str(path), identity, writer, lock, marker, written_ms)


def _check_room(folder: Path) -> None:
    try:
        free = free_bytes(str(folder))
    except OSError as error:
        raise StoreUnusable(f"{folder}: {error.strerror}") from error
    if free < LEAST_ROOM:
        raise StoreUnusable(
            f"{folder}: the disk is full ({free} bytes are free): make room, {format_size(FREE_AT_LEAST)} at least, or"
            " point store.url elsewhere"
        )


def _last_written_ms(path: Path) -> int:
    """When a daemon last wrote to this store (unix milliseconds): no attempt of its has started after that."""
    files = (path, path.with_name(f"{path.name}-wal"))
    return int(max(file.stat().st_mtime for file in files if file.exists()) * 1000)


def open_memory(now_ms: int) -> Opened:
    """A store that lives in memory: for tests."""
    writer = apsw.Connection(":memory:")
    writer.pragma("auto_vacuum", "INCREMENTAL")
    migrate(writer, None, now_ms)
    return Opened(":memory:", _identity(writer), writer, None, None, None)


def reader(path: str) -> apsw.Connection:
    """A connection that can only read."""
    conn = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    conn.set_busy_timeout(BUSY_MS)
    conn.pragma("cache_size", -READER_CACHE_KIB)
    return conn


def checkpointer(path: str) -> apsw.Connection:
    """The one connection beside the writer's that may checkpoint, PASSIVE only (THREATS §5.2)."""
    conn = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    conn.pragma("wal_autocheckpoint", 0)
    conn.pragma("cache_size", -256)
    return conn


def _check_sqlite() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise StoreTooNew(
            f"SQLite {apsw.sqlite_lib_version()} is in use, which can damage a store under load: {wanted} or later is"
            " needed. The apsw package on PyPI carries one; remove a distribution's own python3-apsw"
        )


def _check_never_was(path: Path, marker: Marker) -> None:
    if marker.exists():
        raise StoreDamaged(
            f"{path}: the store is {'empty' if path.exists() else 'gone'}, but {marker.path.name} beside it says"
            " that there was one: restore it from a backup, or remove that file to begin with an empty store"
        )


def _connect(path: Path, max_size: int) -> apsw.Connection:
    try:
        if not path.exists():
            # secrets may stand in it: whatever the umask is, nobody else reads it, nor what SQLite puts beside it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        conn = apsw.Connection(str(path), statementcachesize=200)
    except (apsw.Error, OSError) as error:
        raise StoreUnusable(f"{path}: {error}: the file and its folder must be readable and writable") from error
    if path.with_name(f"{path.name}-wal").exists():
        # else whoever closes it brings the log into the file, of a store that is to be left alone
        conn.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    conn.set_busy_timeout(BUSY_MS)
    with _told(path, conn):
        page_size: int = conn.pragma("page_size")
        conn.pragma("max_page_count", max(max_size // page_size, 16))
    return conn


@contextlib.contextmanager
def _told(path: Path, conn: apsw.Connection) -> Iterator[None]:
    """Turn SQLite's exceptions into ours, and leave nothing open behind them."""
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError, apsw.FormatError) as error:
        conn.close()
        raise StoreDamaged(f"{path}: {error}: restore it from a backup; the file was left as it is") from error
    except apsw.FullError as error:
        conn.close()
        raise StoreUnusable(
            f"{path}: {error}: make room on the disk, or raise store.max_size where that is what is used up"
        ) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError, apsw.PermissionsError) as error:
        conn.close()
        raise StoreUnusable(f"{path}: {error}: the file and its folder must be readable and writable") from error


def _check(conn: apsw.Connection, path: Path, marker: Marker, *, accept_loss: bool) -> None:
    """That this is a store of ours, of a version we know, and all of it. Writes nothing."""
    with _told(path, conn):
        kind, version = conn.pragma("application_id"), conn.pragma("user_version")
        if not (kind or version or conn.execute("SELECT count(*) FROM sqlite_schema").get):
            _check_never_was(path, marker)
            return  # the first daemon died before it had made anything
        if kind != APPLICATION_ID:
            raise StoreDamaged(f"{path}: not a hookrelay store (application id {kind}): point store.url elsewhere")
        newest = migrations()[-1][0]
        if version > newest:
            raise StoreTooNew(
                f"{path}: the store has schema {version}, this hookrelay knows up to {newest}:"
                " run the version that wrote it, or a later one"
            )
        _check_complete(path, _identity(conn), marker.read(), accept_loss=accept_loss)


def _prepare(conn: apsw.Connection, path: Path, *, now_ms: int) -> Identity:
    with _told(path, conn):
        if conn.pragma("user_version") == 0:
            conn.pragma("auto_vacuum", "INCREMENTAL")  # must precede WAL (THREATS §5.6)
        conn.pragma("journal_mode", "wal")
        conn.pragma("synchronous", "FULL")
        conn.pragma("wal_autocheckpoint", 0)
        conn.pragma("cache_size", -WRITER_CACHE_KIB)
        conn.pragma("temp_store", "MEMORY")
        conn.pragma("journal_size_limit", 64 << 20)
        # what is overwritten or deleted is gone from the file, also where a page becomes free and is used again for
        # less: pruning writes 70 % more for it (measured), all else nothing to speak of
        conn.pragma("secure_delete", "ON")
        migrate(conn, path, now_ms)
        return _identity(conn)


def _identity(conn: apsw.Connection) -> Identity:
    cursor = conn.execute("SELECT * FROM store")
    row: dict[str, Any] = dict(zip([column[0] for column in cursor.getdescription()], next(cursor), strict=True))
    # one that stands at an earlier schema has not counted its running time yet
    return Identity(row["id"], row["tag"], row["salt"], row["commits"], row.get("running_ms", 0))


def _check_complete(path: Path, identity: Identity, mark: Mark | None, *, accept_loss: bool) -> None:
    if mark is None or accept_loss:
        return
    if mark.store_id != identity.id:
        raise StoreDamaged(
            f"{path}: this is store {identity.id[:8]}, but the marker beside it speaks of {mark.store_id[:8]}:"
            " one of the two files was put here from elsewhere; with --accept-loss the store is taken as it is"
        )
    if mark.commits > identity.commits:
        raise StoreDamaged(
            f"{path}: {mark.commits - identity.commits} commits that were on disk are missing: the write-ahead log was"
            " lost or damaged. Restore a backup, or start once with --accept-loss to go on without them"
        )


def migrations() -> list[tuple[int, str]]:
    """Numbered schema files, oldest first."""
    folder = resources.files("hookrelay.store") / "schema"
    found = [
        (int(name[1]), entry.read_text())
        for entry in folder.iterdir()
        if (name := re.match(r"(\d{4})\.sql", entry.name))
    ]
    return sorted(found)


def migrate(conn: apsw.Connection, path: Path | None, now_ms: int) -> None:
    """Bring the schema up to date, one transaction a step, after a copy of what was there (THREATS §5.7)."""
    version: int = conn.pragma("user_version")
    steps = migrations()
    newest = steps[-1][0]
    if 0 < version < newest and path is not None:
        _copy_before(conn, path, version, newest)
    for number, text in steps:
        if number <= version:
            continue
        conn.execute("BEGIN IMMEDIATE")
        with conn:
            conn.execute(text)
            if number == 1:
                conn.pragma("application_id", APPLICATION_ID)
                conn.execute(
                    "INSERT INTO store (only, id, tag, salt, created_ms) VALUES (1, ?, ?, ?, ?)",
                    (secrets.token_hex(16), secrets.randbits(30), secrets.token_bytes(32), now_ms),
                )
            conn.pragma("user_version", number)
        conn.execute("COMMIT")


def _copy_before(conn: apsw.Connection, path: Path, version: int, newest: int) -> None:
    """A copy of the store as it is before it is brought up to date: all of it, verified and on disk, or none by that
    name.

    One that is there already stays where it is older than the store, for then this is the rest of an upgrade that was
    cut short; one of an upgrade that was taken back gives way.
    """
    copy = path.with_name(f"{path.name}.before-schema-{newest}")
    if copy.exists():
        with contextlib.suppress(StoreDamaged, StoreUnusable):
            if 0 < backup.verify(copy).schema < version:
                return
    fresh = copy.with_name(f"{copy.name}.new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    try:
        conn.execute("VACUUM INTO ?", (str(fresh),))
        _check_copy(fresh, conn)
        backup.sync(fresh)
        fresh.replace(copy)
        backup.sync(copy)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _check_copy(copy: Path, conn: apsw.Connection) -> None:
    if backup.verify(copy).commits != conn.execute("SELECT commits FROM store").get:
        raise StoreDamaged(f"{copy}: the copy before the migration is not what the store holds: restore a backup")


def sqlite_version() -> str:
    """Of the SQLite that is in use, which the apsw package carries."""
    return apsw.sqlite_lib_version()
