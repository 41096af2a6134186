"""Whose trace an event belongs to, and the ids of its spans (W3C Trace Context, levels 1 and 2).

Ids are made from what they stand for, keyed by the store's salt. So nothing of a trace has to be stored: an attempt of
tomorrow, after a restart, is in its event's trace, and the history knows what a receiver was sent.
"""

from hashlib import blake2b

from msgspec import Struct

SAMPLED = 1
RANDOM = 2
"""The flag of a trace id whose digits are as good as drawn by lot (level 2): samplers may go by them."""


class Trace(Struct, frozen=True):
    """The trace of an event of which spans are made."""

    id: str
    """32 hexadecimal digits."""
    parent: str | None
    """The app's own span, 16 digits; None where the trace begins with the event."""
    flags: int


class Tracks(Struct, frozen=True):
    """How traces are found and named: the same for the same event, today and after a restart."""

    salt: bytes
    """The store's own: nobody else can tell ids in advance."""
    ratio: float = 1.0
    """The share of events without a `traceparent` for which a trace is begun."""

    def is_recorded(self, event_id: str, traceparent: str | None) -> bool:
        """Whether spans are made of the event. `traceparent` is well-formed (`rules.payload`).

        The app's decision is obeyed: where its span is not recorded, ours are not.
        """
        if traceparent is not None:
            return bool(int(traceparent[53:], 16) & SAMPLED)
        return self.ratio >= 1 or (self.ratio > 0 and is_within(self._new(event_id), self.ratio))

    def trace(self, event_id: str, traceparent: str | None) -> Trace:
        """The trace of an event that is recorded."""
        if traceparent is None:
            return Trace(self._new(event_id), None, SAMPLED | RANDOM)
        return Trace(traceparent[3:35], traceparent[36:52], int(traceparent[53:], 16) & (SAMPLED | RANDOM))

    def acceptance(self, event_id: str) -> str:
        """The id of the span in which an event was accepted."""
        return self._id(f"accept {event_id}", 8)

    def attempt(self, event_id: str, webhook_id: str, number: int, started_ms: int) -> str:
        """The id of the span of an attempt: a number may come again, after a power cut, but at another moment."""
        return self._id(f"deliver {event_id} {webhook_id} {number} {started_ms}", 8)

    def header(
        self, event_id: str, traceparent: str | None, webhook_id: str, number: int, started_ms: int
    ) -> str | None:
        """What the receiver of an attempt is told: its span, or what the app said where that makes no spans."""
        if not self.is_recorded(event_id, traceparent):
            return traceparent
        trace = self.trace(event_id, traceparent)
        return f"00-{trace.id}-{self.attempt(event_id, webhook_id, number, started_ms)}-{trace.flags:02x}"

    def _new(self, event_id: str) -> str:
        return self._id(f"trace {event_id}", 16)

    def _id(self, what: str, size: int) -> str:
        return blake2b(what.encode(), digest_size=size, key=self.salt).hexdigest()


def is_within(trace_id: str, ratio: float) -> bool:
    """Whether a trace is of the share that is recorded: by its lower 64 bits, as OpenTelemetry's samplers go."""
    return int(trace_id[16:], 16) < round(ratio * (1 << 64))
