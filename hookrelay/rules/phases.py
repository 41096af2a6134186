"""How an attempt's time was spent: the steps of opening a connection, and the wait for the answer."""

from collections.abc import Sequence

STEPS = ("look_up", "proxy", "connect", "tunnel", "tls", "answer")
"""In the order in which they may come; `answer` is from the first byte sent to the last of the answer's head."""


def written(marks: Sequence[tuple[str, float]], end_s: float) -> str | None:
    """What the history keeps of steps, each given with its beginning (seconds of any clock); None where none is.

    `written([("connect", 1.0), ("answer", 1.5)], 2.0)` → `"connect=500000 answer=500000"`: microseconds. A step that
    was made several times, as for a name's second address, stands there once, with all its time.
    """
    if not marks:
        return None  # on a connection that was there already, as nearly always: a microsecond of every delivery
    spent: dict[str, float] = {}
    ends = [*(start for _, start in marks[1:]), end_s]
    for (step, start), end in zip(marks, ends, strict=False):
        spent[step] = spent.get(step, 0.0) + end - start
    return " ".join(f"{step}={round(seconds * 1_000_000)}" for step, seconds in spent.items())


def read(text: str | None) -> list[tuple[str, int]]:
    """The steps of `written` and their microseconds; none where nothing was kept."""
    pairs = [each.partition("=") for each in (text or "").split()]
    return [(step, int(us)) for step, _, us in pairs if step in STEPS and us.isdigit()]
