"""Names of event types, tenants, and the patterns by which a webhook asks for events (contract §1, §4)."""

import re

from hookrelay.model import OPERATORS

TYPE_LENGTH = 128

_SEGMENT = "[A-Za-z0-9_-]+"
EVENT_TYPE = re.compile(f"{_SEGMENT}(?:[./:]{_SEGMENT})*")
PATTERN = re.compile(rf"(?:{_SEGMENT}|\*)(?:[./:](?:{_SEGMENT}|\*))*")
TENANT = re.compile("[A-Za-z0-9._:@-]{1,128}")

RIGHT_TYPE = 'words of A-Z a-z 0-9 _ - with one of . / : between, at most 128 characters, such as "booking.created"'
RIGHT_PATTERN = (
    'an event type such as "booking.created", a pattern such as "booking.*" or "*.created" in which * stands for whole '
    'words, or "*" for all'
)
RIGHT_TENANT = '1 to 128 of A-Z a-z 0-9 . _ : @ -, such as "acme"'
RESERVED = f"{OPERATORS} is the operators' own tenant: name another one"

_PARTS = re.compile("([./:])")


def is_event_type(text: str) -> bool:
    """Whether `text` names a type of event."""
    return len(text) <= TYPE_LENGTH and EVENT_TYPE.fullmatch(text) is not None


def is_pattern(text: str) -> bool:
    """Whether a webhook may ask for events by `text`: a type, or one in which `*` stands in a segment's place."""
    return len(text) <= TYPE_LENGTH and PATTERN.fullmatch(text) is not None


def is_tenant(text: str) -> bool:
    """Whether `text` is a tenant's name."""
    return TENANT.fullmatch(text) is not None


def parts(text: str) -> list[str]:
    """The segments of a type or pattern with the separators between them: at even places, and at odd ones."""
    return _PARTS.split(text)


def covers(pattern: list[str], type: list[str]) -> bool:
    """Whether a pattern lets a type through, both as `parts`: `*` stands for one or more whole segments with the
    separators between them, everything else for itself. Takes at most `len(pattern) * len(type)` steps.
    """
    ends = {0}
    for part in pattern:
        if part == "*":
            ends = set(range(min(ends) + 1, len(type) + 1, 2))
        else:
            ends = {end + 1 for end in ends if end < len(type) and type[end] == part}
        if not ends:
            return False
    return len(type) in ends


def simple_patterns(type: str) -> list[str]:
    """All patterns with at most one `*`, at an end, that let `type` through."""
    found = [type, "*"]
    for match in _PARTS.finditer(type):
        found += (type[: match.end()] + "*", "*" + type[match.start() :])
    return found


def is_simple(pattern: str) -> bool:
    """Whether `simple_patterns` of some type have it among them."""
    return "*" not in pattern[1:-1] and pattern.count("*") < 2


def sample_type(pattern: str) -> str:
    """A type that the pattern lets through."""
    return "".join("test" if part == "*" else part for part in parts(pattern))
