"""The dashboard's door: who comes in, from where, and what every page goes out with (THREATS §3)."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote

import trio

from hookrelay import __version__
from hookrelay.config.settings import Tcp
from hookrelay.model import Refused
from hookrelay.net.asgi import Receive, Scope, Send
from hookrelay.rules.wording import shown
from hookrelay.store import history
from hookrelay.web import body
from hookrelay.web.auth import Throttle
from hookrelay.web.call import MANAGERS, Call, Parts, Roles, check_role
from hookrelay.web.dashboard import pages
from hookrelay.web.dashboard.live import Make, Pacer, Version, follow
from hookrelay.web.dashboard.pulse import Pulse
from hookrelay.web.dashboard.replays import Replays
from hookrelay.web.http import Answer, Request
from hookrelay.web.keyring import Caller
from hookrelay.web.problems import TITLES, headers_of
from hookrelay.web.sessions import Sessions

COOKIE = "hookrelay_session"
NOBODY = Caller("", "submit")
"""Who has not signed in: no tenant has this name."""
ENTRANCE = "/dashboard/sign-in"
FIELDS_MOST = 2_000
UNKNOWN_MOST = 16 << 10
"""Bytes of a form of who has not signed in: a key and where to go on."""
FORM = "application/x-www-form-urlencoded"
GUARDS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_GUARDS = [(name.encode(), value.encode()) for name, value in GUARDS.items()]


class Visit(Call):
    """One request of somebody who looks at the dashboard."""

    def __init__(self, request: Request, parts: Parts, caller: Caller, house: "Dashboard") -> None:
        super().__init__(request, parts, caller)
        self.house = house
        self._form: dict[str, list[str]] = {}

    @property
    def is_known(self) -> bool:
        """Whether somebody has signed in."""
        return self.caller is not NOBODY

    @property
    def can_manage(self) -> bool:
        """Whether there are buttons that change something."""
        return self.caller.role in MANAGERS

    @property
    def is_operator(self) -> bool:
        """Whether the whole house is to be seen, and not one tenant's part of it."""
        return self.caller.tenant is None and self.caller.role == "admin"

    @property
    def sees_tenants(self) -> bool:
        """Whether it matters whose a thing is."""
        return self.caller.tenant is None

    @property
    def is_part(self) -> bool:
        """Whether a script asks for a part of a page; going back it asks for the whole one."""
        is_back = self.request.header(b"hx-history-restore-request") == "true"
        return self.request.header(b"hx-request") == "true" and not is_back

    def page(self, template: str, *, status: int = 200, **values: Any) -> Answer:
        """A page, or a part of one."""
        return Answer(
            self.html(template, **values).encode("utf-8", "replace"),
            status=status,
            media_type="text/html; charset=utf-8",
            headers={"cache-control": "no-store"},
        )

    async def delivery_ids(self, numbers: list[int]) -> dict[int, str]:
        """The ids of deliveries that are known by their numbers; those past their retention are not there."""
        store = self.parts.store
        rows = await store.read(history.recent, numbers) if numbers else []
        return {row.seq: store.ids.make("dlv", row.created_ms, row.seq) for row in rows}

    def html(self, template: str, **values: Any) -> str:
        """The text of a template, which knows who looks."""
        return pages.render(template, visit=self, version=__version__, **values)

    def follow(self, version: Version, make: Make, *, least_s: float = 1.0) -> Answer:
        """An answer that goes on telling what changes on a page."""
        return follow(self, self.house.pacer, version, make, least_s=least_s)

    async def read_form(self) -> None:
        """Take the body's fields, for `field` and `fields`. Refused where it is no form."""
        if body.media_type(self.request) != FORM and self.request.has_body():
            raise Refused("unsupported_media_type", f"send it with Content-Type: {FORM}")
        content = await self.request.body(body.LIMIT if self.is_known else UNKNOWN_MOST)
        try:
            pairs = parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=FIELDS_MOST, errors="strict")
        except ValueError:
            raise Refused("bad_request", f"the form is not UTF-8, or has over {FIELDS_MOST} fields") from None
        for name, value in pairs:
            # a text area's lines end as in mail (WHATWG HTML §4.10.21.4)
            self._form.setdefault(name, []).append(value.replace("\r\n", "\n"))

    def field(self, name: str) -> str:
        """A field of the form without spaces around it; empty where it is not there."""
        return self._form.get(name, [""])[0].strip()

    def fields(self, name: str) -> list[str]:
        """All values of a field."""
        return self._form.get(name, [])


View = Callable[[Visit], Awaitable[Answer]]
Routes = Mapping[str, Mapping[str, tuple[View, Roles | None]]]


def redirect(to: str, **headers: str) -> Answer:
    """Go there, by GET (RFC 9110 §15.4.4)."""
    return Answer(status=303, headers={"location": to, "cache-control": "no-store", **headers})


class Dashboard:
    """The dashboard as an ASGI application. `run` is its task: it carries out what takes longer than one request."""

    def __init__(self, parts: Parts, routes: Routes) -> None:
        self._parts = parts
        self._routes = routes
        self.pacer = Pacer()
        self.throttle = Throttle()
        self.replays = Replays(parts.limit_met)
        self.pulse = Pulse()

    async def run(self, stopping: trio.Event) -> None:
        """Make ready what all pages need, then do what pages ask for, until `stopping`."""
        if any(isinstance(place, Tcp) for place in self._parts.config().api.listen):
            with suppress(OSError):  # without descriptors just now: what a page needs is read once it is asked for
                await trio.to_thread.run_sync(_warm_up)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.pulse.run, self._parts.metrics)
            await self.replays.run(stopping)
            nursery.cancel_scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say why not."""
        request = Request(scope, receive)
        visit = Visit(request, self._parts, session_of(scope, self._parts.sessions) or NOBODY, self)
        try:
            reply = await self._answer(visit)
        except Refused as refused:
            reply = _refusal(visit, refused)
        reply.headers += _GUARDS
        await reply(scope, receive, send)

    async def _answer(self, visit: Visit) -> Answer:
        scope = visit.request.scope
        if scope["server"][1] is None:
            raise Refused("not_found", "the dashboard is served on the TCP addresses of api.listen")
        path = scope["path"].rstrip("/")
        found = self._routes.get(path) or self._routes.get(_pattern(scope, path))
        if found is None:
            raise Refused("not_found", f"there is nothing at {shown(scope['path'])}")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        view = found.get(method)
        if view is None:
            reply = _refusal(visit, Refused("method_not_allowed", f"{shown(method)} does not exist here"))
            reply.headers.append((b"allow", ", ".join([*found, *(["HEAD"] if "GET" in found else [])]).encode()))
            return reply
        check_origin(visit.request, self._parts.config().api.public_url, is_change=method != "GET")
        answer, roles = view
        if roles is not None:
            if not visit.is_known:
                return _ask_to_sign_in(visit)
            check_role(visit.caller, roles)
        if method == "POST":
            await visit.read_form()
        return await answer(visit)


def _pattern(scope: Scope, path: str) -> str:
    """The path with `{id}` for its third step, as the routes are written; that step goes into `path_params`."""
    steps = path.split("/")
    if len(steps) > 3:
        scope["path_params"] = {"id": steps[3]}
        steps[3] = "{id}"
    return "/".join(steps)


def _warm_up() -> None:
    for name in pages.FILES:
        pages.file(name)
    for name in pages.environment().list_templates():
        pages.environment().get_template(name)


# --- who it is --------------------------------------------------------------------------------------------------


def session_of(scope: Scope, sessions: Sessions) -> Caller | None:
    """Who has signed in."""
    token = cookie(scope)
    return None if token is None else sessions.check(token)


def cookie(scope: Scope) -> str | None:
    """What the browser remembers of a session (RFC 6265 §4.2)."""
    for field, text in scope["headers"]:
        for pair in text.decode("latin-1").split(";") if field == b"cookie" else ():
            name, _, value = pair.strip().partition("=")
            if name == COOKIE:
                return str(value)
    return None


def set_cookie(visit: Visit, token: str, lasts_s: float) -> str:
    """The header that has a browser remember a session. It is sent to the dashboard alone, and from its own pages."""
    secure = "; Secure" if is_https(visit) else ""
    return f"{COOKIE}={token}; Path=/dashboard; Max-Age={lasts_s:.0f}; HttpOnly; SameSite=Strict{secure}"


def is_https(visit: Visit) -> bool:
    """Whether the browser came by TLS, as a proxy before us says or the configuration does."""
    public = visit.parts.config().api.public_url or ""
    said = (visit.request.header(b"x-forwarded-proto") or "").strip().lower()
    host = (visit.request.header(b"host") or "").lower()
    return said == "https" or public == f"https://{host}"


def check_origin(request: Request, public_url: str | None, *, is_change: bool) -> None:
    """Refused where a request comes from another site's page, or a change from none of ours (THREATS §3).

    Ours is what `Host` names, and `api.public_url`: a proxy may have left the port out of the former.
    """
    origin, site = request.header(b"origin"), request.header(b"sec-fetch-site")
    host = (request.header(b"host") or "").lower()
    if origin is not None:
        scheme, _, place = origin.lower().partition("://")
        is_ours = scheme in ("http", "https") and _plain(place, scheme) == _plain(host, scheme)
        is_ours = is_ours or origin.lower() == public_url
    else:
        is_ours = not is_change or site == "same-origin"
    if not is_ours or (is_change and site not in (None, "same-origin")):
        raise Refused("forbidden", "this came from a page of another site: open the dashboard itself, and do it there")


def _plain(host: str, scheme: str) -> str:
    return host.removesuffix(":443" if scheme == "https" else ":80")


def _ask_to_sign_in(visit: Visit) -> Answer:
    scope = visit.request.scope
    if visit.is_part:
        return Answer(status=401, headers={"hx-redirect": ENTRANCE, "cache-control": "no-store"})
    if scope["method"] not in ("GET", "HEAD") or (visit.request.header(b"accept") or "") == "text/event-stream":
        raise Refused("unauthorized", "you are not signed in, or no longer: sign in, then do it again")
    path = scope["path"]
    query = scope["query_string"].decode("latin-1")
    back = path + (f"?{query}" if query else "")
    return redirect(ENTRANCE if path.rstrip("/") == "/dashboard" else f"{ENTRANCE}?next={quote(back, safe='')}")


def _refusal(visit: Visit, refused: Refused) -> Answer:
    status, title = TITLES[refused.code]
    template = "refusal_part.html" if visit.is_part else "refusal.html"
    answer = visit.page(template, status=status, title=title, refused=refused, code=status)
    answer.headers += [(name.encode(), value.encode()) for name, value in headers_of(refused).items()]
    return answer
