"""How many calls may be under way at once, so that there is always a connection left for health, metrics and others."""

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
        self._by_owner: dict[Hashable, int] = {}
        self._all = 0

    def begin(self, owner: Hashable) -> tuple[str, str] | None:
        """A call of this owner has begun; or why it cannot, as code and detail."""
        theirs = self._by_owner.get(owner, 0)
        if self._all >= self._most:
            return "unavailable", f"{self._most} calls are under way: try again when some have ended"
        if theirs >= self._share:
            return "rate_limited", f"{self._share} of your calls are under way: try again when some have ended"
        self._all += 1
        self._by_owner[owner] = theirs + 1
        return None

    def end(self, owner: Hashable) -> None:
        """A call has ended."""
        self._all -= 1
        theirs = self._by_owner.pop(owner) - 1
        if theirs:
            self._by_owner[owner] = theirs
