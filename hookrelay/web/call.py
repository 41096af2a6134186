"""One call of the API, and all that its caller may see of the house.

Tenants are kept apart here and nowhere else: routes get webhooks, deliveries, events and keys by way of a `Call`, which
knows whose they may be.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
import trio
from msgspec import Struct

from hookrelay.audit import Actor
from hookrelay.checkup import Checkup
from hookrelay.config.compare import Change
from hookrelay.config.settings import Config
from hookrelay.copies import Copies
from hookrelay.editor import Editor
from hookrelay.expunge import Expunger
from hookrelay.feed import Feed
from hookrelay.ingest import Ingest
from hookrelay.model import Refused, Webhook
from hookrelay.net.asgi import ClientGone, Receive, Scope, Send
from hookrelay.redeliver import Redeliverer
from hookrelay.registry import Removal
from hookrelay.rules.match import Catalog
from hookrelay.rules.pattern import RIGHT_TENANT, is_tenant
from hookrelay.rules.wording import shown
from hookrelay.store import audit, history, webhooks
from hookrelay.store.db import Store
from hookrelay.store.keys import KeyRow
from hookrelay.store.paging import Page
from hookrelay.store.sessions import SessionRow
from hookrelay.tally import Tally
from hookrelay.telemetry.metrics import Metrics
from hookrelay.telemetry.traces import Tracer
from hookrelay.web.http import Answer as Reply
from hookrelay.web.http import Request
from hookrelay.web.keyring import LOCAL, Caller, Keyring, Role
from hookrelay.web.problems import Problem, problem_of
from hookrelay.web.query import Query
from hookrelay.web.sessions import Sessions
from hookrelay.web.shares import Shares

T = TypeVar("T")
Roles = frozenset[Role]
READERS: Roles = frozenset({"admin", "manage", "read"})
MANAGERS: Roles = frozenset({"admin", "manage"})
SUBMITTERS: Roles = frozenset({"admin", "submit"})
ANYONE: Roles = frozenset({"admin", "manage", "read", "submit"})
ADMINISTRATORS: Roles = frozenset({"admin"})
OPEN = None
"""Also without a key."""


class Parts(Struct, frozen=True):
    """What the routes work on. Callables where a reload replaces the value."""

    store: Store
    catalog: Callable[[], Catalog]
    editor: Editor
    redeliverer: Redeliverer
    copies: Copies
    checkup: Checkup
    expunger: Expunger
    ingest: Ingest
    keyring: Keyring
    sessions: Sessions
    tally: Tally
    feed: Feed
    streams: Shares
    """Who has how many streams open."""
    metrics: Metrics
    config: Callable[[], Config]
    is_ready: Callable[[], bool]
    missing: Callable[[], tuple[int, int]]
    """How many webhooks no file names any more, and how many deliveries are held for them."""
    reload: Callable[[Actor, bool], Awaitable[tuple[list[tuple[str, str]], Removal]]]
    """Read the files again: the mistakes, as pairs of place and detail, none where it all applies now; and what is
    gone.
    """
    preview: Callable[[], Awaitable[tuple[list[tuple[str, str]], list[Change]]]]
    """The mistakes that a reload would tell, or else what it would change."""
    health: Callable[[], dict[str, Any]]
    """What `/v1/status` says beside the numbers of `metrics`."""
    waiting: Callable[[Webhook], dict[str, Any]]
    """How many deliveries wait for a webhook, and what for."""
    backlog: Callable[[], Mapping[int, tuple[int, int, float]]]
    """Of each webhook for which something waits: pending, held, and by how many seconds the first is overdue."""
    tracer: Tracer | None = None
    """Knows what receivers were sent, where they were sent spans."""
    limit_met: Callable[[str], None] = lambda limit: None
    """Tells of a bound on what callers may cost that was met (`telemetry.limits`)."""


class Call:
    """One request of an authorised caller."""

    def __init__(self, request: Request, parts: Parts, caller: Caller) -> None:
        self.request = request
        self.parts = parts
        self.caller = caller

    @property
    def actor(self) -> Actor:
        """Who makes this call, for the audit trail."""
        caller, is_operator = self.caller, self.caller.tenant is None
        name = caller.key_id or caller.session_id  # the session of a link has the link's id
        if name is not None:
            return Actor(name, is_operator, caller.session_id, address=self.request.address)
        process = self.request.scope["state"]["process"]
        if process is None:
            return Actor("uid:unknown", is_operator)
        return Actor(f"uid:{process.uid}", is_operator, pid=process.pid)

    @property
    def is_of_tenant(self) -> bool:
        """Whether the caller belongs to one tenant: then nothing of the operators' network is told (`rules.told`)."""
        return self.caller.tenant is not None

    def query(self, *known: str) -> Query:
        """The parameters; `tenant` is always known, and read by `tenant`. Refused where that is not the caller's."""
        self.tenant()
        return Query(self.request.query(), ("tenant", *known))

    def tenant(self) -> str | None:
        """Whose things are meant: the key's tenant, or the one that an administrator names; None for all.

        Refused where a key of one tenant names another.
        """
        return self.allowed_tenant(self.request.parameter("tenant"))

    def allowed_tenant(self, asked: str | None) -> str | None:
        """The same for a tenant that the caller named elsewhere."""
        if asked is not None and not is_tenant(asked):
            raise Refused("invalid_field", f"{shown(asked)} is not a tenant: {RIGHT_TENANT}", field="tenant")
        own = self.caller.tenant
        if own is not None and asked not in (None, own):
            raise Refused("forbidden", "the key belongs to another tenant than the one that is named", field="tenant")
        return own if own is not None else asked

    def sees(self, tenant: str) -> bool:
        """Whether things of this tenant are there for this call."""
        mine = self.tenant()
        return mine is None or mine == tenant

    def webhooks(self, after: str | None) -> Iterator[Webhook]:
        """The webhooks that are there for this call, by id, from the first beyond `after`."""
        return self.parts.catalog().after(self.tenant(), after)

    def webhook(self) -> Webhook:
        """The webhook that the path names. Refused("not_found") where there is none for this call."""
        webhook = self.parts.catalog().by_id.get(self.request.id)
        if webhook is None or not self.sees(webhook.tenant):
            raise Refused("not_found", "there is no webhook with this id")
        return webhook

    async def past_webhook(self, id: str) -> int | None:
        """The key of a webhook whose history is there for this call, though it may be deleted; None: there is none."""
        webhook = self.parts.catalog().by_id.get(id)
        if webhook is not None:
            return webhook.seq if self.sees(webhook.tenant) else None
        found = await self.parts.store.read(webhooks.find, id)
        return found[0] if found is not None and self.sees(found[1]) else None

    async def delivery(self) -> tuple[history.DeliveryRow, history.EventRow, bytes, list[history.AttemptRow]]:
        """The delivery that the path names, with its event, that one's data and its attempts, or Refused."""
        store = self.parts.store
        key = store.ids.seq("dlv", self.request.id)
        found = None if key is None else await store.read(history.delivery, key[0])
        if found is None or key is None or found[0].created_ms != key[1] or not self.sees(found[0].tenant):
            raise Refused("not_found", "there is no delivery with this id: it may be past its retention")
        return found

    async def deliveries(self, wanted: history.Wanted, before: int | None, limit: int) -> Page[Any]:
        """Deliveries that are there for this call."""
        wanted = msgspec.structs.replace(wanted, tenant=self.tenant())
        return await self.parts.store.read(history.deliveries, wanted, before, limit)

    async def event(self, limit: int) -> tuple[history.EventRow, bytes, int, list[history.DeliveryRow]]:
        """The event that the path names, its data, and `limit` of its deliveries, or Refused."""
        return await self._event(self.request.id, limit)

    async def event_with(self, id: str) -> history.EventRow:
        """The event with an id that the caller gave elsewhere, or Refused."""
        return (await self._event(id, 0))[0]

    async def _event(self, id: str, limit: int) -> tuple[history.EventRow, bytes, int, list[history.DeliveryRow]]:
        store = self.parts.store
        key = store.ids.seq("evt", id)
        found = None if key is None else await store.read(history.event, key[0], limit)
        if found is None or key is None or found[0].created_ms != key[1] or not self.sees(found[0].tenant):
            raise Refused("not_found", "there is no event with this id: it may be past its retention")
        return found

    async def events(
        self, type: str | None, between: tuple[int | None, int | None], before: int | None, limit: int
    ) -> Page[history.EventRow]:
        """Events that are there for this call."""
        return await self.parts.store.read(history.events, self.tenant(), type, between, before, limit)

    async def records(self, wanted: audit.Wanted, before: int | None, limit: int) -> Page[audit.AuditRow]:
        """Records of the audit trail that are there for this call."""
        wanted = msgspec.structs.replace(wanted, tenant=self.tenant(), is_tenant=self.caller.tenant is not None)
        return await self.parts.store.read(audit.records, wanted, before, limit)

    def keys(self, after: str | None) -> Iterator[KeyRow]:
        """The keys that are there for this call."""
        return (row for row in self.parts.keyring.after(after) if self.sees(row.tenant))

    def links(self, after: str | None) -> Iterator[SessionRow]:
        """The links to the dashboard that are there for this call."""
        return (row for row in self.parts.sessions.links(after) if self.sees(row.tenant))

    def link(self) -> SessionRow:
        """The link that the path names, or Refused."""
        row = self.parts.sessions.find(self.request.id)
        if row is None or not self.sees(row.tenant):
            raise Refused("not_found", "there is no link with this id: it may have ended")
        return row

    def key(self) -> KeyRow:
        """The key that the path names, or Refused."""
        row = self.parts.keyring.find(self.request.id)
        if row is None or not self.sees(row.tenant):
            raise Refused("not_found", "there is no key with this id")
        return row

    def check_key_tenant(self, tenant: str) -> None:
        """Refused where the caller may not make keys of this tenant."""
        if self.caller.tenant is not None and tenant != self.caller.tenant:
            raise Refused("forbidden", "the key belongs to another tenant than the one that is named", field="tenant")

    def is_still_allowed(self) -> bool:
        """Whether the caller's key has not been revoked, nor their session ended, since the call began."""
        if self.caller.session_id is not None:
            return self.parts.sessions.is_open(self.caller.session_id)
        return self.caller.key_id is None or self.parts.keyring.find(self.caller.key_id) is not None

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """What `work` comes to. Given up where the caller hangs up meanwhile: then nobody waits for it (THREATS §3).

        For work that waits for others, and that may be cancelled anywhere. A caller that only ends its own side counts
        as gone, as the two look the same over TCP. The body must have been taken.
        """
        refused: Refused | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_gone, nursery.cancel_scope)
            try:
                return await work
            except Refused as error:
                refused = error  # not to leave the nursery in a group
            finally:
                nursery.cancel_scope.cancel()
        raise refused or ClientGone("the caller has hung up")

    async def _until_gone(self, work: trio.CancelScope) -> None:
        await self.request.gone()
        work.cancel()

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return int(time.time() * 1000)


Answer = Callable[[Call], Awaitable[Reply]]


class Resource:
    """All methods of one path, each with the roles that may call it."""

    def __init__(self, parts: Parts, methods: Mapping[str, tuple[Answer, Roles | None]]) -> None:
        self._parts = parts
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say why not."""
        method = scope["method"]
        found = self._methods.get("GET" if method == "HEAD" else method)
        if found is None:
            allow = ", ".join([*self._methods, *(["HEAD"] if "GET" in self._methods else [])])
            detail = f"{shown(method)} does not exist here; the Allow header says what does"
            await Problem("method_not_allowed", detail, headers={"allow": allow})(scope, receive, send)
            return
        answer, roles = found
        caller: Caller = LOCAL if roles is OPEN else scope["caller"]
        try:
            if roles is not OPEN:
                check_role(caller, roles)
            reply: Reply = await answer(Call(Request(scope, receive), self._parts, caller))
        except Refused as refused:
            reply = problem_of(refused)
        await reply(scope, receive, send)


def check_role(caller: Caller, roles: Roles) -> None:
    """Refused where the caller's role is none of these."""
    if caller.role not in roles:
        able = ", ".join(sorted(roles))
        raise Refused("forbidden", f"a key with the role {caller.role} may not do this: it takes {able}")
