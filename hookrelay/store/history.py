"""Reading the history: deliveries and their attempts, events, by keyset pages, newest first.

Whatever is looked for, a page costs a bounded look: candidates come from an index in steps, and those that a filter
lets through fill the page. What matches rarely gives short pages, until the end is reached.
"""

import json
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, NamedTuple

import apsw
import msgspec
from msgspec import Struct

from hookrelay.store.halving import bounds, deliveries_of
from hookrelay.store.paging import Look, Page, Step, fill, sizes
from hookrelay.store.purge import NOTHING
from hookrelay.store.sound import is_sound


class DeliveryRow(NamedTuple):
    """A delivery as it is shown; the response fields are its last attempt's."""

    seq: int
    created_ms: int
    created_at: str
    """The same as RFC 3339: made by SQLite, it costs the loop nothing."""
    state: str
    due_ms: int | None
    attempt_count: int
    duration_us: int | None
    response_code: int | None
    error_code: str | None
    error_detail: str | None
    completed_at: str | None
    event: int
    event_created_ms: int
    event_type: str
    tenant: str
    test: int
    webhook: int
    webhook_id: str
    webhook_status: str


class AttemptRow(NamedTuple):
    """An attempt as it was recorded."""

    number: int
    started_ms: int
    duration_us: int
    response_code: int | None
    error_code: str | None
    error_detail: str | None
    remote_address: str | None
    response_head: bytes | None
    response_body: bytes | None
    phases: str | None


class EventRow(NamedTuple):
    """An event as it was accepted."""

    seq: int
    created_ms: int
    type: str
    tenant: str
    timestamp: str
    idempotency_key: str | None
    ordering_key: str | None
    traceparent: str | None
    test: int
    purged_ms: int | None
    """When its payload was expunged; None where it is there."""
    is_damaged: bool = False
    """Whether its payload is not what was accepted. Known only where its data was asked for, which is `null` then."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which deliveries: every field narrows."""

    webhook: int | None = None
    tenant: str | None = None
    event: int | None = None
    state: str | None = None
    is_held: bool | None = None
    """Of pending ones: those whose webhook takes none, or the others."""
    type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Excluded."""
    code: int | None = None
    without_tests: bool = False
    """A test that failed is in the history of its webhook, but no dead letter."""


# what no file names any more takes nothing, whatever its row says it goes back to
_STATUS = "iif(w.missing_ms IS NULL, w.status, 'disabled')"
_COLUMNS = (
    "d.seq, d.created_ms, strftime('%Y-%m-%dT%H:%M:%fZ', d.created_ms / 1000.0, 'unixepoch'), d.state, d.due_ms,"
    " d.attempt_count, d.duration_us, d.response_code, d.error_code, d.error_detail,"
    " strftime('%Y-%m-%dT%H:%M:%fZ', d.completed_ms / 1000.0, 'unixepoch'), d.event, e.created_ms, e.type, e.tenant,"
    f" e.test, d.webhook, w.id, {_STATUS}"
)
_JOINED = " FROM delivery AS d JOIN event AS e ON e.seq = d.event JOIN webhook AS w ON w.seq = d.webhook"
_SHOWN = f"SELECT {_COLUMNS}{_JOINED}"
# A reader's thread gives the GIL up at every row and at every statement, and waits to get it back: a step comes as one
# row of one statement, which costs a busy loop a tenth. What `{numbers}` stands for gives the candidates.
_STEP = (
    "WITH candidate (seq) AS MATERIALIZED ({numbers})"
    " SELECT (SELECT json_array(count(*), min(seq)) FROM candidate),"
    f" (SELECT json_group_array(json_array({_COLUMNS}) ORDER BY d.seq DESC) FROM candidate AS c"
    " CROSS JOIN delivery AS d ON d.seq = c.seq JOIN event AS e ON e.seq = d.event"
    " JOIN webhook AS w ON w.seq = d.webhook"
    f" WHERE (:state IS NULL OR d.state = :state) AND (:is_held IS NULL OR ({_STATUS} <> 'active') = :is_held)"
    " AND (:type IS NULL OR e.type = :type) AND (:since IS NULL OR d.created_ms >= :since)"
    " AND (:until IS NULL OR d.created_ms < :until) AND (:code IS NULL OR d.response_code = :code)"
    " AND (:tenant IS NULL OR e.tenant = :tenant) AND (:without_tests = 0 OR e.test = 0))"
)
_GIVEN = _STEP.format(numbers="SELECT value FROM json_each(:numbers)")
_OF_ALL = _STEP.format(
    numbers="SELECT seq FROM delivery WHERE seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count"
)
_OF_ALL_ENDED = _STEP.format(
    numbers="SELECT seq FROM delivery INDEXED BY delivery_dead WHERE state IN ('failed', 'cancelled')"
    " AND state = :state AND seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count"
)
_OF_WEBHOOK = _STEP.format(
    numbers="SELECT seq FROM delivery INDEXED BY delivery_of_webhook WHERE webhook = :webhook AND seq < :below"
    " AND seq >= :low ORDER BY seq DESC LIMIT :count"
)
_OF_WEBHOOK_ENDED = _STEP.format(
    numbers="SELECT seq FROM delivery INDEXED BY delivery_ended_badly WHERE state IN ('failed', 'cancelled')"
    " AND webhook = :webhook AND state = :state AND seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count"
)


def deliveries(conn: apsw.Connection, wanted: Wanted, before: int | None, limit: int) -> Page[DeliveryRow]:
    """Up to `limit` deliveries, newest first, older than number `before` where it is given."""
    low, high = bounds(conn, "delivery", wanted.since_ms, wanted.until_ms)
    if wanted.event is not None:
        first, last = deliveries_of(conn, wanted.event)
        low, high = max(low, first), min(high, last)
    start = high if before is None else min(before, high)
    match: dict[str, Any] = {
        "state": wanted.state,
        "is_held": wanted.is_held,
        "type": wanted.type,
        "since": wanted.since_ms,
        "until": wanted.until_ms,
        "code": wanted.code,
        "webhook": wanted.webhook,
        "tenant": wanted.tenant,
        "without_tests": int(wanted.without_tests),
        "low": low,
    }
    is_ended = wanted.state in ("failed", "cancelled")
    narrows = (wanted.is_held, wanted.type, wanted.since_ms, wanted.until_ms, wanted.code)
    is_picky = any(each is not None for each in narrows) or not (is_ended or wanted.state is None)
    steps = sizes(limit, is_picky=is_picky or wanted.without_tests)
    if wanted.webhook is None and wanted.tenant is not None and wanted.event is None:
        return fill(_merged(conn, wanted.tenant, match, start), start, limit, steps)
    if wanted.webhook is not None:
        text = _OF_WEBHOOK_ENDED if is_ended else _OF_WEBHOOK
    else:
        text = _OF_ALL_ENDED if is_ended else _OF_ALL

    def look(below: int, count: int) -> Step[DeliveryRow]:
        return _delivery_step(conn.execute(text, {**match, "below": below, "count": count}).get)

    return fill(look, start, limit, steps)


def recent(conn: apsw.Connection, numbers: Sequence[int]) -> list[DeliveryRow]:
    """These deliveries, as far as they are still there, in the given order."""
    all_of_them = dict.fromkeys(("state", "is_held", "type", "since", "until", "code", "tenant"))
    place = {**all_of_them, "without_tests": 0, "numbers": json.dumps(list(numbers))}
    step = _delivery_step(conn.execute(_GIVEN, place).get)
    rows = {row.seq: row for row in step.rows}
    return [rows[number] for number in numbers if number in rows]


class Ended(Struct, frozen=True, kw_only=True):
    """Which deliveries of a webhook are to be made anew: those that ended so, of events accepted in [since, until)."""

    webhook: int
    states: tuple[str, ...]
    since_ms: int
    until_ms: int
    type: str | None = None


def ended(conn: apsw.Connection, wanted: Ended, above: int, limit: int) -> tuple[list[int], int | None]:
    """Numbers of matching deliveries above `above`, oldest first, and up to where was looked; None at the end.

    Tests are never among them, nor what has no payload any more.
    """
    low, high = bounds(conn, "delivery", wanted.since_ms, wanted.until_ms)
    text = conn.execute(
        "SELECT json_group_array(json_array(seq, matches) ORDER BY seq) FROM"
        " (SELECT d.seq AS seq, (?4 IS NULL OR e.type = ?4) AND d.created_ms >= ?5 AND d.created_ms < ?6"
        " AND d.state IN (SELECT value FROM json_each(?7)) AND e.test = 0 AND e.purged_ms IS NULL AS matches"
        " FROM delivery AS d INDEXED BY delivery_of_webhook CROSS JOIN event AS e ON e.seq = d.event"
        " WHERE d.webhook = ?1 AND d.seq > ?2 AND d.seq < ?3 ORDER BY d.seq LIMIT ?8)",
        (
            wanted.webhook,
            max(above, low - 1),
            high,
            wanted.type,
            wanted.since_ms,
            wanted.until_ms,
            json.dumps(wanted.states),
            limit,
        ),
    ).get
    rows = _pairs(text)
    found: list[int] = [seq for seq, matches in rows if matches]
    return found, rows[-1][0] if len(rows) == limit else None


def count_dead(conn: apsw.Connection, most: int) -> int:
    """How many deliveries have failed for good, tests aside, counted no further than `most`."""
    count: int = conn.execute(
        "SELECT count(*) FROM (SELECT 1 FROM delivery AS d INDEXED BY delivery_dead"
        " CROSS JOIN event AS e ON e.seq = d.event"
        " WHERE d.state IN ('failed', 'cancelled') AND d.state = 'failed' AND e.test = 0 LIMIT ?)",
        (most,),
    ).get
    return count


def delivery(conn: apsw.Connection, seq: int) -> tuple[DeliveryRow, EventRow, bytes, list[AttemptRow]] | None:
    """One delivery with its event, that one's data, and all of its attempts, oldest first."""
    for row in conn.execute(f"{_SHOWN} WHERE d.seq = ?", (seq,)):
        found = DeliveryRow(*row)
        event = conn.execute(_WHOLE_EVENT, (found.event,)).get
        return found, *_checked(event), _attempts(conn, found)
    return None


def _attempts(conn: apsw.Connection, found: DeliveryRow) -> list[AttemptRow]:
    rows = conn.execute(
        "SELECT number, started_ms, duration_us, response_code, error_code, error_detail, remote_address,"
        " response_head, response_body, phases FROM attempt WHERE delivery = ? ORDER BY number",
        (found.seq,),
    )
    attempts = [AttemptRow(*row) for row in rows]
    if attempts or not found.attempt_count:
        return attempts
    # a success at the first attempt is told by the delivery's own row
    row = conn.execute(
        "SELECT 1, started_ms, duration_us, response_code, error_code, error_detail, remote_address, response_head,"
        " response_body, phases FROM delivery WHERE seq = ?",
        (found.seq,),
    ).get
    return [AttemptRow(*row)]


# --- events -----------------------------------------------------------------------------------------------------

_EVENT_COLUMNS = "seq, created_ms, type, tenant, timestamp, idempotency_key, ordering_key, traceparent, test, purged_ms"
_WHOLE_EVENT = f"SELECT {_EVENT_COLUMNS}, data, payload_hash FROM event WHERE seq = ?"
_EVENT_STEP = (
    "WITH candidate (seq) AS MATERIALIZED ({numbers})"
    " SELECT (SELECT json_array(count(*), min(seq)) FROM candidate),"
    f" (SELECT json_group_array(json_array({_EVENT_COLUMNS}) ORDER BY seq DESC)"
    " FROM candidate CROSS JOIN event USING (seq)"
    " WHERE (:type IS NULL OR type = :type) AND (:since IS NULL OR created_ms >= :since)"
    " AND (:until IS NULL OR created_ms < :until))"
)
_EVENTS_OF_ALL = _EVENT_STEP.format(
    numbers="SELECT seq FROM event WHERE seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count"
)
_EVENTS_OF_TENANT = _EVENT_STEP.format(
    numbers="SELECT seq FROM event INDEXED BY event_of_tenant WHERE tenant = :tenant AND seq < :below AND seq >= :low"
    " ORDER BY seq DESC LIMIT :count"
)
_WITH_DATA = (
    f"SELECT json_group_array(json_array({_EVENT_COLUMNS}, CAST(data AS TEXT), payload_hash) ORDER BY seq) FROM"
)
_EVENTS_AFTER = f"{_WITH_DATA} (SELECT * FROM event WHERE seq > ? ORDER BY seq LIMIT ?)"
_EVENTS_AFTER_OF_TENANT = (
    f"{_WITH_DATA} (SELECT * FROM event INDEXED BY event_of_tenant WHERE tenant = ? AND seq > ? ORDER BY seq LIMIT ?)"
)


def events(
    conn: apsw.Connection,
    tenant: str | None,
    type: str | None,
    between: tuple[int | None, int | None],
    before: int | None,
    limit: int,
) -> Page[EventRow]:
    """Up to `limit` events, newest first, older than number `before`; `between` two times (ms, the later excluded)."""
    since_ms, until_ms = between
    low, high = bounds(conn, "event", since_ms, until_ms)
    start = high if before is None else min(before, high)
    text = _EVENTS_OF_ALL if tenant is None else _EVENTS_OF_TENANT
    match: dict[str, Any] = {"tenant": tenant, "type": type, "since": since_ms, "until": until_ms, "low": low}

    def look(below: int, count: int) -> Step[EventRow]:
        return _event_step(conn.execute(text, {**match, "below": below, "count": count}).get)

    is_picky = type is not None or since_ms is not None or until_ms is not None
    return fill(look, start, limit, sizes(limit, is_picky=is_picky))


def event(conn: apsw.Connection, seq: int, limit: int) -> tuple[EventRow, bytes, int, list[DeliveryRow]] | None:
    """One event with its data, how many deliveries it has, and the first `limit` of them."""
    for row in conn.execute(_WHOLE_EVENT, (seq,)):
        first, end = deliveries_of(conn, seq)
        rows = conn.execute(f"{_SHOWN} WHERE d.seq >= ? AND d.seq < ? ORDER BY d.seq LIMIT ?", (first, end, limit))
        found = [DeliveryRow(*each) for each in rows]
        count = conn.execute("SELECT count(*) FROM delivery WHERE seq >= ? AND seq < ?", (first, end)).get
        return *_checked(row), count, found
    return None


def events_after(conn: apsw.Connection, tenant: str | None, above: int, limit: int) -> list[tuple[EventRow, bytes]]:
    """Up to `limit` events with a number above `above`, oldest first, and their data."""
    text, whose = (_EVENTS_AFTER, ()) if tenant is None else (_EVENTS_AFTER_OF_TENANT, (tenant,))
    try:
        rows = _decode_lists(conn.execute(text, (*whose, above, limit)).get)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return _one_by_one(conn, tenant, above, limit)
    return [_checked((*row[:-2], row[-2].encode(), row[-1])) for row in rows]


def _one_by_one(conn: apsw.Connection, tenant: str | None, above: int, limit: int) -> list[tuple[EventRow, bytes]]:
    """The same where the data of one is no text any more."""
    whose, given = ("", ()) if tenant is None else (" INDEXED BY event_of_tenant", (tenant,))
    condition = "" if tenant is None else " AND tenant = ?2"
    rows = conn.execute(
        f"SELECT {_EVENT_COLUMNS}, data, payload_hash FROM event{whose} WHERE seq > ?1{condition}"
        f" ORDER BY seq LIMIT {limit:d}",
        (above, *given),
    )
    return [_checked(row) for row in rows]


def _checked(row: Sequence[Any]) -> tuple[EventRow, bytes]:
    """An event of its columns, its data and that one's hash; `null` where the data is not what was accepted."""
    *columns, data, stored_hash = row
    event = EventRow(*columns)
    return (event, data) if is_sound(data, stored_hash) else (event._replace(is_damaged=True), NOTHING)


_pairs = msgspec.json.Decoder(list[tuple[int, int]]).decode
_decode_lists = msgspec.json.Decoder(list[list[Any]]).decode


# --- steps ------------------------------------------------------------------------------------------------------


_read_count = msgspec.json.Decoder(tuple[int, int | None]).decode
_read_deliveries = msgspec.json.Decoder(list[DeliveryRow]).decode
_read_events = msgspec.json.Decoder(list[EventRow]).decode
_read_numbers = msgspec.json.Decoder(list[int]).decode


def _delivery_step(row: tuple[str, str]) -> Step[DeliveryRow]:
    return Step(*_read_count(row[0]), _read_deliveries(row[1]))


def _event_step(row: tuple[str, str]) -> Step[EventRow]:
    return Step(*_read_count(row[0]), _read_events(row[1]))


_NUMBERS = (
    "SELECT json_group_array(seq ORDER BY seq DESC) FROM (SELECT seq FROM delivery INDEXED BY delivery_of_webhook"
    " WHERE webhook = :webhook AND seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count)"
)
_NUMBERS_ENDED = (
    "SELECT json_group_array(seq ORDER BY seq DESC) FROM (SELECT seq FROM delivery INDEXED BY delivery_ended_badly"
    " WHERE state IN ('failed', 'cancelled') AND webhook = :webhook AND state = :state AND seq < :below AND seq >= :low"
    " ORDER BY seq DESC LIMIT :count)"
)
_AT_ONCE = 32


def _merged(conn: apsw.Connection, tenant: str, match: dict[str, Any], start: int) -> Look[DeliveryRow]:
    """The deliveries of all of a tenant's webhooks, deleted ones too: each one's are in order, these are merged."""
    text = _NUMBERS_ENDED if match["state"] in ("failed", "cancelled") else _NUMBERS
    theirs: list[Any] = conn.execute("SELECT seq FROM webhook WHERE tenant = ?", (tenant,)).fetchall()

    def walk(webhook: int, below: int, count: int) -> list[int]:
        place = {**match, "webhook": webhook, "below": below, "count": count}
        return _read_numbers(conn.execute(text, place).get)

    heads = [(-found[0], webhook) for (webhook,) in theirs if (found := walk(webhook, start, 1))]
    heapify(heads)
    ahead: dict[int, list[int]] = {}

    def look(below: int, count: int) -> Step[DeliveryRow]:
        numbers: list[int] = []
        while heads and len(numbers) < count:
            least, webhook = heads[0]
            numbers.append(-least)
            rest = ahead.get(webhook)
            if not rest:
                rest = ahead[webhook] = walk(webhook, -least, _AT_ONCE)[::-1]
            if rest:
                heapreplace(heads, (-rest.pop(), webhook))
            else:
                heappop(heads)
        return _delivery_step(conn.execute(_GIVEN, {**match, "numbers": json.dumps(numbers)}).get)

    return look
