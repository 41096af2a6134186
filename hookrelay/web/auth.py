"""Who calls, and for which host: decided before any route sees the request."""

from collections.abc import Callable, Collection
from math import ceil

import trio

from hookrelay.net.asgi import OWNER, App, Receive, Scope, Send
from hookrelay.rules.rate import Rate
from hookrelay.web.calls import MOST, Calls
from hookrelay.web.http import Answer, prefers_html
from hookrelay.web.keyring import EVERYBODY, LOCAL, Caller, Keyring
from hookrelay.web.problems import Problem

SERVER = "*"
"""The target of `OPTIONS *`: the server as a whole (RFC 9112 §3.2.4)."""
OPEN = frozenset({SERVER, "/metrics", "/-/healthy", "/-/ready", "/openapi.json", "/docs", "/docs/style.css"})
"""Paths that need no key on any listener, and that always answer."""

NO_KEY = "no key was sent: send `Authorization: Bearer KEY`, or call over the Unix socket"
WRONG_KEY = "the key that was sent is not known here: it is mistyped, or was revoked"
"""The two have one status, and say nothing of whose keys there are (THREATS §3)."""

FAILURES = Rate(10.0, 20)
"""Wrong keys that an address may show: after 20 one every 10 s."""
ADDRESSES_KNOWN = 10_000


class Throttle:
    """Slows down whoever shows wrong keys. A right one is never refused: it cannot be guessed, only crowded out."""

    def __init__(self) -> None:
        self._buckets: dict[str, float] = {}

    def wait_s(self, address: str) -> float | None:
        """An attempt has failed: None, or how long this address must wait until another one is looked at."""
        now_s = trio.current_time()
        bucket_s = self._buckets.pop(address, float("-inf"))
        opens_s = FAILURES.opens_at(bucket_s)
        if opens_s > now_s:
            self._buckets[address] = bucket_s
            return opens_s - now_s
        if len(self._buckets) >= ADDRESSES_KNOWN:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[address] = FAILURES.spend(bucket_s, now_s)
        return None


class Gate:
    """Middleware. Over the Unix socket the file mode has decided: whoever got here is an administrator.

    Over TCP every other call needs a key, and `Host` must be one that we answer for, so that no web page can reach the
    API by a name of its own (DNS rebinding, THREATS §3). The caller stands in `scope["caller"]`. All that is decided
    from the header: of who is turned away no body is read. A browser at `/` is led to the dashboard, which has a door
    of its own.
    """

    def __init__(
        self,
        app: App,
        hosts: Callable[[], Collection[str]],
        keyring: Keyring,
        limit_met: Callable[[str], None] = lambda limit: None,
        session_of: Callable[[Scope], Caller | None] = lambda scope: None,
    ) -> None:
        """`session_of` says who has signed in to the dashboard, where a request comes from there."""
        self._app = app
        self._hosts = hosts
        self._keyring = keyring
        self._limit_met = limit_met
        self._session_of = session_of
        self._throttle = Throttle()
        self._local = Calls(share=MOST)
        self._remote = Calls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421, 401, 429 or 503."""
        calls, owner = self._local, None
        if scope["type"] != "http" or scope["server"][1] is None:
            scope["caller"] = LOCAL
        else:
            problem = self._refusal(scope)
            if problem is not None:
                await problem(scope, receive, send)
                return
            calls, owner = self._remote, self._owner(scope)
        if scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        refusal = calls.begin(owner)
        if refusal is not None:
            self._limit_met("http_calls")
            await Problem(*refusal, headers={"retry-after": "1"})(scope, receive, send)
            return
        scope["state"][OWNER] = owner
        try:
            await self._app(scope, receive, send)
        finally:
            calls.end(owner)

    def _refusal(self, scope: Scope) -> Answer | None:
        hosts, tokens = [], []
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"authorization":
                tokens.append(value)
        host = _without_port(hosts[0].decode("latin-1").lower()) if hosts else ""
        if host not in self._hosts():
            return Problem("wrong_host", "the Host header names no host of this server: api.hosts lists them")
        if scope["path"] in OPEN or is_dashboard(scope["path"]):
            return None
        if scope["path"] == "/" and _is_browser(scope):
            return Answer(status=303, headers={"location": "/dashboard", "vary": "accept", "cache-control": "no-store"})
        caller = self._caller(tokens[0]) if len(tokens) == 1 else None
        if caller is not None:
            scope["caller"] = caller
            return None
        wait_s = self._throttle.wait_s(network_of(scope["client"])) if tokens else None
        if wait_s is not None:
            return Problem(
                "rate_limited",
                "too many requests with a wrong key came from this address: wait, then send a right one",
                headers={"retry-after": str(ceil(wait_s))},
            )
        said = WRONG_KEY if any(map(_token, tokens)) else NO_KEY
        return Problem("unauthorized", said, headers={"www-authenticate": "Bearer"})

    def _owner(self, scope: Scope) -> str:
        """Among whom the room for calls and bodies is shared: tenants, and all who have neither key nor session."""
        caller: Caller | None = scope.get("caller")
        if caller is None and is_dashboard(scope["path"]):
            caller = self._session_of(scope)
        return "" if caller is None else caller.tenant or EVERYBODY

    def _caller(self, header: bytes) -> Caller | None:
        return self._keyring.check(_token(header))


def _token(header: bytes) -> bytes:
    """What an `Authorization` header shows as a key; empty where it shows none."""
    scheme, _, token = header.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _is_browser(scope: Scope) -> bool:
    accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
    return scope["method"] in ("GET", "HEAD") and prefers_html(accept.decode("latin-1"))


def is_dashboard(path: str) -> bool:
    """Whether the dashboard answers this path, which lets people in by its own door."""
    return path == "/dashboard" or path.startswith("/dashboard/")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


def network_of(client: tuple[str, int] | None) -> str:
    """The address, or of an IPv6 one the network that its owner has it from (/64)."""
    if client is None:
        return ""
    host = client[0]
    return ":".join(host.split(":")[:4]) if ":" in host else host
