"""Copies of a store: whole, verified, nobody else's to read, and refused where they are not sound."""

import os
import shutil
from pathlib import Path

import apsw
import pytest

from hookrelay.store import backup
from hookrelay.store import open as opening
from hookrelay.store.db import Store
from hookrelay.store.files import StoreDamaged, StoreTooNew, StoreUnusable

NOW = 1_800_000_000_000


def opened(path: Path) -> opening.Opened:
    return opening.open_file(path, max_size=1 << 30, now_ms=NOW)


def add(conn: apsw.Connection, events: int, size: int = 1000) -> None:
    """Commit events, as the writer does."""
    conn.execute("BEGIN IMMEDIATE")
    conn.execute(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < ?)"
        " INSERT INTO event (created_ms, tenant, type, timestamp, data) SELECT 5, 't', 'a.b', '', randomblob(?) FROM n",
        (events, size),
    )
    conn.execute("UPDATE store SET commits = commits + 1")
    conn.execute("COMMIT")


def content(conn: apsw.Connection) -> list[object]:
    return conn.execute("SELECT seq, data FROM event ORDER BY seq").fetchall()


@pytest.fixture
def store(tmp_path):
    made = opened(tmp_path / "h.db")
    yield made
    Store(made)._close()


def test_what_is_written_between_two_steps_is_in_the_copy_and_no_step_is_made_twice(store, tmp_path):
    conn, path = store.writer, tmp_path / "copy.db"
    add(conn, 500)
    copying = backup.Copying(conn, path)
    steps = 0
    while (done := copying.step(20)).commits is None:
        steps += 1
        add(conn, 3)
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("DELETE FROM event WHERE seq = ?", (steps,))
        conn.execute("COMMIT")
        if steps == 5:
            conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    backup.settle(path)
    facts = backup.verify(path)
    assert (facts.store_id, facts.commits) == (store.identity.id, done.commits) == (facts.store_id, steps + 1)
    assert steps < 20
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.glob("copy*")) == ["copy.db"]
    copy = backup.reading(path, is_alone=True)
    assert content(copy) == content(conn)
    copy.close()


def test_a_copy_of_a_store_that_nobody_uses_holds_what_only_its_log_holds(store, tmp_path):
    add(store.writer, 5)
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in tmp_path.glob("h.db*"):
        shutil.copy(file, killed)
    before = (killed / "h.db").read_bytes()
    assert backup.copy(killed / "h.db", tmp_path / "copy.db") == 1
    assert backup.verify(tmp_path / "copy.db").commits == 1
    assert (killed / "h.db").read_bytes() == before


def test_an_unsound_copy_is_refused_and_a_check_ends_when_nobody_wants_it(store, tmp_path, monkeypatch):
    add(store.writer, 200)
    path = tmp_path / "copy.db"
    copying = backup.Copying(store.writer, path)
    copying.step(-1)
    backup.settle(path)
    whole = path.read_bytes()
    for spoiled in (b"", b"junk" * 5000, whole[: len(whole) // 2], whole[:-8192] + b"\xff" * 8192):
        path.write_bytes(spoiled)
        with pytest.raises(StoreDamaged):
            backup.verify(path)
    path.write_bytes(whole)
    monkeypatch.setattr(backup, "ASKED_EVERY", 10)
    with pytest.raises(backup.Given):
        backup.verify(path, is_wanted=lambda: False)


def test_a_copy_never_takes_a_file_that_is_there(store, tmp_path):
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StoreUnusable):
        backup.Copying(store.writer, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


def test_a_store_is_for_nobody_else_whatever_the_umask_and_the_start_removes_what_a_copy_left(tmp_path):
    before = os.umask(0)
    try:
        (tmp_path / f"h.db{backup.COPYING}").write_text("half")
        made = opened(tmp_path / "h.db")
        add(made.writer, 1)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        Store(made)._close()
    finally:
        os.umask(before)
    assert set(modes.values()) == {0o600}
    assert f"h.db{backup.COPYING}" not in modes


# --- before a migration ---------------------------------------------------------------------------------------------


def older(path: Path, patch: pytest.MonkeyPatch) -> None:
    """A store of the schema before the newest, with an event."""
    known = opening.migrations()
    with patch.context() as then:
        then.setattr(opening, "migrations", lambda: known[:-1])
        made = opened(path)
        add(made.writer, 1)
        Store(made)._close()


def test_the_copy_before_a_migration_is_private_whole_and_of_the_state_before(tmp_path, monkeypatch):
    path, newest = tmp_path / "h.db", opening.migrations()[-1][0]
    older(path, monkeypatch)
    (tmp_path / f"h.db.before-schema-{newest}.new").write_text("a try that was cut short")
    synced = []
    monkeypatch.setattr(backup, "sync", lambda file, sync=backup.sync: (synced.append(file.name), sync(file)))
    Store(opened(path))._close()
    (copy,) = tmp_path.glob("h.db.before-*")
    assert copy.name == f"h.db.before-schema-{newest}"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert backup.verify(copy).schema == newest - 1
    assert synced == [f"{copy.name}.new", copy.name]


def test_a_migration_that_fails_leaves_the_store_as_it_was_and_one_copy_of_it(tmp_path, monkeypatch):
    path, newest = tmp_path / "h.db", opening.migrations()[-1][0]
    older(path, monkeypatch)
    steps = opening.migrations()
    with monkeypatch.context() as then:
        then.setattr(opening, "migrations", lambda: [*steps[:-1], (newest, "CREATE TABLE half (x); SELECT nothing;")])
        for _ in range(2):
            with pytest.raises(apsw.SQLError):
                opened(path)
    assert backup.verify(path).schema == newest - 1
    Store(opened(path))._close()
    (copy,) = tmp_path.glob("h.db.before-*")
    assert backup.verify(copy).schema == newest - 1
    with_half = backup.reading(path, is_alone=True)
    assert with_half.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").get == 0
    with_half.close()


def test_a_store_of_a_later_version_keeps_every_byte_also_those_of_its_log(tmp_path):
    made = opened(tmp_path / "h.db")
    made.writer.pragma("user_version", 999)
    add(made.writer, 3)
    killed = tmp_path / "killed"
    killed.mkdir()
    for file in ("h.db", "h.db-wal", "h.db-shm", "h.db.id"):
        shutil.copy(tmp_path / file, killed)
    before = {file.name: file.read_bytes() for file in killed.iterdir() if file.suffix != ".db-shm"}
    assert before["h.db-wal"]
    for _ in range(2):
        with pytest.raises(StoreTooNew, match="schema 999"):
            opened(killed / "h.db")
    assert {name: (killed / name).read_bytes() for name in before} == before
    Store(made)._close()
