"""Webhooks as the store knows them: a key for their deliveries, and what of them outlives a file's edit."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw


class Known(NamedTuple):
    """A webhook's row."""

    seq: int
    id: str
    status: str
    disabled_reason: str | None
    created_ms: int
    updated_ms: int


class Declared(NamedTuple):
    """A webhook as a file defines it now; `definition` shows no secret."""

    id: str
    tenant: str
    source: str
    status: str
    """`active` or `paused`: what it becomes where its definition has changed; a disabled one is given a fresh start."""
    definition: dict[str, Any]


def declare(conn: apsw.Connection, declared: Sequence[Declared], now_ms: int) -> tuple[list[Known], list[int]]:
    """Make the files' webhooks the ones in force.

    Returns each one's row, in order, and the keys of those that were in force before and no longer are.
    """
    for webhook in declared:
        conn.execute(
            "INSERT INTO webhook (id, tenant, source, status, definition, created_ms, updated_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, source = excluded.source,"
            " status = excluded.status, disabled_reason = NULL, failures = 0, failing_since_ms = NULL,"
            " held_until_ms = iif(definition ->> 'url' = excluded.definition ->> 'url', held_until_ms, NULL),"
            " definition = excluded.definition, updated_ms = excluded.updated_ms, removed_ms = NULL"
            " WHERE definition <> excluded.definition OR source <> excluded.source OR tenant <> excluded.tenant"
            " OR removed_ms IS NOT NULL",
            (
                webhook.id,
                webhook.tenant,
                webhook.source,
                webhook.status,
                json.dumps(webhook.definition, sort_keys=True, separators=(",", ":")),
                now_ms,
                now_ms,
            ),
        )
    rows = {
        row[1]: Known(*row)
        for row in conn.execute(
            "SELECT seq, id, status, disabled_reason, created_ms, updated_ms FROM webhook WHERE removed_ms IS NULL"
        )
    }
    kept = {webhook.id for webhook in declared}
    removed = [row.seq for row in rows.values() if row.id not in kept]
    for seq in removed:
        conn.execute("UPDATE webhook SET removed_ms = ? WHERE seq = ?", (now_ms, seq))
    return [rows[webhook.id] for webhook in declared], removed


def removed_with_work(conn: apsw.Connection) -> list[int]:
    """Keys of removed webhooks whose deliveries still wait to be cancelled."""
    return [
        row[0]
        for row in conn.execute(
            "SELECT seq FROM webhook WHERE removed_ms IS NOT NULL AND EXISTS"
            " (SELECT 1 FROM delivery INDEXED BY delivery_due WHERE webhook = webhook.seq AND state = 'pending')"
        )
    ]
