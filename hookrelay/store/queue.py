"""What is due, and what came of it. Knows `due`, no schedule: the verdicts are made elsewhere."""

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import apsw
import msgspec
from msgspec import Struct

from hookrelay.model import Delivery, Event, Ids, Outcome, Verdict
from hookrelay.store.audit import AuditRow, insert
from hookrelay.store.chains import BLOCKED_MS, free_next
from hookrelay.store.purge import blank_late
from hookrelay.store.rows import ManyRows
from hookrelay.store.sound import is_sound

PAGE_BYTES = 1 << 20
"""Payload that one page brings into memory at most (beyond its first row)."""
BLOCK = 64
"""Deliveries that are read at once."""


class Backlog(NamedTuple):
    """What waits for one webhook: read once, at the start."""

    webhook: int
    pending: int
    next_due_ms: int


class Page(NamedTuple):
    """Deliveries that are due, first attempts first, each kind with the most overdue first."""

    deliveries: list[Delivery]
    next_first_ms: int | None
    """When the next first attempt is due that is not on the page; None: there is none."""
    next_retry_ms: int | None
    """The same of the retries."""
    damaged: list[Delivery]
    """What is due and cannot be sent: its payload is not what was accepted."""


class Standing(NamedTuple):
    """How a webhook does, as far as it outlives the daemon."""

    failures: int = 0
    failing_since_ms: int | None = None
    held_until_ms: int | None = None
    disabled: str | None = None
    """Why it is disabled by this very outcome."""
    record: AuditRow | None = None
    """What the audit trail says of that."""


class Result(Struct, frozen=True, gc=False):
    """An attempt that has ended."""

    delivery: int
    number: int
    outcome: Outcome
    verdict: Verdict
    webhook: int = 0
    chain: str | None = None
    is_ordered: bool = False
    """Whether the webhook is ordered now."""
    standing: Standing | None = None
    """The webhook's, where this attempt has changed it."""
    is_called_off: bool = False
    """Whether the delivery was cancelled while the attempt was in flight."""


def backlogs(conn: apsw.Connection) -> list[Backlog]:
    """One row for each webhook with pending deliveries (an index scan: 20 ms a million)."""
    return [
        Backlog(*row)
        for row in conn.execute(
            "SELECT webhook, count(*), min(due_ms) FROM delivery INDEXED BY delivery_due"
            " WHERE state = 'pending' GROUP BY webhook"
        )
    ]


def standings(conn: apsw.Connection) -> dict[int, Standing]:
    """How the webhooks do that do not do well: read once, at the start."""
    return {
        row[0]: Standing(*row[1:])
        for row in conn.execute(
            "SELECT seq, failures, failing_since_ms, held_until_ms FROM webhook"
            " WHERE removed_ms IS NULL AND (failures > 0 OR held_until_ms IS NOT NULL)"
        )
    }


def due(
    conn: apsw.Connection,
    ids: Ids,
    webhook: int,
    now_ms: int,
    taken: Collection[int],
    limit: int,
    retries: int | None = None,
) -> Page:
    """Up to `limit` pending deliveries of `webhook` due at `now_ms` that are not among `taken`.

    No more than `retries` of them are retries. `taken` are the rows that the lane has in memory: in flight is a fact
    of memory, never of the store.
    """
    found: list[Delivery] = []
    damaged: list[Delivery] = []
    left_out = json.dumps(list(taken))
    next_first_ms = _due(conn, ids, (webhook, 0, left_out, limit + 1), now_ms, limit, found, damaged)
    limit = limit if retries is None else min(limit, len(found) + retries)
    next_retry_ms = _due(conn, ids, (webhook, 1, left_out, limit - len(found) + 1), now_ms, limit, found, damaged)
    return Page(found, next_first_ms, next_retry_ms, damaged)


# The thread that reads gives the GIL up at every row, and waits to get it back beside a busy loop: many rows come as
# one of JSON. The rows left out are dropped by the index alone, before their payload is touched.
_NEXT = (
    "SELECT json_group_array(json_array(due_ms, seq) ORDER BY due_ms, seq) FROM"
    " (SELECT due_ms, seq FROM delivery INDEXED BY delivery_due"
    " WHERE webhook = ? AND (strikes > 0) = ? AND state = 'pending' AND seq NOT IN (SELECT value FROM json_each(?))"
    " ORDER BY due_ms, seq LIMIT ?)"
)
_ROWS = (
    "SELECT json_group_array(json_array(d.seq, d.due_ms, d.attempt_count, d.strikes, d.ordering, d.by_hand, e.seq,"
    " e.created_ms, e.type, e.tenant, e.timestamp, CAST(e.data AS TEXT), e.ordering_key, e.traceparent, e.test,"
    " e.payload_hash))"
    " FROM json_each(?) AS j CROSS JOIN delivery AS d ON d.seq = j.value CROSS JOIN event AS e ON e.seq = d.event"
    " WHERE d.state = 'pending'"
)
# The same of one row whose text is no text any more: what of it is needed to end the delivery.
_BROKEN = (
    "SELECT d.due_ms, d.attempt_count, d.strikes, d.by_hand, e.seq, e.created_ms, CAST(d.ordering AS BLOB),"
    " CAST(e.type AS BLOB), CAST(e.tenant AS BLOB), CAST(e.timestamp AS BLOB)"
    " FROM delivery AS d JOIN event AS e ON e.seq = d.event WHERE d.seq = ? AND d.state = 'pending'"
)
_read_next = msgspec.json.Decoder(list[tuple[int, int]]).decode
_read_rows = msgspec.json.Decoder(
    list[
        tuple[
            int, int, int, int, str | None, int, int, int, str, str, str, str, str | None, str | None, int, int | None
        ]
    ]
).decode


def _due(
    conn: apsw.Connection,
    ids: Ids,
    which: tuple[int, int, str, int],
    now_ms: int,
    limit: int,
    found: list[Delivery],
    damaged: list[Delivery],
) -> int | None:
    """Add what is due of one kind to `found`, which gets no more than a page; when the first of the rest is due.

    What cannot be sent goes to `damaged`.
    """
    candidates = _read_next(conn.execute(_NEXT, which).get)
    ready = [seq for due_ms, seq in candidates if due_ms <= now_ms][: limit - len(found)]
    size = sum([len(delivery.event.data) for delivery in found])
    at = 0
    while at < len(ready) and size <= PAGE_BYTES:
        block = ready[at : at + BLOCK]
        rows = _rows(conn, block, ids, damaged)
        for seq in block:
            if size > PAGE_BYTES:
                break
            at += 1
            if (row := rows.get(seq)) is None:  # cancelled since, or damaged
                continue
            delivery = _delivery(ids, row)
            if not is_sound(delivery.event.data, row[-1]):
                damaged.append(delivery)
                continue
            found.append(delivery)
            size += len(delivery.event.data)
    return candidates[at][0] if at < len(candidates) else None


def _rows(conn: apsw.Connection, block: Sequence[int], ids: Ids, damaged: list[Delivery]) -> dict[int, tuple[Any, ...]]:
    """The rows of these deliveries by their numbers. Where one cannot be read as text it goes to `damaged`."""
    try:
        return {row[0]: row for row in _read_rows(conn.execute(_ROWS, (json.dumps(block),)).get)}
    except (UnicodeDecodeError, msgspec.DecodeError):
        if len(block) > 1:
            return {seq: row for one in block for seq, row in _rows(conn, [one], ids, damaged).items()}
    damaged += [_broken(ids, block[0], row) for row in conn.execute(_BROKEN, tuple(block))]
    return {}


def _delivery(ids: Ids, row: tuple[Any, ...]) -> Delivery:
    seq, due_ms, attempts, strikes, chain, by_hand, event_seq, created_ms, kind, tenant, timestamp = row[:11]
    data, order, trace, test, _ = row[11:]
    event_id = ids.make("evt", created_ms, event_seq)
    event = Event(event_seq, created_ms, event_id, kind, tenant, timestamp, data.encode(), order, trace, bool(test))
    return Delivery(seq, event, attempts, strikes, due_ms, chain, bool(by_hand))


def _broken(ids: Ids, seq: int, row: tuple[Any, ...]) -> Delivery:
    """A delivery whose text is damaged, as far as it can be told of."""
    due_ms, attempts, strikes, by_hand, event_seq, created_ms, *texts = row
    chain, kind, tenant, timestamp = ((text or b"").decode(errors="replace") for text in texts)
    event_id = ids.make("evt", created_ms, event_seq)
    event = Event(event_seq, created_ms, event_id, kind, tenant, timestamp, b"")
    return Delivery(seq, event, attempts, strikes, due_ms, None if texts[0] is None else chain, bool(by_hand))


_RECORD_FIELDS = 15
_RECORD = ManyRows(
    "WITH result (seq, state, due_ms, attempt_count, strikes, started_ms, duration_us, response_code, error_code,"
    " error_detail, remote_address, response_head, response_body, completed_ms, phases) AS (VALUES {values})"
    " UPDATE delivery SET state = result.state, due_ms = result.due_ms, attempt_count = result.attempt_count,"
    " strikes = result.strikes, started_ms = result.started_ms, duration_us = result.duration_us,"
    " response_code = result.response_code, error_code = result.error_code, error_detail = result.error_detail,"
    " remote_address = result.remote_address, response_head = result.response_head,"
    " response_body = result.response_body, completed_ms = result.completed_ms, phases = result.phases"
    " FROM result WHERE delivery.seq = result.seq AND delivery.state = 'pending'",
    _RECORD_FIELDS,
)
CALLED_OFF = -1
"""No due time: see `record`."""
_ATTEMPTS = ManyRows(
    "INSERT OR REPLACE INTO attempt (delivery, number, started_ms, duration_us, response_code, error_code,"
    " error_detail, remote_address, response_head, response_body, phases) VALUES {values}",
    11,
)


def record(conn: apsw.Connection, results: Sequence[Result]) -> list[int | None]:
    """Write attempts into the history, their verdicts onto their deliveries, and what they say of their webhooks.

    A delivery that was cancelled meanwhile stays cancelled, or what has been made of it since; its attempt is in the
    history all the same. Answers, for each, when the delivery is due that waited for this one to end; None where none
    did; CALLED_OFF where the verdict came too late.
    """
    updates: list[Any] = []
    attempts: list[Any] = []
    answers: list[int | None] = [None] * len(results)
    telling: list[int] = []
    for index, result in enumerate(results):
        seq, number, outcome, verdict = result.delivery, result.number, result.outcome, result.verdict
        told_by_delivery = number == 1 and outcome.error is None
        duration_us = int(outcome.duration_s * 1_000_000)
        detail = outcome.reason or outcome.detail or None
        if result.is_called_off:
            attempts += _attempt(result)
            answers[index] = CALLED_OFF
            telling.append(index)
            continue
        updates += (
            seq,
            verdict.state,
            verdict.due_ms,
            number,
            verdict.strikes,
            outcome.started_ms,
            duration_us,
            outcome.response_code,
            outcome.error,
            detail,
            outcome.remote_address,
            outcome.response_head if told_by_delivery else None,
            outcome.response_body if told_by_delivery else None,
            None if verdict.state == "pending" else outcome.started_ms + duration_us // 1000,
            outcome.phases,
        )
        if not told_by_delivery:
            attempts += _attempt(result)
        if result.is_ordered or result.chain is not None or result.standing is not None:
            telling.append(index)
    before = conn.total_changes()
    _RECORD.run(conn, updates)
    if conn.total_changes() - before < len(updates) // _RECORD_FIELDS:
        late = _cancelled(conn, results)
        for index in late:
            answers[index] = CALLED_OFF
            attempts += _attempt(results[index])
        telling = sorted({*telling, *late})
    _ATTEMPTS.run(conn, attempts)
    for index in telling:
        result = results[index]
        if answers[index] == CALLED_OFF:
            _note_attempt(conn, result)
        elif (result.is_ordered or result.chain is not None) and result.verdict.state != "pending":
            answers[index] = free_next(conn, result.webhook, result.chain, result.is_ordered)
        if result.standing is not None:
            _stand(conn, result.webhook, result.standing, result.outcome.started_ms)
    return answers


def _attempt(result: Result) -> tuple[Any, ...]:
    outcome = result.outcome
    return (
        result.delivery,
        result.number,
        outcome.started_ms,
        int(outcome.duration_s * 1_000_000),
        outcome.response_code,
        outcome.error,
        outcome.reason or outcome.detail or None,
        outcome.remote_address,
        outcome.response_head,
        outcome.response_body,
        outcome.phases,
    )


def _cancelled(conn: apsw.Connection, results: Sequence[Result]) -> list[int]:
    """The places of those whose delivery was cancelled in the very commit in which its attempt is recorded."""
    places = {result.delivery: index for index, result in enumerate(results) if not result.is_called_off}
    found: list[Any] = conn.execute(
        "SELECT seq FROM delivery WHERE state = 'cancelled' AND seq IN (SELECT value FROM json_each(?))",
        (json.dumps(list(places)),),
    ).fetchall()
    return [places[seq] for (seq,) in found]


def _note_attempt(conn: apsw.Connection, result: Result) -> None:
    """An attempt ended after its delivery was cancelled: that is shown, and changes nothing.

    Where it is wanted again by now, the attempt that comes has the next number.
    """
    outcome = result.outcome
    conn.execute(
        "UPDATE delivery SET attempt_count = ?, started_ms = ?, duration_us = ?, response_code = ?, error_code = ?,"
        " error_detail = ?, remote_address = ?, phases = ?"
        " WHERE seq = ? AND state IN ('cancelled', 'pending') AND attempt_count < ?",
        (
            result.number,
            outcome.started_ms,
            int(outcome.duration_s * 1_000_000),
            outcome.response_code,
            outcome.error,
            outcome.reason or outcome.detail or None,
            outcome.remote_address,
            outcome.phases,
            result.delivery,
            result.number,
        ),
    )
    blank_late(conn, result.delivery)


def _stand(conn: apsw.Connection, webhook: int, standing: Standing, now_ms: int) -> None:
    conn.execute(
        "UPDATE webhook SET failures = ?, failing_since_ms = ?, held_until_ms = ? WHERE seq = ?",
        (standing.failures, standing.failing_since_ms, standing.held_until_ms, webhook),
    )
    if standing.disabled is not None:
        conn.execute(
            "UPDATE webhook SET status = 'disabled', disabled_reason = ?, updated_ms = ?"
            " WHERE seq = ? AND status = 'active'",
            (standing.disabled, now_ms, webhook),
        )
        if standing.record is not None and conn.changes():
            insert(conn, standing.record)


def cancel_waiting(conn: apsw.Connection, webhook: int, now_ms: int, limit: int) -> int:
    """Cancel up to `limit` pending deliveries of a webhook; how many it was.

    Those that wait for others go before these: wherever it stops, what is left of a chain has its free delivery.
    """
    waiting = conn.execute(
        "SELECT 1 FROM delivery INDEXED BY delivery_due"
        " WHERE webhook = ? AND (strikes > 0) IN (0, 1) AND state = 'pending' LIMIT 1",
        (webhook,),
    ).get
    for is_retry in (0, 1) if waiting else ():
        conn.execute(
            "UPDATE delivery SET state = 'cancelled', due_ms = NULL, completed_ms = ? WHERE seq IN"
            " (SELECT seq FROM delivery INDEXED BY delivery_due WHERE webhook = ? AND (strikes > 0) = ?"
            " AND state = 'pending' ORDER BY due_ms DESC LIMIT ?)",
            (now_ms, webhook, is_retry, limit),
        )
        if count := conn.changes():
            return count
    return 0


def pull_in(conn: apsw.Connection, webhook: int, latest_ms: int, *, is_retry: bool) -> int:
    """Let no retry, or first attempt, be due later than `latest_ms`: after a clock was set back; how many it was."""
    conn.execute(
        "UPDATE delivery INDEXED BY delivery_due SET due_ms = ?1"
        " WHERE webhook = ?2 AND (strikes > 0) = ?4 AND state = 'pending' AND due_ms > ?1 AND due_ms < ?3",
        (latest_ms, webhook, BLOCKED_MS, is_retry),
    )
    return conn.changes()
