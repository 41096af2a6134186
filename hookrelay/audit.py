"""The audit trail: who changed what, written in the commit of the change itself, and told in a line of the log.

A record names the object and its fields, never a secret nor the value of a header (THREATS §3, "who changed what").
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Struct

from hookrelay.model import Webhook
from hookrelay.store import audit
from hookrelay.store.audit import AuditRow
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger
from hookrelay.units import format_time

Answer = TypeVar("Answer")

Action = Literal[
    "webhook.created",
    "webhook.updated",
    "webhook.deleted",
    "webhook.disabled",
    "webhook.secret_rotated",
    "webhook.secret_ended",
    "webhook.tested",
    "webhook.replayed",
    "delivery.retried",
    "delivery.cancelled",
    "events.purged",
    "key.created",
    "key.revoked",
    "link.created",
    "link.opened",
    "link.revoked",
    "session.signed_in",
    "session.signed_out",
    "store.backed_up",
    "config.reloaded",
]
ACTIONS: tuple[Action, ...] = get_args(Action)
EVERYBODY = "*"
"""The tenant of what concerns all of them."""
TOLD_AT_ONCE = 100
"""Records of one commit that get a line of the log each: ten thousand webhooks of files may come at once."""


class Actor(Struct, frozen=True):
    """Who does something, and from where."""

    name: str
    """The id of a key or a link, `file:NAME.toml`, `uid:NUMBER`, `signal:NAME` or `daemon`."""
    is_operator: bool = False
    """Whether tenants are told no more of them than that."""
    session: str | None = None
    """The dashboard's, where it is done there."""
    pid: int | None = None
    """Of the process at the other end of a Unix socket."""
    address: str | None = None
    """Of the other end of a TCP connection."""


DAEMON = Actor("daemon")
"""What nobody asked for: an answer that disables a webhook."""
SIGNAL = Actor("signal:SIGHUP", is_operator=True)
"""Nobody tells who sends a signal."""


class Entry(Struct, frozen=True, kw_only=True):
    """One change."""

    action: Action
    by: Actor
    tenant: str = EVERYBODY
    """Whose the object is."""
    object: str | None = None
    """Its id."""
    fields: Sequence[str] = ()
    """Which of its fields have changed."""
    url_before: str | None = None
    url_after: str | None = None
    details: Mapping[str, Any] = {}
    """What else there is to say: figures, a role, a status."""


class More(Struct, frozen=True):
    """What a row's `more` holds."""

    fields: list[str]
    url_before: str | None
    url_after: str | None
    details: dict[str, Any]


def row_of(entry: Entry, now_ms: int) -> AuditRow:
    """A record as it is kept."""
    by = entry.by
    more = More(list(entry.fields), entry.url_before, entry.url_after, dict(entry.details))
    return AuditRow(
        0,
        now_ms,
        entry.tenant,
        entry.action,
        entry.object,
        by.name,
        int(by.is_operator),
        by.session,
        by.pid,
        by.address,
        msgspec.json.encode(more).decode(),
    )


def _rows_of(entries: Sequence[Entry], now_ms: int) -> list[AuditRow]:
    return [row_of(entry, now_ms) for entry in entries]


LAST_MS = 253_402_300_799_999
"""The last moment that has a date (year 9999)."""


def moment(ms: int) -> str:
    """A time that somebody asked for, as records tell it: one before 1970, or beyond all dates, as the nearest."""
    return format_time(min(max(ms, 0), LAST_MS))


class Trail:
    """Writes changes down together with who made them."""

    def __init__(self, store: Store, log: Logger, wall: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._wall = wall

    async def change(
        self,
        entry: Entry,
        job: Callable[..., Answer],
        *args: Any,
        keep: bool = False,
        told: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """As `Store.change`. Where the job changes anything, the record is in its transaction; else there is none."""
        return await self.change_all([entry], job, *args, keep=keep, told=told)

    async def change_all(
        self,
        entries: Sequence[Entry],
        job: Callable[..., Answer],
        *args: Any,
        keep: bool = False,
        is_certain: bool = False,
        told: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """The same for a job that brings about many changes. `is_certain`: they are recorded whatever it changes."""
        now_ms = self._now_ms()
        rows = partial(_rows_of, entries, now_ms)
        done = await self._store.change(audit.recorded, rows, job, args, is_certain, keep=keep, told=_first(told))
        answer: Answer = done[0]
        numbers = done[1]
        for entry, seq in list(zip(entries, numbers, strict=False))[:TOLD_AT_ONCE]:
            self._tell(entry, now_ms, seq)
        if len(numbers) > TOLD_AT_ONCE:
            self._log.info("audit_more", records=len(numbers) - TOLD_AT_ONCE, detail="`hookrelay audit list` has them")
        return answer

    async def note(self, *entries: Entry) -> None:
        """Write down what leaves nothing else in the store. On disk when this returns."""
        await self.change_all(entries, audit.nothing, is_certain=True)

    @asynccontextmanager
    async def steps(self, entry: Entry) -> AsyncIterator["Steps"]:
        """For one change that takes many transactions: one record, with the figures of all steps that were made."""
        steps = Steps(self._store, entry, self._now_ms())
        try:
            yield steps
        finally:
            if steps.seq is not None:
                self._tell(entry, steps.now_ms, steps.seq, **steps.counts)

    def tell_refused(self, address: str | None) -> None:
        """A line of the log for a sign-in with what opens nothing: it has changed nothing."""
        self._log.warning("sign_in_refused", address=address)

    def _tell(self, entry: Entry, now_ms: int, seq: int, **counts: int) -> None:
        tell(self._log, entry, self._store.ids.make("aud", now_ms, seq), **counts)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


class Steps:
    """The steps of one change so far."""

    def __init__(self, store: Store, entry: Entry, now_ms: int) -> None:
        self._store = store
        self._entry = entry
        self.now_ms = now_ms
        self.seq: int | None = None
        """The record's number; None while nothing has changed."""
        self.counts: dict[str, int] = {}

    async def change(
        self,
        counts: Callable[[Answer], Mapping[str, int]],
        job: Callable[..., Answer],
        *args: Any,
        keep: bool = False,
        told: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """As `Trail.change` for one step; what its answer `counts` is added to the record's details."""
        row = row_of(self._entry, self.now_ms)
        done = await self._store.change(audit.counted, self.seq, row, counts, job, args, keep=keep, told=_first(told))
        answer: Answer = done[0]
        self.seq = done[1]
        for name, count in counts(answer).items():
            self.counts[name] = self.counts.get(name, 0) + count
        return answer


def _first(told: Callable[[Answer], None] | None) -> Callable[[tuple[Answer, Any]], None] | None:
    """Tells the job's own answer, without what the trail has made of it."""
    return None if told is None else lambda done: told(done[0])


def _origin(url: str | None) -> str | None:
    """As much of a URL as a log may hold: path and query may carry a token."""
    return None if url is None else "/".join(url.split("/", 3)[:3])


def tell(log: Logger, entry: Entry, id: str | None = None, **counts: int) -> None:
    """The line of the log for a record; `counts` are figures that it got since."""
    by = entry.by
    line = {
        "id": id,
        "action": entry.action,
        "actor": by.name,
        "session": by.session,
        "pid": by.pid,
        "address": by.address,
        "tenant": entry.tenant,
        "object": entry.object,
        "fields": list(entry.fields) or None,
        "url_before": _origin(entry.url_before),
        "url_after": _origin(entry.url_after),
        "details": {name: value for name, value in {**entry.details, **counts}.items() if value is not None} or None,
    }
    log.info("audit", **{name: value for name, value in line.items() if value is not None})


# --- what changes of a webhook ----------------------------------------------------------------------------------

_FIELDS = (
    *("url", "events", "description", "status", "rate_limit", "max_in_flight", "timeout_s", "retry", "headers"),
    *("ordered", "metadata", "held", "trust"),
)


def webhook_entry(action: Action, by: Actor, before: Webhook | None, after: Webhook | None) -> Entry:
    """A webhook that came (`before` is None), changed, or went (`after` is None): which fields, and its URLs."""
    webhook = after or before
    if webhook is None:
        raise ValueError("a webhook that never was does not change")
    fields: list[str] = []
    details: dict[str, Any] = {}
    if before is not None and after is not None:
        fields = [name.removesuffix("_s") for name in _FIELDS if getattr(before, name) != getattr(after, name)]
        if before.secrets != after.secrets:
            fields.append("secret")
        if before.status != after.status:
            details = {"status": after.status}
    urls = None if before is None else before.url, None if after is None else after.url
    return Entry(
        action=action,
        by=by,
        tenant=webhook.tenant,
        object=webhook.id,
        fields=fields,
        url_before=urls[0] if urls[0] != urls[1] else None,
        url_after=urls[1] if urls[0] != urls[1] else None,
        details=details,
    )
