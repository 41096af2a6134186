"""The audit trail as it is kept: a row for each change, written in the transaction of the change itself."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import apsw
import msgspec
from msgspec import Struct

from hookrelay.store.halving import bounds
from hookrelay.store.paging import Page, Step, fill, sizes

Answer = TypeVar("Answer")


class AuditRow(NamedTuple):
    """One record. `seq` of one that is to be written does not count."""

    seq: int
    created_ms: int
    tenant: str
    action: str
    object: str | None
    actor: str
    by_operator: int
    session: str | None
    pid: int | None
    address: str | None
    more: str
    """JSON (`hookrelay.audit.More`)."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which records: every field narrows."""

    tenant: str | None = None
    action: str | None = None
    actor: str | None = None
    """By its own name, or the session's."""
    object: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Excluded."""
    is_tenant: bool = False
    """Whether a tenant asks, who is not told who of the operators it was."""


# --- writing ----------------------------------------------------------------------------------------------------


def insert(conn: apsw.Connection, *rows: AuditRow) -> list[int]:
    """Write records down; their numbers."""
    conn.executemany(
        "INSERT INTO audit (created_ms, tenant, action, object, actor, by_operator, session, pid, address, more)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (row[1:] for row in rows),
    )
    last = conn.last_insert_rowid()
    return list(range(last - len(rows) + 1, last + 1))  # each is one more than the greatest


def recorded(
    conn: apsw.Connection,
    rows: Callable[[], Iterable[AuditRow]],
    job: Callable[..., Answer],
    args: Sequence[Any],
    is_certain: bool,
) -> tuple[Answer, list[int]]:
    """What `job(conn, *args)` answers, and the numbers of the records: none where it changed nothing.

    `rows` makes them: here, for ten thousand would hold up the loop. `is_certain`: there are records in any case.
    """
    before = conn.total_changes()
    answer = job(conn, *args)
    has_changed = is_certain or conn.total_changes() != before
    return answer, insert(conn, *rows()) if has_changed else []


def counted(
    conn: apsw.Connection,
    seq: int | None,
    row: AuditRow,
    counts: Callable[[Any], Mapping[str, int]],
    job: Callable[..., Answer],
    args: Sequence[Any],
) -> tuple[Answer, int | None]:
    """One step of many: what `job(conn, *args)` answers, and the number of the record of all steps.

    The record is written with the first step that changes anything (`seq` is None until then); each adds its `counts`.
    """
    before = conn.total_changes()
    answer = job(conn, *args)
    if conn.total_changes() == before:
        return answer, seq
    seq = insert(conn, row)[0] if seq is None else seq
    for name, count in counts(answer).items():
        conn.execute(
            "UPDATE audit SET more = json_set(more, ?1, coalesce(more ->> ?1, 0) + ?2) WHERE seq = ?3",
            (f"$.details.{name}", count, seq),
        )
    return answer, seq


def nothing(conn: apsw.Connection) -> None:
    """For `recorded`: what is written down has changed nothing here."""


# --- reading ----------------------------------------------------------------------------------------------------

_SHOWN = (
    "iif(by_operator AND :is_tenant, 'operator', actor) AS actor, by_operator,"
    " iif(by_operator AND :is_tenant, NULL, session) AS session, iif(by_operator AND :is_tenant, NULL, pid) AS pid,"
    " iif(by_operator AND :is_tenant, NULL, address) AS address"
)
_COLUMNS = "seq, created_ms, tenant, action, object, actor, by_operator, session, pid, address, more"
_STEP = (
    "WITH candidate AS MATERIALIZED"
    f" (SELECT seq, created_ms, tenant, action, object, {_SHOWN}, more FROM audit {{where}}"
    " AND seq < :below AND seq >= :low ORDER BY seq DESC LIMIT :count)"
    " SELECT (SELECT json_array(count(*), min(seq)) FROM candidate),"
    f" (SELECT json_group_array(json_array({_COLUMNS}) ORDER BY seq DESC) FROM candidate"
    " WHERE (:action IS NULL OR action = :action)"
    " AND (:actor IS NULL OR actor = :actor OR session = :actor) AND (:object IS NULL OR object = :object)"
    " AND (:since IS NULL OR created_ms >= :since) AND (:until IS NULL OR created_ms < :until))"
)
_OF_ALL = _STEP.format(where="WHERE true")
_OF_TENANT = _STEP.format(where="INDEXED BY audit_of_tenant WHERE tenant = :tenant")
_read_count = msgspec.json.Decoder(tuple[int, int | None]).decode
_read_rows = msgspec.json.Decoder(list[AuditRow]).decode


def records(conn: apsw.Connection, wanted: Wanted, before: int | None, limit: int) -> Page[AuditRow]:
    """Up to `limit` records, newest first, older than number `before` where it is given."""
    low, high = bounds(conn, "audit", wanted.since_ms, wanted.until_ms)
    start = high if before is None else min(before, high)
    match: dict[str, Any] = {
        "tenant": wanted.tenant,
        "action": wanted.action,
        "actor": wanted.actor,
        "object": wanted.object,
        "since": wanted.since_ms,
        "until": wanted.until_ms,
        "is_tenant": wanted.is_tenant,
        "low": low,
    }
    text = _OF_ALL if wanted.tenant is None else _OF_TENANT

    def look(below: int, count: int) -> Step[AuditRow]:
        row = conn.execute(text, {**match, "below": below, "count": count}).get
        return Step(*_read_count(row[0]), _read_rows(row[1]))

    narrows = (wanted.action, wanted.actor, wanted.object, wanted.since_ms, wanted.until_ms)
    return fill(look, start, limit, sizes(limit, is_picky=any(each is not None for each in narrows)))


# --- what files say ---------------------------------------------------------------------------------------------


class Defined(NamedTuple):
    """A webhook of a file as the store has it."""

    id: str
    tenant: str
    source: str
    definition: str


def defined(conn: apsw.Connection, ids: Sequence[str], keys: Sequence[int]) -> dict[str, Defined]:
    """Those in force of the webhooks with these ids or keys, by their ids."""
    rows = conn.execute(
        "SELECT id, tenant, source, definition FROM webhook WHERE removed_ms IS NULL"
        " AND (id IN (SELECT value FROM json_each(?)) OR seq IN (SELECT value FROM json_each(?)))",
        (json.dumps(list(ids)), json.dumps(list(keys))),
    )
    return {row[0]: Defined(*row) for row in rows}
