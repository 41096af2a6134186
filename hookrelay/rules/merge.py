"""What does a patch make of what was said before? JSON merge patch (RFC 7396)."""

from collections.abc import Mapping


def merged(before: object, patch: object) -> object:
    """`before` with `patch` applied: objects member by member, null takes a member away, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(before) if isinstance(before, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
