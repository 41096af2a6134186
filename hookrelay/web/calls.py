"""How many calls may be under way at once, so that there is always a connection left for health, metrics and others."""

from collections import Counter
from collections.abc import Hashable

MOST = 224
"""Of one kind of listener: fewer than a listener has connections (`net.serve.Limits`)."""
SHARE = MOST // 2
"""Of one tenant over TCP; of all who have not signed in together (THREATS §3)."""


class Calls:
    """The calls under way, by whose they are."""

    def __init__(self, most: int = MOST, share: int = SHARE) -> None:
        self._most = most
        self._share = share
        self._by_owner: Counter[Hashable] = Counter()
        self._all = 0

    def refusal(self, owner: Hashable) -> tuple[str, str] | None:
        """Why another call of this owner cannot begin, as code and detail; None where it can."""
        if self._all >= self._most:
            return "unavailable", f"{self._most} calls are under way: try again when some have ended"
        if self._by_owner[owner] >= self._share:
            return "rate_limited", f"{self._share} of your calls are under way: try again when some have ended"
        return None

    def begin(self, owner: Hashable) -> None:
        """A call has begun."""
        self._all += 1
        self._by_owner[owner] += 1

    def end(self, owner: Hashable) -> None:
        """A call has ended."""
        self._all -= 1
        if self._by_owner[owner] > 1:
            self._by_owner[owner] -= 1
        else:
            del self._by_owner[owner]
