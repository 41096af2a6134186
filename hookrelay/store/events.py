"""Accepting events: the event, its deliveries and its idempotency key, in one transaction."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import apsw
from msgspec import Struct

from hookrelay.model import Event, Refused
from hookrelay.rules.same import is_same
from hookrelay.store.chains import BLOCKED_MS, is_busy
from hookrelay.store.rows import ManyRows
from hookrelay.store.sound import payload_hash


class Key(NamedTuple):
    """An idempotency key as it is kept: hashed, and bound to what came with it."""

    hash: int
    proof: bytes
    fingerprint: bytes
    text: str
    used_ms: int
    """Now, by the store's running time."""
    valid_since_ms: int
    """An earlier use before this moment, by the same, no longer counts."""
    earlier_fingerprint: bytes = b""
    """What 0.1 has kept for the same, where that was another one."""


class Entry(Struct, frozen=True, gc=False):
    """An event to be stored, with the numbers it and its deliveries will have."""

    event: Event
    key: Key | None
    webhooks: tuple[int, ...]
    first_delivery: int
    """Its deliveries are numbered from here, in the order of `webhooks`."""
    chains: tuple[str | None, ...] | None = None
    """The chain of each delivery (`store.chains`); None where none has one."""


class Receipt(Struct, frozen=True, gc=False):
    """What the caller is told once all is on disk."""

    seq: int
    created_ms: int
    deliveries: int
    duplicate: bool
    blocked: tuple[int, ...] = ()
    """Those of its deliveries that wait for another one to end."""


def idempotency_key(
    salt: bytes, tenant: str, key: str, event_type: str, data: bytes, now_ms: int, window_ms: int
) -> Key:
    """The key as it is stored. `salt` is the store's own, so that nobody can make two keys meet.

    `now_ms` is the store's running time (`db.Store.running_ms`): a clock that is set makes no key be forgotten.
    """
    digest = blake2b(f"{tenant}\0{key}".encode(), digest_size=24, key=salt).digest()
    content = blake2b(f"{event_type}\0".encode(), digest_size=16)
    content.update(data)
    return Key(int.from_bytes(digest[:8], "big") >> 1, digest[8:], content.digest(), key, now_ms, now_ms - window_ms)


_EVENTS = ManyRows(
    "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data, idempotency_key, ordering_key, traceparent,"
    " test, payload_hash) VALUES {values}",
    11,
)
_DELIVERIES = ManyRows(
    "INSERT INTO delivery (seq, event, webhook, created_ms, due_ms) VALUES {values}",
    5,
)
_CHAINED = ManyRows(
    "INSERT INTO delivery (seq, event, webhook, created_ms, due_ms, ordering) VALUES {values}",
    6,
)
_KEYS = ManyRows(
    "INSERT OR REPLACE INTO idempotency (hash, proof, fingerprint, event, created_ms, deliveries, used_ms)"
    " VALUES {values}",
    7,
)
_USED = ManyRows(
    "SELECT hash, proof, fingerprint, event, created_ms, deliveries, used_ms FROM idempotency"
    " WHERE hash IN (VALUES {values})",
    1,
)


def insert(conn: apsw.Connection, entries: Sequence[Entry]) -> list[Receipt | Refused]:
    """Store every entry that is new; one answer each, in order.

    An entry whose idempotency key was used before (also earlier in `entries`) is answered with the first use's
    receipt, or with `Refused("idempotency_conflict")` where its content differs.
    """
    used = _used_keys(conn, entries)
    events: list[Any] = []
    deliveries: list[Any] = []
    chained: list[Any] = []
    busy: set[tuple[int, str]] = set()
    keys: list[Any] = []
    fresh: dict[int, Event] = {}
    answers: list[Receipt | Refused] = []
    for entry in entries:
        event, key, webhooks = entry.event, entry.key, entry.webhooks
        if key is not None:
            slot, earlier = _find(conn, used, key, event, fresh)
            if earlier is not None:
                answers.append(earlier)
                continue
            use = (key.proof, key.fingerprint, event.seq, event.created_ms, len(webhooks), key.used_ms)
            used[slot] = use
            fresh[event.seq] = event
            keys += (slot, *use)
        events += (
            event.seq,
            event.created_ms,
            event.tenant,
            event.type,
            event.timestamp,
            event.data,
            key.text if key is not None else None,
            event.ordering_key,
            event.traceparent,
            int(event.test),
            payload_hash(event.data),
        )
        blocked: tuple[int, ...] = ()
        if entry.chains is None:
            for number, webhook in enumerate(webhooks, entry.first_delivery):
                deliveries += (number, event.seq, webhook, event.created_ms, event.created_ms)
        else:
            blocked = _chain(conn, entry, entry.chains, busy, chained)
        answers.append(Receipt(event.seq, event.created_ms, len(webhooks), duplicate=False, blocked=blocked))
    _EVENTS.run(conn, events)
    _DELIVERIES.run(conn, deliveries)
    _CHAINED.run(conn, chained)
    _KEYS.run(conn, keys)
    return answers


def _chain(
    conn: apsw.Connection,
    entry: Entry,
    chains: tuple[str | None, ...],
    busy: set[tuple[int, str]],
    chained: list[Any],
) -> tuple[int, ...]:
    """Add the entry's deliveries to the rows of `chained`; those that have to wait for another one.

    `busy` are the chains that are known to have a delivery, on disk or among the rows.
    """
    blocked: list[int] = []
    event = entry.event
    for number, (webhook, chain) in enumerate(zip(entry.webhooks, chains, strict=True), entry.first_delivery):
        due_ms = event.created_ms
        if chain is not None:
            if (webhook, chain) in busy or is_busy(conn, webhook, chain):
                due_ms = BLOCKED_MS + number
                blocked.append(number)
            busy.add((webhook, chain))
        chained += (number, event.seq, webhook, event.created_ms, due_ms, chain)
    return tuple(blocked)


_Uses = dict[int, tuple[bytes, bytes, int, int, int, int]]


def _used_keys(conn: apsw.Connection, entries: Sequence[Entry]) -> _Uses:
    hashes = [entry.key.hash for entry in entries if entry.key is not None]
    return {row[0]: row[1:] for row in _USED.fetch(conn, hashes)} if hashes else {}


def _find(
    conn: apsw.Connection, used: _Uses, key: Key, event: Event, fresh: Mapping[int, Event]
) -> tuple[int, Receipt | Refused | None]:
    """The slot that `key` has or may take, and what its earlier use inside the window answers.

    `fresh` are events that came with a key in the same transaction.
    """
    slot = key.hash
    while (row := used.get(slot)) is not None and row[0] != key.proof:
        # two keys met in one 63-bit hash: the later one lives in the next free slot
        slot = slot + 1 & (1 << 63) - 1
        for found in conn.execute(
            "SELECT proof, fingerprint, event, created_ms, deliveries, used_ms FROM idempotency WHERE hash = ?", (slot,)
        ):
            used.setdefault(slot, found)
    if row is None or row[5] < key.valid_since_ms:
        return slot, None
    if row[1] != key.fingerprint and not _is_alike(conn, row[2], event, fresh):
        return slot, Refused(
            "idempotency_conflict",
            "this idempotency key was used before with another type or data: "
            "send a new key with new content, or the same content to ask for the same answer",
            "idempotency_key",
        )
    return slot, Receipt(row[2], row[3], row[4], duplicate=True)


def _is_alike(conn: apsw.Connection, seq: int, event: Event, fresh: Mapping[int, Event]) -> bool:
    """Whether the earlier event has the same type, and the same value as data, written otherwise.

    Not where its payload is gone: then nothing but equal bytes is known again.
    """
    earlier = fresh.get(seq)
    if earlier is not None:
        return earlier.type == event.type and is_same(earlier.data, event.data)
    row = conn.execute("SELECT type, data FROM event WHERE seq = ? AND purged_ms IS NULL", (seq,)).get
    return row is not None and row[0] == event.type and is_same(row[1], event.data)
