"""Expunging payloads: what was sent, what was answered and what names either, while the history's rows stay.

What is overwritten in a row is overwritten in the file as well, by `secure_delete` (store/open.py).
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw
from msgspec import Struct

from hookrelay.model import OPERATORS
from hookrelay.store.halving import first_delivery_of

NOTHING = b"null"
"""What stands in place of an event's data: JSON as it was."""
TOLD = "hookrelay.delivery.failed"
"""The announcement that quotes what a receiver answered."""


class Purge(Struct, frozen=True, kw_only=True):
    """Whose payloads: of one event, or of one tenant's events that were accepted before a time."""

    tenant: str
    event: int | None = None
    before_ms: int


class Found(NamedTuple):
    """Events of a look at some of them, and the number above which the next look begins; None: there are no more."""

    events: list[int]
    above: int | None


def events(conn: apsw.Connection, wanted: Purge, above: int, upto: int, limit: int) -> Found:
    """Those of the tenant's next `limit` events whose payload is to go, none above number `upto`."""
    if wanted.event is not None:
        row = conn.execute(
            "SELECT seq FROM event WHERE seq = ? AND tenant = ? AND purged_ms IS NULL", (wanted.event, wanted.tenant)
        ).get
        return Found([] if row is None else [row], None)
    rows: list[Any] = conn.execute(
        "SELECT seq, purged_ms IS NULL AND created_ms < ? FROM event INDEXED BY event_of_tenant"
        " WHERE tenant = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (wanted.before_ms, wanted.tenant, above, upto, limit),
    ).fetchall()
    return _found(rows, limit)


def announcements(conn: apsw.Connection, wanted: Purge, event_id: str, above: int, upto: int, limit: int) -> Found:
    """The same of what hookrelay itself has told operators of these events."""
    column, value = ("tenant", wanted.tenant) if wanted.event is None else ("event_id", event_id)
    rows: list[Any] = conn.execute(
        "SELECT seq, purged_ms IS NULL AND type = ? AND created_ms < ?"
        " AND CASE WHEN json_valid(CAST(data AS TEXT)) THEN CAST(data AS TEXT) ->> ? = ? END"
        " FROM event INDEXED BY event_of_tenant WHERE tenant = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (TOLD, wanted.before_ms, column, value, OPERATORS, above, upto, limit),
    ).fetchall()
    return _found(rows, limit)


def _found(rows: Sequence[tuple[int, int]], limit: int) -> Found:
    return Found([seq for seq, is_wanted in rows if is_wanted], rows[-1][0] if len(rows) == limit else None)


def deliveries_of(conn: apsw.Connection, wanted: Sequence[int]) -> list[int]:
    """The numbers of the deliveries of these events."""
    return [
        number
        for event in wanted
        for (number,) in conn.execute(
            "SELECT seq FROM delivery WHERE seq >= ? AND seq < ?",
            (first_delivery_of(conn, event), first_delivery_of(conn, event + 1)),
        )
    ]


def waiting(conn: apsw.Connection, deliveries: Sequence[int]) -> list[tuple[int, int]]:
    """Those that are pending, and their webhooks."""
    return list(
        conn.execute(
            "SELECT seq, webhook FROM delivery WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'pending'",
            (_json(deliveries),),
        )
    )


def blank_deliveries(conn: apsw.Connection, deliveries: Sequence[int]) -> None:
    """Forget what receivers answered to these, and what went wrong in words. Those that are pending stay."""
    ended = "(SELECT seq FROM delivery WHERE seq IN (SELECT value FROM json_each(?)) AND state <> 'pending')"
    conn.execute(
        "UPDATE attempt SET response_head = NULL, response_body = NULL, error_detail = NULL"
        f" WHERE delivery IN {ended} AND coalesce(response_head, response_body, error_detail) IS NOT NULL",
        (_json(deliveries),),
    )
    conn.execute(
        "UPDATE delivery SET response_head = NULL, response_body = NULL, error_detail = NULL, ordering = NULL"
        f" WHERE seq IN {ended}"
        " AND coalesce(response_head, response_body, error_detail, ordering) IS NOT NULL",
        (_json(deliveries),),
    )


def blank_events(conn: apsw.Connection, wanted: Sequence[int], deliveries: Sequence[int], now_ms: int) -> list[int]:
    """Forget the data and the keys of these events, whose deliveries are given; which of them it was.

    One of whose deliveries is pending stays as it is: somebody has just asked for it.
    """
    busy = [
        event
        for (event,) in conn.execute(
            "SELECT DISTINCT event FROM delivery WHERE seq IN (SELECT value FROM json_each(?)) AND state = 'pending'",
            (_json(deliveries),),
        )
    ]
    done = [event for event in wanted if event not in busy]
    blank_deliveries(conn, deliveries)  # once more: one may have been tried again since, and have ended
    conn.execute(
        "UPDATE event SET data = ?, payload_hash = NULL, idempotency_key = NULL, ordering_key = NULL,"
        " traceparent = NULL, purged_ms = ?"
        " WHERE seq IN (SELECT value FROM json_each(?))",
        (NOTHING, now_ms, _json(done)),
    )
    return done


def blank_late(conn: apsw.Connection, delivery: int) -> None:
    """Forget what came of an attempt that has ended after the payload was expunged."""
    if is_purged(conn, delivery):
        blank_deliveries(conn, [delivery])


def is_purged(conn: apsw.Connection, delivery: int) -> bool:
    """Whether a delivery has nothing left to be sent."""
    return (
        conn.execute(
            "SELECT 1 FROM delivery AS d JOIN event AS e ON e.seq = d.event"
            " WHERE d.seq = ? AND e.purged_ms IS NOT NULL",
            (delivery,),
        ).get
        is not None
    )


def _json(numbers: Sequence[int]) -> str:
    return json.dumps(list(numbers))
