"""Is it the same JSON value, though it is written otherwise? (contract §2.1)

White space, the order of names and the spelling of strings do not matter. Numbers compare as they are written, since
they are delivered so: `1.0` is not `1`. An object that says a name twice has no one value: such text is like nothing
but itself.
"""

import json
from collections.abc import Sequence
from typing import Any


class _Repeated(ValueError):
    """An object says a name twice."""


class _Number(str):
    """A number as it is written, apart from a string of the same characters."""

    __slots__ = ()


def spelled(data: bytes) -> bytes | None:
    """One spelling for all JSON texts of one value; None where an object says a name twice, or `data` is damaged.

    `data` is well-formed JSON of at most 64 levels, in UTF-8. Linear in its length, but for the sorting of names.
    """
    try:
        value = json.loads(data, parse_int=_Number, parse_float=_Number, object_pairs_hook=_object)
    except ValueError:
        return None
    return "".join(_written(value)).encode()


def is_same(data: bytes, other: bytes) -> bool:
    """Whether both are texts of one value."""
    if data == other:
        return True
    spelling = spelled(data)
    return spelling is not None and spelling == spelled(other)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Repeated
    return found


def _written(value: Any) -> list[str]:
    parts: list[str] = []
    _write(value, parts)
    return parts


def _write(value: Any, parts: list[str]) -> None:
    if isinstance(value, _Number):
        parts.append(value)
    elif isinstance(value, dict):
        parts.append("{")
        for name in sorted(value):
            parts += (json.dumps(name), ":")
            _write(value[name], parts)
            parts.append(",")
        parts.append("}")
    elif isinstance(value, list):
        parts.append("[")
        for each in value:
            _write(each, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(json.dumps(value))
