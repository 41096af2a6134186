"""Pages that follow what happens: what has changed is made anew on the server and sent as server-sent events.

All live pages together take a small part of the loop, however many there are: when it is busy they are told less often.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from time import perf_counter
from typing import NamedTuple

import trio

from hookrelay.model import Refused
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, Stream
from hookrelay.web.shares import Shares

MOST = 100
"""Live pages at once; more stay as they are until they are loaded again."""
OF_TENANT = 50
OF_KEY = 16
"""Of these, of all who look at one tenant's, and of one key's holders or one link's (THREATS §3)."""
SHARE = 0.1
"""Of the time, that making pages may take: on a busy loop this is mostly waiting, and 3 % of its work."""
LEAST_S = 1.0
"""Between two looks at what a page shows: nobody reads faster."""
ALIVE_S = 15.0
"""So often a stream says something, that both sides may know that the other is there."""

Version = Callable[[], Hashable]
"""Something that differs once there is something new to show. Costs microseconds."""
Make = Callable[[], Awaitable[dict[str, str]]]
"""The page's parts by name, as HTML: each one element with an id."""


class Made(NamedTuple):
    """A page's parts as they were made, when, and of which version."""

    at_s: float
    version: Hashable
    parts: dict[str, str]


class Pacer:
    """Shares the time for live pages between them."""

    def __init__(self) -> None:
        self.shares = Shares("live pages are open", most=MOST, of_tenant=OF_TENANT, of_key=OF_KEY)
        self._turn = trio.Lock()
        self._free_s = 0.0
        self._kept: dict[Hashable, Made] = {}

    async def made(self, key: Hashable, version: Version, make: Make, *, fresh_s: float) -> Made:
        """What `make` gives, in its turn; or what it gave for a page with the same key within the last `fresh_s`."""
        async with self._turn:
            kept = self._kept.pop(key, None)
            if kept is None or trio.current_time() - kept.at_s >= fresh_s:
                await trio.sleep_until(self._free_s)
                started = perf_counter()
                kept = Made(trio.current_time(), version(), await make())
                self._free_s = trio.current_time() + (perf_counter() - started) * (1 / SHARE - 1)
            self._kept[key] = kept
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        return kept


def follow(call: Call, pacer: Pacer, version: Version, make: Make, *, least_s: float = LEAST_S) -> Answer:
    """An answer that sends whichever parts of a page have changed, until its reader goes away."""
    try:
        pacer.shares.check(call.caller)
    except Refused:
        call.parts.limit_met("live_pages")
        # 204 tells a browser not to ask again (WHATWG HTML §9.2)
        return Answer(status=204)
    return Stream(
        call.request,
        _messages(call, pacer, version, make, least_s),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        lasting=pacer.shares.held(call.caller),
    )


async def _messages(call: Call, pacer: Pacer, version: Version, make: Make, least_s: float) -> AsyncIterator[bytes]:
    scope = call.request.scope
    stopping = scope["state"]["stopping"]
    # readers with the same rights see the same of the same page
    key = (scope["path"], scope["query_string"], call.caller.tenant, call.caller.role)
    seen: Hashable = object()
    sent: dict[str, str] = {}
    quiet_s = 0.0
    yield b"retry: 2000\n\n"
    while not stopping.is_set() and call.is_still_allowed():
        if version() != seen:
            quiet_s = 0.0
            try:
                made = await pacer.made(key, version, make, fresh_s=least_s * 0.9)
            except Refused:
                return  # what it showed is gone
            seen = made.version
            news = {name: html for name, html in made.parts.items() if sent.get(name) != html}
            if news:
                sent |= news
                yield message("".join(news.values()))
        with trio.move_on_after(least_s):
            await stopping.wait()
        quiet_s += least_s
        if quiet_s >= ALIVE_S:
            quiet_s = 0.0
            yield b": still here\n\n"


def message(html: str) -> bytes:
    """One message with these elements."""
    lines = "".join(f"data: {line}\n" for line in html.split("\n"))
    return f"event: parts\n{lines}\n".encode("utf-8", "replace")
