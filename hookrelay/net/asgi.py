"""One request and its answer as ASGI 3 sees them, over a client's socket.

The request's body is read when the application asks for it, and given to it as a whole; the answer is written as the
application gives it. Which connections there are, and when one must end, is `serve`'s matter.
"""

import math
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from email.utils import formatdate
from typing import Any

import trio

from hookrelay.net.http_request import NOSNIFF, REASONS, Request, path_of
from hookrelay.net.peer import Process

READ = 16384
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_PIECE = 65536

BODY_MOST = "body_most"
"""In a scope's `state`: bytes that the application takes of this request's body. To be set before it asks for it."""
OWNER = "owner"
"""There, too: whose request this is, among whom the room for bodies is shared. Each connection's own where not set."""
SKIPPED_MOST = 65536
"""Bytes of a body that nobody wanted which are read all the same, so that the connection can be kept."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
ReadBody = Callable[[Request, Mapping[str, Any]], Awaitable[bytes]]
"""Reads the body that follows a request's header, given its scope's `state`."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientGone(OSError):
    """The client has closed or reset its connection, or does not read what it asked for. Nobody's fault here."""


class Wire:
    """A client's non-blocking socket, owned: what came in and was not taken yet, and bounded writes."""

    __slots__ = ("_last_write", "_sock", "_stall", "_write_s", "buffer", "is_ended", "stalled_since")

    def __init__(self, sock: socket.socket, write_s: float) -> None:
        self._sock = sock
        self._write_s = write_s
        self._last_write = math.inf
        self._stall: trio.CancelScope | None = None
        self.buffer = bytearray()
        self.is_ended = False
        """The client will send no more; one that does not read either is found out by writing."""
        self.stalled_since: float | None = None
        """Since when a write has been waiting for the client to read."""

    async def fill(self) -> bool:
        """Wait for more and buffer it, 16 KiB at most; False where the client has ended."""
        while not self.is_ended:
            await trio.lowlevel.wait_readable(self._sock)
            if self.look():
                return True
        return False

    def look(self) -> bool:
        """Buffer what has come in by now, 16 KiB at most; whether there was anything. Does not wait."""
        try:
            data = self._sock.recv(READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.is_ended = True
        self.buffer += data
        return bool(data)

    def has_input(self) -> bool:
        """Whether there are bytes that nobody has taken yet."""
        try:
            return bool(self.buffer or self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    async def wait_readable(self) -> None:
        """Wait until `look` has something to see."""
        await trio.lowlevel.wait_readable(self._sock)

    async def write(self, data: bytes) -> None:
        """Hand all of `data` to the kernel, without a checkpoint where it takes it at once.

        Every 64 KiB must be taken within `write_s`, whatever shields the caller has around this: else ClientGone.
        """
        if self.stalled_since is not None:
            raise RuntimeError("two tasks may not send parts of one answer at once")
        rest = memoryview(data)[self._send(data) :]
        if not rest:
            return
        self.stalled_since = trio.current_time()
        try:
            while rest:
                end = max(len(rest) - _PIECE, 0)
                patience = min(trio.current_time() + self._write_s, self._last_write)
                with trio.CancelScope(deadline=patience) as self._stall:
                    while len(rest) > end:
                        await trio.lowlevel.wait_writable(self._sock)
                        rest = rest[self._send(rest[:_PIECE]) :]
                if len(rest) > end:
                    self.is_ended = True
                    raise ClientGone(f"the client took less than {_PIECE} bytes of its answer in {self._write_s:g} s")
        finally:
            self._stall = self.stalled_since = None

    def hurry(self, deadline: float) -> None:
        """Have no write wait for the client beyond `deadline`, not even one that is under way."""
        self._last_write = deadline
        if self._stall is not None:
            self._stall.deadline = min(self._stall.deadline, deadline)

    def offer(self, data: bytes) -> None:
        """Write what the kernel takes at once, and never mind the rest."""
        try:
            self._send(data)
        except ClientGone:
            return

    async def see_off(self) -> None:
        """End our side, and read until the client ends its own. The caller bounds it.

        Closing with unread bytes sends a reset, which can overtake the answer (RFC 9112 §9.6).
        """
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        while await self.fill():
            self.buffer.clear()

    def close(self) -> None:
        """Close the socket; whoever waits for it gets `trio.ClosedResourceError`."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.is_ended = True
            raise ClientGone(error.errno, "the client is gone") from None


class Exchange:
    """One request of an application: its scope, what it receives, what it sends."""

    __slots__ = (
        "_head",
        "_is_body_taken",
        "_is_chunked",
        "_keeps_alive",
        "_left",
        "_over",
        "_read_body",
        "_request",
        "_state",
        "_stopping",
        "_watch",
        "_wire",
        "is_begun",
        "is_complete",
    )

    def __init__(
        self, wire: Wire, request: Request, read_body: ReadBody, state: Mapping[str, Any], stopping: trio.Event
    ) -> None:
        self._wire = wire
        self._request = request
        self._read_body = read_body
        self._state = state
        self._stopping = stopping
        self._is_chunked = False
        self._left: int | None = None
        """Bytes of the answer's body still to come; None where its length is not known before its end."""
        self._keeps_alive = request.keeps_alive
        self._is_body_taken = False
        self._head: bytes | None = None
        """The answer's head while it waits for the body's first part, to leave together with it."""
        self._watch: trio.CancelScope | None = None
        self._over: trio.Event | None = None
        self.is_begun = False
        """Some of the answer may have left: no other can take its place."""
        self.is_complete = False

    def can_follow(self) -> bool:
        """Whether another request may come on the same connection."""
        return self.is_complete and self._keeps_alive

    @property
    def has_unread_body(self) -> bool:
        """Whether there is a body that the application did not ask for."""
        return not self._is_body_taken and self._request.has_body

    async def receive(self) -> Message:
        """ASGI's `receive`: the whole body, then nothing until the client is gone or has its answer.

        A client that has ended its own side counts as gone; only who asks is told. Raises Refusal where the body cannot
        be taken, which is to pass through the application: the server answers.
        """
        if not self._is_body_taken:
            self._is_body_taken = True
            body = await self._read_body(self._request, self._state) if self._request.has_body else b""
            return {"type": "http.request", "body": body, "more_body": False}
        wire = self._wire
        while not (self.is_complete or wire.is_ended):
            has_room = len(wire.buffer) < READ
            # first without a checkpoint: who asks within a cancelled scope, only to know, is told as well
            if has_room and self._watch is None and wire.look():
                continue
            if wire.is_ended:
                break
            if has_room and self._watch is None:
                await self._wait_readable()
            else:
                self._over = self._over or trio.Event()
                await self._over.wait()
        self._end_watching()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's `send`.

        Raises ClientGone where nobody takes it; RuntimeError where it makes no sense.
        """
        kind = message["type"]
        if kind == "http.response.start":
            await self._start(message["status"], message.get("headers", ()))
        elif kind == "http.response.body":
            await self._continue(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"an HTTP answer has no message of type {kind!r}")

    async def _start(self, status: int, given: Iterable[Iterable[bytes]]) -> None:
        if self.is_begun or self._head is not None:
            raise RuntimeError("an answer has one start")
        size: int | None = None
        text = b"HTTP/1.1 %d %b\r\n%b" % (status, REASONS.get(status, b""), NOSNIFF)
        has_date = False
        for name, value in given:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise RuntimeError(f"{bytes(name)!r} is no header, or its value none")
            text += b"%b: %b\r\n" % (name, value)
            lower = name.lower()
            if lower == b"content-length":
                size = int(value)
            has_date = has_date or lower == b"date"
        if not has_date:
            text += b"date: %b\r\n" % _now()
        has_body = status not in (204, 304) and self._request.method != b"HEAD"
        self._left = size if has_body else 0
        if size is None and status not in (204, 304):
            # of unknown length: in chunks, or until the connection's end
            self._is_chunked = self._request.version == b"1.1"
            if self._is_chunked:
                text += b"Transfer-Encoding: chunked\r\n"
        if self._stopping.is_set() or not self._keeps_alive or (self.has_unread_body and not self._can_skip_body()):
            self._keeps_alive = False
            text += b"connection: close\r\n"
        self._head = text + b"\r\n"
        # who waits for the first event of a stream wants to know that it has begun
        if self._is_chunked:
            await self._write(b"")

    def _can_skip_body(self) -> bool:
        """Whether what nobody has asked for may be read and dropped; else the connection ends with the answer."""
        request = self._request
        return not (request.is_chunked or request.waits_for_go) and request.size <= SKIPPED_MOST

    async def _continue(self, body: bytes | memoryview, more: bool) -> None:
        if (not self.is_begun and self._head is None) or self.is_complete:
            raise RuntimeError("a part of the body came before the answer's start, or after its end")
        data = b""
        if self._request.method == b"HEAD":
            body = b""
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the answer's body is not as long as its Content-Length says")
            data = bytes(body)
        elif self._is_chunked:
            data = b"%x\r\n%b\r\n" % (len(body), bytes(body)) if body else b""
            data += b"" if more else b"0\r\n\r\n"
        else:
            data = bytes(body)
        await self._write(data)
        if more:
            # a client that reads as fast as this is written must not keep all others waiting
            await trio.lowlevel.checkpoint()
        else:
            self.is_complete = True
            self._end_watching()

    async def _write(self, data: bytes) -> None:
        if self._head is not None:
            data, self._head = self._head + data, None
        self.is_begun = True
        if data:
            await self._wire.write(data)

    async def _wait_readable(self) -> None:
        with trio.CancelScope() as self._watch:
            try:
                await self._wire.wait_readable()
            finally:
                self._watch = None

    def _end_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._over is not None:
            self._over.set()


def scope_of(
    request: Request,
    server: tuple[str, int | None],
    client: tuple[str, int] | None,
    stopping: trio.Event,
    process: Process | None = None,
) -> dict[str, Any]:
    """ASGI's scope of a request.

    `state["stopping"]` is set when streams should end, `state["process"]` is who is at the other end of a Unix socket.
    """
    path, raw_path, query = path_of(request.target)
    return {
        "type": "http",
        # 2.3: an application that streams watches `receive` for the client's end, and so is told at once
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": request.version.decode("ascii"),
        "method": request.method.decode("ascii"),
        "scheme": "http",
        "path": path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": request.headers,
        "client": client,
        "server": server,
        "state": {"stopping": stopping, "process": process},
    }


_date: tuple[int, bytes] = (0, b"")


def _now() -> bytes:
    """The time as the `Date` header has it, made once a second."""
    global _date
    second = int(time.time())
    if _date[0] != second:
        _date = second, formatdate(second, usegmt=True).encode("ascii")
    return _date[1]
