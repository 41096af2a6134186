"""Deliveries that must not overtake each other: of a chain one is free, the others wait behind it, blocked.

A blocked delivery is due at no time that comes; whoever ends a delivery frees the next of its chain in the same
transaction. So the order needs no memory, survives any crash, and costs nothing where nobody asked for it.
"""

import apsw

BLOCKED_MS = 1 << 60
"""A blocked delivery's due time is this and its key: beyond all that a clock can say."""

WHOLE = ""
"""The chain of an ordered webhook: all of its deliveries. No ordering key is empty."""


def is_busy(conn: apsw.Connection, webhook: int, chain: str) -> bool:
    """Whether a new delivery of this chain has to wait for another one.

    In an ordered webhook also those count that came while it was not ordered yet.
    """
    if chain == WHOLE:
        text = "SELECT 1 FROM delivery INDEXED BY delivery_due WHERE webhook = ? AND state = 'pending' LIMIT 1"
        return conn.execute(text, (webhook,)).get is not None
    text = (
        "SELECT 1 FROM delivery INDEXED BY delivery_ordering"
        " WHERE webhook = ? AND ordering = ? AND state = 'pending' LIMIT 1"
    )
    return conn.execute(text, (webhook, chain)).get is not None


def free_next(conn: apsw.Connection, webhook: int, chain: str | None, is_ordered: bool) -> int | None:
    """Free what may go now that a delivery of `chain` has ended: when the first of it is due, or None.

    `is_ordered` says whether the webhook is ordered now: its whole chain goes on when nothing else is left to go.
    """
    freed = None if chain is None else _free(conn, webhook, chain)
    if is_ordered and freed is None and chain != WHOLE and not _has_free(conn, webhook):
        freed = _free(conn, webhook, WHOLE)
    return freed


def _free(conn: apsw.Connection, webhook: int, chain: str) -> int | None:
    # due since it was accepted: it has waited as long as that, and what came later goes behind it
    due_ms: int | None = conn.execute(
        "UPDATE delivery SET due_ms = created_ms WHERE due_ms >= ? AND seq ="
        " (SELECT min(seq) FROM delivery INDEXED BY delivery_ordering"
        " WHERE webhook = ? AND ordering = ? AND state = 'pending') RETURNING due_ms",
        (BLOCKED_MS, webhook, chain),
    ).get
    return due_ms


def _has_free(conn: apsw.Connection, webhook: int) -> bool:
    return any(
        conn.execute(
            "SELECT 1 FROM delivery INDEXED BY delivery_due WHERE webhook = ? AND (strikes > 0) = ?"
            " AND state = 'pending' AND due_ms < ? LIMIT 1",
            (webhook, is_retry, BLOCKED_MS),
        ).get
        for is_retry in (0, 1)
    )
