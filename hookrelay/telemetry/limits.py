"""Which bounds have been met, that an operator may see who is kept out, and raise what is too narrow."""

from collections import Counter
from collections.abc import Callable

import trio

from hookrelay.telemetry.logs import Logger

QUIET_S = 60.0
"""Of each limit one line of the log in this time: whoever meets one may do so thousands of times a second."""


class LimitsMet:
    """Counts every time, for the metrics, and logs the first in a minute with how often it was since the last line."""

    def __init__(self, counts: Counter[str], log: Callable[[], Logger]) -> None:
        self._counts = counts
        self._log = log
        self._told: dict[str, tuple[float, int]] = {}

    def __call__(self, limit: str) -> None:
        """A limit was met."""
        self._counts[limit] += 1
        at_s, count = self._told.get(limit, (float("-inf"), self._counts[limit] - 1))
        now_s = trio.current_time()
        if now_s - at_s >= QUIET_S:
            self._told[limit] = now_s, self._counts[limit]
            self._log().warning(
                "limit_met", limit=limit, times=self._counts[limit] - count, detail=LIMITS.get(limit, "")
            )


LIMITS = {
    "http_connections": "a listener has as many connections as it may: the one that was idle or dawdling longest goes",
    "http_bodies": "large bodies hold as much memory as they may: the largest of who holds most is refused",
    "http_calls": "as many calls are under way as may be: more are refused, health and metrics are not",
    "test_attempts": "a tenant, or all of them, have as many tests under way as may be: more wait, and are refused",
    "replays": "a tenant, or all of them, have as many replays under way as may be: more are refused",
    "streams": "a key, a tenant, or all of them, have as many streams open as may be: more are refused",
    "live_pages": "as many pages follow what happens as may: more, of that key or tenant, stay as they were loaded",
    "sessions": "a key's sessions, or a tenant's links and theirs, are as many as may be: the longest unused goes",
    "webhooks_per_tenant": "a tenant has made as many webhooks of its own as limits.webhooks_per_tenant allows",
    "events_per_tenant": "a tenant submits faster than limits.events_per_tenant allows: what is too much is refused",
    "events_clients": "events.sock has as many clients as it may: the one that was idle longest goes",
}
"""What each of them means, for the log."""
