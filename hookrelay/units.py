"""Durations, sizes and times as people write them, and as numbers."""

import re
from datetime import UTC, datetime
from functools import lru_cache

_DURATION = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,3}))?(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,11})(B|KiB|MiB|GiB|TiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_duration(text: str) -> float:
    """Seconds that `text` (`"500ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`) stands for. ValueError says what is right."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not a duration: write a number and a unit, such as "500ms", "30s", "5m", "24h"')
    whole, fraction, unit = match.groups()
    return float(f"{whole}.{fraction or 0}") * _SECONDS[unit]


def format_duration(seconds: float) -> str:
    """The shortest whole-number text for a duration: `90.0` → `"90s"`, `86400.0` → `"24h"`."""
    ms = round(seconds * 1000)
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        # "24h" reads better than "1d", "7d" better than "168h": days only from two on
        if ms and ms % size == 0 and ms // size >= (2 if unit in "dm" else 1):
            return f"{ms // size}{unit}"
    return f"{ms}ms" if ms else "0s"


def parse_size(text: str) -> int:
    """Bytes that `text` (`"256KiB"`, `"10GiB"`) stands for. ValueError says what is right."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is not a size: write a whole number and a unit, such as "256KiB" or "10GiB"')
    return int(match[1]) * _BYTES[match[2]]


def format_size(count: int) -> str:
    """The shortest exact text for a number of bytes: `262144` → `"256KiB"`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return f"{count}B"


def format_time(ms: int) -> str:
    """Unix milliseconds as RFC 3339 in UTC: `2026-02-26T10:00:00.000Z`."""
    days, ms = divmod(ms, 86_400_000)
    minutes, ms = divmod(ms, 60_000)
    return f"{_date(days)}T{minutes // 60:02d}:{minutes % 60:02d}:{ms // 1000:02d}.{ms % 1000:03d}Z"


@lru_cache(1024)
def _date(days: int) -> str:
    return datetime.fromtimestamp(days * 86_400, UTC).date().isoformat()
