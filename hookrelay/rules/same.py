"""Is it the same JSON value, though it is written otherwise? (contract §2.1)

White space, the order of names and the spelling of strings do not matter. Numbers compare as they are written, since
they are delivered so: `1.0` is not `1`. An object that says a name twice has no one value: such text is like nothing
but itself.
"""

import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any

_NAME = itemgetter(0)


class _Repeated(ValueError):
    """An object says a name twice."""


def spelled(data: bytes) -> bytes | None:
    """One spelling for all JSON texts of one value; None where an object says a name twice, or `data` is damaged.

    `data` is well-formed JSON of at most 64 levels, in UTF-8. Linear in its length, but for the sorting of names.
    """
    try:
        return ascii(_read(data, _sorted)).encode()
    except ValueError:
        return None


def is_same(data: bytes, other: bytes) -> bool:
    """Whether both are texts of one value."""
    if data == other:
        return True
    try:
        return bool(_read(data, _object) == _read(other, _object))
    except ValueError:
        return False


def _read(data: bytes, hook: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    # a number as the bytes that it is written in, apart from a string of the same characters
    return json.loads(data, parse_int=str.encode, parse_float=str.encode, object_pairs_hook=hook)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated
    return found


def _sorted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _object(pairs)
    pairs.sort(key=_NAME)
    return dict(pairs)
