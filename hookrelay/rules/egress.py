"""Where a delivery may go: what a URL names, and which addresses it may lead to."""

import re
from typing import NamedTuple

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]/?#@]+\]|[^\[\]:/?#@]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>[/?].*)?"
)
DEFAULT_PORTS = {"https": 443, "http": 80}


class Target(NamedTuple):
    """What a webhook's URL names. `path` is the request target, query included (RFC 9112 §3.2.1)."""

    scheme: str
    host: str
    """A name or an address literal, in lower case, without brackets."""
    port: int
    path: str


def target(url: str) -> Target:
    """Take a URL apart. ValueError where `rules.webhook.check` would not have let it through."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("a URL without scheme, host and path: rules.webhook.check refuses these")
    path = match["path"] or "/"
    port = int(match["port"] or DEFAULT_PORTS[match["scheme"]])
    return Target(match["scheme"], match["host"].strip("[]").lower(), port, path if path[0] == "/" else f"/{path}")
