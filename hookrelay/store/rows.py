"""Many rows through few statements: a thread gives the GIL up at every statement and waits to get it back."""

from collections.abc import Iterator, Sequence
from typing import Any

import apsw

SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Rows a statement: few enough texts to stay in the statement cache, so that none is compiled twice."""


class ManyRows:
    """A statement over `VALUES (?,…),(?,…)…`, for any number of rows of one width.

    `text` holds `{values}` where the rows go. Rows are given flat: one list, `width` values a row.
    """

    def __init__(self, text: str, width: int) -> None:
        row = "(" + ",".join("?" * width) + ")"
        self._width = width
        self._texts = [(size, text.format(values=",".join([row] * size))) for size in SIZES]

    def run(self, conn: apsw.Connection, flat: Sequence[Any]) -> None:
        """Run over all rows; the statement's own results are not wanted."""
        for text, part in self._parts(flat):
            conn.execute(text, part)

    def fetch(self, conn: apsw.Connection, flat: Sequence[Any]) -> list[Any]:
        """Run over all rows and return what the statements return, part after part."""
        return [found for text, part in self._parts(flat) for found in conn.execute(text, part)]

    def _parts(self, flat: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
        at, end = 0, len(flat)
        for size, text in self._texts:
            step = size * self._width
            while end - at >= step:
                yield text, flat[at : at + step]
                at += step
