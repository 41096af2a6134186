"""Where a delivery may go: what a URL names, and which addresses it may lead to."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Target(NamedTuple):
    """What a webhook's URL names. `path` is the request target, query included (RFC 9112 §3.2.1)."""

    scheme: str
    host: str
    """A name or an address literal, without brackets."""
    port: int
    path: str


_PORTS = {"https": 443, "http": 80}


def target(url: str) -> Target:
    """Take a URL apart that `rules.webhook.check` has found to be right."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], path)
