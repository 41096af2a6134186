"""The budget of connections: who may open one more, who waits for one, and which idle ones make room.

A worker of a lane is a connection, whether it is open just now or not.
"""

from typing import Protocol

from hookrelay.rules.share import may_open

ASKED_AT_ONCE = 32
"""Lanes that are asked when one connection becomes free: not all of them, there may be thousands."""


class Holder(Protocol):
    """A lane, as far as the budget knows it."""

    def has_room(self) -> bool:
        """A connection that was refused may be had now: whether it was taken."""

    def give_up_idle(self) -> None:
        """Let one worker go that has nothing to do."""


class Connections:
    """What all lanes have together. `budget` may be set anew at any time; what is open stays open."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.used = 0
        self.idle = 0
        """Of these, workers without anything to do."""
        self._resting: dict[Holder, None] = {}
        """Lanes with idle workers, the one first that has had them longest."""
        self._without: dict[Holder, None] = {}
        """Lanes that wait for their first one."""
        self._wanting: dict[Holder, None] = {}
        """Lanes that wait for one more."""

    def take(self, holder: Holder, own: int, is_proven: bool) -> bool:
        """Whether a lane that has `own` may have one more; where not, it is told when to ask again."""
        room = self.budget - self.used + self.idle
        if not may_open(own, room, self.budget, is_proven):
            (self._wanting if own else self._without)[holder] = None
            return False
        if self.used >= self.budget and self._resting:
            # the place of the one that goes is taken at once: for a moment there is one more than the budget
            next(iter(self._resting)).give_up_idle()
        self.used += 1
        return True

    def release(self) -> None:
        """One is closed."""
        self.used -= 1
        self._tell()

    def rest(self, holder: Holder) -> None:
        """A worker has nothing to do."""
        self.idle += 1
        self._resting[holder] = None
        self._tell()

    def wake(self, holder: Holder, still_resting: int) -> None:
        """A worker has something to do again, or goes; its lane has `still_resting` others without work."""
        self.idle -= 1
        if not still_resting:
            self._resting.pop(holder, None)

    def forget(self, holder: Holder) -> None:
        """A lane has ended."""
        self._without.pop(holder, None)
        self._wanting.pop(holder, None)

    def _tell(self) -> None:
        """Offer what has become free: first to those that have none. Who is refused again is asked last."""
        for waiting in (self._without, self._wanting):
            for _ in range(min(len(waiting), ASKED_AT_ONCE)):
                holder = next(iter(waiting))
                del waiting[holder]
                if holder.has_room():
                    return
