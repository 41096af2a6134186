"""Pages by keyset: candidates in steps, until a page is full or enough was looked at."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, Generic, NamedTuple, TypeVar

LOOKED_THROUGH = 10_000
"""Candidates that one page looks at: about 20 ms."""
STEPS = (50, 250, 1000, 5000)
"""Candidates a step: few where all match, many where hardly any do."""

Row = TypeVar("Row")


class Page(NamedTuple, Generic[Row]):
    """Rows, newest first, and the number below which the next page begins; None where nothing is left."""

    rows: list[Row]
    next: int | None


class Step(NamedTuple, Generic[Row]):
    """A look at some candidates: how many there were, the least of them, and what matched, newest first."""

    looked: int
    least: int | None
    rows: list[Row]


Look = Callable[[int, int], Step[Row]]
"""Looks at up to so many candidates (the second) with numbers below another (the first)."""


def sizes(limit: int, *, is_picky: bool) -> Iterator[int]:
    """How many candidates each step takes: as many as are shown, where no filter leaves any out."""
    return chain(STEPS if is_picky else (limit, *STEPS[1:]), repeat(STEPS[-1]))


def fill(look: Look[Row], start: int, limit: int, steps: Iterator[int]) -> Page[Row]:
    """Step by step until the page is full, all was looked at, or enough for one page."""
    rows: list[Row] = []
    below, looked = start, 0
    for size in steps:
        step = look(below, size + 1)
        rows += step.rows
        looked += step.looked
        if len(rows) > limit:
            last: Any = rows[limit - 1]
            return Page(rows[:limit], last.seq)
        if step.looked <= size or step.least is None:
            break
        if looked >= LOOKED_THROUGH:
            return Page(rows, step.least)
        below = step.least
    return Page(rows, None)
