"""How much happens a second, of late: the counters of the metrics, looked at now and then."""

from collections import deque
from time import monotonic

import trio
from msgspec import Struct

from hookrelay.telemetry.metrics import Metrics

LOOK_S = 5.0
LOOKS = 13
"""The rates are those of the last minute."""


class Look(Struct):
    """The counters at a moment."""

    at_s: float
    events: int
    ended: int
    attempts: int


class Pulse:
    """What happened lately. `run` is its task."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=LOOKS)

    async def run(self, metrics: Metrics) -> None:
        """Look at the counters every few seconds. Never returns."""
        while True:
            self._looks.append(_look(metrics))
            await trio.sleep(LOOK_S)

    def rates(self, metrics: Metrics) -> tuple[float, float, float]:
        """Events, ended deliveries and attempts a second."""
        now = _look(metrics)
        first = self._looks[0] if self._looks else now
        seconds = max(now.at_s - first.at_s, 0.001)
        return (
            (now.events - first.events) / seconds,
            (now.ended - first.ended) / seconds,
            (now.attempts - first.attempts) / seconds,
        )


def _look(metrics: Metrics) -> Look:
    ended = metrics.deliveries["succeeded"] + metrics.deliveries["failed"]
    return Look(monotonic(), metrics.events["accepted"], ended, sum(metrics.attempts.values()))
