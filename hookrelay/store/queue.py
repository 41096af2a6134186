"""What is due, and what came of it. Knows `due`, no schedule: the verdicts are made elsewhere."""

import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import apsw
from msgspec import Struct

from hookrelay.model import Delivery, Event, Ids, Outcome, Verdict
from hookrelay.store.rows import ManyRows

PAGE_BYTES = 1 << 20
"""Payload that one page brings into memory at most (beyond its first row)."""


class Standing(NamedTuple):
    """What waits for one webhook: read once, at the start."""

    webhook: int
    pending: int
    next_due_ms: int


class Page(NamedTuple):
    """Deliveries that are due, most overdue first, and when the first of the rest is due (None: there is none)."""

    deliveries: list[Delivery]
    next_due_ms: int | None


class Result(Struct, frozen=True, gc=False):
    """An attempt that has ended."""

    delivery: int
    number: int
    outcome: Outcome
    verdict: Verdict


def standings(conn: apsw.Connection) -> list[Standing]:
    """One row for each webhook with pending deliveries (an index scan: 20 ms a million)."""
    return [
        Standing(*row)
        for row in conn.execute(
            "SELECT webhook, count(*), min(due_ms) FROM delivery INDEXED BY delivery_due"
            " WHERE state = 'pending' GROUP BY webhook"
        )
    ]


def due(conn: apsw.Connection, ids: Ids, webhook: int, now_ms: int, taken: Collection[int], limit: int) -> Page:
    """Up to `limit` pending deliveries of `webhook` due at `now_ms` that are not among `taken`.

    `taken` are the rows that the lane has in memory: in flight is a fact of memory, never of the store.
    """
    found: list[Delivery] = []
    size = 0
    # the rows left out are dropped by the index alone, before their payload is touched
    rows = conn.execute(
        "SELECT d.due_ms, d.seq, d.attempt_count, d.strikes, e.seq, e.created_ms, e.type, e.tenant, e.timestamp,"
        " e.data, e.ordering_key, e.traceparent, e.test"
        " FROM delivery AS d INDEXED BY delivery_due CROSS JOIN event AS e ON e.seq = d.event"
        " WHERE d.webhook = ? AND d.state = 'pending' AND d.seq NOT IN (SELECT value FROM json_each(?))"
        " ORDER BY d.due_ms LIMIT ?",
        (webhook, json.dumps(list(taken)), limit + 1),
    )
    for (
        due_ms,
        seq,
        attempts,
        strikes,
        event_seq,
        created_ms,
        kind,
        tenant,
        timestamp,
        data,
        order,
        trace,
        test,
    ) in rows:
        if due_ms > now_ms or len(found) == limit or size > PAGE_BYTES:
            return Page(found, due_ms)
        size += len(data)
        event_id = ids.make("evt", created_ms, event_seq)
        event = Event(event_seq, created_ms, event_id, kind, tenant, timestamp, data, order, trace, bool(test))
        found.append(Delivery(seq, event, attempts, strikes, due_ms))
    return Page(found, None)


_RECORD = ManyRows(
    "WITH result (seq, state, due_ms, attempt_count, strikes, started_ms, duration_us, response_code, error_code,"
    " error_detail, remote_address, response_head, response_body, completed_ms) AS (VALUES {values})"
    " UPDATE delivery SET state = result.state, due_ms = result.due_ms, attempt_count = result.attempt_count,"
    " strikes = result.strikes, started_ms = result.started_ms, duration_us = result.duration_us,"
    " response_code = result.response_code, error_code = result.error_code, error_detail = result.error_detail,"
    " remote_address = result.remote_address, response_head = result.response_head,"
    " response_body = result.response_body, completed_ms = result.completed_ms"
    " FROM result WHERE delivery.seq = result.seq AND delivery.state = 'pending'",
    14,
)
_ATTEMPTS = ManyRows(
    "INSERT OR REPLACE INTO attempt (delivery, number, started_ms, duration_us, response_code, error_code,"
    " error_detail, remote_address, response_head, response_body) VALUES {values}",
    10,
)


def record(conn: apsw.Connection, results: Sequence[Result]) -> list[None]:
    """Write attempts into the history and their verdicts onto their deliveries.

    A delivery that was cancelled meanwhile stays cancelled; its attempt is in the history all the same.
    """
    updates: list[Any] = []
    attempts: list[Any] = []
    for result in results:
        seq, number, outcome, verdict = result.delivery, result.number, result.outcome, result.verdict
        told_by_delivery = number == 1 and outcome.error is None
        duration_us = int(outcome.duration_s * 1_000_000)
        detail = outcome.detail or None
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
        )
        if not told_by_delivery:
            attempts += (
                seq,
                number,
                outcome.started_ms,
                duration_us,
                outcome.response_code,
                outcome.error,
                detail,
                outcome.remote_address,
                outcome.response_head,
                outcome.response_body,
            )
    _RECORD.run(conn, updates)
    _ATTEMPTS.run(conn, attempts)
    return [None] * len(results)


def cancel_waiting(conn: apsw.Connection, webhook: int, now_ms: int, limit: int) -> int:
    """Cancel up to `limit` pending deliveries of a removed webhook; how many it was."""
    conn.execute(
        "UPDATE delivery SET state = 'cancelled', due_ms = NULL, completed_ms = ? WHERE seq IN"
        " (SELECT seq FROM delivery INDEXED BY delivery_due WHERE webhook = ? AND state = 'pending' LIMIT ?)",
        (now_ms, webhook, limit),
    )
    return conn.changes()
