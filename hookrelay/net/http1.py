"""One HTTP/1.1 connection to one webhook: a request out, an answer in (RFC 9112), parsed by llhttp.

It owns its socket. It knows no deadline: the task that drives it has one cancel scope around all it does.
"""

import select
import socket
import ssl
from collections.abc import Callable
from typing import Any

import httptools
import trio

from hookrelay.net.failure import AttemptFailure, of_os_error, tls_detail

READ = 65536
HEAD_LIMIT = 65536
"""Bytes of status line and fields, 1xx answers included."""
BODY_LIMIT = 65536
BODY_KEPT = 4096
INTERIM_LIMIT = 16
_TOO_LONG = f"the answer's head is over {HEAD_LIMIT // 1024} KiB"


class Connection:
    """States: clean (may send) → waiting for a head → reading a body → clean again, or spent.

    Not to be used by two tasks at once. After any exception, Cancelled included, it is spent.
    """

    __slots__ = (
        "_begun",
        "_body",
        "_body_size",
        "_head_done",
        "_interim",
        "_keep_alive",
        "_message_done",
        "_parser",
        "_pending",
        "_poll",
        "_sock",
        "answered_bytes",
        "code",
        "is_spent",
        "remote",
    )

    def __init__(self, sock: socket.socket, remote: str) -> None:
        self._sock = sock
        # bytes that TLS has decrypted already make the socket no longer readable
        self._pending: Callable[[], int] | None = getattr(sock, "pending", None)
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLRDHUP)
        self._poll = poll.poll
        self._parser: Any = httptools.HttpResponseParser(self)
        self.remote = remote
        self.code = 0
        self.is_spent = False
        self.answered_bytes = 0

    # --- what the caller does -----------------------------------------------------------------------------------

    def is_clean(self) -> bool:
        """Whether nothing has come in unasked and the receiver has not closed: only then may it be used again."""
        if self.is_spent:
            return False
        # asking costs a third of a read that fails, and this stands before every request
        if not self._poll(0) and not (self._pending is not None and self._pending()):
            return True
        try:
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True  # TLS had something to say to itself
        except OSError:
            pass
        self.is_spent = True
        return False

    async def send(self, request: bytes) -> None:
        """Send the whole request. AttemptFailure where the receiver stops taking it."""
        self.is_spent = True
        self.answered_bytes = 0
        sock = self._sock
        view: bytes | memoryview = request
        while True:
            try:
                sent = sock.send(view)
            except (BlockingIOError, ssl.SSLWantWriteError):
                await trio.lowlevel.wait_writable(sock)
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(sock)
            except OSError as error:
                raise of_os_error(error, "sending the request") from error
            else:
                if sent == len(view):
                    return
                view = memoryview(view)[sent:]

    async def receive_head(self) -> bytes:
        """Wait for the final answer's head: its bytes without the blank line; `code` is its status.

        AttemptFailure where what comes is not an answer of HTTP/1.x (THREATS §2).
        """
        self._head_done = self._message_done = self._keep_alive = False
        self._begun = self._interim = self._body_size = 0
        self._body: list[bytes] = []
        # the usual case inline, without a coroutine more: nothing can have come yet, so wait first, then read
        await trio.lowlevel.wait_readable(self._sock)
        try:
            data = self._sock.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            data = await self._receive()
        except OSError as error:
            raise _broken(error) from error
        else:
            self.answered_bytes = len(data)
        if not data:
            raise AttemptFailure("reset", "the receiver closed the connection without an answer")
        self._feed(data)
        if not self._head_done:
            data = await self._rest_of_head(data)
        start = 0
        if self._interim > INTERIM_LIMIT:
            raise _too_many()
        for _ in range(self._interim):
            start = data.index(b"\r\n\r\n", start) + 4
        end = data.index(b"\r\n\r\n", start)
        if end > HEAD_LIMIT:
            raise AttemptFailure("protocol_error", _TOO_LONG)
        head = data[start:end].lstrip(b"\r\n")
        if not head.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
            raise AttemptFailure("protocol_error", f"the status line is not HTTP/1.1's: {_shown(head[:40])}")
        if not 100 <= self.code <= 599 or self.code == 101:
            raise AttemptFailure("protocol_error", f"{self.code} is no status that answers a POST")
        return head

    async def _rest_of_head(self, data: bytes) -> bytes:
        whole = bytearray(data)
        while not self._head_done:
            if self._interim > INTERIM_LIMIT:
                raise _too_many()
            if len(whole) > HEAD_LIMIT:
                raise AttemptFailure("protocol_error", _TOO_LONG)
            data = await self._receive()
            if not data:
                raise AttemptFailure("reset", "the receiver closed the connection in the middle of the answer's head")
            whole += data
            self._feed(data)
        return bytes(whole)

    @property
    def has_whole_answer(self) -> bool:
        """Whether no more of the body is to come."""
        return self._message_done

    async def receive_body(self) -> None:
        """Read what is left of the body, as far as it is worth it. Never fails: the answer counts already."""
        while not self._message_done and self._body_size < BODY_LIMIT:
            try:
                data = await self._receive()
                if not data:
                    return
                self._feed(data)
            except AttemptFailure:
                return

    def settle(self) -> bytes:
        """End this exchange: the body's first bytes. The connection is clean again only if all was in order."""
        self.is_spent = not (self._message_done and self._keep_alive and self._begun == self._interim + 1)
        if not self._body:
            return b""
        return b"".join(self._body)[:BODY_KEPT]

    def close(self) -> None:
        """Close without ceremony: a TLS goodbye could block, and the receiver has no use for it."""
        self.is_spent = True
        self._sock.close()

    # --- the wire -----------------------------------------------------------------------------------------------

    async def _receive(self) -> bytes:
        sock = self._sock
        # nothing can have come yet when the request has just gone out: wait first, then read
        wait = trio.lowlevel.wait_readable
        is_waiting = self._pending is None or not self._pending()
        while True:
            if is_waiting:
                await wait(sock)
            is_waiting = True
            try:
                data = sock.recv(READ)
            except (BlockingIOError, ssl.SSLWantReadError):
                wait = trio.lowlevel.wait_readable
            except ssl.SSLWantWriteError:
                wait = trio.lowlevel.wait_writable
            except OSError as error:
                raise _broken(error) from error
            else:
                self.answered_bytes += len(data)
                return data

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise AttemptFailure("protocol_error", "the receiver wants to switch protocols (101)") from None
        except httptools.HttpParserError as error:
            if self._head_done:  # the answer counts; the connection does not go on
                self._keep_alive = False
                return
            raise AttemptFailure("protocol_error", f"the answer is not HTTP/1.1: {error}") from None

    # --- what llhttp tells --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        code = self._parser.get_status_code()
        if 100 <= code < 200 and code != 101:
            self._interim += 1
            return
        self.code = code
        self._head_done = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        if self._body_size < BODY_KEPT:
            self._body.append(data)
        self._body_size += len(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._message_done = True


def _too_many() -> AttemptFailure:
    return AttemptFailure("timeout", f"more than {INTERIM_LIMIT} interim (1xx) answers before a final one")


def _broken(error: OSError) -> AttemptFailure:
    if isinstance(error, ssl.SSLError):
        if "ALERT" in (error.reason or ""):  # TLS 1.3 refuses a client's certificate after the handshake
            return AttemptFailure("tls_error", tls_detail(error))
        return AttemptFailure("reset", f"the TLS connection broke: {error.reason or error}")
    return of_os_error(error, "waiting for the answer")


def _shown(data: bytes) -> str:
    return ascii(data.decode("latin-1"))
