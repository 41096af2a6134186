"""Room in memory for the bodies of all requests, and whose body goes where it runs short (THREATS §3).

No socket and no clock: `serve` reads the bodies, this decides.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


class Bodies(Generic[Who]):
    """How much of memory each request's body takes, from its first byte until its answer. `Who` has sent it.

    Bodies of at most `free` bytes always find room: there are only so many connections. The larger ones share `most`
    bytes, half of them for one owner at most.
    """

    def __init__(self, most: int, free: int) -> None:
        self._most = most
        self._free = free
        self._coming: dict[Who, tuple[Hashable, int]] = {}
        self._whole: dict[Who, tuple[Hashable, int]] = {}

    def hold(self, who: Who, owner: Hashable, size: int) -> Who | None:
        """The body has `size` bytes by now, more may come. None where there is room, else who must give theirs up.

        That is the one with the largest body of the owner who holds most. What is whole already is not taken back.
        """
        if size <= self._free:
            return None
        self._coming[who] = (owner, size)
        by_owner: dict[Hashable, int] = {}
        for each, part in (*self._coming.values(), *self._whole.values()):
            by_owner[each] = by_owner.get(each, 0) + part
        if by_owner[owner] > self._most // 2:
            most = owner
        elif sum(by_owner.values()) > self._most:
            most = max((each for each, _ in self._coming.values()), key=by_owner.__getitem__)
        else:
            return None
        return max(
            (each for each in self._coming if self._coming[each][0] == most), key=lambda each: self._coming[each][1]
        )

    def settle(self, who: Who) -> None:
        """The body is whole: it keeps its room until `release`."""
        if (held := self._coming.pop(who, None)) is not None:
            self._whole[who] = held

    def release(self, who: Who) -> None:
        """The body is not needed any more."""
        self._coming.pop(who, None)
        self._whole.pop(who, None)
