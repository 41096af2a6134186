"""A store that is looked through: what is sound is told so, what is not is told where."""

import apsw
import pytest

from hookrelay.store import backup, check
from hookrelay.store import open as opening
from hookrelay.store.files import StoreDamaged


def faults(conn: apsw.Connection) -> tuple[int, list[str]]:
    rows, found = 0, []
    for table in check.tables(conn):
        after = None
        while True:
            step = check.look(conn, table, after)
            rows, after, found = rows + step.rows, step.after, [*found, *step.faults]
            if after is None:
                break
    return rows, found


@pytest.fixture
def path(tmp_path):
    """A store with rows in all of its large tables."""
    made = opening.open_file(tmp_path / "h.db", max_size=1 << 30, now_ms=1)
    conn = made.writer
    conn.execute("BEGIN IMMEDIATE")
    many = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 1200)"
    conn.execute(
        f"{many} INSERT INTO event (seq, created_ms, tenant, type, timestamp, data)"  # noqa: S608 -- our own text
        " SELECT x, x, 't' || (x % 7), 'a.b', '', randomblob(x * 3) FROM n"
    )
    conn.execute(
        f"{many} INSERT INTO delivery (seq, event, webhook, created_ms, state, due_ms, strikes, ordering)"  # noqa: S608
        " SELECT x, x, x % 3, x, iif(x % 2, 'pending', 'failed'), x, x % 4, iif(x % 5, NULL, 'k') FROM n"
    )
    conn.execute(
        f"{many} INSERT INTO attempt (delivery, number, started_ms, duration_us, response_body)"  # noqa: S608
        " SELECT x % 100, x, x, x, randomblob(50) FROM n"
    )
    conn.execute("COMMIT")
    conn.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    conn.pragma("journal_mode", "delete")
    conn.close()
    for each in (made.lock, made.marker):
        each.close()
    return tmp_path / "h.db"


def test_every_row_of_a_sound_store_is_read_once(path):
    conn = apsw.Connection(str(path))
    names = [each[0] for each in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
    count = sum(conn.execute(f"SELECT count(*) FROM {name}").get for name in names)  # noqa: S608
    assert faults(conn) == (count, [])
    assert count > 3600
    conn.close()


@pytest.mark.parametrize(
    "index", ["delivery_due", "delivery_of_webhook", "delivery_ordering", "delivery_dead", "event_of_tenant"]
)
def test_rows_that_an_index_does_not_find_are_told(path, index):
    conn = apsw.Connection(str(path))
    conn.pragma("writable_schema", "ON")
    sql = conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (index,)).get
    # made without the row 601, and then said to be of all rows
    fewer = sql + " AND seq <> 601" if "WHERE" in sql else sql + " WHERE seq <> 601"
    conn.execute(f"DROP INDEX {index}")
    conn.execute(fewer)
    conn.pragma("writable_schema", "ON")
    conn.execute("UPDATE sqlite_schema SET sql = ? WHERE name = ?", (sql, index))
    conn.close()
    conn = apsw.Connection(str(path))
    _, found = faults(conn)
    conn.close()
    told = [each for each in found if f"index {index} lacks 1 rows" in each and "number 601" in each]
    assert len(told) == (index not in ("delivery_ordering", "delivery_dead"))  # these are not of rows such as this one
    assert len(found) == len(told)


def test_a_store_that_nobody_uses_is_looked_through_for_damaged_payloads_too(path):
    backup.check_store(path)
    conn = apsw.Connection(str(path))
    conn.execute("UPDATE event SET payload_hash = seq WHERE seq > 1000")
    conn.close()
    with pytest.raises(StoreDamaged, match="200 of the payloads are not what was accepted, the first that of"):
        backup.check_store(path)
    conn = apsw.Connection(str(path))
    conn.execute("ALTER TABLE event DROP COLUMN payload_hash")  # as a store of before
    conn.close()
    backup.check_store(path)


def test_a_page_that_is_no_page_any_more_is_told(path):
    content = path.read_bytes()
    conn = apsw.Connection(str(path))
    root = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").get
    conn.close()
    size = 4096
    spoiled = bytearray(content)
    for page in range(len(content) // size):
        if page != root - 1 and spoiled[page * size] == 13 and b"a.b" in spoiled[page * size : page * size + size]:
            spoiled[page * size : page * size + 100] = b"\xff" * 100
            break
    path.write_bytes(spoiled)
    conn = apsw.Connection(str(path))
    _, found = faults(conn)
    conn.close()
    assert any("malformed" in each and "table event" in each for each in found), found
