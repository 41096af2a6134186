"""The HTTP server: a small ASGI 3 host that bounds what any client can cost (THREATS §3).

One task per connection. What makes a request is in `http_request`, what an application sees of it in `asgi`.
"""

import enum
import math
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import trio
from msgspec import Struct

from hookrelay.net.asgi import App, ClientGone, Exchange, Wire, scope_of
from hookrelay.net.http_request import Refusal, Request, body_of, problem, read_head, take_head
from hookrelay.net.listen import Listener

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
    """A newcomer beyond that takes the place of who has been idle or dawdling longest."""
    header_bytes: int = 16 * 1024
    header_fields: int = 100
    header_s: float = 10.0
    """From a request's first byte to the end of its header block; a connection's first byte must come in it, too."""
    body_bytes: int = 4 << 20
    body_s: float = 30.0
    all_bodies_bytes: int = 64 << 20
    """Bodies of all connections together, from their first byte until they are answered."""
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
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `stopping` is set, then for `grace_s` more at most. Owns `listeners`.

    At the stop idle connections are closed, and every answer says `Connection: close`. What the application raises
    goes to `on_error`, and `on_trouble` is told of the first of a row of failures to accept; the server goes on.
    Cancelled, it ends at once: nothing in it is shielded.
    """
    server = _Server(app, stopping, limits, on_error, on_trouble)
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
    ) -> None:
        self.app = app
        self.stopping = stopping
        self.limits = limits
        self.on_error = on_error
        self._on_trouble = on_trouble
        self.body_bytes = 0
        self._connections: set[_Connection] = set()
        self._has_come = trio.Event()
        self._has_room = trio.Event()

    async def accept_from(self, listener: Listener, clients: trio.Nursery) -> None:
        """Take clients in until cancelled. Where this host has no descriptor left, it goes on when it has."""
        is_in_trouble = False
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
                    self._evict(_Phase.WAITING)
                    # the listener stays readable: without a pause this would spin
                    await trio.sleep(_RETRY_S)
                    break
                is_in_trouble = False
                try:
                    await self._make_room()
                except BaseException:
                    sock.close()
                    raise
                connection = _Connection(self, sock, *_ends(listener, sock, address))
                self._connections.add(connection)
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
        """This connection is over."""
        self._connections.discard(connection)
        self._has_room.set()

    async def _make_room(self) -> None:
        while len(self._connections) >= self.limits.connections and not self._evict(_Phase.STALLED):
            # all are at work: the newcomer waits, looked after again when one ends, or soon
            self._has_room = trio.Event()
            with trio.move_on_after(_RETRY_S):
                await self._has_room.wait()

    def _evict(self, up_to: _Phase) -> bool:
        """Cut the connection that can best be spared: the lowest phase, and of those the longest in it."""
        victim = min(self._connections, key=_Connection.standing, default=None)
        if victim is None or victim.standing()[0] > up_to:
            return False
        self._connections.discard(victim)
        victim.cut()
        return True


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
        self, server: _Server, sock: socket.socket, local: tuple[str, int | None], peer: tuple[str, int] | None
    ) -> None:
        self._server = server
        self._wire = Wire(sock, server.limits.write_s)
        self._local = local
        self._peer = peer
        self._life = trio.CancelScope()
        self._patience = trio.CancelScope()
        self.until_s = math.inf
        """How long it may take over what it is at: for a request to come, for its header block, for its body."""
        self._phase = _Phase.WAITING
        self._since = trio.current_time()
        self._body_bytes = 0
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
            self._charge(0)
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
        if self._patience.cancelled_caught and self._phase is _Phase.READING:
            return Refusal("request_timeout", "a request must come in whole and without dawdling")
        return None

    async def _answer_requests(self) -> None:
        wire, stopping = self._wire, self._server.stopping
        wait_s = self._server.limits.header_s
        while True:
            self._enter(_Phase.WAITING, wait_s)
            head = await self._read_head()
            if head is None:
                return
            request = read_head(head)
            body = await self._read_body(request) if request.size or request.is_chunked else b""
            self._enter(_Phase.WORKING, math.inf)
            exchange = Exchange(wire, request, body, stopping)
            has_gone_well = await self._call(exchange, scope_of(request, self._local, self._peer, stopping))
            self._charge(0)
            if stopping.is_set() or not (has_gone_well and exchange.can_follow()):
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

    async def _read_body(self, request: Request) -> bytes:
        wire, limits = self._wire, self._server.limits
        body = body_of(request, limits.body_bytes)
        if body is None:
            return b""
        if request.waits_for_go and not wire.buffer:
            await wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        is_whole = body.feed(wire.buffer)
        self._charge(len(body.body))
        if not is_whole:
            self._enter(_Phase.READING, limits.body_s)
        while not is_whole:
            if not await wire.fill():
                raise Refusal("bad_request", "the request ended before its body was whole")
            is_whole = body.feed(wire.buffer)
            self._charge(len(body.body))
        return bytes(body.body)

    async def _call(self, exchange: Exchange, scope: dict[str, Any]) -> bool:
        """Have the application answer. False where it failed; Refusal where it did before any of its answer left."""
        failure: BaseException | None = None
        try:
            await self._server.app(scope, exchange.receive, exchange.send)
        except* Exception as errors:
            # a client that went away is no failure; a group may hold that and more (Starlette raises groups)
            _, ours = errors.split(ClientGone)
            if ours is not None:
                failure = ours.exceptions[0] if len(ours.exceptions) == 1 else ours
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
        self._phase, self._since = _Phase.WAITING, trio.current_time()
        self._charge(0)
        self._wire.offer(problem(refusal.code, refusal.detail, with_body=not self._is_head_request))
        with trio.move_on_after(self._server.limits.linger_s):
            await self._wire.see_off()

    def _enter(self, phase: _Phase, time_s: float) -> None:
        now = trio.current_time()
        self._phase, self._since = phase, now
        self.until_s = now + time_s

    def _charge(self, size: int) -> None:
        """Account for a body of `size` bytes. Refusal where all bodies together are more than can be held."""
        server = self._server
        server.body_bytes += size - self._body_bytes
        self._body_bytes = size
        if size and server.body_bytes > server.limits.all_bodies_bytes:
            raise Refusal("unavailable", "too many large requests at once: try again in a moment")
