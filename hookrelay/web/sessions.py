"""Who may open the dashboard: sessions of keys that signed in, and links that can be opened once.

The one daemon of a store knows all of them, so that checking one needs no look into the store. Where there are too many
of a key or of a tenant, the one that was not used for longest goes: none goes for another tenant's (THREATS §3).
"""

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from msgspec import structs

from hookrelay.audit import DAEMON, Action, Actor, Entry
from hookrelay.model import random_ulid
from hookrelay.store import sessions
from hookrelay.store.db import Store
from hookrelay.store.sessions import SessionRow
from hookrelay.web.keyring import EVERYBODY, Caller, Keyring, Role

LASTS_S = 12 * 3600.0
"""How long a session lasts at most (contract §4, THREATS §3)."""
OF_KEY = 100
"""Sessions of one key; or of one tenant, the links that were not opened yet and the sessions that came of links."""
OF_TENANT = 1000
"""All of these of one tenant, whose administrators may make keys."""
TOKEN_BYTES = 32


class Sessions:
    """All links and sessions."""

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        wall: Callable[[], float],
        *,
        limit_met: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._trail = keyring.trail
        self._wall = wall
        self._limit_met = limit_met
        self._by_digest: dict[bytes, SessionRow] = {}
        self._by_id: dict[str, SessionRow] = {}
        self._by_tenant: dict[str, dict[str, SessionRow]] = {}
        """Of each tenant by id, the one that was not used for longest first."""

    async def restore(self) -> None:
        """At the start: know what earlier daemons gave out."""
        for row in await self._store.read(sessions.all_sessions, self._now_ms()):
            self._know(row)
        for tenant in list(self._by_tenant):
            await self._make_room(tenant)

    def check(self, token: str) -> Caller | None:
        """Whose session this is; None where it is nobody's, has ended, or its key was revoked."""
        row = self._by_digest.get(_digest(token))
        if row is None or row.kind != "session" or not self._is_live(row):
            return None
        theirs = self._by_tenant[row.tenant]
        theirs[row.id] = theirs.pop(row.id)
        return caller_of(row)

    def is_open(self, id: str) -> bool:
        """Whether this session has not ended since it was checked."""
        row = self._by_id.get(id)
        return row is not None and self._is_live(row)

    async def sign_in(self, caller: Caller, *, by: Actor = DAEMON) -> str:
        """A session of a key's holder: what its cookie says, told this once."""
        tenant = EVERYBODY if caller.tenant is None else caller.tenant
        return (await self._make("session", tenant, caller.role, caller.key_id, LASTS_S, by))[1]

    async def make_link(self, tenant: str, role: Role, lasts_s: float, *, by: Actor = DAEMON) -> tuple[SessionRow, str]:
        """A link for whoever opens it first, within `lasts_s`: its row, and the token that is told this once."""
        return await self._make("link", tenant, role, None, lasts_s, by)

    async def open_link(self, token: str, address: str | None = None) -> str | None:
        """Make a session of a link: what its cookie says; None where it was opened before, has ended, or never was.

        `address` is who opens it.
        """
        row = self._by_digest.get(_digest(token))
        if row is None or row.kind != "link" or not self._is_live(row):
            return None
        opened = secrets.token_urlsafe(TOKEN_BYTES)
        now_ms = self._now_ms()
        by = Actor(row.id, is_operator=row.tenant == EVERYBODY, session=row.id, address=address)
        entry = _entry("link.opened", by, row)
        if not await self._trail.change(entry, sessions.open_link, row.seq, _digest(opened), now_ms):
            return None
        self._forget(row)
        self._know(row._replace(kind="session", digest=_digest(opened), ends_ms=now_ms + row.lasts_ms))
        return opened

    async def end(self, id: str, action: Action, *, by: Actor = DAEMON) -> None:
        """From now on this link or session opens nothing; `action` says how that is called."""
        row = self._by_id.get(id)
        if row is not None:
            self._forget(row)
            await self._trail.change(_entry(action, by, row), sessions.delete, row.seq)

    def refused(self, address: str | None) -> None:
        """Somebody tried to sign in with what opens nothing."""
        self._trail.tell_refused(address)

    def find(self, id: str) -> SessionRow | None:
        """The live link, or session that came of one, with this id."""
        row = self._by_id.get(id)
        return row if row is not None and row.key is None and self._is_live(row) else None

    def links(self, after: str | None) -> Iterator[SessionRow]:
        """All live links and sessions that came of one, by id, from the first beyond `after`."""
        ids = sorted(id for id in self._by_id if after is None or id > after)
        return (row for id in ids if (row := self.find(id)) is not None)

    async def _make(
        self, kind: str, tenant: str, role: str, key: str | None, lasts_s: float, by: Actor
    ) -> tuple[SessionRow, str]:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now_ms, lasts_ms = self._now_ms(), round(lasts_s * 1000)
        id = ("lnk_" if kind == "link" else "ses_") + random_ulid(now_ms, secrets.randbits(80))
        # a session that comes of a link lasts as the link, but no longer than any
        kept_ms = min(lasts_ms, round(LASTS_S * 1000))
        row = SessionRow(0, id, kind, _digest(token), tenant, role, key, now_ms, kept_ms, now_ms + lasts_ms)
        if kind == "session":
            entry = _entry("session.signed_in", structs.replace(by, session=id), row)
        else:
            entry = _entry("link.created", by, row)
        row = row._replace(seq=await self._trail.change(entry, sessions.insert, row))
        self._know(row)
        await self._make_room(tenant)
        return row, token

    async def _make_room(self, tenant: str) -> None:
        """Let go what of this tenant is too much, and with it what has ended."""
        theirs = self._by_tenant[tenant]
        if len(theirs) <= OF_KEY:
            return
        for row in [row for row in theirs.values() if not self._is_live(row)]:
            self._forget(row)
        surplus = _beyond(list(theirs.values()))
        for row in surplus:
            self._forget(row)
        if surplus:
            self._limit_met("sessions")
            await self._store.change(sessions.delete_each, [row.seq for row in surplus])

    def _know(self, row: SessionRow) -> None:
        self._by_digest[row.digest] = self._by_id[row.id] = row
        self._by_tenant.setdefault(row.tenant, {})[row.id] = row

    def _forget(self, row: SessionRow) -> None:
        self._by_digest.pop(row.digest, None)
        self._by_id.pop(row.id, None)
        theirs = self._by_tenant.get(row.tenant, {})
        theirs.pop(row.id, None)
        if not theirs:
            self._by_tenant.pop(row.tenant, None)

    def _is_live(self, row: SessionRow) -> bool:
        has_key = row.key is None or self._keyring.find(row.key) is not None
        return has_key and row.ends_ms > self._now_ms()

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


def _beyond(rows: Sequence[SessionRow]) -> list[SessionRow]:
    """Of one tenant's, the one that was not used for longest first: those that are too many."""
    left, beyond = Counter(row.key for row in rows), []
    for row in rows:
        if left[row.key] > OF_KEY or left.total() > OF_TENANT:
            left[row.key] -= 1
            beyond.append(row)
    return beyond


def caller_of(row: SessionRow) -> Caller:
    """Who calls with this session."""
    role: Role = row.role  # type: ignore[assignment] # the table's CHECK knows no other
    return Caller(None if row.tenant == EVERYBODY else row.tenant, role, row.key, row.id)


def _entry(action: Action, by: Actor, row: SessionRow) -> Entry:
    return Entry(action=action, by=by, tenant=row.tenant, object=row.id, details={"role": row.role})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
