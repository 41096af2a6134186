"""What is due for one webhook, as far as a lane has it in memory, and what is known of the rest in the store.

A shelf holds at most a few hundred deliveries: memory does not grow with the backlog.
"""

from collections import deque
from collections.abc import Iterable

from hookrelay.model import Delivery

PAGE = 256
"""Deliveries that one page of the store brings at most, and half of what a shelf holds."""
SHELF_BYTES = 2 << 20
"""Payload on a shelf at most, beyond its first delivery."""
ALL_BYTES = 64 << 20
"""The same over all shelves: beyond its part of it each holds no more than can be in flight."""


class Shelf:
    """First attempts and retries, each the longest due first, and when the next ones in the store are due."""

    def __init__(self) -> None:
        self.first: deque[Delivery] = deque()
        self.retries: deque[Delivery] = deque()
        self.bytes = 0
        """Payload of what is here."""
        self.taken: set[int] = set()
        """The store's keys of what is here, or was and has not been recorded yet."""
        self.next_first_ms: int | None = None
        self.next_retry_ms: int | None = None
        """Not later than the due time of any first attempt (retry) that is pending and not here; None: no such."""
        self.page = PAGE
        """How many deliveries are worth having in memory."""

    def __len__(self) -> int:
        return len(self.first) + len(self.retries)

    def put(self, delivery: Delivery) -> None:
        """A delivery from the store, or on its way past it. One that is taken already is not taken again."""
        if delivery.seq in self.taken:
            return
        (self.retries if delivery.strikes else self.first).append(delivery)
        self.bytes += len(delivery.event.data)
        self.taken.add(delivery.seq)

    def expect(self, due_ms: int, *, is_retry: bool) -> bool:
        """Something in the store is due then; whether that is sooner than all that was known."""
        if is_retry:
            if self.next_retry_ms is not None and self.next_retry_ms <= due_ms:
                return False
            self.next_retry_ms = due_ms
        else:
            if self.next_first_ms is not None and self.next_first_ms <= due_ms:
                return False
            self.next_first_ms = due_ms
        return True

    def next_due_ms(self) -> int | None:
        """When something in the store is due; None where nothing is."""
        return _least((self.next_first_ms, self.next_retry_ms))

    def oldest_due_ms(self) -> int | None:
        """When the most overdue of all was due, here or in the store."""
        here = (waiting[0].due_ms if waiting else None for waiting in (self.first, self.retries))
        return _least((*here, self.next_first_ms, self.next_retry_ms))

    def is_full(self, limit: int, shelves: int) -> bool:
        """Whether a fresh delivery had better wait in the store, with `limit` in flight and so many `shelves`."""
        return len(self.first) >= 2 * self.page or self._is_heavy(limit, shelves)

    def wants_page(self, now_ms: int, limit: int, shelves: int) -> bool:
        """Whether something is due in the store, and what is here will not last for as long as reading takes."""
        if self.wants_first(now_ms, limit, shelves):
            return True
        is_retry_due = self.next_retry_ms is not None and self.next_retry_ms <= now_ms
        return is_retry_due and len(self) < self.page and not self._is_heavy(limit, shelves)

    def wants_first(self, now_ms: int, limit: int, shelves: int) -> bool:
        """The same for first attempts alone. Where memory is full, what is here must go before any can come."""
        is_first_due = self.next_first_ms is not None and self.next_first_ms <= now_ms
        return is_first_due and len(self.first) < self.page and not self._is_heavy(limit, shelves)

    def give_back(self) -> None:
        """Leave to the store what is more than a page: a webhook that is slowed needs few."""
        for waiting in (self.first, self.retries):
            while len(waiting) > self.page:
                delivery = waiting.pop()
                self.bytes -= len(delivery.event.data)
                self.taken.discard(delivery.seq)
                self.expect(delivery.due_ms, is_retry=delivery.strikes > 0)

    def drop(self, seq: int) -> bool:
        """Take a delivery off; whether it was here."""
        for waiting in (self.first, self.retries):
            for delivery in waiting:
                if delivery.seq == seq:
                    waiting.remove(delivery)
                    self.bytes -= len(delivery.event.data)
                    self.taken.discard(seq)
                    return True
        return False

    def _is_heavy(self, limit: int, shelves: int) -> bool:
        if self.bytes <= SHELF_BYTES and self.bytes * shelves <= ALL_BYTES:
            return False
        return self.bytes > SHELF_BYTES or len(self) >= limit


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)
