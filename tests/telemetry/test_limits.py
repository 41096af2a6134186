"""Bounds that were met: counted every time, logged once a minute."""

from collections import Counter
from typing import Any

import trio

from hookrelay.telemetry.limits import LimitsMet


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[str, int]] = []

    def warning(self, event: str, *, limit: str, times: int, detail: str) -> None:
        assert event == "limit_met"
        assert detail
        self.lines.append((limit, times))


async def test_each_limit_is_logged_once_a_minute_and_counted_every_time(autojump_clock: object) -> None:
    counts, log = Counter[str](), Log()
    logger: Any = log
    met = LimitsMet(counts, lambda: logger)
    for _ in range(5):
        met("http_calls")
    met("events_clients")
    assert log.lines == [("http_calls", 1), ("events_clients", 1)]
    await trio.sleep(61)
    met("http_calls")
    assert log.lines[2:] == [("http_calls", 5)]
    assert counts == {"http_calls": 6, "events_clients": 1}
