"""Webhooks as the store knows them: a key for their deliveries, and what of them outlives a file's edit."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import apsw
import msgspec

from hookrelay.store.events import Key


class Known(NamedTuple):
    """A webhook's row."""

    seq: int
    id: str
    status: str
    disabled_reason: str | None
    created_ms: int
    updated_ms: int


class Declared(NamedTuple):
    """A webhook as a file defines it now."""

    id: str
    tenant: str
    source: str
    status: str
    """`active` or `paused`: what it becomes where its definition has changed; a disabled one is given a fresh start."""
    definition: str
    """`text_of` what it says; no secret is in it."""


class News(NamedTuple):
    """What files say that is not on disk."""

    declared: list[Declared]
    """Webhooks that are new or say something else."""
    missing: list[int]
    """Keys of those that no file has any more: from now on they are held."""
    returned: list[int]
    """Keys of those that were missing and stand in a file again, as they were."""
    removed: list[int]
    """Keys of those that are gone for good."""


# what is stored is compared as text: another way to write it would make every webhook a changed one
text_of = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def find_news(conn: apsw.Connection, declared: Iterable[Declared], *, removes: bool = False) -> News:
    """What of it is not on disk as it is declared. For a connection that reads: most of the time it is little.

    `removes`: what no file names any more is gone at once.
    """
    columns = "seq, id, missing_ms, tenant, source, definition"
    stored = {id: (seq, missing_ms, *said) for seq, id, missing_ms, *said in _of_files(conn, columns)}
    news, returned = [], []
    for webhook in declared:
        seq, missing_ms, *said = stored.pop(webhook.id, (0, None))
        if said != [webhook.tenant, webhook.source, webhook.definition]:
            news.append(webhook)
        elif missing_ms is not None:
            returned.append(seq)
    if removes:
        return News(news, [], returned, [seq for seq, *_ in stored.values()])
    return News(news, [seq for seq, missing_ms, *_ in stored.values() if missing_ms is None], returned, [])


def declare(conn: apsw.Connection, news: News, now_ms: int) -> None:
    """Make the files' webhooks what they say."""
    conn.execute(
        "INSERT INTO webhook (id, tenant, source, status, definition, created_ms, updated_ms)"
        " SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2, ?2 FROM json_each(?1) WHERE true"
        " ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, source = excluded.source,"
        " status = excluded.status, disabled_reason = NULL, failures = 0, failing_since_ms = NULL,"
        " held_until_ms = iif(definition ->> 'url' = excluded.definition ->> 'url', held_until_ms, NULL),"
        " definition = excluded.definition, updated_ms = excluded.updated_ms, removed_ms = NULL,"
        " missing_ms = NULL",
        (msgspec.json.encode(news.declared).decode(), now_ms),
    )
    conn.execute(
        "UPDATE webhook SET removed_ms = ? WHERE seq IN (SELECT value FROM json_each(?))",
        (now_ms, msgspec.json.encode(news.removed).decode()),
    )
    conn.execute(
        "UPDATE webhook SET missing_ms = 0, updated_ms = ? WHERE seq IN (SELECT value FROM json_each(?))",
        (now_ms, msgspec.json.encode(news.missing).decode()),
    )
    conn.execute(
        "UPDATE webhook SET missing_ms = NULL, updated_ms = ? WHERE seq IN (SELECT value FROM json_each(?))",
        (now_ms, msgspec.json.encode(news.returned).decode()),
    )


def note_missing(conn: apsw.Connection, used_ms: Mapping[int, int]) -> None:
    """For how long a daemon has run, by their keys, since they went missing: those that still are."""
    conn.execute(
        "UPDATE webhook SET missing_ms = value FROM json_each(?)"
        " WHERE seq = CAST(key AS INTEGER) AND missing_ms IS NOT NULL",
        (msgspec.json.encode(used_ms).decode(),),
    )


def remove_missing(conn: apsw.Connection, seqs: Iterable[int], now_ms: int) -> None:
    """Those of them that are still missing are gone for good."""
    conn.execute(
        "UPDATE webhook SET removed_ms = ? WHERE missing_ms IS NOT NULL AND seq IN (SELECT value FROM json_each(?))",
        (now_ms, msgspec.json.encode(list(seqs)).decode()),
    )


class Missing(NamedTuple):
    """A webhook that no file names any more, as it was last said."""

    seq: int
    id: str
    tenant: str
    source: str
    definition: str
    created_ms: int
    updated_ms: int
    missing_ms: int
    """For how long a daemon has run since."""


def missing(conn: apsw.Connection) -> list[Missing]:
    """Those that are held until their files name them again, or the grace is over."""
    rows = conn.execute(
        "SELECT seq, id, tenant, source, definition, created_ms, updated_ms, missing_ms FROM webhook"
        " WHERE missing_ms IS NOT NULL AND removed_ms IS NULL ORDER BY seq"
    )
    return [Missing(*row) for row in rows]


def known(conn: apsw.Connection) -> dict[str, Known]:
    """The files' webhooks in force by their ids, as they stand."""
    rows = _of_files(conn, "seq, id, status, disabled_reason, created_ms, updated_ms")
    return {row[1]: Known(*row) for row in rows}


def _of_files(conn: apsw.Connection, columns: str) -> list[list[Any]]:
    """So much of the files' webhooks in force: one row, for a thread gives the GIL up at every one."""
    found: str = conn.execute(
        f"SELECT json_group_array(json_array({columns})) FROM webhook WHERE removed_ms IS NULL AND fields IS NULL"
    ).get
    rows: list[list[Any]] = msgspec.json.decode(found)
    return rows


def removed_with_work(conn: apsw.Connection) -> list[int]:
    """Keys of removed webhooks whose deliveries still wait to be cancelled."""
    return [
        row[0]
        for row in conn.execute(
            "SELECT seq FROM webhook WHERE removed_ms IS NOT NULL AND EXISTS"
            " (SELECT 1 FROM delivery INDEXED BY delivery_due WHERE webhook = webhook.seq AND state = 'pending')"
        )
    ]


# --- webhooks made over the API ---------------------------------------------------------------------------------


class Made(NamedTuple):
    """A webhook that was made over the API; `fields` and `sealed` are what its table says of them."""

    seq: int
    id: str
    status: str
    disabled_reason: str | None
    created_ms: int
    updated_ms: int
    fields: str
    sealed: bytes
    own: int
    """1 where its tenant has made it itself."""


class Text(NamedTuple):
    """What is kept of such a webhook's content."""

    definition: dict[str, Any]
    fields: str
    sealed: bytes


def all_made(conn: apsw.Connection) -> list[Made]:
    """Those that were not deleted."""
    rows = conn.execute(
        "SELECT seq, id, status, disabled_reason, created_ms, updated_ms, fields, sealed, own FROM webhook"
        " WHERE fields IS NOT NULL AND removed_ms IS NULL ORDER BY seq"
    )
    return [Made(*row) for row in rows]


def find(conn: apsw.Connection, id: str) -> tuple[int, str] | None:
    """Key and tenant of a webhook, also of one that was deleted: its history is still there."""
    row: tuple[int, str] | None = conn.execute("SELECT seq, tenant FROM webhook WHERE id = ?", (id,)).get
    return row


def shown(conn: apsw.Connection, seq: int) -> tuple[str, str, str]:
    """Id, tenant and URL of a webhook, also of one that was deleted."""
    row: tuple[str, str, str] = conn.execute(
        "SELECT id, tenant, definition ->> 'url' FROM webhook WHERE seq = ?", (seq,)
    ).get
    return row


def make(conn: apsw.Connection, id: str, tenant: str, text: Text, now_ms: int, key: Key | None, own: bool) -> int | str:
    """Write a new webhook down: its key. Where the request's idempotency key was used before: the id of the webhook
    that it made then, or `conflict` where it came with other content.
    """
    if key is not None:
        used = conn.execute(
            "SELECT r.fingerprint, w.id FROM webhook_request AS r JOIN webhook AS w ON w.seq = r.webhook"
            " WHERE r.hash = ? AND r.proof = ? AND r.used_ms >= ?",
            (key.hash, key.proof, key.valid_since_ms),
        ).get
        if used is not None:
            return str(used[1]) if used[0] in (key.fingerprint, key.earlier_fingerprint) else "conflict"
    conn.execute(
        "INSERT INTO webhook (id, tenant, source, definition, fields, sealed, created_ms, updated_ms, own)"
        " VALUES (?, ?, 'api', ?, ?, ?, ?, ?, ?)",
        (id, tenant, text_of(text.definition), text.fields, text.sealed, now_ms, now_ms, int(own)),
    )
    seq = conn.last_insert_rowid()
    if key is not None:
        conn.execute("DELETE FROM webhook_request WHERE used_ms < ?", (key.valid_since_ms,))
        conn.execute(
            "INSERT OR REPLACE INTO webhook_request (hash, proof, fingerprint, webhook, created_ms, used_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (key.hash, key.proof, key.fingerprint, seq, now_ms, key.used_ms),
        )
    return seq


def edit(conn: apsw.Connection, seq: int, text: Text, now_ms: int, *, has_moved: bool, status: str | None) -> None:
    """Change what a webhook says, and its status where one is given.

    `has_moved`: its URL is another one, so that what its last one did counts no more.
    """
    conn.execute(
        "UPDATE webhook SET definition = ?, fields = ?, sealed = ?, updated_ms = ?,"
        " failures = iif(?5, 0, failures), failing_since_ms = iif(?5, NULL, failing_since_ms),"
        " held_until_ms = iif(?5, NULL, held_until_ms) WHERE seq = ?6",
        (text_of(text.definition), text.fields, text.sealed, now_ms, has_moved, seq),
    )
    if status is not None:
        set_status(conn, seq, status, now_ms)


def set_status(conn: apsw.Connection, seq: int, status: str, now_ms: int) -> None:
    """Pause a webhook, or make it active again with a fresh start."""
    conn.execute(
        "UPDATE webhook SET status = ?, disabled_reason = NULL, failures = 0, failing_since_ms = NULL, updated_ms = ?"
        " WHERE seq = ?",
        (status, now_ms, seq),
    )


def seal_anew(conn: apsw.Connection, seq: int, sealed: bytes) -> None:
    """The same content, sealed otherwise."""
    conn.execute("UPDATE webhook SET sealed = ? WHERE seq = ?", (sealed, seq))


def remove(conn: apsw.Connection, seq: int, now_ms: int) -> None:
    """Delete a webhook. Its row stays for its deliveries' sake; its secrets do not."""
    conn.execute("UPDATE webhook SET removed_ms = ?, sealed = x'' WHERE seq = ?", (now_ms, seq))


def may_hold_plain(conn: apsw.Connection) -> bool:
    """Whether pages of this store may still hold secrets that were not sealed, deleted ones among them."""
    return bool(conn.execute("SELECT has_plain FROM store").get)


def note_plain(conn: apsw.Connection, has_plain: bool) -> None:
    """Whether they may from now on: said before the first is written, and unsaid after the last trace is gone."""
    conn.execute("UPDATE store SET has_plain = ?", (int(has_plain),))
