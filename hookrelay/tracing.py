"""Spans on their way to the operator's collector. Deliveries never wait for it: what it does not take is dropped."""

import gc
import gzip
import os
import random
from collections.abc import Callable
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING

import trio

from hookrelay import __version__
from hookrelay.config.otel import ENVIRONMENT
from hookrelay.config.settings import Config
from hookrelay.model import ConfigMistake
from hookrelay.net import trust
from hookrelay.rules.otlp import Answer, Verdict, judge, url
from hookrelay.rules.trace import Tracks
from hookrelay.telemetry.logs import Logger
from hookrelay.telemetry.metrics import Metrics
from hookrelay.telemetry.traces import Tracer

if TYPE_CHECKING:
    from hookrelay.net.otlp import Collector
    from hookrelay.telemetry.otlp import Encoder

BATCH = 512
"""Spans of one request."""
DELAY_S = 2.0
"""How long the first of them waits for others."""
SLICE = 8
"""Spans that are written in one turn of the loop, 0.4 ms: in a thread, each of the loop's system calls would have to
wait for the GIL as long."""
BUSY_S = 0.0005
"""A turn of the loop that takes longer has others to serve."""
REST = 6
"""So many times as long as a slice took it rests then: deliveries keep six sevenths of the loop."""
QUIET_S = 300.0
"""How long trouble that comes again is not told of again."""
SHOWN = 200
"""Characters of a collector's own words that are told."""


class Tracing:
    """The way of spans out of the daemon. `run` is its one task; `tracer` is what others make spans with."""

    def __init__(
        self,
        tracer: Tracer,
        encoder: "Encoder",
        collector: "Collector",
        refused: Callable[[bytes], tuple[int, str]],
        metrics: Metrics,
        log: Logger,
        wall: Callable[[], float],
        *,
        is_compressed: bool,
    ) -> None:
        self.tracer = tracer
        self._encoder = encoder
        self._collector = collector
        self._refused = refused
        self._counts = metrics.spans
        self._log = log
        self._wall = wall
        self._is_compressed = is_compressed
        self._zips = trio.CapacityLimiter(1)
        self._in_hand = 0
        self._hurries = trio.Event()
        self._has_ended = trio.Event()
        self._is_well = True
        self._is_told = False
        """Whether trouble was told of, and its end not yet."""
        self._quiet_until_s = -inf

    async def run(self) -> None:
        """Send spans until `finish` was called and none is left. Cancelled: what is left is lost."""
        try:
            while not (self._hurries.is_set() and not len(self.tracer)):
                await self._fill()
                body = await self._written()
                if self._in_hand:
                    await self._send(body)
                    self._in_hand = 0
        finally:
            self._has_ended.set()
            await self._collector.close()

    async def finish(self, within_s: float) -> None:
        """Have what is there sent, once, and return; what is not sent in time is dropped."""
        dropped = self._counts["dropped"]
        self._hurries.set()
        self.tracer.end()
        with trio.move_on_after(within_s):
            await self._has_ended.wait()
        self._counts["dropped"] += len(self.tracer) + self._in_hand
        lost = self._counts["dropped"] - dropped
        if lost:
            self._log.warning(
                "spans_lost", count=lost, detail="the collector did not take them before the daemon ended"
            )

    async def _fill(self) -> None:
        """Wait for a whole batch, or for what comes soon after its first span, or until all is to end."""
        await self.tracer.some(1)
        with trio.move_on_after(DELAY_S):
            await self.tracer.some(BATCH)

    async def _written(self) -> bytes:
        """The request of the next batch."""
        while self._in_hand < BATCH and (spans := self.tracer.take(SLICE)):
            self._in_hand += len(spans)
            begun_s = trio.current_time()
            self._encoder.add(spans)
            ended_s = trio.current_time()
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(rest_s(ended_s - begun_s, trio.current_time() - ended_s)):
                await self._hurries.wait()
        body = self._encoder.finish()
        if not self._is_compressed:
            return body
        return await trio.to_thread.run_sync(gzip.compress, body, 5, limiter=self._zips)

    async def _send(self, body: bytes) -> None:
        """Until they are taken, or are given up. Once all is to end they are sent once."""
        tries = 0
        while True:
            answer = await self._collector.post(body, "gzip" if self._is_compressed else None)
            tries += 1
            verdict = judge(answer, tries, self._wall(), random.random())  # noqa: S311 -- no secret: it spreads load
            if verdict.fate == "taken":
                self._taken(answer)
                return
            if verdict.fate == "dropped" or self._hurries.is_set():
                self._counts["dropped"] += self._in_hand
                self._tell(verdict)
                return
            self._tell(verdict)
            with trio.move_on_after(verdict.wait_s):
                await self._hurries.wait()

    def _taken(self, answer: Answer) -> None:
        rejected, why = self._refused(answer.body)
        self._counts["exported"] += max(0, self._in_hand - rejected)
        if rejected:
            self._counts["dropped"] += rejected
            self._tell(Verdict("dropped", why=f"the collector did not want {rejected} spans: {why[:SHOWN]}"))
            return
        self._is_well = True
        if self._is_told:
            self._is_told = False
            self._log.info("spans_sent_again", dropped=self._counts["dropped"])

    def _tell(self, verdict: Verdict) -> None:
        """Tell of trouble: once, and not of every batch; where it comes and goes, now and then."""
        if self._is_well and trio.current_time() >= self._quiet_until_s:
            self._is_told, self._quiet_until_s = True, trio.current_time() + QUIET_S
            self._log.warning(
                "spans_not_sent",
                key="telemetry.otlp_endpoint",
                detail=verdict.why,
                then="they wait, and the oldest are dropped where there are too many"
                if verdict.fate == "again"
                else "they are dropped; hookrelay_spans_total counts them",
            )
        self._is_well = False


def rest_s(slice_s: float, turn_s: float) -> float:
    """How long to leave the loop to others after a slice that took `slice_s` and a turn that took `turn_s`."""
    return slice_s * REST if turn_s > BUSY_S else 0.0


def mistakes(config: Config) -> list[ConfigMistake]:
    """What in the environment keeps spans from being sent; reads the files that it names."""
    if config.telemetry.otlp_endpoint is None:
        return []
    ca_file, found = config.telemetry.otel.ca_file, []
    wrong = None if ca_file is None else trust.check(str(ca_file), None)
    if wrong is not None:
        found.append(ConfigMistake(ENVIRONMENT, None, "OTEL_EXPORTER_OTLP_CERTIFICATE", wrong))
    try:
        import_module("hookrelay.telemetry.otlp")
    except ValueError as error:  # the libraries read variables of their own while they are imported
        found.append(ConfigMistake(ENVIRONMENT, None, "OTEL_...", str(error)))
    return found


def begin(config: Config, salt: bytes, metrics: Metrics, log: Logger, wall: Callable[[], float]) -> Tracing | None:
    """The way to `telemetry.otlp_endpoint`; None where there is none, and nothing is imported."""
    endpoint, otel = config.telemetry.otlp_endpoint, config.telemetry.otel
    if endpoint is None:
        return None
    from hookrelay.net.otlp import Collector  # both take 0.25 s to import: only where there is a collector
    from hookrelay.telemetry.otlp import Encoder, refused

    gc.freeze()  # what was imported stays: the collector of garbage need not look at it
    resource = {
        "service.name": otel.service_name,
        "service.version": __version__,
        "host.name": os.uname().nodename,
        **dict(otel.resource),
    }
    ca_file = config.egress.ca_file
    return Tracing(
        Tracer(Tracks(salt, otel.ratio), metrics.spans, wall),
        Encoder(resource),
        Collector(
            url(endpoint),
            [("user-agent", f"hookrelay/{__version__}"), *otel.headers],
            ca_file=None if ca_file is None else str(ca_file),
            own_ca_file=None if otel.ca_file is None else str(otel.ca_file),
        ),
        refused,
        metrics,
        log,
        wall,
        is_compressed=otel.is_compressed,
    )
