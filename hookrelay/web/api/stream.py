"""`/v1/events/stream`: what happens, as server-sent events (WHATWG HTML §9.2).

Events are read from the store, behind whatever the watcher has seen last: so a stream that breaks goes on where it was.
"""

from collections.abc import AsyncIterator

import msgspec
import trio
from msgspec import Raw, Struct, structs

from hookrelay.feed import Watcher
from hookrelay.model import Refused
from hookrelay.rules.match import matches
from hookrelay.rules.pattern import RIGHT_PATTERN, is_pattern
from hookrelay.rules.wording import shown
from hookrelay.store import history
from hookrelay.web.api import deliveries, events
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, Stream
from hookrelay.web.shares import Shares

MOST = 128
"""Streams at once over TCP, and as many over the Unix socket: half of all connections stay for those who ask once."""
OF_TENANT = 64
OF_KEY = 16
"""Of these, by all keys of one tenant and by one key (THREATS §3)."""
PAGE = 200
REST_S = 0.1
"""Between two looks: what happens meanwhile is told together."""
ALIVE_S = 15.0
"""So often a stream says something, that both sides may know that the other is there."""


def shares() -> Shares:
    """Who has how many streams open: nobody yet."""
    return Shares("streams are open", most=MOST, of_tenant=OF_TENANT, of_key=OF_KEY)


class Wish(Struct, frozen=True):
    """What a watcher wants to hear of."""

    tenant: str | None
    types: tuple[str, ...]
    events: bool
    deliveries: bool


async def stream(call: Call) -> Answer:
    """GET: new events, and what becomes of deliveries, until the caller goes away"""
    query = call.query("types", "include", "webhook", "last_event_id")
    types = tuple(filter(None, (query.text("types") or "").split(",")))
    for type in types:
        if not is_pattern(type):
            query.wrong("types", f"{shown(type)} is no event type: write {RIGHT_PATTERN}")
    include = set((query.text("include") or "events").split(","))
    if not include <= {"events", "deliveries"}:
        query.wrong("include", "events, deliveries, or both with a comma between them")
    seq: int | None = None
    if (id := query.text("webhook")) is not None:
        webhook = call.parts.catalog().by_id.get(id)
        if webhook is None or not call.sees(webhook.tenant):
            query.wrong("webhook", "there is no webhook with this id")
        else:
            seq = webhook.seq
    store = call.parts.store
    last = store.last_event
    asked = call.request.header(b"last-event-id") or query.text("last_event_id")
    if asked is not None:
        key = store.ids.seq("evt", asked)
        if key is None:
            query.wrong("last_event_id", f"{shown(asked)} is no event of this store: leave it out to begin with now")
        else:
            last = key[0]
    query.done()
    try:
        call.parts.streams.check(call.caller)
    except Refused:
        call.parts.limit_met("streams")
        raise
    begin = b"retry: 1000\n"
    if asked is None:  # with a place to go on from, a stream that breaks before its first event misses nothing either
        begin += b"id: %b\n" % store.ids.make("evt", call.now_ms(), last).encode()
    wish = Wish(call.tenant(), types, "events" in include, "deliveries" in include)
    watcher = Watcher(seq, wants_deliveries=wish.deliveries)
    return Stream(
        call.request,
        _messages(call, wish, watcher, last, begin + b"\n"),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        lasting=call.parts.streams.held(call.caller),
    )


async def _messages(call: Call, wish: Wish, watcher: Watcher, last: int, begin: bytes) -> AsyncIterator[bytes]:
    feed, stopping = call.parts.feed, call.request.scope["state"]["stopping"]
    feed.watchers.add(watcher)
    try:
        yield begin
        while not stopping.is_set() and call.is_still_allowed():
            numbers = watcher.take(PAGE)
            text, last, is_behind = await _news(call, wish, numbers, last)
            if watcher.missed:
                text += b": %d deliveries were too many to be told\n\n" % watcher.missed
                watcher.missed = 0
            if text:
                yield text
            if not is_behind:
                bell = watcher.bell
                if not await _rings(bell, stopping):
                    yield b": still here\n\n"
            await _rings(stopping, stopping, REST_S)
    finally:
        feed.watchers.discard(watcher)


async def _news(call: Call, wish: Wish, numbers: list[int], last: int) -> tuple[bytes, int, bool]:
    """What there is to tell, up to which event it goes, and whether there is more at once."""
    store = call.parts.store
    text, found = b"", []
    if wish.events:
        found = await store.read(history.events_after, wish.tenant, last, PAGE)
        for row, data in found:
            last = row.seq
            if not wish.types or matches(wish.types, row.type):
                event = structs.replace(events.show(row, store.ids), data=Raw(data))
                text += _message("event", msgspec.json.encode(event), event.id)
    if numbers:
        for each in await store.read(history.recent, numbers):
            is_theirs = wish.tenant is None or each.tenant == wish.tenant
            if is_theirs and (not wish.types or matches(wish.types, each.event_type)):
                text += _message("delivery", msgspec.json.encode(deliveries.show(each, call)))
    return text, last, len(found) == PAGE or len(numbers) == PAGE


async def _rings(bell: trio.Event, stopping: trio.Event, within_s: float = ALIVE_S) -> bool:
    """Wait for either; whether one came in time."""
    with trio.move_on_after(within_s) as scope:
        async with trio.open_nursery() as nursery:
            for event in {bell, stopping}:
                nursery.start_soon(_end_with, event, nursery.cancel_scope)
    return not scope.cancelled_caught


async def _end_with(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _message(kind: str, data: bytes, id: str | None = None) -> bytes:
    """One message. A line's end within JSON is white space: each line gets a `data:` of its own."""
    lines = b"".join(b"data: %b\n" % line for line in data.splitlines())
    name = b"" if id is None else b"id: %b\n" % id.encode()
    return b"%bevent: %b\n%b\n" % (name, kind.encode(), lines)
