"""The budget of connections: who may open one more, who waits for one, and which idle ones make room.

A worker of a lane is a connection, whether it is open just now or not. Beside the lanes there are a few visits.
"""

from collections import Counter
from itertools import islice
from typing import Protocol

import trio

from hookrelay.rules.share import may_open

RESTED_S = 5.0
"""A connection that has been idle for so long may be closed for a lane that wants one more."""
ASKED_AT_ONCE = 8
"""Lanes that are asked when one connection becomes free: there may be thousands, and it becomes free often."""


VISITS = 16
"""Attempts beside the lanes that may be under way at once, over all webhooks."""
VISITS_PER_TENANT = 4
"""Of these, for webhooks of one tenant (THREATS §3)."""


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
        self._proven: dict[Holder, None] = {}
        self._unproven: dict[Holder, None] = {}
        """Lanes that wait for their first one."""
        self._wanting: dict[Holder, int] = {}
        """Lanes that wait for one more, and how many they had."""

    def take(self, holder: Holder, own: int, is_proven: bool) -> bool:
        """Whether a lane that has `own` may have one more; where not, it is told when to ask again."""
        free = self.budget - self.used
        if not may_open(own, free + self.idle, self.budget, is_proven) or (free <= 0 and not self._make_room(own)):
            if own:
                self._wanting[holder] = own
            else:
                (self._proven if is_proven else self._unproven)[holder] = None
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
        if not self._offer_first() and self._wanting:
            self._offer_more()

    def rest(self, holder: Holder) -> None:
        """A worker has nothing to do."""
        self.idle += 1
        if holder not in self._resting:
            self._resting[holder] = trio.current_time()
        if self._proven or self._unproven:
            self._offer_first()

    def wake(self, holder: Holder, still_resting: int) -> None:
        """A worker has something to do again, or goes; its lane has `still_resting` others without work."""
        self.idle -= 1
        if not still_resting:
            self._resting.pop(holder, None)

    def forget(self, holder: Holder) -> None:
        """A lane has ended."""
        for waiting in (self._proven, self._unproven, self._wanting):
            waiting.pop(holder, None)

    def _offer_first(self) -> bool:
        """Offer what has become free to lanes that have none; whether one took it. Who refuses is asked last."""
        room = self.budget - self.used + self.idle
        for waiting in (self._proven, self._unproven):
            if waiting and may_open(0, room, self.budget, waiting is self._proven):
                for holder in list(islice(waiting, ASKED_AT_ONCE)):
                    del waiting[holder]
                    if holder.has_room():
                        return True
        return False

    def _offer_more(self) -> None:
        room = self.budget - self.used + self.idle
        for holder, own in list(islice(self._wanting.items(), ASKED_AT_ONCE)):
            if may_open(own, room, self.budget, is_proven=True):
                del self._wanting[holder]
                if holder.has_room():
                    return


class Visits:
    """Attempts beside the lanes: so many at once, and so many of one tenant, however silent its receivers are."""

    def __init__(self, most: int = VISITS, share: int = VISITS_PER_TENANT) -> None:
        self._most = most
        self._share = share
        self._by_tenant: Counter[str] = Counter()
        self._waiting: dict[trio.Event, str] = {}
        """Who waits, the longest first; set when one has its place."""

    @property
    def under_way(self) -> int:
        """How many there are."""
        return self._by_tenant.total()

    def why_none(self, tenant: str) -> str:
        """What keeps one of this tenant from beginning."""
        if self._by_tenant[tenant] >= self._share:
            return f"{self._share} tests of this tenant are under way, as many as may be"
        return f"{self._most} tests are under way, as many as may be"

    async def take(self, tenant: str) -> None:
        """Wait in turn for a place for one attempt of this tenant. Its holder gives it back by `release`."""
        if self._has_place(tenant):
            self._by_tenant[tenant] += 1
            return
        turn = trio.Event()
        self._waiting[turn] = tenant
        try:
            await turn.wait()
        except BaseException:
            if self._waiting.pop(turn, None) is None:
                self.release(tenant)  # the place came too late
            raise

    def release(self, tenant: str) -> None:
        """The attempt has ended: its place goes to whoever waits longest and has fewer than its share."""
        self._by_tenant[tenant] -= 1
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
        for turn, other in self._waiting.items():
            if self._has_place(other):
                del self._waiting[turn]
                self._by_tenant[other] += 1
                turn.set()
                return

    def _has_place(self, tenant: str) -> bool:
        return self.under_way < self._most and self._by_tenant[tenant] < self._share
