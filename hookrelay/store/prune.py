"""Retention: what has ended long enough ago leaves the store, a little at a time, and its room goes back to the disk.

The newest event and delivery always stay: the numbers of the next ones go on from theirs.
"""

from typing import NamedTuple

import apsw

from hookrelay.store.halving import first_delivery_of


class Step(NamedTuple):
    """How many rows a step removed, and the key above which the next one begins; None where nothing older is left."""

    removed: int
    at: int | None


class Room(NamedTuple):
    """How much of its file a store takes, in bytes."""

    used: int
    free: int
    page: int


_OLD = "state <> 'pending' AND coalesce(completed_ms, created_ms) < ?3 AND seq < (SELECT max(seq) FROM delivery)"


def deliveries(conn: apsw.Connection, above: int, before_ms: int, limit: int) -> Step:
    """Remove what ended before `before_ms` of the next `limit` deliveries, with its attempts, and events of theirs."""
    first_event, last, first_ms = conn.execute(
        "SELECT min(event), max(seq), min(created_ms) FROM"
        " (SELECT seq, event, created_ms FROM delivery WHERE seq > ? ORDER BY seq LIMIT ?)",
        (above, limit),
    ).get
    if last is None or first_ms >= before_ms:
        return Step(0, None)
    block = (above, last, before_ms)
    conn.execute(
        "DELETE FROM attempt WHERE delivery > ?1 AND delivery <= ?2 AND delivery IN"
        f" (SELECT seq FROM delivery WHERE seq > ?1 AND seq <= ?2 AND {_OLD})",
        block,
    )
    conn.execute(f"DELETE FROM delivery WHERE seq > ?1 AND seq <= ?2 AND {_OLD}", block)
    removed = conn.changes()
    next_event = conn.execute("SELECT event FROM delivery WHERE seq > ? ORDER BY seq LIMIT 1", (last,)).get
    if removed and next_event is not None:
        # those between that nobody wanted go by `events`, however many they are
        _remove_bare(conn, first_event, min(next_event, first_event + limit) - 1, before_ms)
    return Step(removed, last)


def events(conn: apsw.Connection, above: int, before_ms: int, limit: int) -> Step:
    """Remove those of the next `limit` events that were accepted before `before_ms` and have no delivery left."""
    first, last, first_ms = conn.execute(
        "SELECT min(seq), max(seq), min(created_ms) FROM"
        " (SELECT seq, created_ms FROM event WHERE seq > ? ORDER BY seq LIMIT ?)",
        (above, limit),
    ).get
    if last is None or first_ms >= before_ms:
        return Step(0, None)
    return Step(_remove_bare(conn, first, last, before_ms), last)


def _remove_bare(conn: apsw.Connection, first: int, last: int, before_ms: int) -> int:
    conn.execute(
        "DELETE FROM event WHERE seq >= ? AND seq <= ? AND created_ms < ?"
        " AND seq NOT IN (SELECT event FROM delivery WHERE seq >= ? AND seq < ?)"
        " AND seq < (SELECT max(seq) FROM event)",
        (first, last, before_ms, first_delivery_of(conn, first), first_delivery_of(conn, last + 1)),
    )
    return conn.changes()


def keys(conn: apsw.Connection, above: int, before_ms: int, limit: int) -> Step:
    """Remove those of the next `limit` idempotency keys that came before `before_ms` (of the store's running time) and
    whose event is gone.

    They are kept by their hash, so their order is none: all of them are looked at.
    """
    last = conn.execute(
        "SELECT max(hash) FROM (SELECT hash FROM idempotency WHERE hash > ? ORDER BY hash LIMIT ?)", (above, limit)
    ).get
    if last is None:
        return Step(0, None)
    conn.execute(
        "DELETE FROM idempotency WHERE hash > ? AND hash <= ? AND used_ms < ?"
        " AND NOT EXISTS (SELECT 1 FROM event WHERE event.seq = idempotency.event)",
        (above, last, before_ms),
    )
    return Step(conn.changes(), last)


def records(conn: apsw.Connection, above: int, before_ms: int, limit: int) -> Step:
    """Remove those of the next `limit` records of the audit trail that were written before `before_ms`."""
    last, first_ms = conn.execute(
        "SELECT max(seq), min(created_ms) FROM (SELECT seq, created_ms FROM audit WHERE seq > ? ORDER BY seq LIMIT ?)",
        (above, limit),
    ).get
    if last is None or first_ms >= before_ms:
        return Step(0, None)
    conn.execute(
        "DELETE FROM audit WHERE seq > ? AND seq <= ? AND created_ms < ? AND seq < (SELECT max(seq) FROM audit)",
        (above, last, before_ms),
    )
    return Step(conn.changes(), last)


class Surplus(NamedTuple):
    """Whose records of the audit trail are most, and how many of them are too many."""

    tenant: str
    records: int


def surplus(conn: apsw.Connection, most: int) -> Surplus | None:
    """None where the audit trail has no more than `most` records."""
    first, last = conn.execute("SELECT min(seq), max(seq) FROM audit").get
    if last is None or last - first < most:
        return None
    count: int = conn.execute("SELECT count(*) FROM audit").get
    if count <= most:
        return None
    tenant, theirs = conn.execute(
        "SELECT tenant, count(*) FROM audit INDEXED BY audit_of_tenant GROUP BY tenant ORDER BY 2 DESC LIMIT 1"
    ).get
    return Surplus(tenant, min(count - most, theirs - 1))


def oldest_records(conn: apsw.Connection, tenant: str, limit: int) -> int:
    """Remove the oldest records of a tenant, up to `limit`; how many it was."""
    conn.execute(
        "DELETE FROM audit WHERE seq IN"
        " (SELECT seq FROM audit INDEXED BY audit_of_tenant WHERE tenant = ? ORDER BY seq LIMIT ?)",
        (tenant, limit),
    )
    return conn.changes()


def webhooks(conn: apsw.Connection, before_ms: int, requests_before_ms: int) -> int:
    """Remove webhooks that were deleted before and have no delivery left; how many it was.

    `requests_before_ms` is of the store's running time.
    """
    conn.execute("DELETE FROM webhook_request WHERE used_ms < ?", (requests_before_ms,))
    conn.execute(
        "DELETE FROM webhook WHERE removed_ms < ? AND NOT EXISTS"
        " (SELECT 1 FROM delivery INDEXED BY delivery_of_webhook WHERE delivery.webhook = webhook.seq)",
        (before_ms,),
    )
    count = conn.changes()
    if count:
        conn.execute("DELETE FROM last_failure WHERE webhook NOT IN (SELECT seq FROM webhook)")
    return count


def room(conn: apsw.Connection) -> Room:
    """How much of its file the store takes."""
    page: int = conn.pragma("page_size")
    count: int = conn.pragma("page_count")
    free: int = conn.pragma("freelist_count")
    return Room((count - free) * page, free * page, page)


def give_back(conn: apsw.Connection, pages: int) -> None:
    """Make the file smaller by up to so many pages that nothing uses."""
    conn.execute(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
