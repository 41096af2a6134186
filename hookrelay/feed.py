"""Who watches: those are told at once that something has happened, and read from the store what it was.

So a watcher costs the way of events and deliveries next to nothing, and one that falls behind holds no memory.
"""

import trio

REMEMBERED = 5000
"""Deliveries that a watcher may be behind; of older ones it only hears that there were some."""


class Watcher:
    """One that watches. It waits for `bell`, takes what there is, and waits for the bell that is there then."""

    def __init__(self, webhook: int | None, *, wants_deliveries: bool) -> None:
        self.bell = trio.Event()
        self.webhook = webhook
        self.wants_deliveries = wants_deliveries
        self.missed = 0
        """Deliveries that were too many to be remembered, since they were last taken."""
        self._deliveries: dict[int, None] = {}

    def ring(self) -> None:
        """Something has happened."""
        self.bell.set()

    def note(self, delivery: int) -> None:
        """Something became of this delivery."""
        self._deliveries.pop(delivery, None)
        if len(self._deliveries) >= REMEMBERED:
            del self._deliveries[next(iter(self._deliveries))]
            self.missed += 1
        self._deliveries[delivery] = None
        self.bell.set()

    def take(self, most: int) -> list[int]:
        """Up to `most` deliveries that something became of, the longest ago first."""
        taken = list(self._deliveries)[:most]
        for delivery in taken:
            del self._deliveries[delivery]
        self.bell = trio.Event()
        if self._deliveries:
            self.bell.set()
        return taken


class Feed:
    """All watchers."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()

    def tell_event(self) -> None:
        """An event is on disk."""
        for watcher in self.watchers:
            watcher.ring()

    def tell_delivery(self, webhook: int, delivery: int) -> None:
        """What became of a delivery is on disk."""
        for watcher in self.watchers:
            if watcher.wants_deliveries and (watcher.webhook is None or watcher.webhook == webhook):
                watcher.note(delivery)
