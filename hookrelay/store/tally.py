"""Counters of attempts by time, and each webhook's newest failure. What the counters mean is `rules.tally`'s."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import apsw
import msgspec

from hookrelay.store.rows import ManyRows

_ADD = ManyRows(
    "INSERT INTO tally (size, start, scope, counter, count) VALUES {values}"
    " ON CONFLICT (size, start, scope, counter) DO UPDATE SET count = count + excluded.count",
    5,
)
_FAILED = ManyRows(
    "INSERT INTO last_failure (webhook, at_ms, delivery, error_code, response_code) VALUES {values}"
    " ON CONFLICT (webhook) DO UPDATE SET at_ms = excluded.at_ms, delivery = excluded.delivery,"
    " error_code = excluded.error_code, response_code = excluded.response_code WHERE excluded.at_ms >= at_ms",
    5,
)


class Failure(NamedTuple):
    """The newest failed attempt of a webhook."""

    at_ms: int
    delivery: int
    error_code: str
    response_code: int | None


def add(conn: apsw.Connection, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
    """Add to counters: rows of size (seconds), start (unix seconds), scope, counter and count."""
    _ADD.run(conn, [value for row in rows for value in row])


def note_failures(conn: apsw.Connection, rows: Sequence[tuple[int, Failure]]) -> None:
    """The newest failures of webhooks, as far as no newer ones are known."""
    _FAILED.run(conn, [value for webhook, failure in rows for value in (webhook, *failure)])


def prune(conn: apsw.Connection, size: int, before: int, limit: int) -> int:
    """Forget up to `limit` counters of periods that began before; how many it was."""
    conn.execute(
        "DELETE FROM tally WHERE (size, start, scope, counter) IN"
        " (SELECT size, start, scope, counter FROM tally WHERE size = ? AND start < ? LIMIT ?)",
        (size, before, limit),
    )
    return conn.changes()


def sums(
    conn: apsw.Connection, size: int, scopes: Sequence[int], first: int, end: int, width: int
) -> list[tuple[int, int, int, int]]:
    """Scope, start of the slot, counter and count: periods of `size` from `first` to before `end` in slots of `width`.

    One row of JSON: a reader's thread gives the GIL up at every row (see `history`).
    """
    starts = json.dumps(list(range(first, end, size)))
    text = conn.execute(
        "SELECT json_group_array(json_array(scope, slot, counter, count)) FROM"
        " (SELECT t.scope AS scope, ?3 + (t.start - ?3) / ?4 * ?4 AS slot, t.counter AS counter, sum(t.count) AS count"
        " FROM json_each(?1) AS at CROSS JOIN json_each(?2) AS who"
        " CROSS JOIN tally AS t ON t.size = ?5 AND t.start = at.value AND t.scope = who.value GROUP BY 1, 2, 3)",
        (starts, json.dumps(list(scopes)), first, width, size),
    ).get
    return _read(text)


def failures(conn: apsw.Connection, webhooks: Sequence[int]) -> list[tuple[int, Failure]]:
    """The newest failures of these webhooks, as far as there are any."""
    text = conn.execute(
        "SELECT json_group_array(json_array(f.webhook, json_array(f.at_ms, f.delivery, f.error_code, f.response_code)))"
        " FROM json_each(?) AS who CROSS JOIN last_failure AS f ON f.webhook = who.value",
        (json.dumps(list(webhooks)),),
    ).get
    return _read_failures(text)


_read = msgspec.json.Decoder(list[tuple[int, int, int, int]]).decode
_read_failures = msgspec.json.Decoder(list[tuple[int, Failure]]).decode
