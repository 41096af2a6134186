"""A receiver that can do each thing that receivers do (THREATS §2), on a loopback socket, and a way to post to it."""

import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Literal

import trio

from hookrelay.model import Outcome
from hookrelay.net.dial import Address, Dialer, Origin
from hookrelay.net.post import Poster
from hookrelay.rules.egress import Vetted

BODY = b'{"id":"evt_1","data":{}}'
REQUEST = b"POST /hook HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DEADLINE_S = 0.4
GONE_WITHIN_S = 0.1
"""After its deadline the task of an attempt is gone so soon."""

After = Literal["keep", "close", "reset", "drip", "flood", "stall"]
"""What comes after the words: nothing, an end, a reset, a byte now and then, the words over and over; `stall` says
them at once and then not even reads."""

HALF_A_SERVER_HELLO = bytes.fromhex("16 0303 004a 02 000046 0303") + bytes(20)
TLS_1_1_SERVER_HELLO = bytes.fromhex("16 0302 002a 02 000026 0302") + bytes(32) + bytes.fromhex("00 002f 00")


class Faulty:
    """Says the given bytes to every request, then does `after`. With `context` it speaks TLS.

    `when` is the part of a request that it waits for before it speaks: all of it, its head, or nothing.
    """

    def __init__(
        self,
        says: bytes = OK,
        after: After = "keep",
        context: ssl.SSLContext | None = None,
        when: Literal["whole", "head", "connected"] = "whole",
    ) -> None:
        self.says = says
        self.after = after
        self.context = context
        self.when = when
        self.connections = 0
        self.requests = 0
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _serve(self, plain: trio.SocketStream) -> None:
        self.connections += 1
        stream = plain if self.context is None else trio.SSLStream(plain, self.context, server_side=True)
        try:
            if self.when == "connected":
                await self._speak(plain, stream)
            came = b""
            while data := await stream.receive_some(65536):
                came += data
                while (end := self._end(came)) is not None:
                    came = came[end:]
                    self.requests += 1
                    if not await self._speak(plain, stream):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def _end(self, came: bytes) -> int | None:
        """Where the part of a request ends that is waited for; None while it has not come."""
        at = came.find(b"\r\n\r\n")
        if at < 0 or self.when == "connected":
            return None
        if self.when == "head":
            return len(came)
        length = int(came[:at].rpartition(b"content-length: ")[2].split(b"\r\n")[0])
        return at + 4 + length if len(came) >= at + 4 + length else None

    async def _speak(self, plain: trio.SocketStream, stream: trio.abc.Stream) -> bool:
        """Whether the conversation goes on."""
        if self.says:
            await stream.send_all(self.says)
        if self.after == "stall":
            await trio.sleep_forever()
        if self.after == "reset":
            plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.after in ("reset", "close"):
            plain.socket.close()
            return False
        while self.after in ("drip", "flood"):
            await stream.send_all(b"x" if self.after == "drip" else self.says)
            await trio.sleep(0.02 if self.after == "drip" else 0)
        return True


def allow(origin: Origin, addresses: Sequence[Address]) -> Vetted:
    """Everything may be dialled, this host too."""
    return Vetted(None, frozenset(address.ip for address in addresses))


@asynccontextmanager
async def posting(
    receiver: Faulty, *, scheme: str = "http", dialer: Dialer | None = None, host: str = "localhost"
) -> AsyncIterator[Poster]:
    """A way to a receiver that is there for as long."""
    async with trio.open_nursery() as nursery:
        await nursery.start(receiver.run)
        poster = Poster(dialer or Dialer(vet=allow), Origin(scheme, host, receiver.port))
        yield poster
        poster.hang_up()
        nursery.cancel_scope.cancel()


async def attempt(poster: Poster, request: bytes = REQUEST, deadline_s: float = DEADLINE_S) -> Outcome:
    """One attempt, as a worker makes it. Its task is gone soon after the deadline, whatever the receiver does."""
    started = trio.current_time()
    with trio.CancelScope(deadline=started + deadline_s) as scope:
        outcome = await poster.post(request, 0, scope)
    took_s = trio.current_time() - started
    # this machine may have other things to do for a moment, but no read of seconds is waited for
    assert took_s < deadline_s + GONE_WITHIN_S + 0.4, took_s
    return poster.timed_out() if scope.cancelled_caught else outcome


async def post(
    receiver: Faulty, times: int = 1, *, scheme: str = "http", dialer: Dialer | None = None
) -> list[Outcome]:
    """The outcomes of so many attempts in a row."""
    async with posting(receiver, scheme=scheme, dialer=dialer) as poster:
        return [await attempt(poster) for _ in range(times)]


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
