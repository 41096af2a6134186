"""One field of a webhook at a time: is the text well-formed, and what does it stand for?

The settings of `delivery.*` obey the same rules. URLs are `rules.egress_url`'s, whole webhooks `rules.webhook`'s.
"""

import base64
import re
from collections.abc import Collection

from hookrelay.rules.wording import shown
from hookrelay.units import parse_duration

DEFAULT_RETRY = ("5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h")
"""The waits of the default schedule (contract §3.2), after a first attempt at once."""

RETRY_EXAMPLE = '["5s", "5m", "2h"] or "exponential(1s, 2, 1h, 12)"'
MAX_WAITS = 50

_RATE = re.compile(r"[1-9][0-9]{0,5}/[smh](?: burst [1-9][0-9]{0,5})?")
_EXPONENTIAL = re.compile(
    r"exponential\( *([0-9.a-z]{2,20}) *, *([0-9]{1,3}(?:\.[0-9]{1,3})?) *, *([0-9.a-z]{2,20}) *, *([0-9]{1,3}) *\)"
)
_WEEK_S = 7 * 86400.0
_MAX_ATTEMPTS = 50


def decode_secret(text: str) -> bytes:
    """The key that a `whsec_…` secret stands for, its base64 padded or not: the reference libraries sign the same.

    The ValueError says what is right, and nothing of the secret.
    """
    right = 'write "whsec_" and the base64 of 24 to 64 random bytes, as `openssl rand -base64 32` prints it'
    head, encoded = text[:6], text[6:]
    if head != "whsec_":
        raise ValueError(f"does not start with whsec_: {right}")
    try:
        key = base64.b64decode(encoded if "=" in encoded else encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        # not chained: the cause may quote the secret
        raise ValueError(f"is not base64 after whsec_: {right}") from None
    whole = base64.b64encode(key).decode()
    if encoded not in (whole, whole.rstrip("=")):
        raise ValueError(f"is not base64 after whsec_: {right}")
    if not 24 <= len(key) <= 64:
        raise ValueError(f"holds {len(key)} bytes: {right}")
    return key


def check_rate(text: str) -> None:
    """`text` is a rate limit. ValueError says what is right."""
    if not _RATE.fullmatch(text):
        raise ValueError(
            f'{shown(text)} is not a rate: write a count and s, m or h, such as "10/s", "600/m" or "10/s burst 50"'
        )


def check_max_in_flight(count: int) -> None:
    """`count` attempts may run at once. ValueError says what is right."""
    if not 1 <= count <= 1000:
        raise ValueError(f"{shown(count)} is out of range: from 1 to 1000, such as 8")


def parse_timeout(text: str) -> float:
    """Seconds that one attempt may take. ValueError says what is right."""
    seconds = read_duration(text)
    if not 0.1 <= seconds <= 120:
        raise ValueError(f'{shown(text)} is out of range: from "100ms" to "120s", such as "30s"')
    return seconds


def parse_retry(retry: Collection[str] | str) -> tuple[float, ...]:
    """Seconds before each attempt, the first included: `["5s", "5m"]` → `(0, 5, 300)`, at once and two more.

    `"exponential(1s, 2, 1h, 12)"` is first wait, factor, longest wait, attempts. ValueError says what is right.
    """
    if isinstance(retry, str):
        return _exponential(retry)
    if len(retry) > MAX_WAITS:
        raise ValueError(f"has {len(retry)} waits: at most {MAX_WAITS}")
    return (0.0, *map(parse_wait, retry))


def read_duration(text: str) -> float:
    """`units.parse_duration`, with a ValueError that repeats at most a line of the text."""
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(
            f'{shown(text)} is not a duration: write a number and a unit, such as "500ms", "30s", "5m", "24h"'
        ) from None


def parse_wait(text: str) -> float:
    """Seconds between two attempts. ValueError says what is right."""
    seconds = read_duration(text)
    if seconds > _WEEK_S:
        raise ValueError(f'{shown(text)} is too long to wait between attempts: at most "7d"')
    return seconds


def _exponential(text: str) -> tuple[float, ...]:
    match = _EXPONENTIAL.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{shown(text)} is not a schedule: write {RETRY_EXAMPLE} (first wait, factor, longest wait, attempts)"
        )
    wait, factor, longest, attempts = parse_wait(match[1]), float(match[2]), parse_wait(match[3]), int(match[4])
    if not 1 <= attempts <= _MAX_ATTEMPTS:
        raise ValueError(f"{attempts} attempts is out of range: from 1 to {_MAX_ATTEMPTS}")
    if factor < 1:
        raise ValueError(f"a factor of {match[2]} is out of range: from 1 to 999, such as 2")
    if longest < wait:
        raise ValueError(f"the longest wait {match[3]} is shorter than the first, {match[1]}: exchange them")
    delays = [0.0]
    while len(delays) < attempts:
        delays.append(wait)
        wait = min(wait * factor, longest)
    return tuple(delays)
