"""A receiver that answers with a redirect: redirects are not followed (THREATS §1), so what is told says what helps."""

import re
from urllib.parse import urljoin, urlsplit

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOVED = REDIRECTS - {303}
"""Those that say where the same request belongs; 303 is about another one, a GET (RFC 9110 §15.4.4)."""
SHOWN_MOST = 500

_LOCATION = re.compile(rb"\r?\nlocation:([^\r\n]*)", re.IGNORECASE)


def answered(code: int, head: bytes) -> str:
    """What is told of an answer that is no 2xx: of a redirect where it pointed, and what to do."""
    if code not in REDIRECTS:
        return f"the receiver answered {code}"
    to = location(head)
    if to is None:
        return f"the receiver answered {code}, a redirect: these are not followed; set the webhook's url to its end"
    return f"the receiver answered {code} and pointed to {_printable(to)}{_ADVICE}"


def for_logs(detail: str) -> str:
    """The same without path and query of what it pointed to: these may carry a token, and a log is kept elsewhere."""
    if not detail.endswith(_ADVICE):
        return detail
    said, _, to = detail.removesuffix(_ADVICE).partition(" and pointed to ")
    where = urlsplit(to) if to.isascii() and "[" not in to else None
    place = f"{where.scheme}://{where.hostname}/…" if where is not None and where.hostname else "another path"
    return f"{said} and pointed to {place}{_ADVICE}"


def location(head: bytes) -> str | None:
    """Where an answer points to; None where it does not say."""
    found = _LOCATION.search(head)
    text = "" if found is None else found[1].strip(b" \t").decode("latin-1")
    return text or None


def moved_to(url: str, code: int | None, head: bytes | None) -> str | None:
    """The address at which the receiver wants to be called in place of `url`; None where it names no other one."""
    to = None if head is None or code not in MOVED else location(head)
    if to is None:
        return None
    try:
        whole = urljoin(url, to).partition("#")[0]
    except ValueError:
        return None
    return whole if whole != url and whole.startswith(("http://", "https://")) else None


_ADVICE = ": redirects are not followed; if events belong there, set the webhook's url to it"


def _printable(text: str) -> str:
    seen = text.encode("unicode_escape").decode()
    return seen if len(seen) <= SHOWN_MOST else f"{seen[:SHOWN_MOST]}…"
