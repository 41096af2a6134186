"""Which numbers the rows of a time or of an event have: found by halving, since all of them grow together."""

import apsw

CLOCK_SLACK_MS = 60_000
"""Numbers grow with time, but for a clock that was set back by so much."""
NONE = 1 << 62
"""Above all numbers."""


def bounds(conn: apsw.Connection, table: str, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
    """Numbers that all rows between two times lie within (the second excluded): found by halving, since both grow."""
    low = 0 if since_ms is None else _first_at(conn, table, since_ms - CLOCK_SLACK_MS)
    high = NONE if until_ms is None else _first_at(conn, table, until_ms + CLOCK_SLACK_MS)
    return low, high


_AT = {
    "delivery": "SELECT created_ms FROM delivery WHERE seq >= ? ORDER BY seq LIMIT 1",
    "event": "SELECT created_ms FROM event WHERE seq >= ? ORDER BY seq LIMIT 1",
    "audit": "SELECT created_ms FROM audit WHERE seq >= ? ORDER BY seq LIMIT 1",
}
_LAST = {
    "delivery": "SELECT max(seq) FROM delivery",
    "event": "SELECT max(seq) FROM event",
    "audit": "SELECT max(seq) FROM audit",
}


def _first_at(conn: apsw.Connection, table: str, ms: int) -> int:
    low, high = 0, (conn.execute(_LAST[table]).get or 0) + 1
    while low < high:
        middle = (low + high) // 2
        at_ms = conn.execute(_AT[table], (middle,)).get
        if at_ms is not None and at_ms < ms:
            low = middle + 1
        else:
            high = middle
    return low


def deliveries_of(conn: apsw.Connection, event: int) -> tuple[int, int]:
    """The numbers of an event's deliveries (the second excluded): they are given out in the order of the events'."""
    return first_delivery_of(conn, event), first_delivery_of(conn, event + 1)


def first_delivery_of(conn: apsw.Connection, event: int) -> int:
    """The number of the first delivery of an event or of a later one: found by halving, since both grow."""
    low, high = 0, (conn.execute(_LAST["delivery"]).get or 0) + 1
    while low < high:
        middle = (low + high) // 2
        found = conn.execute("SELECT event FROM delivery WHERE seq >= ? ORDER BY seq LIMIT 1", (middle,)).get
        if found is not None and found < event:
            low = middle + 1
        else:
            high = middle
    return low
