"""Reading all of a store while others use it: every row, and whether every index finds it, a few rows at a time.

SQLite's own check reads the whole file in one transaction, which would keep the write-ahead log from being emptied for
as long (THREATS §5.4); a backup makes it, on the copy. What this leaves out is what no row needs: free pages, and
entries of indices that lead nowhere.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from hookrelay.store.sound import is_sound

ROWS = 500
PAYLOAD_BYTES = 8 << 20
"""Payload that one step holds against its hashes, beyond its last: some 10 ms."""


class Index(NamedTuple):
    """An index: what it holds of each row, and of which rows (SQL)."""

    name: str
    terms: list[str]
    condition: str


class Table(NamedTuple):
    """A table, what its rows are ordered by, its columns and its indices."""

    name: str
    key: list[str]
    columns: list[str]
    indices: list[Index]


class Looked(NamedTuple):
    """How many rows a step has read, the key of the last where more may follow, and what was wrong."""

    rows: int
    after: tuple[Any, ...] | None
    faults: list[str]


class Payloads(NamedTuple):
    """The number of the last event looked at, None at the end, and those whose payload is not what was accepted."""

    after: int | None
    damaged: list[int]


def tables(conn: apsw.Connection) -> list[Table]:
    """All that there are. Raises apsw.Error where not even that can be read."""
    found = []
    for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        columns = conn.execute("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", (name,)).fetchall()
        has_rows: Any = conn.execute("SELECT wr FROM pragma_table_list(?)", (name,)).get
        key = [str(each) for each, pk in sorted(columns, key=lambda row: row[1] or 0) if pk] if has_rows else ["rowid"]
        found.append(Table(str(name), key, [str(each) for each, _ in columns], _indices(conn, str(name))))
    return found


def look(conn: apsw.Connection, table: Table, after: Sequence[Any] | None) -> Looked:
    """Read the table's next rows, behind the one with the key `after`, from the first where that is None."""
    try:
        return _look(conn, table, after)
    except apsw.CorruptError as error:
        return Looked(0, None, [f"table {table.name}, rows after {after}: {error}"])


def look_at_payloads(conn: apsw.Connection, after: int) -> Payloads:
    """Hold the payloads of the next events, behind number `after`, against their hashes: one is in memory at a time."""
    rows, size, last, damaged = 0, 0, after, list[int]()
    try:
        for seq, data, stored_hash in conn.execute(
            "SELECT seq, data, payload_hash FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after, ROWS)
        ):
            rows, size, last = rows + 1, size + len(data), seq
            if not is_sound(data, stored_hash):
                damaged.append(seq)
            if size > PAYLOAD_BYTES:
                break
    except apsw.CorruptError:
        return Payloads(None, damaged)  # rows that cannot be read are told by `look`
    return Payloads(last if rows == ROWS or size > PAYLOAD_BYTES else None, damaged)


def damaged_payloads(conn: apsw.Connection) -> tuple[int, int | None]:
    """How many events have a payload that is not what was accepted, and the number of the first.

    For a store that nobody else uses: all of it is read. Of one from before there were hashes nothing is known.
    """
    if not conn.execute("SELECT 1 FROM pragma_table_info('event') WHERE name = 'payload_hash'").get:
        return 0, None
    count, first, after = 0, None, 0
    while True:
        step = look_at_payloads(conn, after)
        count += len(step.damaged)
        first = first or next(iter(step.damaged), None)
        if step.after is None:
            return count, first
        after = step.after


def damage_told(count: int, first: int | None) -> str:
    """A sentence for whoever looked."""
    return (
        f"{count} of the payloads are not what was accepted, the first that of the event with number {first}: their"
        " deliveries end as payload_damaged"
    )


def _look(conn: apsw.Connection, table: Table, after: Sequence[Any] | None) -> Looked:
    name, key = table.name, ", ".join(table.key)
    begun = "" if after is None else f" AND ({key}) > ({', '.join('?' * len(table.key))})"
    above = tuple(after or ())
    last: Any = conn.execute(
        f"SELECT {key} FROM {name} NOT INDEXED WHERE 1{begun} ORDER BY {key} LIMIT 1 OFFSET ?", (*above, ROWS - 1)
    ).fetchall()
    until, bounds = "", above
    if last:
        until, bounds = f" AND ({key}) <= ({', '.join('?' * len(table.key))})", (*above, *last[0])
    # comparing a value reads all of it
    touch = " + ".join(f"coalesce({column} < x'ff', 0)" for column in table.columns)
    rows, _ = conn.execute(f"SELECT count(*), total({touch}) FROM {name} NOT INDEXED WHERE 1{begun}{until}", bounds).get
    faults = []
    for index in table.indices:
        terms = ", ".join(f"{term} AS term{number}" for number, term in enumerate(index.terms))
        same = "".join(f" AND {term} IS term{number}" for number, term in enumerate(index.terms))
        missing: Any = conn.execute(
            f"SELECT count(*), min(number) FROM (SELECT rowid AS number, {terms} FROM {name} NOT INDEXED"
            f" WHERE {index.condition}{begun}{until}) AS row WHERE NOT EXISTS (SELECT 1 FROM {name}"
            f" INDEXED BY {index.name} WHERE {index.condition}{same} AND {name}.rowid = row.number)",
            bounds,
        ).get
        if missing[0]:
            faults.append(f"index {index.name} lacks {missing[0]} rows of {name}, the first with number {missing[1]}")
    return Looked(rows, last[0] if last else None, faults)


def _indices(conn: apsw.Connection, table: str) -> list[Index]:
    rows = conn.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL ORDER BY name",
        (table,),
    )
    return [Index(str(name), *_parsed(str(sql))) for name, sql in rows]


def _parsed(sql: str) -> tuple[list[str], str]:
    """The terms and the condition of a CREATE INDEX."""
    start = sql.index("(") + 1
    depth, terms, begun = 1, [], start
    for at in range(start, len(sql)):
        if sql[at] == "(":
            depth += 1
        elif sql[at] == ")":
            depth -= 1
        if (sql[at] == "," and depth == 1) or depth == 0:
            terms.append(sql[begun:at].strip())
            begun = at + 1
        if depth == 0:
            break
    _, _, condition = sql[begun:].partition("WHERE ")
    return terms, f"({condition.strip() or 1})"
