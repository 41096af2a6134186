"""Keys of the API as they are kept: their digests, never themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import apsw


class KeyRow(NamedTuple):
    """A key's row."""

    seq: int
    id: str
    tenant: str
    role: str
    name: str
    hint: str
    digest: bytes
    created_ms: int
    last_used_ms: int | None


def all_keys(conn: apsw.Connection) -> list[KeyRow]:
    """Every key that is not revoked, the oldest first."""
    rows = conn.execute(
        "SELECT seq, id, tenant, role, name, hint, digest, created_ms, last_used_ms FROM key ORDER BY seq"
    )
    return [KeyRow(*row) for row in rows]


def insert(conn: apsw.Connection, row: KeyRow) -> int:
    """Write a new key down; its number. That of `row` does not count."""
    seq: int = conn.execute(
        "INSERT INTO key (id, tenant, role, name, hint, digest, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING seq",
        row[1:8],
    ).get
    return seq


def delete(conn: apsw.Connection, seq: int) -> None:
    """Revoke a key."""
    conn.execute("DELETE FROM key WHERE seq = ?", (seq,))


def note_use(conn: apsw.Connection, uses: Sequence[tuple[int, int]]) -> None:
    """When keys were last used: pairs of number and moment (unix milliseconds)."""
    for seq, used_ms in uses:
        conn.execute("UPDATE key SET last_used_ms = ? WHERE seq = ?", (used_ms, seq))
