"""The HTTP server: a small ASGI 3 host that bounds what any client can cost (THREATS §3).

One task per connection. What makes a request is in `http_request`, what an application sees of it in `asgi`.
"""

import enum
import math
import socket
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import trio
from msgspec import Struct

from hookrelay.net.asgi import BODY_MOST, OWNER, App, ClientGone, Exchange, Wire, scope_of
from hookrelay.net.bodies import Bodies
from hookrelay.net.http_request import Refusal, Request, body_of, problem, read_head, take_head
from hookrelay.net.listen import Listener
from hookrelay.net.peer import process_at

_AT_ONCE = 16
"""Clients accepted before others get their turn."""
_RETRY_S = 0.1
_FRESH_S = 0.5
"""So long one that has just come, or has just been answered, is not the first to make room for another."""
TICK_S = 0.1
"""So much later than its time a client may find out that it is over."""


class Limits(Struct, frozen=True, kw_only=True):
    """What clients may cost."""

    connections: int = 256
    """Of each listener. A newcomer beyond that takes the place of who has been idle or dawdling there longest."""
    header_bytes: int = 16 * 1024
    header_fields: int = 100
    header_s: float = 10.0
    """From a request's first byte to the end of its header block; a connection's first byte must come in it, too."""
    body_bytes: int = 4 << 20
    body_s: float = 30.0
    all_bodies_bytes: int = 64 << 20
    """Bodies of all connections together that are over `small_body_bytes`, until they are answered."""
    small_body_bytes: int = 64 << 10
    """Bodies up to this always find room."""
    idle_s: float = 75.0
    """Between requests."""
    write_s: float = 30.0
    """How long a client may take to read 64 KiB of its answer."""
    linger_s: float = 1.0
    """How long a refused client may go on sending before its connection is cut."""
    grace_s: float = 1.5
    """How long requests may take to end after the stop."""


DEFAULTS = Limits()


async def serve(
    app: App,
    listeners: Sequence[Listener],
    *,
    stopping: trio.Event,
    limits: Limits = DEFAULTS,
    on_error: Callable[[BaseException], None],
    on_trouble: Callable[[], None] = lambda: None,
    on_limit: Callable[[str], None] = lambda limit: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `stopping` is set, then for `grace_s` more at most. Owns `listeners`.

    At the stop idle connections are closed, and every answer says `Connection: close`. What the application raises
    goes to `on_error`, `on_trouble` is told of the first of a row of failures to accept, and `on_limit` of a limit that
    a client has met (`http_connections`, `http_bodies`); the server goes on. Cancelled, it ends at once: nothing in it
    is shielded.
    """
    server = _Server(app, stopping, limits, on_error, on_trouble, on_limit)
    try:
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as doors:
                for listener in listeners:
                    doors.start_soon(server.accept_from, listener, clients)
                doors.start_soon(server.watch)
                task_status.started()
                await stopping.wait()
                doors.cancel_scope.cancel()
            for listener in listeners:
                listener.close()
            clients.cancel_scope.deadline = trio.current_time() + limits.grace_s
            server.drain(clients.cancel_scope.deadline)
    finally:
        for listener in listeners:
            listener.close()


class _Phase(enum.IntEnum):
    """What a connection is at. The lower, the less is lost where it must make room for another."""

    WAITING = 0
    """For a request, or, refused, for the client to hang up."""
    READING = 1
    STALLED = 2
    """The client does not read its answer."""
    WORKING = 3
    """Never cut to make room."""


class _Server:
    """What all connections share."""

    def __init__(
        self,
        app: App,
        stopping: trio.Event,
        limits: Limits,
        on_error: Callable[[BaseException], None],
        on_trouble: Callable[[], None],
        on_limit: Callable[[str], None],
    ) -> None:
        self.app = app
        self.stopping = stopping
        self.limits = limits
        self.on_error = on_error
        self.on_limit = on_limit
        self._on_trouble = on_trouble
        self.bodies = Bodies[_Connection](limits.all_bodies_bytes, limits.small_body_bytes)
        self._connections: set[_Connection] = set()
        self._has_come = trio.Event()

    async def accept_from(self, listener: Listener, clients: trio.Nursery) -> None:
        """Take clients in until cancelled. Where this host has no descriptor left, it goes on when it has."""
        is_in_trouble = False
        door = _Door(self)
        while True:
            await trio.lowlevel.wait_readable(listener.socket)
            for _ in range(_AT_ONCE):
                try:
                    sock, address = listener.take()
                except (BlockingIOError, ConnectionAbortedError):
                    break
                except (OSError, MemoryError):
                    if not is_in_trouble:
                        self._on_trouble()
                    is_in_trouble = True
                    self.evict(self._connections, _Phase.WAITING)
                    # the listener stays readable: without a pause this would spin
                    await trio.sleep(_RETRY_S)
                    break
                is_in_trouble = False
                try:
                    await door.make_room()
                except BaseException:
                    sock.close()
                    raise
                connection = _Connection(self, door, sock, *_ends(listener, sock, address))
                self._connections.add(connection)
                door.connections.add(connection)
                self._has_come.set()
                clients.start_soon(connection.run)

    async def watch(self) -> None:
        """End what takes too long, until cancelled: one look at all costs less than three deadlines a call."""
        while True:
            if not self._connections:
                self._has_come = trio.Event()
                await self._has_come.wait()  # ten looks a second at nobody would keep an idle machine awake
            await trio.sleep(TICK_S)
            now = trio.current_time()
            for connection in [each for each in self._connections if each.until_s <= now]:
                connection.run_out()

    def drain(self, deadline: float) -> None:
        """Close the connections that no request is on, nor just coming in; the others have until `deadline`."""
        for connection in self._connections:
            connection.drain(deadline)

    def forget(self, connection: "_Connection") -> None:
        """This connection is over, or its place is given to another."""
        self._connections.discard(connection)
        connection.door.connections.discard(connection)
        connection.door.has_room.set()

    def evict(self, connections: "set[_Connection]", up_to: _Phase) -> bool:
        """Cut the connection that can best be spared: the lowest phase, and of those the longest in it."""
        victim = min(connections, key=_Connection.standing, default=None)
        if victim is None or victim.standing()[0] > up_to:
            return False
        self.forget(victim)
        victim.cut()
        return True


class _Door:
    """One listener's connections: those of another leave its own their places (THREATS §3)."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self.connections: set[_Connection] = set()
        self.has_room = trio.Event()

    async def make_room(self) -> None:
        """Return when there is a place for a newcomer."""
        server = self._server
        if len(self.connections) < server.limits.connections:
            return
        server.on_limit("http_connections")
        while len(self.connections) >= server.limits.connections and not server.evict(self.connections, _Phase.STALLED):
            # all are at work: the newcomer waits, looked after again when one ends, or soon
            self.has_room = trio.Event()
            with trio.move_on_after(_RETRY_S):
                await self.has_room.wait()


def _ends(listener: Listener, sock: socket.socket, address: Any) -> tuple[tuple[str, int | None], Any]:
    """ASGI's `server` and `client`."""
    if listener.path is not None:
        return (str(listener.path), None), None
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = sock.getsockname()[:2]
    return (host, port), tuple(address[:2])


class _Connection:
    """One client: request after request."""

    def __init__(
        self,
        server: _Server,
        door: _Door,
        sock: socket.socket,
        local: tuple[str, int | None],
        peer: tuple[str, int] | None,
    ) -> None:
        self._server = server
        self.door = door
        self._wire = Wire(sock, server.limits.write_s)
        self._local = local
        self._peer = peer
        self._process = process_at(sock) if peer is None else None
        self._life = trio.CancelScope()
        self._patience = trio.CancelScope()
        self.until_s = math.inf
        """How long it may take over what it is at: for a request to come, for its header block, for its body."""
        self._phase = _Phase.WAITING
        self._since = trio.current_time()
        self._exchange: Exchange | None = None
        self._dismissal: Refusal | None = None
        self._is_head_request = False

    def standing(self) -> tuple[_Phase, float]:
        """What it is at, and since when."""
        if self._phase is _Phase.WORKING and self._wire.stalled_since is not None:
            return _Phase.STALLED, self._wire.stalled_since
        if self._phase is _Phase.WAITING and trio.current_time() - self._since < _FRESH_S:
            return _Phase.READING, self._since  # its request may have come and not been looked at
        return self._phase, self._since

    def drain(self, deadline: float) -> None:
        """End soon: at once where nothing of a request has come in."""
        # the caller cancels at the deadline; an application that shields its sending would not notice
        self._wire.hurry(deadline)
        if self._phase is _Phase.WAITING and not self._wire.has_input():
            self.cut()

    def run_out(self) -> None:
        """Its time is over."""
        self._patience.cancel()

    def dismiss(self, refusal: Refusal) -> None:
        """Have it answered so instead of reading on: its body has to make room for another."""
        self._server.bodies.release(self)
        self._dismissal = refusal
        self._patience.cancel()

    def cut(self) -> None:
        """End it at the next opportunity, without an answer."""
        self._life.cancel()

    async def run(self) -> None:
        """Serve the client until either side is done with the other."""
        try:
            with self._life:
                refusal = await self._answer_until_refused()
                if refusal is not None:
                    await self._refuse(refusal)
        finally:
            self._server.bodies.release(self)
            self._wire.close()
            self._server.forget(self)

    async def _answer_until_refused(self) -> Refusal | None:
        try:
            with self._patience:
                await self._answer_requests()
        except Refusal as refusal:
            return refusal
        except ClientGone:
            return None
        if not self._patience.cancelled_caught or (self._exchange is not None and self._exchange.is_begun):
            return None
        if self._dismissal is not None:
            return self._dismissal
        return _too_slow() if self._phase is _Phase.READING else None

    async def _answer_requests(self) -> None:
        wire, stopping = self._wire, self._server.stopping
        wait_s = self._server.limits.header_s
        while True:
            self._exchange = None
            self._enter(_Phase.WAITING, wait_s)
            head = await self._read_head()
            if head is None:
                return
            request = read_head(head)
            self._enter(_Phase.WORKING, math.inf)
            scope = scope_of(request, self._local, self._peer, stopping, self._process)
            exchange = self._exchange = Exchange(wire, request, self._read_body, scope["state"], stopping)
            has_gone_well = await self._call(exchange, scope)
            self._server.bodies.release(self)
            if stopping.is_set() or not (has_gone_well and exchange.can_follow()):
                if exchange.has_unread_body:
                    await self._see_off()
                return
            if exchange.has_unread_body and not await self._has_skipped_body(request):
                return
            wait_s = self._server.limits.idle_s
            if wire.buffer:
                await trio.lowlevel.checkpoint()  # many small requests sent at once may not keep others waiting

    async def _read_head(self) -> bytes | None:
        """A request's header block, or None where the client has no more requests."""
        wire, limits, seen = self._wire, self._server.limits, 0
        while True:
            if wire.buffer:
                self._is_head_request = wire.buffer.startswith(b"HEAD ")
                head = take_head(wire.buffer, limits.header_bytes, limits.header_fields, seen)
                if head is not None:
                    return head
                seen = len(wire.buffer)
                if wire.buffer and self._phase is _Phase.WAITING:
                    self._enter(_Phase.READING, limits.header_s)
            if not await wire.fill():
                if wire.buffer:
                    raise Refusal("bad_request", "the request ended before its header block was whole")
                return None
            if self._life.cancel_called:
                return None  # cut while this came in: not to be begun only to be cancelled

    async def _read_body(self, request: Request, state: Mapping[str, Any]) -> bytes:
        """The whole body: read only once the application asks for it, which has judged the header by then."""
        wire, limits = self._wire, self._server.limits
        body = body_of(request, min(state.get(BODY_MOST, limits.body_bytes), limits.body_bytes))
        if body is None:
            return b""
        if request.waits_for_go and not wire.buffer:
            await wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not body.feed(wire.buffer):
            self._enter(_Phase.READING, limits.body_s)
            owner, is_whole = state.get(OWNER, self), False
            while not is_whole:
                self._hold(owner, len(body.body))
                if not await wire.fill():
                    raise Refusal("bad_request", "the request ended before its body was whole")
                is_whole = body.feed(wire.buffer)
            self._hold(owner, len(body.body))
            self._server.bodies.settle(self)
            if self._patience.cancel_called:
                raise self._dismissal or _too_slow()
            self._enter(_Phase.WORKING, math.inf)
        return bytes(body.body)

    async def _has_skipped_body(self, request: Request) -> bool:
        """Drop a small body that nobody has asked for: the next request stands behind it."""
        try:
            await self._read_body(request, {})
        except Refusal:
            return False  # its answer has gone out before
        self._server.bodies.release(self)
        return True

    def _hold(self, owner: Hashable, size: int) -> None:
        """Account for so much of a body. Refusal where this one has to go; it may be another's instead."""
        while (victim := self._server.bodies.hold(self, owner, size)) is not None:
            self._server.on_limit("http_bodies")
            refusal = Refusal("unavailable", "too many large requests at once: try again in a moment")
            if victim is self:
                raise refusal
            victim.dismiss(refusal)

    async def _call(self, exchange: Exchange, scope: dict[str, Any]) -> bool:
        """Have the application answer. False where it failed; Refusal where it did before any of its answer left."""
        failure: BaseException | None = None
        refused: BaseExceptionGroup[Refusal] | None = None
        try:
            await self._server.app(scope, exchange.receive, exchange.send)
        except* Exception as errors:
            # a client that went away is no failure; a group may hold that and more (Starlette raises groups)
            _, ours = errors.split(ClientGone)
            if ours is not None:
                refused, ours = ours.split(Refusal)  # what its body was refused with, as the application asked for it
            if ours is not None:
                failure = ours.exceptions[0] if len(ours.exceptions) == 1 else ours
        if failure is None and refused is not None:
            if not exchange.is_begun:
                raise _first(refused)
            return False
        if failure is None and not exchange.is_complete and not self._wire.is_ended:
            failure = RuntimeError(
                f"{scope['method']} {scope['path']!r}: the application returned before its answer's end"
            )
        if failure is not None:
            self._server.on_error(failure)
            if not exchange.is_begun:
                raise Refusal("internal_error", "this is a fault of the server: its log says more")
        return failure is None

    async def _refuse(self, refusal: Refusal) -> None:
        self._wire.offer(problem(refusal.code, refusal.detail, with_body=not self._is_head_request))
        await self._see_off()

    async def _see_off(self) -> None:
        """Let a client that may still be sending have its answer, for a while."""
        self._phase, self._since, self.until_s = _Phase.WAITING, trio.current_time(), math.inf
        self._server.bodies.release(self)
        with trio.move_on_after(self._server.limits.linger_s):
            await self._wire.see_off()

    def _enter(self, phase: _Phase, time_s: float) -> None:
        now = trio.current_time()
        self._phase, self._since = phase, now
        self.until_s = now + time_s


def _first(group: BaseExceptionGroup[Refusal]) -> Refusal:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _too_slow() -> Refusal:
    return Refusal("request_timeout", "a request must come in whole and without dawdling")
