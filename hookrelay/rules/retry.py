"""What follows from an attempt's outcome for its delivery: done, once more and when, or failed for good."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from hookrelay.model import BLAMELESS, Outcome, Verdict

JITTER = 0.1
"""Each wait is up to this much shorter or longer, so that what failed together does not come back together."""

LOCAL_WAIT_MS = 1000
"""How long our own trouble gets to pass: this and up to as much again."""

LONGEST_HOLD_S = 86400.0
"""What a receiver can ask for at most."""

_RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*([!-~](?:[ -~]*[!-~])?)[ \t]*(?=\r\n|$)", re.IGNORECASE)
_SECONDS = re.compile(r"[0-9]{1,40}")


def judge(
    outcome: Outcome, strikes: int, delays: tuple[float, ...], now_ms: int, roll: float, held_until_ms: int = 0
) -> Verdict:
    """What becomes of a delivery whose receiver was to blame for `strikes` attempts before this one.

    `delays` are the seconds before each attempt, the first included. `roll` is uniform in [0, 1): the caller's luck.
    No further attempt is due before `held_until_ms`.
    """
    if outcome.error is None:
        return Verdict("succeeded", strikes)
    if outcome.error == "payload_damaged":
        return Verdict("failed", strikes)  # no later attempt would find it whole
    if outcome.error in BLAMELESS:
        wait_ms = 0 if outcome.error == "interrupted" else LOCAL_WAIT_MS * (1 + roll)
        return Verdict("pending", strikes, now_ms + round(wait_ms))
    strikes += 1
    if strikes >= len(delays):
        return Verdict("failed", strikes)
    due_ms = now_ms + round(delays[strikes] * 1000 * (1 + JITTER * (2 * roll - 1)))
    return Verdict("pending", strikes, max(due_ms, held_until_ms))


def longest_ms(delays: tuple[float, ...]) -> int:
    """The longest that a verdict on this schedule waits by itself.

    No stored due time lies further off, or than the end of its webhook's hold: else a clock has jumped.
    """
    waits_ms = (round(delay * 1000 * (1 + JITTER)) for delay in delays)
    return max((2 * LOCAL_WAIT_MS, *waits_ms))


def retry_after_s(head: bytes, now_s: float) -> float | None:
    """How long the receiver asks to be left alone, from now (unix seconds): RFC 9110 §10.2.3, at most 24 h.

    `head` is status line and fields as received. None where it does not ask, and for what is neither a number of
    seconds nor a date that lies ahead. Where it asks twice, the longer time counts.
    """
    asked = [_seconds(found.decode("ascii"), now_s) for found in _RETRY_AFTER.findall(head)]
    longest = max((seconds for seconds in asked if seconds is not None), default=0.0)
    return min(longest, LONGEST_HOLD_S) if longest > 0 else None


def _seconds(text: str, now_s: float) -> float | None:
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        date = parsedate_to_datetime(text)
        # of RFC 9110's three forms of a date, asctime's names no zone: all of them are in GMT
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now_s
    except (ValueError, OverflowError, TypeError):
        return None
