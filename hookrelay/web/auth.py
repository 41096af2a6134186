"""Who may call, and for which host: decided before any route sees the request."""

from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from hookrelay.web.problems import Problem

_OPEN = frozenset({"/metrics", "/-/healthy", "/-/ready"})
"""Paths that need no key on any listener."""


class Gate:
    """Middleware. Over the Unix socket the file mode has decided: whoever got here is an administrator.

    Over TCP every other call needs a key, and `Host` must be one that we answer for, so that no web page can reach the
    API by a name of its own (DNS rebinding, THREATS §3).
    """

    def __init__(self, app: ASGIApp, hosts: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421 or 401."""
        if scope["type"] == "http" and scope["server"][1] is not None:
            headers = dict(scope["headers"])
            host = _without_port(headers.get(b"host", b"").decode("latin-1").lower())
            if host not in self._hosts():
                problem = Problem("wrong_host", "the Host header names no host of this server: api.hosts lists them")
                await problem(scope, receive, send)
                return
            if scope["path"] not in _OPEN:
                problem = Problem(
                    "unauthorized",
                    "send `Authorization: Bearer KEY`, or call over the Unix socket",
                    headers={"www-authenticate": "Bearer"},
                )
                await problem(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]
