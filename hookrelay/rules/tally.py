"""What attempts came to and how long they took, as counters that can be added up over any time.

One counter stands for one outcome and one range of durations, so that an attempt adds 1 to one number.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping
from math import exp, log

from msgspec import Struct

OUTCOMES = ("succeeded", "answered_4xx", "answered_5xx", "timed_out", "not_reached", "ours")
"""`answered_4xx` is any answer but 2xx and 5xx; `ours` says nothing of the receiver, and is no attempt of it."""
OURS = OUTCOMES.index("ours")
BOUNDS_MS = (
    *(1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 70.0, 100.0, 150.0, 200.0, 300.0, 500.0, 700.0),
    *(1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 7000.0, 10_000.0, 15_000.0, 20_000.0, 30_000.0),
)
RANGES = 64
"""Counters of one outcome; there is room for ranges that later versions may add."""
_BOUNDS_S = tuple(ms / 1000 for ms in BOUNDS_MS)
_LEAST_MS, _MOST_MS = 0.5, 60_000.0
_BY_ERROR = {
    "timeout": "timed_out",
    "connect_timeout": "timed_out",
    "interrupted": "ours",
    "local_fault": "ours",
    "payload_damaged": "ours",
}


def outcome_of(error: str | None, response_code: int | None) -> int:
    """Which of `OUTCOMES` an attempt's error code and response code are."""
    if error is None:
        return 0
    if error == "http_status":
        return OUTCOMES.index("answered_5xx" if (response_code or 0) >= 500 else "answered_4xx")
    return OUTCOMES.index(_BY_ERROR.get(error, "not_reached"))


def counter(outcome: int, duration_s: float) -> int:
    """The counter of an attempt that came to this (an index of `OUTCOMES`) and took so long."""
    return outcome * RANGES + bisect_left(_BOUNDS_S, duration_s)


def scope_of_tenant(tenant: str) -> int:
    """A number below 0 that stands for a tenant, where webhooks have theirs above 0."""
    return -1 - int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=8).digest()) // 4


class Totals(Struct, frozen=True):
    """What some counters come to."""

    counts: tuple[int, ...]
    """Attempts by `OUTCOMES`."""
    durations: tuple[int, ...]
    """Attempts of the receiver by range of their duration: up to each of `BOUNDS_MS`, and above them all."""

    @property
    def attempts(self) -> int:
        """How many there were that say something of the receiver."""
        return sum(self.counts) - self.counts[OURS]

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None without attempts."""
        return self.counts[0] / self.attempts if self.attempts else None

    def percentile(self, share: float) -> float | None:
        """Milliseconds within which this share of the attempts ended, estimated within its range; None without any."""
        total = sum(self.durations)
        if not total:
            return None
        wanted, seen = share * total, 0
        for index, count in enumerate(self.durations):
            if count and seen + count >= wanted:
                low = BOUNDS_MS[index - 1] if index else _LEAST_MS
                high = BOUNDS_MS[index] if index < len(BOUNDS_MS) else _MOST_MS
                return exp(log(low) + (log(high) - log(low)) * max(wanted - seen, 0.0) / count)
            seen += count
        return _MOST_MS

    def __add__(self, other: "Totals") -> "Totals":
        """Those of both together."""
        return Totals(
            tuple([one + two for one, two in zip(self.counts, other.counts, strict=True)]),
            tuple([one + two for one, two in zip(self.durations, other.durations, strict=True)]),
        )


NOTHING = Totals((0,) * len(OUTCOMES), (0,) * (len(BOUNDS_MS) + 1))


def totals(counted: Mapping[int, int]) -> Totals:
    """What counters and their counts come to. Counters of later versions are passed over."""
    counts, durations = [0] * len(OUTCOMES), [0] * (len(BOUNDS_MS) + 1)
    for number, count in counted.items():
        outcome, index = divmod(number, RANGES)
        if outcome < len(counts) and index < len(durations):
            counts[outcome] += count
            if outcome != OURS:
                durations[index] += count
    return Totals(tuple(counts), tuple(durations))
