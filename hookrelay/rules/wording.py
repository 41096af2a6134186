"""Words that the mistakes of a file, a request and the environment have in common.

What is repeated of a person's input is short, on one line and free of control characters.
"""

import difflib
import json
from collections.abc import Collection
from datetime import date, time

MISTAKES_MOST = 50
"""Mistakes that are told at once: who has made more finds the others when these are mended. Looking costs time."""

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),  # before int, which it is too
    (str, "text"),
    (int, "an integer"),
    (float, "a number with a point"),
    ((list, tuple), "a list"),
    (dict, "a table"),
    ((date, time), "a date or time"),
)


def shown(value: object) -> str:
    """A value as a message may repeat it: short, on one line, without control characters."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "the number"  # Python refuses to write integers of thousands of digits
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:56]}…{text[-1]}"


def got(value: object) -> str:
    """What kind of value stands there."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")


def unknown(key: str, known: Collection[str]) -> str:
    """The text of the mistake of a key that nobody reads."""
    near = nearest(key, known)
    return f"is unknown: did you mean {near}?" if near else f"is unknown: there are {', '.join(sorted(known))}"


def nearest(key: str, known: Collection[str]) -> str | None:
    """The known key that a misspelt one most likely means, or None where none is like it."""
    return next(iter(difflib.get_close_matches(key[:200], known, n=1)), None)
