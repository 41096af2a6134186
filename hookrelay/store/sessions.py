"""Who may open the dashboard, as it is kept: digests of links and of cookies, never these themselves."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import apsw


class SessionRow(NamedTuple):
    """A link that was not opened yet, or a session."""

    seq: int
    id: str
    kind: str
    digest: bytes
    tenant: str
    role: str
    key: str | None
    created_ms: int
    lasts_ms: int
    ends_ms: int


def all_sessions(conn: apsw.Connection, now_ms: int) -> list[SessionRow]:
    """Everything that has not ended, the oldest first."""
    rows = conn.execute(
        "SELECT seq, id, kind, digest, tenant, role, key, created_ms, lasts_ms, ends_ms FROM session"
        " WHERE ends_ms > ? ORDER BY seq",
        (now_ms,),
    )
    return [SessionRow(*row) for row in rows]


def insert(conn: apsw.Connection, row: SessionRow) -> int:
    """Write a new one down; its number. That of `row` does not count. What has ended goes, a little at a time."""
    conn.execute(
        "DELETE FROM session WHERE seq IN (SELECT seq FROM session WHERE ends_ms <= ? LIMIT 100)", (row.created_ms,)
    )
    seq: int = conn.execute(
        "INSERT INTO session (id, kind, digest, tenant, role, key, created_ms, lasts_ms, ends_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        row[1:],
    ).get
    return seq


def open_link(conn: apsw.Connection, seq: int, digest: bytes, now_ms: int) -> bool:
    """Make a session of a link, which is possible once: True for the one who did it."""
    conn.execute(
        "UPDATE session SET kind = 'session', digest = ?1, ends_ms = ?2 + lasts_ms"
        " WHERE seq = ?3 AND kind = 'link' AND ends_ms > ?2",
        (digest, now_ms, seq),
    )
    return conn.changes() == 1


def delete_each(conn: apsw.Connection, seqs: Sequence[int]) -> None:
    """From now on none of these opens anything."""
    conn.execute("DELETE FROM session WHERE seq IN (SELECT value FROM json_each(?))", (json.dumps(list(seqs)),))


def delete(conn: apsw.Connection, seq: int) -> None:
    """From now on it opens nothing."""
    conn.execute("DELETE FROM session WHERE seq = ?", (seq,))
