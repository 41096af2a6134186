"""How is this webhook doing? A value folded over the outcomes of its attempts: slowed, held until, disabled.

Moments are seconds on a clock that never jumps. What becomes of the single delivery is `rules.retry`'s question.
"""

from typing import Literal

from msgspec import Struct, structs

from hookrelay.model import BLAMELESS, Outcome

SLOWING_CODES = frozenset({429, 502, 503, 504})
SLOWING_ERRORS = frozenset({"timeout", "connect_timeout"})
"""What says that the receiver has too much to do, or nobody to do it (contract §3.1)."""

LONGEST_PAUSE_S = 60.0
"""Between two probes of a receiver that fails: so late its recovery may be noticed."""
FIRST_PAUSE_S = 5.0
"""Between probes where the schedule has no waits of its own."""
DISABLING_FAILURES = 10
"""Fewer attempts than these say too little about a webhook to disable it (contract §3.2)."""


class Health(Struct, frozen=True):
    """What the outcomes so far say."""

    limit: int | None = None
    """Attempts that may be in flight at once; None: as many as the webhook allows."""
    credit: int = 0
    """Successes since the limit last changed."""
    cut_s: float = float("-inf")
    """When the limit was last cut: what began before then says nothing new."""
    probes: int = 0
    """Failures in a row while one attempt at a time was let through."""
    paused_until_s: float = float("-inf")
    """When the next probe may start."""
    held_until_s: float = float("-inf")
    """Until when the receiver asked to be left alone (Retry-After)."""
    failures: int = 0
    """Failed attempts since the last success."""
    failing_since_s: float | None = None
    """When the first of them ended."""
    disabled: Literal["gone", "failing"] | None = None


HEALTHY = Health()


def after(
    health: Health,
    outcome: Outcome,
    *,
    begun_s: float,
    now_s: float,
    most: int,
    delays: tuple[float, ...],
    disable_after_s: float | None,
    retry_after_s: float | None = None,
    is_counted: bool = True,
) -> Health:
    """The health after an attempt that began at `begun_s` and ended just now.

    `most` is the webhook's `max_in_flight`, `delays` its schedule, `retry_after_s` what the receiver asked for.
    Not `is_counted` are tests and retries by hand: they never lead to disabling. What is as good as new is `HEALTHY`
    itself.
    """
    if outcome.error is None:
        return _recovering(health, most)
    if outcome.error in BLAMELESS:
        return health
    if is_counted:
        since_s = now_s if health.failing_since_s is None else health.failing_since_s
        health = structs.replace(health, failures=health.failures + 1, failing_since_s=since_s)
    if retry_after_s is not None:
        health = structs.replace(health, held_until_s=max(health.held_until_s, now_s + retry_after_s))
    is_slowing = outcome.response_code in SLOWING_CODES or outcome.error in SLOWING_ERRORS
    if begun_s >= health.cut_s and (is_slowing or health.limit == 1):
        health = _slowed(health, now_s, most, delays)
    if is_counted:
        health = structs.replace(health, disabled=_disabled(health, outcome, now_s, disable_after_s))
    return health


def _recovering(health: Health, most: int) -> Health:
    """One more at once for each round of successes: the way back is as gentle as the way down was quick."""
    limit, credit = health.limit, health.credit + 1
    if limit is not None and credit >= limit:
        limit, credit = limit + 1, 0
    if limit is None or limit >= most:
        return Health(held_until_s=health.held_until_s) if health.held_until_s != HEALTHY.held_until_s else HEALTHY
    return Health(limit, credit, health.cut_s, held_until_s=health.held_until_s)


def _slowed(health: Health, now_s: float, most: int, delays: tuple[float, ...]) -> Health:
    """Half as many at once; below that one at a time, with the schedule's own waits in between."""
    limit = max(1, (most if health.limit is None else health.limit) // 2)
    probes, paused_until_s = 0, health.paused_until_s
    if limit == 1:
        probes = health.probes + 1
        pause_s = delays[min(probes, len(delays) - 1)] if len(delays) > 1 else FIRST_PAUSE_S
        paused_until_s = now_s + min(pause_s, LONGEST_PAUSE_S)
    return structs.replace(health, limit=limit, credit=0, cut_s=now_s, probes=probes, paused_until_s=paused_until_s)


def _disabled(
    health: Health, outcome: Outcome, now_s: float, disable_after_s: float | None
) -> Literal["gone", "failing"] | None:
    if outcome.response_code == 410:
        return "gone"
    if disable_after_s is None or health.failing_since_s is None or health.failures < DISABLING_FAILURES:
        return health.disabled
    return "failing" if now_s - health.failing_since_s >= disable_after_s else health.disabled
