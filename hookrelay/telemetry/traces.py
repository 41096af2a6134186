"""Spans of what is done with events: made on the hot path, kept until somebody takes them, forgotten where nobody does.

Neither payload nor secret is in them, nor what may be one: of a receiver's URL only the part that names the server, for
the path of many a webhook is its password. How spans are written is `telemetry.otlp`'s.
"""

from collections import Counter, deque
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import trio
from msgspec import Struct

from hookrelay.model import Event, Outcome, Webhook
from hookrelay.rules import phases
from hookrelay.rules.egress import DEFAULT_PORTS, target
from hookrelay.rules.trace import Tracks

ROOM = 8192
"""Spans that wait to be sent: about 10 MiB. More of them push the oldest out."""

Value = str | int | float | bool


class Span(Struct, frozen=True, gc=False):
    """Something that took time, as it is told to a collector."""

    name: str
    kind: Literal["server", "client"]
    trace_id: str
    span_id: str
    parent_id: str | None
    is_parent_remote: bool
    """Whether the parent is the app's."""
    flags: int
    start_ms: int
    duration_s: float
    attributes: dict[str, Value]
    """By the names of OpenTelemetry's stable conventions, and ours: `hookrelay.…`."""
    error: str | None = None
    """Why it failed; empty where an attribute says all."""


class Tracer:
    """Makes spans and holds them until they are taken. Never waits."""

    def __init__(self, tracks: Tracks, counts: Counter[str], wall: Callable[[], float]) -> None:
        """`counts["dropped"]` grows with every span that is lost."""
        self._tracks = tracks
        self._counts = counts
        self._wall = wall
        self._spans: deque[Span] = deque()
        self._bell = trio.Event()
        self._wanted = 1
        self._is_ending = False

    def __len__(self) -> int:
        return len(self._spans)

    def header(self, event: Event, webhook: Webhook, number: int, started_ms: int) -> str | None:
        """The `traceparent` of attempt `number`, begun at `started_ms`; None where it has none."""
        return self._tracks.header(event.id, event.traceparent, webhook.id, number, started_ms)

    def accepted(
        self, event: Event, *, deliveries: int = 0, earlier: str | None = None, error: str | None = None
    ) -> None:
        """What was submitted is on disk, or was there `earlier` (an event's id), or cannot be: `error` is the code."""
        trace = self._tracks.trace(event.id, event.traceparent)
        if trace is None:
            return
        attributes: dict[str, Value] = {
            "hookrelay.event.type": event.type,
            "hookrelay.tenant": event.tenant,
        }
        if error is None:
            attributes["hookrelay.event.id"] = earlier or event.id
            attributes["hookrelay.deliveries"] = deliveries
        else:
            attributes["error.type"] = error
        if earlier is not None:
            attributes["hookrelay.duplicate"] = True
        self._keep(
            Span(
                f"accept {event.type}",
                "server",
                trace.id,
                self._tracks.acceptance(event.id),
                trace.parent,
                True,
                trace.flags,
                event.created_ms,
                int(self._wall() * 1000 - event.created_ms) / 1000,
                attributes,
                None if error is None else "",
            )
        )

    def attempted(
        self, event: Event, webhook: Webhook, delivery_id: str, number: int, outcome: Outcome, state: str
    ) -> None:
        """An attempt has come to `outcome`, and its delivery to `state`."""
        trace = self._tracks.trace(event.id, event.traceparent)
        if trace is None:
            return
        started_ms = outcome.started_ms
        self._keep(
            Span(
                f"deliver {event.type}",
                "client",
                trace.id,
                self._tracks.attempt(event.id, webhook.id, number, started_ms),
                # a test is not accepted: it is only sent
                trace.parent if event.test else self._tracks.acceptance(event.id),
                event.test,
                trace.flags,
                started_ms,
                outcome.duration_s,
                _attempt(event, webhook, delivery_id, number, outcome, state),
                _failure(outcome),
            )
        )

    async def some(self, count: int) -> None:
        """Wait until `count` spans are there to be taken, or `end` was called."""
        self._wanted = count
        while len(self._spans) < count and not self._is_ending:
            self._bell = trio.Event()
            await self._bell.wait()

    def end(self) -> None:
        """Nobody waits for more spans from now on."""
        self._is_ending = True
        self._bell.set()

    def take(self, most: int) -> list[Span]:
        """The oldest spans, which are no longer held."""
        spans = self._spans
        return [spans.popleft() for _ in range(min(most, len(spans)))]

    def _keep(self, span: Span) -> None:
        if len(self._spans) >= ROOM:
            self._spans.popleft()
            self._counts["dropped"] += 1
        self._spans.append(span)
        if len(self._spans) >= self._wanted:
            self._bell.set()


def _attempt(
    event: Event, webhook: Webhook, delivery_id: str, number: int, outcome: Outcome, state: str
) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        "http.request.method": "POST",
        **_server(webhook.url),
        "hookrelay.event.id": event.id,
        "hookrelay.event.type": event.type,
        "hookrelay.delivery.id": delivery_id,
        "hookrelay.delivery.status": state,
        "hookrelay.webhook.id": webhook.id,
        "hookrelay.tenant": webhook.tenant,
        "hookrelay.attempt": number,
        "hookrelay.outcome": outcome.error or "success",
    }
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    if event.test:
        attributes["hookrelay.test"] = True
    if outcome.response_code is not None:
        attributes["http.response.status_code"] = outcome.response_code
    if outcome.error is not None:
        attributes["error.type"] = str(outcome.response_code) if outcome.error == "http_status" else outcome.error
    if outcome.remote_address is not None:
        host, _, port = outcome.remote_address.rpartition(":")
        attributes["network.peer.address"] = host.strip("[]")
        attributes["network.peer.port"] = int(port)
    if outcome.phases is not None:
        for step, us in phases.read(outcome.phases):
            attributes[f"hookrelay.seconds.{step}"] = us / 1_000_000
    return attributes


@lru_cache(4096)
def _server(url: str) -> dict[str, Value]:
    where = target(url)
    host = f"[{where.host}]" if ":" in where.host else where.host
    port = "" if where.port == DEFAULT_PORTS[where.scheme] else f":{where.port}"
    return {
        "url.full": f"{where.scheme}://{host}{port}/{'' if where.path == '/' else '***'}",
        "url.scheme": where.scheme,
        "server.address": where.host,
        "server.port": where.port,
    }


def _failure(outcome: Outcome) -> str | None:
    if outcome.error is None:
        return None
    return "" if outcome.error == "http_status" else outcome.detail
