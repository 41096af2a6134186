"""The receiver that `hookrelay demo` delivers to: verifies signatures, and is healthy, flaky or limited by path."""

import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from msgspec import Struct

from hookrelay.rules.sign import verify

Message = MutableMapping[str, Any]

FLAKY_FAILURES = 2
"""Attempts of each event that /flaky answers with 500 before it takes the event."""
LIMIT = 5
"""Requests a second that /limited takes; the others get 429."""


class Arrival(Struct, frozen=True):
    """One request that came in."""

    at: float
    path: str
    event_id: str
    event_type: str
    attempt: int
    is_verified: bool
    status: int


class Receiver:
    """An ASGI application that keeps count of what came."""

    def __init__(self, secret: bytes, tell: Callable[[Arrival], None]) -> None:
        self._secret = secret
        self._tell = tell
        self._failures: Counter[str] = Counter()
        self._taken_at: list[float] = []
        self.arrivals: list[Arrival] = []

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Judge one delivery and answer it."""
        body = (await receive())["body"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        arrival = self._judge(scope["path"], headers, body)
        self.arrivals.append(arrival)
        self._tell(arrival)
        await send({"type": "http.response.start", "status": arrival.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def succeeded(self, path: str) -> set[str]:
        """Ids of the events that `path` has taken."""
        return {arrival.event_id for arrival in self.arrivals if arrival.path == path and arrival.status < 300}

    def _judge(self, path: str, headers: dict[str, str], body: bytes) -> Arrival:
        event_id = headers.get("webhook-id", "")
        now = time.time()
        is_verified = verify(
            (self._secret,),
            event_id,
            int(headers.get("webhook-timestamp", "0")),
            body,
            headers.get("webhook-signature", ""),
            now_s=now,
        )
        status = self._status(path, event_id, now) if is_verified else 401
        event_type = json.loads(body).get("type", "?")
        attempt = int(headers.get("webhook-attempt", "0"))
        return Arrival(now, path, event_id, event_type, attempt, is_verified, status)

    def _status(self, path: str, event_id: str, now: float) -> int:
        if path == "/flaky":
            self._failures[event_id] += 1
            return 500 if self._failures[event_id] <= FLAKY_FAILURES else 200
        if path == "/limited":
            self._taken_at = [moment for moment in self._taken_at if now - moment < 1]
            if len(self._taken_at) >= LIMIT:
                return 429
            self._taken_at.append(now)
        return 200
