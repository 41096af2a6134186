"""Text of customers and receivers as a page may show it: nothing in it acts, hides or turns the line round."""

import re
from html import escape

from markupsafe import Markup

NOTHING = "\u2013"
"""What stands where there is no value."""
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control, format and invisible characters but newline and tab: bidi overrides, terminal escapes, zero widths."""


def visible(text: str) -> str:
    """The text with what cannot be seen written out, as JSON escapes it: U+202E becomes `\\u202e` (THREATS §3)."""
    return _UNSEEN.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    # lone surrogates pass, and what lies beyond U+FFFF becomes two: a payload that is copied stays JSON
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def clip(text: str, budget: int) -> tuple[Markup, bool]:
    """As much of the text as its HTML fits into `budget` bytes, safe to stand in a page; and whether it is all.

    Counted after escaping: a kilobyte of quotation marks is five of HTML.
    """
    part = visible(text[:budget])
    html = escape(part)
    while len(html.encode("utf-8", "replace")) > budget:
        part = part[: min(len(part) - 1, int(len(part) * budget / len(html.encode("utf-8", "replace"))))]
        html = escape(part)
    return Markup(html), len(text) <= budget and part == visible(text)  # noqa: S704 -- escaped just above


def percent(share: float | None) -> str:
    """`99.2 %`; never rounded up to all or down to none."""
    if share is None:
        return NOTHING
    if share in (0, 1):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def milliseconds(ms: float | None) -> str:
    """A length of time as people read it: `12 ms`, `1.4 s`, `2 min`."""
    if ms is None:
        return NOTHING
    if ms < 1:
        return "<1 ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    if ms < 7_200_000:
        return f"{ms / 60_000:.0f} min"
    return f"{ms / 3_600_000:.0f} h"


def count(number: float) -> str:
    """A number with thin spaces between thousands: they hold together and read in every country."""
    return f"{number:,.0f}".replace(",", "\u202f")


def compact(number: float) -> str:
    """A round number where there is little room: `2 500`, `25 k`, `2.5 M`."""
    if number < 10_000:
        return count(number)
    return f"{number / 1e6:g} M" if number >= 1e6 else f"{number / 1e3:g} k"


def size(number: float) -> str:
    """Bytes as people read them: `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
