"""Pages by keyset: `?limit=` and an opaque `?cursor=` that stays right while rows come and go."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from msgspec import Struct
from starlette.requests import Request

from hookrelay.model import FieldError, Refused

LIMIT_DEFAULT = 50
LIMIT_MOST = 250


class Page(Struct, frozen=True):
    """What the caller asked for: `limit` rows after the one that `after` names."""

    limit: int
    after: str | None


def asked(request: Request, kind: str) -> Page:
    """The page that a request of list `kind` asks for. Refused("invalid_field") names every bad parameter."""
    errors = []
    limit, after = LIMIT_DEFAULT, None
    text = request.query_params.get("limit")
    if text is not None:
        if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= LIMIT_MOST:
            limit = int(text)
        else:
            errors.append(FieldError("limit", f"a whole number from 1 to {LIMIT_MOST}, such as 50"))
    cursor = request.query_params.get("cursor")
    if cursor is not None:
        after = _read(cursor, kind)
        if after is None:
            errors.append(FieldError("cursor", "not a cursor of this list: use next_cursor of its last page"))
    if errors:
        raise Refused("invalid_field", "a query parameter is not right", errors=errors)
    return Page(limit, after)


def answer(rows: Sequence[dict[str, Any]], kind: str, last: str | None) -> dict[str, Any]:
    """A list as the contract shows it; `last` names the last row where more follow it."""
    cursor = None if last is None else urlsafe_b64encode(f"{kind}:{last}".encode()).decode().rstrip("=")
    return {"data": list(rows), "next_cursor": cursor}


def _read(cursor: str, kind: str) -> str | None:
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        return None
    head, separator, last = text.rpartition(":")
    return last if separator and head == kind else None
