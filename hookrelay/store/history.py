"""Reading the history: deliveries and their attempts, by keyset pages."""

from typing import NamedTuple

import apsw


class DeliveryRow(NamedTuple):
    """A delivery as it is shown; the response fields are its last attempt's."""

    seq: int
    created_ms: int
    state: str
    due_ms: int | None
    attempt_count: int
    started_ms: int | None
    duration_us: int | None
    response_code: int | None
    error_code: str | None
    error_detail: str | None
    completed_ms: int | None
    event: int
    event_created_ms: int
    event_type: str
    tenant: str
    test: int
    webhook: int
    webhook_id: str


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


class EventRow(NamedTuple):
    """The event of a delivery."""

    timestamp: str
    data: bytes
    ordering_key: str | None
    traceparent: str | None


_DELIVERY = (
    "SELECT d.seq, d.created_ms, d.state, d.due_ms, d.attempt_count, d.started_ms, d.duration_us, d.response_code,"
    " d.error_code, d.error_detail, d.completed_ms, d.event, e.created_ms, e.type, e.tenant, e.test, d.webhook, w.id"
    " FROM delivery AS d JOIN event AS e ON e.seq = d.event JOIN webhook AS w ON w.seq = d.webhook"
)


def deliveries_of(conn: apsw.Connection, webhook: int, before: int | None, limit: int) -> list[DeliveryRow]:
    """Up to `limit` deliveries of `webhook`, newest first, older than delivery `before` where it is given."""
    rows = conn.execute(
        f"{_DELIVERY} WHERE d.webhook = ? AND d.seq < ? ORDER BY d.seq DESC LIMIT ?",
        (webhook, 1 << 62 if before is None else before, limit),
    )
    return [DeliveryRow(*row) for row in rows]


def delivery(conn: apsw.Connection, seq: int) -> tuple[DeliveryRow, EventRow, list[AttemptRow]] | None:
    """One delivery with its event and all of its attempts, oldest first."""
    for row in conn.execute(f"{_DELIVERY} WHERE d.seq = ?", (seq,)):
        found = DeliveryRow(*row)
        event = conn.execute(
            "SELECT timestamp, data, ordering_key, traceparent FROM event WHERE seq = ?", (found.event,)
        ).get
        return found, EventRow(*event), _attempts(conn, found)
    return None


def _attempts(conn: apsw.Connection, found: DeliveryRow) -> list[AttemptRow]:
    rows = conn.execute(
        "SELECT number, started_ms, duration_us, response_code, error_code, error_detail, remote_address,"
        " response_head, response_body FROM attempt WHERE delivery = ? ORDER BY number",
        (found.seq,),
    )
    attempts = [AttemptRow(*row) for row in rows]
    if attempts or not found.attempt_count:
        return attempts
    # a success at the first attempt is told by the delivery's own row
    row = conn.execute(
        "SELECT 1, started_ms, duration_us, response_code, error_code, error_detail, remote_address, response_head,"
        " response_body FROM delivery WHERE seq = ?",
        (found.seq,),
    ).get
    return [AttemptRow(*row)]
