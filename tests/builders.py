"""The nouns with a default for every field, and the mock clock read as the wall's."""

from typing import Any

import trio

from hookrelay.model import AttemptError, Delivery, Event, Ids, Outcome, Webhook
from hookrelay.units import format_time

START_S = 1_800_000_000
START_MS = START_S * 1000
SECRET = b"0123456789abcdef0123456789abcdef"


def wall() -> float:
    """Unix seconds on the loop's own clock, which is a mock."""
    return START_S + trio.current_time()


def event(
    seq: int = 1,
    *,
    created_ms: int = START_MS,
    type: str = "booking.created",
    data: bytes = b'{"n":1}',
    ids: Ids | None = None,
    **fields: Any,
) -> Event:
    return Event(
        seq=seq,
        created_ms=created_ms,
        id=(ids or Ids(7)).make("evt", created_ms, seq),
        type=type,
        tenant=fields.pop("tenant", "default"),
        timestamp=fields.pop("timestamp", format_time(created_ms)),
        data=data,
        **fields,
    )


def delivery(seq: int = 1, *, event: Event, **fields: Any) -> Delivery:
    return Delivery(seq, event, due_ms=fields.pop("due_ms", event.created_ms), **fields)


def webhook(seq: int = 1, *, delays: tuple[float, ...] = (0.0, 5.0, 300.0), **fields: Any) -> Webhook:
    defaults: dict[str, Any] = {
        "id": f"wh_{seq:026d}",
        "url": f"https://r{seq}.example/hook",
        "events": ("*",),
        "retry": tuple(f"{delay:g}s" for delay in delays),
        "secrets": (SECRET,),
    }
    return Webhook(seq=seq, delays=delays, **(defaults | fields))


def outcome(error: AttemptError | None = None, **fields: Any) -> Outcome:
    """A success, or how an attempt failed."""
    defaults: dict[str, Any] = {"started_ms": START_MS, "duration_s": 0.25}
    if error in (None, "http_status"):
        defaults["response_code"] = 200 if error is None else 500
    return Outcome(error=error, **(defaults | fields))
