"""What stands behind the question mark: every parameter read by its kind, every mistake told at once."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from msgspec import Struct

from hookrelay.model import FieldError, Refused
from hookrelay.rules.payload import is_event_type
from hookrelay.rules.timestamp import to_utc
from hookrelay.rules.wording import shown, unknown
from hookrelay.units import parse_duration

Row = TypeVar("Row")

LIMIT_DEFAULT = 50
LIMIT_MOST = 250
_SQL_MOST = (1 << 62) - 1


class Window(Struct, frozen=True):
    """A page of a list: `limit` rows after the one that `after` names."""

    limit: int
    after: str | None

    def cut(self, rows: Iterable[Row]) -> tuple[list[Row], bool]:
        """As many of the rows as the page takes, and whether there are more."""
        found = list(islice(rows, self.limit + 1))
        return found[: self.limit], len(found) > self.limit


class Query:
    """The parameters of one request. Each method takes one; `done` tells of all mistakes."""

    def __init__(self, given: Mapping[str, list[str]], known: Collection[str]) -> None:
        self._given = {name: values[0] for name, values in given.items()}
        self._errors: list[FieldError] = []
        for name, values in given.items():
            if name not in known:
                self.wrong(name[:64], unknown(name[:64], known))
            elif len(values) > 1:
                self.wrong(name, "stands there twice: give it once")

    def done(self) -> None:
        """Refused("invalid_field") where anything was wrong."""
        if self._errors:
            count = "a query parameter is" if len(self._errors) == 1 else f"{len(self._errors)} query parameters are"
            raise Refused("invalid_field", f"{count} not right: errors says which and why", errors=self._errors)

    def wrong(self, name: str, detail: str) -> None:
        """A mistake that the caller found."""
        self._errors.append(FieldError(name, detail))

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self._given.get(name)

    def word(self, name: str, words: Sequence[str]) -> str | None:
        """One of a few words."""
        text = self._given.get(name)
        if text is not None and text not in words:
            self.wrong(name, f"{shown(text)} is none of {', '.join(words)}")
            return None
        return text

    def event_type(self, name: str) -> str | None:
        """A type of event."""
        text = self._given.get(name)
        if text is not None and not is_event_type(text):
            self.wrong(name, f'{shown(text)} is not an event type: write one such as "booking.created"')
            return None
        return text

    def number(self, name: str, low: int, high: int) -> int | None:
        """A whole number."""
        text = self._given.get(name)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high:
            return int(text)
        self.wrong(name, f"a whole number from {low} to {high}, such as {min(max(low, 50), high)}")
        return None

    def moment(self, name: str, now_ms: int) -> int | None:
        """Unix milliseconds of an RFC 3339 time, or of a duration before now."""
        text = self._given.get(name)
        if text is None:
            return None
        try:
            return read_moment(text, now_ms)
        except ValueError as error:
            self.wrong(name, str(error))
            return None

    def window(self, kind: str) -> Window:
        """`limit` and `cursor` of the list `kind`."""
        limit = self.number("limit", 1, LIMIT_MOST)
        cursor, after = self._given.get("cursor"), None
        if cursor is not None:
            after = read_cursor(cursor, kind)
            if after is None:
                self.wrong("cursor", "not a cursor of this list: use next_cursor of its last page")
        return Window(LIMIT_DEFAULT if limit is None else limit, after)

    def numbered_window(self, kind: str) -> tuple[int, int | None]:
        """The same for a list whose rows have numbers: `limit`, and the number of the last row."""
        window = self.window(kind)
        if window.after is None:
            return window.limit, None
        if window.after.isdigit() and len(window.after) < 20 and int(window.after) <= _SQL_MOST:
            return window.limit, int(window.after)
        self.wrong("cursor", "not a cursor of this list: use next_cursor of its last page")
        return window.limit, None


def read_moment(text: str, now_ms: int) -> int:
    """Unix milliseconds of an RFC 3339 time, or of a duration before now. ValueError says what is right."""
    utc = to_utc(text)
    if utc is not None:
        head, _, fraction = utc.removesuffix("Z").partition(".")
        head = head[:-2] + "59" if head.endswith(":60") else head
        seconds = datetime.fromisoformat(head + "+00:00").timestamp()
        return int(seconds) * 1000 + int((fraction + "000")[:3])
    try:
        return now_ms - round(parse_duration(text) * 1000)
    except ValueError:
        raise ValueError(
            f'{shown(text)} is no time: write one as "2026-02-26T10:00:00Z", or how long ago it was, such as "24h"'
        ) from None


def listed(rows: Sequence[object], kind: str, last: str | None) -> dict[str, Any]:
    """A list as the contract shows it; `last` names the last row where more may follow it."""
    cursor = None if last is None else urlsafe_b64encode(f"{kind}:{last}".encode()).decode().rstrip("=")
    return {"data": rows, "next_cursor": cursor}


def read_cursor(cursor: str, kind: str) -> str | None:
    """What `listed` put into a cursor of the list `kind`; None where it is none."""
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        return None
    head, separator, last = text.rpartition(":")
    return last if separator and head == kind else None
