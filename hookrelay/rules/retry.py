"""What follows from an attempt's outcome for its delivery: done, once more and when, or failed for good."""

from hookrelay.model import BLAMELESS, Outcome, Verdict

JITTER = 0.1
"""Each wait is up to this much shorter or longer, so that what failed together does not come back together."""

LOCAL_WAIT_MS = 1000
"""How long our own trouble gets to pass: this and up to as much again."""


def judge(outcome: Outcome, strikes: int, delays: tuple[float, ...], now_ms: int, roll: float) -> Verdict:
    """What becomes of a delivery whose receiver was to blame for `strikes` attempts before this one.

    `delays` are the seconds before each attempt, the first included. `roll` is uniform in [0, 1): the caller's luck.
    """
    if outcome.error is None:
        return Verdict("succeeded", strikes)
    if outcome.error in BLAMELESS:
        wait_ms = 0 if outcome.error == "interrupted" else LOCAL_WAIT_MS * (1 + roll)
        return Verdict("pending", strikes, now_ms + round(wait_ms))
    strikes += 1
    if strikes >= len(delays):
        return Verdict("failed", strikes)
    return Verdict("pending", strikes, now_ms + round(delays[strikes] * 1000 * (1 + JITTER * (2 * roll - 1))))


def longest_ms(delays: tuple[float, ...]) -> int:
    """The longest that a verdict on this schedule waits: no stored due time lies further off, or the clock jumped."""
    return max((2 * LOCAL_WAIT_MS, *(round(delay * 1000 * (1 + JITTER)) for delay in delays)))
