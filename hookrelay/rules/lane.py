"""What does a lane do next, and what is it waiting for?"""

from typing import Literal

from msgspec import Struct

from hookrelay.rules.health import Health
from hookrelay.rules.rate import Rate

Why = Literal["empty", "not_due", "in_flight", "held", "slowed", "rate_limit"]


class Start(Struct, frozen=True):
    """One more attempt may start now."""


class Wait(Struct, frozen=True):
    """Nothing may start yet. The API shows `why`."""

    why: Why
    until_ms: int | None = None
    """When to ask again though nothing happened, by the wall clock.

    A moment that has passed: that delivery is due and only not in memory, so read it and ask again.
    """
    until_s: float | None = None
    """The same, on the clock that never jumps. Neither: only an event or an attempt's end can change the answer."""


START = Start()
EMPTY = Wait("empty")
FULL = Wait("in_flight")


def gate(health: Health, rate: Rate | None, bucket_s: float, now_s: float) -> Wait | None:
    """What keeps any attempt from starting now, until it opens by itself; None where nothing does."""
    closed: Wait | None = None
    if health.paused_until_s > now_s:
        closed = Wait("slowed", until_s=health.paused_until_s)
    if health.held_until_s > max(now_s, health.paused_until_s):
        closed = Wait("held", until_s=health.held_until_s)
    if closed is None and rate is not None and (opens_s := rate.opens_at(bucket_s)) > now_s:
        closed = Wait("rate_limit", until_s=opens_s)
    return closed


def next_move(
    ready: int, in_flight: int, limit: int, next_due_ms: int | None, now_ms: int, closed: Wait | None = None
) -> Start | Wait:
    """What a lane does now, with `ready` due deliveries in memory and the earliest of all others due at `next_due_ms`.

    A limit can only say no: each stands between the question whether there is work and the answer START, and the first
    that says no is the `why`. `closed` is what `gate` said.
    """
    if not ready:
        if next_due_ms is None:
            return EMPTY
        if next_due_ms > now_ms:
            return Wait("not_due", until_ms=next_due_ms)
    if in_flight >= limit:
        return FULL
    if closed is not None:
        return closed
    if not ready:
        return Wait("not_due", until_ms=next_due_ms)
    return START
