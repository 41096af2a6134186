"""A small ASGI 3 host on h11: HTTP/1.1 for few clients, none of whom can hold the others or the daemon's end up.

Requests are read whole before the application sees them. What it may cost is told by `Limits`; what a head may look
like by `http_request`.
"""

import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

import h11
import trio
from msgspec import Struct

from hookrelay.net import http_request
from hookrelay.net.http_request import TITLES, BadRequest, Head
from hookrelay.net.listen import Listener

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

READ = 16384


class Limits(Struct, frozen=True):
    """What a client may cost. Times in seconds, sizes in bytes."""

    head: int = 16 * 1024
    fields: int = 100
    head_s: float = 10.0
    body: int = 4 << 20
    body_s: float = 30.0
    idle_s: float = 75.0
    write_s: float = 20.0
    """For one write that the client does not take."""
    grace_s: float = 1.5
    """For requests that are being answered when the server stops."""
    connections: int = 256
    ahead: int = 64 * 1024
    """Of further requests that are taken in while one is being answered."""


class _Gone(Exception):
    """The client has closed, or takes nothing."""


class _Server:
    """All connections over all listeners."""

    def __init__(
        self, app: App, limits: Limits, stopping: trio.Event, on_error: Callable[[BaseException], None]
    ) -> None:
        self.app = app
        self.limits = limits
        self.stopping = stopping
        self.on_error = on_error
        self.connections: dict[_Connection, None] = {}

    async def accept(self, listener: Listener, clients: trio.Nursery) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError:
                await trio.sleep(0.1)  # no descriptors just now: the client waits in the kernel's queue
                continue
            if len(self.connections) >= self.limits.connections and not self._evict():
                stream.socket.close()
                continue
            connection = _Connection(self, stream)
            self.connections[connection] = None
            clients.start_soon(connection.run)

    def _evict(self) -> bool:
        """Close the connection that has been without a whole request for longest; False where all are at work."""
        idle = [connection for connection in self.connections if not connection.is_busy]
        if idle:
            oldest = min(idle, key=lambda connection: connection.idle_since)
            oldest.scope.cancel()
            del self.connections[oldest]
        return bool(idle)


async def serve(
    app: App,
    listeners: Sequence[Listener],
    *,
    stopping: trio.Event,
    on_error: Callable[[BaseException], None],
    limits: Limits | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` on `listeners` until `stopping`; then close idle connections at once, give the others
    `limits.grace_s`, and return. Owns the listeners.

    What the application raises goes to `on_error` and is answered by a 500; it ends no other connection.
    """
    server = _Server(app, limits or Limits(), stopping, on_error)
    async with trio.open_nursery() as clients:
        try:
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(server.accept, listener, clients)
                task_status.started()
                await stopping.wait()
                accepting.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                for listener in listeners:
                    await listener.aclose()
        for connection in server.connections:
            if not connection.is_busy:
                connection.scope.cancel()
        clients.cancel_scope.deadline = trio.current_time() + server.limits.grace_s


class _Connection:
    """One client: request after request, each read whole, answered, and then forgotten."""

    def __init__(self, server: _Server, stream: trio.SocketStream) -> None:
        self._server = server
        self._limits = server.limits
        self._stream = stream
        self._buffer = bytearray()
        self._local, self._peer = _addresses(stream.socket)
        self.scope = trio.CancelScope()
        self.is_busy = False
        """Whether a request is being answered: then only the grace time ends it."""
        self.idle_since = trio.current_time()

    async def run(self) -> None:
        """Serve until the client or the server has had enough. Owns the stream."""
        try:
            with self.scope:
                while await self._serve_one():
                    self.is_busy = False
                    self.idle_since = trio.current_time()
                    if self._server.stopping.is_set():
                        break
        except _Gone:
            pass
        finally:
            self._server.connections.pop(self, None)
            self._stream.socket.close()

    async def _serve_one(self) -> bool:
        """Read and answer one request. Whether another may follow."""
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head + 1024)
        try:
            block = await self._read_head()
            if block is None:
                return False
            head = http_request.check(block, self._limits.fields)
            http.receive_data(block + b"\r\n\r\n")
            try:
                request = http.next_event()
                if not isinstance(request, h11.Request):
                    raise BadRequest(400, "invalid_request", "the request's head is not complete")
                body = await self._read_body(http, head)
            except h11.RemoteProtocolError as error:
                raise BadRequest(400, "invalid_request", str(error)) from error
        except BadRequest as bad:
            await self._refuse(bad)
            return False
        self.is_busy = True
        exchange = _Exchange(self, http, head, body)
        await exchange.run(self._server.app, self._scope(request, head))
        return exchange.may_continue

    # --- reading ------------------------------------------------------------------------------------------------

    async def _read_head(self) -> bytes | None:
        """The next request's head, without its blank line; None where the client has no more to say."""
        if not self._buffer:
            with trio.move_on_after(self._limits.idle_s) as scope:
                self._buffer += await self.receive()
            if scope.cancelled_caught or not self._buffer:
                return None
        with trio.move_on_after(self._limits.head_s):
            while True:
                if self._buffer.startswith(b"\r\n"):
                    del self._buffer[:2]  # RFC 9112 §2.2: an empty line before the request line is ignored
                end = self._buffer.find(b"\r\n\r\n")
                if 0 <= end <= self._limits.head:
                    block = bytes(self._buffer[:end])
                    del self._buffer[: end + 4]
                    return block
                if len(self._buffer) > self._limits.head:
                    kib = self._limits.head // 1024
                    raise BadRequest(431, "too_large", f"the request's head is over {kib} KiB, or has no end")
                data = await self.receive()
                if not data:
                    return None
                self._buffer += data
        raise BadRequest(408, "timeout", f"the request's head took over {self._limits.head_s:g} s")

    async def _read_body(self, http: h11.Connection, head: Head) -> bytes:
        limit = self._limits.body
        if head.length is not None and head.length > limit:
            raise BadRequest(413, "too_large", f"the body is over {limit // 1024} KiB")
        if head.wants_continue and head.length != 0 and not self._buffer:
            await self.write(http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        parts = bytearray()
        with trio.move_on_after(self._limits.body_s):
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    data = bytes(self._buffer) or await self.receive()
                    self._buffer.clear()
                    if not data:
                        raise _Gone
                    http.receive_data(data)
                elif isinstance(event, h11.Data):
                    parts += event.data
                    if len(parts) > limit:
                        raise BadRequest(413, "too_large", f"the body is over {limit // 1024} KiB")
                else:
                    self._buffer += http.trailing_data[0]
                    return bytes(parts)
        raise BadRequest(408, "timeout", f"the request's body took over {self._limits.body_s:g} s")

    async def watch(self) -> None:
        """Return when the client has closed; what it sends ahead meanwhile is kept for later."""
        while len(self._buffer) < self._limits.ahead:
            try:
                data = await self.receive()
            except _Gone:
                return
            if not data:
                return
            self._buffer += data
        await trio.sleep_forever()

    async def receive(self) -> bytes:
        """What the client sends; nothing at its end. Raises _Gone."""
        try:
            return bytes(await self._stream.receive_some(READ))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _Gone from error

    # --- writing ------------------------------------------------------------------------------------------------

    async def write(self, data: bytes) -> None:
        """Send it all, or raise _Gone: a client that takes nothing is given up after `write_s`."""
        try:
            with trio.fail_after(self._limits.write_s):
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise _Gone from error

    async def _refuse(self, bad: BadRequest) -> None:
        """Answer what is no request, and see that the answer arrives although the client may still be sending."""
        title = TITLES[bad.status]
        body = http_request.problem(bad.status, title, bad.code, bad.detail)
        await self.write(
            b"HTTP/1.1 %d %b\r\ndate: %b\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (bad.status, title.encode(), formatdate(time.time(), usegmt=True).encode(), len(body), body)
        )
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        with trio.move_on_after(1):
            for _ in range(64):
                if not await self.receive():
                    return

    def _scope(self, request: h11.Request, head: Head) -> Message:
        path, _, query = head.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode("ascii"),
            "method": head.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
            "client": self._peer,
            "server": self._local,
            "state": {"stopping": self._server.stopping},
        }

    def failed(self, error: BaseException) -> None:
        """The application has raised."""
        self._server.on_error(error)

    @property
    def is_stopping(self) -> bool:
        """Whether this is the last answer on this connection."""
        return self._server.stopping.is_set()


class _Exchange:
    """One request and its answer, as the application sees them."""

    def __init__(self, connection: _Connection, http: h11.Connection, head: Head, body: bytes) -> None:
        self._connection = connection
        self._http = http
        self._is_head = head.method == b"HEAD"
        self._body: bytes | None = body
        self._start: Message | None = None
        self._has_begun = False
        self._is_over = False

    @property
    def may_continue(self) -> bool:
        """Whether the answer went out whole and both sides want to go on."""
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def run(self, app: App, scope: Message) -> None:
        """Call the application. Raises _Gone where the client is."""
        try:
            await app(scope, self._receive, self._send)
            self._check_whole()
        except _Gone:
            raise
        except Exception as error:
            if isinstance(error, ExceptionGroup) and error.split(_Gone)[1] is None:
                raise _Gone from error
            self._connection.failed(error)
            if self._has_begun:
                raise _Gone from error
            body = http_request.problem(500, "A fault of ours", "internal_error", "the daemon's log tells more")
            await self._begin(500, [(b"content-type", b"application/problem+json")], body, more=False)

    def _check_whole(self) -> None:
        if not self._is_over:
            raise RuntimeError("the application ended without a whole answer")

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._connection.watch()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None or self._is_over:
            raise RuntimeError(f"{message['type']} is out of turn")
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._has_begun:
            await self._continue(body, more=more)
        else:
            headers = [(bytes(name), bytes(value)) for name, value in self._start.get("headers", [])]
            await self._begin(self._start["status"], headers, body, more=more)

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes, *, more: bool) -> None:
        self._has_begun = True
        names = {name.lower() for name, _ in headers}
        headers = [*headers, (b"date", formatdate(time.time(), usegmt=True).encode())]
        if not more and b"content-length" not in names and status >= 200 and status not in (204, 304):
            headers.append((b"content-length", str(len(body)).encode()))
        if self._connection.is_stopping:
            headers.append((b"connection", b"close"))
        data = self._http.send(h11.Response(status_code=status, headers=headers)) or b""
        await self._continue(body, more=more, before=data)

    async def _continue(self, body: bytes, *, more: bool, before: bytes = b"") -> None:
        data = before
        if body and not self._is_head:
            data += self._http.send(h11.Data(data=body)) or b""
        if not more:
            self._is_over = True
            data += self._http.send(h11.EndOfMessage()) or b""
        if data:
            await self._connection.write(data)


def _addresses(sock: trio.socket.SocketType) -> tuple[tuple[str, int | None], tuple[str, int] | None]:
    """ASGI's `server` and `client`."""
    if sock.family == socket.AF_UNIX:
        path = sock.getsockname()
        return (path if isinstance(path, str) else "", None), None
    try:
        local, peer = sock.getsockname(), sock.getpeername()
    except OSError:
        return ("", 0), None
    return (local[0], local[1]), (peer[0], peer[1])
