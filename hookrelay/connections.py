"""The budget of connections: who may open one more, who waits for one, and which idle ones make room.

A worker of a lane is a connection, whether it is open just now or not.
"""

from typing import Protocol

import trio

from hookrelay.rules.share import may_open

RESTED_S = 5.0
"""A connection that has been idle for so long may be closed for a lane that wants one more."""
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
        self._resting: dict[Holder, float] = {}
        """Lanes with idle workers and since when, the one first that has had them longest."""
        self._without: dict[Holder, None] = {}
        """Lanes that wait for their first one."""
        self._wanting: dict[Holder, None] = {}
        """Lanes that wait for one more."""

    def take(self, holder: Holder, own: int, is_proven: bool) -> bool:
        """Whether a lane that has `own` may have one more; where not, it is told when to ask again."""
        free = self.budget - self.used
        if not may_open(own, free + self.idle, self.budget, is_proven) or (free <= 0 and not self._make_room(own)):
            (self._wanting if own else self._without)[holder] = None
            return False
        self.used += 1
        return True

    def _make_room(self, own: int) -> bool:
        """Let an idle connection go; its place is taken at once, so for a moment there is one more than the budget.

        For a first one that which began to rest last: where all have work in turn, the others will be needed sooner.
        For one more only what has rested for a while: else busy lanes would close each other's connections.
        """
        if not self._resting:
            return False
        if not own:
            next(reversed(self._resting)).give_up_idle()
            return True
        holder, since_s = next(iter(self._resting.items()))
        if trio.current_time() - since_s < RESTED_S:
            return False
        holder.give_up_idle()
        return True

    def release(self) -> None:
        """One is closed."""
        self.used -= 1
        self._tell()

    def rest(self, holder: Holder) -> None:
        """A worker has nothing to do."""
        self.idle += 1
        if holder not in self._resting:
            self._resting[holder] = trio.current_time()
        if self._without or self._wanting:
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
