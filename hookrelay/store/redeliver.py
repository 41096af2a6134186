"""Deliveries that people have a word on: tried again, called off, or made only to see what happens."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from hookrelay.model import Event, Outcome
from hookrelay.store.chains import BLOCKED_MS, free_next, is_busy
from hookrelay.store.purge import blank_late, is_purged
from hookrelay.store.sound import payload_hash

UNDER_WAY = "no answer is recorded: the test is under way, or the daemon ended before it came"


class Asked(NamedTuple):
    """What there was when it was asked for."""

    state: str
    """Before; `gone`, or `purged` where there is nothing left to be sent."""
    due_ms: int | None = None
    """When something of the webhook is due now that was not before; None where nothing is."""


def retry(conn: apsw.Connection, delivery: int, now_ms: int, strikes: int) -> Asked:
    """Have one more attempt made at once.

    One that has ended gets `strikes`, which leave it a single attempt, and overtakes whatever it once waited for; one
    that is pending keeps what it had, and waits on where another one must end first.
    """
    if is_purged(conn, delivery):
        return Asked("purged")
    state: str = conn.execute("SELECT state FROM delivery WHERE seq = ?", (delivery,)).get
    if state == "pending":
        conn.execute(
            "UPDATE delivery SET due_ms = min(due_ms, ?1) WHERE seq = ?2 AND state = 'pending' AND due_ms < ?3",
            (now_ms, delivery, BLOCKED_MS),
        )
        return Asked(state, now_ms)
    _keep_first_attempts(conn, [delivery])
    conn.execute(
        "UPDATE delivery SET state = 'pending', due_ms = ?, strikes = ?, by_hand = 1, ordering = NULL,"
        " completed_ms = NULL, response_head = NULL, response_body = NULL WHERE seq = ? AND state <> 'pending'",
        (now_ms, strikes, delivery),
    )
    return Asked(state, now_ms)


def cancel(conn: apsw.Connection, delivery: int, now_ms: int, *, is_ordered: bool) -> Asked:
    """Call a pending delivery off; whoever waited for its end may go. `is_ordered` is what its webhook is now."""
    for state, webhook, chain in conn.execute(
        "SELECT state, webhook, ordering FROM delivery WHERE seq = ?", (delivery,)
    ):
        if state != "pending":
            return Asked(state)
        conn.execute(
            "UPDATE delivery SET state = 'cancelled', due_ms = NULL, completed_ms = ?"
            " WHERE seq = ? AND state = 'pending'",
            (now_ms, delivery),
        )
        freed = free_next(conn, webhook, chain, is_ordered) if is_ordered or chain is not None else None
        return Asked(state, freed)
    return Asked("gone")


def cancel_each(conn: apsw.Connection, deliveries: Sequence[tuple[int, bool]], now_ms: int) -> list[Asked]:
    """`cancel` for each of these, with what its webhook is now."""
    return [cancel(conn, delivery, now_ms, is_ordered=is_ordered) for delivery, is_ordered in deliveries]


def replay(conn: apsw.Connection, deliveries: Sequence[int], now_ms: int, *, is_ordered: bool) -> int:
    """Have ended deliveries of one webhook made anew, by its whole schedule; how many it was.

    Those of a chain go one after the other, as they came.
    """
    deliveries = [delivery for delivery in deliveries if not is_purged(conn, delivery)]
    _keep_first_attempts(conn, deliveries)
    numbers = json.dumps(list(deliveries))
    if not is_ordered:
        conn.execute(
            "UPDATE delivery SET state = 'pending', due_ms = ?, strikes = 0, by_hand = 1, completed_ms = NULL,"
            " response_head = NULL, response_body = NULL"
            " WHERE seq IN (SELECT value FROM json_each(?)) AND state <> 'pending' AND ordering IS NULL",
            (now_ms, numbers),
        )
    count = 0 if is_ordered else conn.changes()
    rows: list[Any] = conn.execute(
        "SELECT seq, webhook, ordering FROM delivery"
        " WHERE seq IN (SELECT value FROM json_each(?1)) AND state <> 'pending' AND (?2 OR ordering IS NOT NULL)"
        " ORDER BY seq",
        (numbers, is_ordered),
    ).fetchall()
    for seq, webhook, chain in rows:
        own = "" if is_ordered else chain or None
        due_ms = BLOCKED_MS + seq if own is not None and is_busy(conn, webhook, own) else now_ms
        conn.execute(
            "UPDATE delivery SET state = 'pending', due_ms = ?, strikes = 0, by_hand = 1, ordering = ?,"
            " completed_ms = NULL, response_head = NULL, response_body = NULL WHERE seq = ?",
            (due_ms, own, seq),
        )
        count += 1
    return count


def _keep_first_attempts(conn: apsw.Connection, deliveries: Sequence[int]) -> None:
    """A success at the first attempt stands in the delivery's own row: it gets a row of its own before others come."""
    conn.execute(
        "INSERT OR IGNORE INTO attempt (delivery, number, started_ms, duration_us, response_code, error_code,"
        " error_detail, remote_address, response_head, response_body, phases)"
        " SELECT seq, 1, started_ms, duration_us, response_code, error_code, error_detail, remote_address,"
        " response_head, response_body, phases FROM delivery"
        " WHERE seq IN (SELECT value FROM json_each(?)) AND attempt_count = 1 AND state = 'succeeded'",
        (json.dumps(list(deliveries)),),
    )


def insert_test(conn: apsw.Connection, event: Event, webhook: int, delivery: int) -> None:
    """Write a test event and its delivery down, before its one attempt: those who watch see it in its turn.

    The delivery has ended already, as one whose attempt was interrupted: so it stays where the daemon dies meanwhile.
    """
    conn.execute(
        "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data, test, payload_hash)"
        " VALUES (?, ?, ?, ?, ?, ?, 1, ?)",
        (
            event.seq,
            event.created_ms,
            event.tenant,
            event.type,
            event.timestamp,
            event.data,
            payload_hash(event.data),
        ),
    )
    conn.execute(
        "INSERT INTO delivery (seq, event, webhook, created_ms, state, attempt_count, strikes, started_ms, duration_us,"
        " error_code, error_detail, completed_ms) VALUES (?, ?, ?, ?, 'failed', 1, 1, ?, 0, 'interrupted', ?, ?)",
        (delivery, event.seq, webhook, event.created_ms, event.created_ms, UNDER_WAY, event.created_ms),
    )
    conn.execute(
        "INSERT INTO attempt (delivery, number, started_ms, duration_us, error_code, error_detail)"
        " VALUES (?, 1, ?, 0, 'interrupted', ?)",
        (delivery, event.created_ms, UNDER_WAY),
    )


def record_test(conn: apsw.Connection, delivery: int, outcome: Outcome) -> None:
    """Write what its attempt came to into the history."""
    duration_us = int(outcome.duration_s * 1_000_000)
    attempt = (
        outcome.started_ms,
        duration_us,
        outcome.response_code,
        outcome.error,
        outcome.reason or outcome.detail or None,
        outcome.remote_address,
    )
    has_succeeded = outcome.error is None
    answer = (outcome.response_head, outcome.response_body)
    conn.execute(
        "UPDATE delivery SET state = ?, strikes = ?, completed_ms = ?, started_ms = ?, duration_us = ?,"
        " response_code = ?, error_code = ?, error_detail = ?, remote_address = ?, response_head = ?,"
        " response_body = ?, phases = ? WHERE seq = ?",
        (
            "succeeded" if has_succeeded else "failed",
            int(not has_succeeded),
            outcome.started_ms + duration_us // 1000,
            *attempt,
            *(answer if has_succeeded else (None, None)),
            outcome.phases,
            delivery,
        ),
    )
    if has_succeeded:  # it stands in the delivery's own row
        conn.execute("DELETE FROM attempt WHERE delivery = ?", (delivery,))
    else:
        conn.execute(
            "UPDATE attempt SET started_ms = ?, duration_us = ?, response_code = ?, error_code = ?, error_detail = ?,"
            " remote_address = ?, response_head = ?, response_body = ?, phases = ? WHERE delivery = ? AND number = 1",
            (*attempt, *answer, outcome.phases, delivery),
        )
    blank_late(conn, delivery)
