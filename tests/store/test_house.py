"""The files beside the writer: the log stays short, nobody else opens the store's file, the reserve comes and goes."""

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest
import trio
from test_db import entry, opened

from hookrelay.store import events, house, space
from hookrelay.store import open as opening
from hookrelay.store.db import Store
from hookrelay.store.space import BALLAST, FREE_AT_LEAST, FULL_UNDER, ROOMY_FROM, Space


async def until(condition, within_s: float = 20) -> None:
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for is a file
            await trio.sleep(0.02)


@pytest.fixture
def short(monkeypatch) -> None:
    """Looks that come often, and a log that is soon too long."""
    monkeypatch.setattr(house, "LOOK_S", 0.05)
    monkeypatch.setattr(house, "CHECKPOINT_S", 0.02)
    monkeypatch.setattr(house, "WAL_LIMIT", 1 << 20)
    monkeypatch.setattr(house, "IDLE_WAL_LIMIT", 1 << 20)


async def test_a_reader_that_idles_holds_no_commit_up_and_the_log_is_cut_when_it_has_gone(tmp_path, short):
    made = Store(opened(tmp_path / "h.db"))
    log = tmp_path / "h.db-wal"
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        idle = apsw.Connection(str(tmp_path / "h.db"), flags=apsw.SQLITE_OPEN_READONLY)
        idle.execute("BEGIN")
        idle.execute("SELECT count(*) FROM event").get  # noqa: B018 -- from now on it holds the log
        slowest_s = 0.0
        for _ in range(40):
            began = time.monotonic()
            await made.write(events.insert, [entry(made, data=b"x" * 100_000)])
            slowest_s = max(slowest_s, time.monotonic() - began)
            await trio.sleep(0.01)
        assert log.stat().st_size > 3 << 20
        assert slowest_s < opening.BUSY_MS / 1000  # so long SQLite would wait for the reader at every cut
        idle.close()
        await until(lambda: log.stat().st_size == 0)
        made.close()


async def test_beside_readers_that_come_and_go_the_log_is_cut(tmp_path, short):
    made = Store(opened(tmp_path / "h.db"))
    log, size, cuts = tmp_path / "h.db-wal", 0, 0
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)

        async def read() -> None:
            while True:
                await made.read(lambda conn: conn.execute("SELECT count(*), sum(length(data)) FROM event").fetchall())
                assert all(conn.txn_state() == apsw.SQLITE_TXN_NONE for conn in made._reader_conns.values())

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            for _ in range(1500):
                await made.write(events.insert, [entry(made, data=b"x" * 100_000)])
                before, size = size, log.stat().st_size
                cuts += size < before
                if cuts == 3:
                    break
            readers.cancel_scope.cancel()
        made.close()
    assert cuts == 3  # within 150 MiB that were written


async def test_an_idle_store_gives_its_log_back(tmp_path, monkeypatch):
    monkeypatch.setattr(house, "LOOK_S", 0.05)
    monkeypatch.setattr(house, "IDLE_S", 0.3)
    made = Store(opened(tmp_path / "h.db"))
    log = tmp_path / "h.db-wal"
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        await made.write(events.insert, [entry(made, data=b"x" * 100_000) for _ in range(30)])
        assert log.stat().st_size > house.IDLE_WAL_LIMIT
        await until(lambda: log.stat().st_size == 0)
        made.close()


async def test_nobody_but_sqlite_opens_the_stores_files(tmp_path):
    """THREATS §5.3: closing any other descriptor of them drops SQLite's locks."""
    path = tmp_path / "h.db"
    begun = [False]
    seen: list[str] = []

    def note(event: str, args: tuple[object, ...]) -> None:
        if begun[0] and event == "open" and isinstance(args[0], str | bytes | Path):
            seen.append(os.fsdecode(args[0]))

    sys.addaudithook(note)  # for ever: it goes to sleep with `begun`
    try:
        for _ in range(2):
            made = Store(opened(path))
            begun[0] = True  # the first time its file was made empty, before SQLite had it
            async with trio.open_nursery() as nursery:
                await nursery.start(made.run)
                await made.write(events.insert, [entry(made)])
                await made.read(lambda conn: conn.execute("SELECT count(*) FROM event").get)
                await until(lambda made=made: made.stats.size_bytes > 0)
                made.close()
    finally:
        begun[0] = False
    assert str(tmp_path / "h.db.lock") in seen  # it does see
    assert not {str(path), f"{path}-wal", f"{path}-shm"} & set(seen)


def test_readers_cannot_write(tmp_path):
    made = Store(opened(tmp_path / "h.db"))
    conn = opening.reader(str(tmp_path / "h.db"))
    with pytest.raises(apsw.ReadOnlyError):
        conn.execute("DELETE FROM event")
    conn.close()
    made._close()


# --- room -------------------------------------------------------------------------------------------------------


def test_the_reserve_is_real_has_no_name_and_comes_back_only_with_room_to_spare(tmp_path, monkeypatch):
    free = [1 << 40]
    monkeypatch.setattr(space, "free_bytes", lambda folder: free[0])
    room = Space(str(tmp_path))

    def look(left: int) -> tuple[bool, bool, bool]:
        free[0] = left
        room.look()
        return room.is_low, room.is_full, room._ballast is not None

    assert look(FREE_AT_LEAST) == (False, False, True)
    assert room._ballast is not None
    assert os.fstat(room._ballast).st_blocks * 512 >= BALLAST
    assert list(tmp_path.iterdir()) == []
    assert look(FREE_AT_LEAST - 1) == (True, False, True)
    assert look(FULL_UNDER) == (True, False, True)
    assert look(FULL_UNDER - 1) == (True, True, False)
    assert look(FULL_UNDER - 1 + BALLAST) == (True, True, False)  # what was given up is no room
    assert look(ROOMY_FROM - 1) == (True, True, False)
    assert look(ROOMY_FROM) == (True, False, True)
    room.close()


def test_a_disk_that_is_low_from_the_start_is_used_without_a_reserve(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "free_bytes", lambda folder: ROOMY_FROM - 1)
    room = Space(str(tmp_path))
    room.look()
    assert (room.is_low, room.is_full, room._ballast) == (True, False, None)


def test_a_file_system_without_nameless_files_has_a_reserve_too(tmp_path, monkeypatch):
    opens = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported")
        return opens(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(space, "free_bytes", lambda folder: 1 << 40)
    room = Space(str(tmp_path))
    room.look()
    assert room._ballast is not None
    assert list(tmp_path.iterdir()) == []
    room.close()


def test_a_folder_that_cannot_be_asked_changes_nothing(tmp_path):
    room = Space(str(tmp_path / "away"))
    room.look()
    assert (room.is_low, room.is_full) == (False, False)


async def test_a_store_is_scrubbed_though_a_checkpoint_is_just_being_made(tmp_path):
    made = Store(opened(tmp_path / "h.db"))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        other = opening.checkpointer(str(tmp_path / "h.db"))
        stop = threading.Event()

        def checkpoint() -> None:
            while not stop.is_set():
                with contextlib.suppress(apsw.BusyError):
                    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

        thread = threading.Thread(target=checkpoint)
        thread.start()
        try:
            for _ in range(10):
                await made.write(events.insert, [entry(made, data=b"x" * 100_000)])
                assert await made.scrub(1 << 30)
        finally:
            stop.set()
            thread.join(20)
            other.close()
        made.close()
