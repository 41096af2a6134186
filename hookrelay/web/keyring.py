"""The keys that open the API over TCP: made, checked and revoked.

The one daemon of a store knows all of its keys, so that checking one needs no look into the store.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import trio

from hookrelay.audit import DAEMON, Action, Actor, Entry, Trail
from hookrelay.model import random_ulid
from hookrelay.store import keys
from hookrelay.store.db import Store
from hookrelay.store.keys import KeyRow
from hookrelay.telemetry.logs import Logger

Role = Literal["admin", "manage", "submit", "read"]

EVERYBODY = "*"
"""The tenant of keys that belong to no single one."""
RANDOM_CHARACTERS = 32
NOTE_S = 60.0
"""So late the moment of a key's last use is on disk."""
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


class Caller(NamedTuple):
    """Who calls. A tenant of None is all of them."""

    tenant: str | None
    role: Role
    key_id: str | None = None
    """None over the Unix socket, where the file mode has decided, and for whom a link let in."""
    session_id: str | None = None
    """Only in the dashboard."""


LOCAL = Caller(None, "admin")
"""Whoever the file mode lets open the Unix socket."""


class Keyring:
    """All keys. `run` is its task: it writes down when they were last used."""

    def __init__(self, store: Store, log: Logger, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self.trail = Trail(store, log, wall)
        self._by_start: dict[bytes, KeyRow] = {}
        self._by_id: dict[str, KeyRow] = {}
        self._used_ms: dict[int, int] = {}
        self._noted: dict[int, int] = {}

    async def restore(self) -> None:
        """At the start: know the keys that earlier daemons made."""
        for row in await self._store.read(keys.all_keys):
            self._know(row)

    def _know(self, row: KeyRow) -> None:
        self._by_start[row.digest[:8]] = self._by_id[row.id] = row
        if row.last_used_ms is not None:
            self._used_ms[row.seq] = self._noted[row.seq] = row.last_used_ms

    def check(self, token: bytes) -> Caller | None:
        """Whose key this is; None where it is nobody's. Takes the same time for every key that is nearly right."""
        digest = hashlib.sha256(token).digest()
        row = self._by_start.get(digest[:8])
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        self._used_ms[row.seq] = int(self._wall() * 1000)
        role: Role = row.role  # type: ignore[assignment] # the table's CHECK knows no other
        return Caller(None if row.tenant == EVERYBODY else row.tenant, role, row.id)

    async def make(self, prefix: str, tenant: str, role: Role, name: str, *, by: Actor = DAEMON) -> tuple[KeyRow, str]:
        """A new key and its text, which is told this once."""
        text = prefix + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
        now_ms = int(self._wall() * 1000)
        id = "key_" + random_ulid(now_ms, secrets.randbits(80))
        digest = hashlib.sha256(text.encode()).digest()
        row = KeyRow(0, id, tenant, role, name, text[-4:], digest, now_ms, None)
        row = row._replace(seq=await self.trail.change(_entry("key.created", by, row), keys.insert, row))
        self._know(row)
        return row, text

    async def revoke(self, row: KeyRow, *, by: Actor = DAEMON) -> None:
        """From now on this key opens nothing."""
        self._by_id.pop(row.id, None)
        self._by_start.pop(row.digest[:8], None)
        await self.trail.change(_entry("key.revoked", by, row), keys.delete, row.seq)
        self._used_ms.pop(row.seq, None)

    def find(self, id: str) -> KeyRow | None:
        """The key with this id."""
        row = self._by_id.get(id)
        return None if row is None else self._with_use(row)

    def after(self, id: str | None) -> Iterator[KeyRow]:
        """All keys in the order of their ids, from the first beyond `id`."""
        return (self._with_use(self._by_id[each]) for each in sorted(self._by_id) if id is None or each > id)

    def _with_use(self, row: KeyRow) -> KeyRow:
        return row._replace(last_used_ms=self._used_ms.get(row.seq))

    async def run(self) -> None:
        """Write down, every minute and at the end, when keys were last used."""
        try:
            while True:
                await trio.sleep(NOTE_S)
                await self._note()
        finally:
            with trio.move_on_after(1) as scope:
                scope.shield = True
                await self._note()

    async def _note(self) -> None:
        news = [(seq, used_ms) for seq, used_ms in self._used_ms.items() if self._noted.get(seq) != used_ms]
        if news:
            await self._store.change(keys.note_use, news, keep=True)
            self._noted |= dict(news)


def _entry(action: Action, by: Actor, row: KeyRow) -> Entry:
    return Entry(action=action, by=by, tenant=row.tenant, object=row.id, details={"role": row.role, "name": row.name})
