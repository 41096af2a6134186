"""Spans of what is done with events: noted on the hot path, made when they are taken, forgotten where nobody does.

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
"""Spans that wait to be sent: about 3 MiB. More of them push the oldest out."""

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


class Accepted(Struct, frozen=True, gc=False):
    """A submission that was answered, as it is kept until its span is made. Holds no payload."""

    event_id: str
    traceparent: str | None
    event_type: str
    tenant: str
    start_ms: int
    duration_s: float
    deliveries: int
    earlier: str | None
    error: str | None

    def span(self, tracks: Tracks) -> Span:
        """What a collector is told of it."""
        trace = tracks.trace(self.event_id, self.traceparent)
        attributes: dict[str, Value] = {"hookrelay.event.type": self.event_type, "hookrelay.tenant": self.tenant}
        if self.error is None:
            attributes["hookrelay.event.id"] = self.earlier or self.event_id
            attributes["hookrelay.deliveries"] = self.deliveries
        else:
            attributes["error.type"] = self.error
        if self.earlier is not None:
            attributes["hookrelay.duplicate"] = True
        return Span(
            f"accept {self.event_type}",
            "server",
            trace.id,
            tracks.acceptance(self.event_id),
            trace.parent,
            True,
            trace.flags,
            self.start_ms,
            self.duration_s,
            attributes,
            None if self.error is None else "",
        )


class Attempted(Struct, frozen=True, gc=False):
    """An attempt that has ended, as it is kept until its span is made. Holds nothing of the answer but its status."""

    event_id: str
    traceparent: str | None
    event_type: str
    is_test: bool
    webhook: Webhook
    delivery_id: str
    number: int
    state: str
    start_ms: int
    duration_s: float
    error: str | None
    detail: str
    response_code: int | None
    remote_address: str | None
    phases: str | None

    def span(self, tracks: Tracks) -> Span:
        """What a collector is told of it."""
        trace = tracks.trace(self.event_id, self.traceparent)
        error = None
        if self.error is not None:
            error = "" if self.error == "http_status" else self.detail
        return Span(
            f"deliver {self.event_type}",
            "client",
            trace.id,
            tracks.attempt(self.event_id, self.webhook.id, self.number, self.start_ms),
            # a test is not accepted: it is only sent
            trace.parent if self.is_test else tracks.acceptance(self.event_id),
            self.is_test,
            trace.flags,
            self.start_ms,
            self.duration_s,
            self._attributes(),
            error,
        )

    def _attributes(self) -> dict[str, Value]:
        attributes: dict[str, Value] = {
            "http.request.method": "POST",
            **_server(self.webhook.url),
            "hookrelay.event.id": self.event_id,
            "hookrelay.event.type": self.event_type,
            "hookrelay.delivery.id": self.delivery_id,
            "hookrelay.delivery.status": self.state,
            "hookrelay.webhook.id": self.webhook.id,
            "hookrelay.tenant": self.webhook.tenant,
            "hookrelay.attempt": self.number,
            "hookrelay.outcome": self.error or "success",
        }
        if self.number > 1:
            attributes["http.request.resend_count"] = self.number - 1
        if self.is_test:
            attributes["hookrelay.test"] = True
        if self.response_code is not None:
            attributes["http.response.status_code"] = self.response_code
        if self.error is not None:
            attributes["error.type"] = str(self.response_code) if self.error == "http_status" else self.error
        if self.remote_address is not None:
            host, _, port = self.remote_address.rpartition(":")
            attributes["network.peer.address"] = host.strip("[]")
            attributes["network.peer.port"] = int(port)
        if self.phases is not None:
            for step, us in phases.read(self.phases):
                attributes[f"hookrelay.seconds.{step}"] = us / 1_000_000
        return attributes


class Tracer:
    """Notes what spans are made of, and holds it until they are taken. Never waits."""

    def __init__(self, tracks: Tracks, counts: Counter[str], wall: Callable[[], float]) -> None:
        """`counts["dropped"]` grows with every span that is lost."""
        self._tracks = tracks
        self._counts = counts
        self._wall = wall
        self._notes: deque[Accepted | Attempted] = deque()
        self._bell = trio.Event()
        self._wanted = 1
        self._is_ending = False

    def __len__(self) -> int:
        return len(self._notes)

    def header(self, event: Event, webhook: Webhook, number: int, started_ms: int) -> str | None:
        """The `traceparent` of attempt `number`, begun at `started_ms`; None where it has none."""
        return self._tracks.header(event.id, event.traceparent, webhook.id, number, started_ms)

    def accepted(
        self, event: Event, *, deliveries: int = 0, earlier: str | None = None, error: str | None = None
    ) -> None:
        """What was submitted is on disk, or was there `earlier` (an event's id), or cannot be: `error` is the code."""
        if self._tracks.is_recorded(event.id, event.traceparent):
            start_ms = event.created_ms
            duration_s = int(self._wall() * 1000 - start_ms) / 1000
            self._keep(
                Accepted(
                    event.id,
                    event.traceparent,
                    event.type,
                    event.tenant,
                    start_ms,
                    duration_s,
                    deliveries,
                    earlier,
                    error,
                )
            )

    def attempted(
        self, event: Event, webhook: Webhook, delivery_id: str, number: int, outcome: Outcome, state: str
    ) -> None:
        """An attempt has come to `outcome`, and its delivery to `state`."""
        if self._tracks.is_recorded(event.id, event.traceparent):
            self._keep(
                Attempted(
                    event.id,
                    event.traceparent,
                    event.type,
                    event.test,
                    webhook,
                    delivery_id,
                    number,
                    state,
                    outcome.started_ms,
                    outcome.duration_s,
                    outcome.error,
                    outcome.reason or outcome.detail,
                    outcome.response_code,
                    outcome.remote_address,
                    outcome.phases,
                )
            )

    async def some(self, count: int) -> None:
        """Wait until `count` spans are there to be taken, or `end` was called."""
        self._wanted = count
        while len(self._notes) < count and not self._is_ending:
            self._bell = trio.Event()
            await self._bell.wait()

    def end(self) -> None:
        """Nobody waits for more spans from now on."""
        self._is_ending = True
        self._bell.set()

    def take(self, most: int) -> list[Span]:
        """The oldest spans, which are no longer held. Takes 8 µs each."""
        notes = self._notes
        return [notes.popleft().span(self._tracks) for _ in range(min(most, len(notes)))]

    def _keep(self, note: Accepted | Attempted) -> None:
        if len(self._notes) >= ROOM:
            self._notes.popleft()
            self._counts["dropped"] += 1
        self._notes.append(note)
        if len(self._notes) >= self._wanted:
            self._bell.set()


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
