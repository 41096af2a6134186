"""Two clocks that show unix time as the wall clock does, but do not follow every jump of it (THREATS §4).

Somebody may set the wall clock, by years and either way, while the daemon runs. The loop's own clock never jumps.
"""

from collections.abc import Callable

import trio

Wall = Callable[[], float]
"""Unix seconds; may jump."""


class NeverBack:
    """For what is due: the wall clock, but never set back. What is to be done in a minute is done in a minute."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._ahead_s = float("-inf")
        """By how much the wall clock has been ahead of the loop's at most."""

    def __call__(self) -> float:
        now_s = trio.current_time()
        self._ahead_s = max(self._ahead_s, self._wall() - now_s)
        return now_s + self._ahead_s


class NeverAhead:
    """For what expires: the wall clock, but no further on than time has passed since this was made."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._ahead_s = wall() - trio.current_time()

    def __call__(self) -> float:
        return min(self._wall(), trio.current_time() + self._ahead_s)
