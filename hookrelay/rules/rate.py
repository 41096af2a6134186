"""How soon may the next attempt start? The generic cell rate algorithm: a bucket that is one instant of state."""

import re

from msgspec import Struct

from hookrelay.rules.wording import shown

_RATE = re.compile(r"([1-9][0-9]{0,5})/([smh])(?: burst ([1-9][0-9]{0,5}))?")
_PERIOD_S = {"s": 1, "m": 60, "h": 3600}


class Rate(Struct, frozen=True):
    """A steady rate and how far ahead of it a burst may run.

    A bucket is the moment at which it will be full again, in seconds on a clock that never jumps. In any `t` seconds
    at most `burst + t / interval_s` attempts start.
    """

    interval_s: float
    """Between two attempts at the steady rate."""
    burst: int
    """Attempts that a full bucket lets start at once."""

    def opens_at(self, bucket_s: float) -> float:
        """From when on the next attempt may start; a moment that has passed: it may now."""
        return bucket_s - (self.burst - 1) * self.interval_s

    def spend(self, bucket_s: float, now_s: float) -> float:
        """The bucket after an attempt that starts now."""
        return max(bucket_s, now_s) + self.interval_s

    def spent(self, now_s: float) -> float:
        """A bucket that holds one attempt and no burst: what has started before is not known."""
        return now_s + (self.burst - 1) * self.interval_s


def parse_rate(text: str) -> Rate:
    """`"600/m"` → ten a second, ten of them at once: one second's worth, unless `burst N` says otherwise.

    ValueError says what is right.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f'{shown(text)} is not a rate: write a count and s, m or h, such as "10/s", "600/m" or "10/s burst 50"'
        )
    count, period_s = int(match[1]), _PERIOD_S[match[2]]
    burst = int(match[3]) if match[3] else max(1, count // period_s)
    return Rate(period_s / count, burst)
