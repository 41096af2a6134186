"""What does a lane do next, and what is it waiting for?"""

from typing import Literal

from msgspec import Struct

Why = Literal["empty", "in_flight", "not_due"]


class Start(Struct, frozen=True):
    """One more attempt may start now."""


class Wait(Struct, frozen=True):
    """Nothing may start yet. The API shows `why`."""

    until_ms: int | None
    """When to ask again though nothing happened; None where only an event or an attempt's end can change the answer.

    A moment that has passed: that delivery is due and only not in memory, so read it and ask again.
    """
    why: Why


START = Start()
EMPTY = Wait(None, "empty")
FULL = Wait(None, "in_flight")


def next_move(ready: int, in_flight: int, max_in_flight: int, next_due_ms: int | None, now_ms: int) -> Start | Wait:
    """What a lane does now, with `ready` due deliveries in memory and the earliest of all others due at `next_due_ms`.

    A limit can only say no: each stands between the question whether there is work and the answer START, and the first
    that says no is the `why`.
    """
    if not ready:
        if next_due_ms is None:
            return EMPTY
        if next_due_ms > now_ms:
            return Wait(next_due_ms, "not_due")
    if in_flight >= max_in_flight:
        return FULL
    if not ready:
        return Wait(next_due_ms, "not_due")
    return START
