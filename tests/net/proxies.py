"""Receivers and proxies on loopback, HTTP and SOCKS5, for tests: small, and honest or faulty as they are told."""

import base64
import socket
import ssl
import struct
from functools import partial

import trio
import trustme

PASSWORD = "s3cr@t"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
GATEWAY = b"HTTP/1.1 %b It says s3cr@t\r\nContent-Length: 0\r\n\r\n"
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Double:
    """Something that listens on loopback, and counts who comes."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def run(self, ip: str = "127.0.0.1", *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._count, 0, host=ip))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _count(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            try:
                await self.serve(stream)
            except* BROKEN:
                pass

    async def serve(self, stream: trio.SocketStream) -> None:
        await trio.sleep_forever()


class Receiver(Double):
    """Says the given bytes to every request, then does `after`: keep, close, reset or drip. Keeps what it was sent."""

    def __init__(self, says: bytes = OK, after: str = "keep", certificate: trustme.LeafCert | None = None) -> None:
        super().__init__()
        self.says = says
        self.after = after
        self.requests: list[bytes] = []
        self.asked_for: list[str | None] = []
        self.context = None
        if certificate is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            certificate.configure_cert(self.context)
            self.context.sni_callback = lambda sock, name, context: self.asked_for.append(name)

    async def serve(self, plain: trio.SocketStream) -> None:
        stream = plain if self.context is None else trio.SSLStream(plain, self.context, server_side=True)
        request = b""
        while data := await stream.receive_some(65536):
            request += data
            if not request.endswith(b"{}"):
                continue
            self.requests.append(request)
            request = b""
            await stream.send_all(self.says)
            if self.after == "reset":
                linger_not(plain)
            if self.after in ("reset", "close"):
                return
            while self.after == "drip":
                await stream.send_all(b"x")
                await trio.sleep(0.02)


class Proxy(Double):
    """With `says` it answers so and then closes, or with `is_mute` waits; else it connects to what it is asked for."""

    def __init__(self, says: bytes | None = None, *, is_mute: bool = False) -> None:
        super().__init__()
        self.says = says
        self.is_mute = is_mute
        self.asked: list[str] = []
        """Where it was asked to connect to."""

    async def serve(self, stream: trio.SocketStream) -> None:
        if self.says is None and not self.is_mute:
            await self.relay(stream)
            return
        await stream.receive_some()
        if self.says is not None:
            await stream.send_all(self.says)
        if self.is_mute:
            await trio.sleep_forever()

    async def relay(self, stream: trio.SocketStream) -> None:
        raise NotImplementedError


class HttpProxy(Proxy):
    scheme = "http"

    def __init__(self, says: bytes | None = None, *, is_mute: bool = False) -> None:
        super().__init__(says, is_mute=is_mute)
        self.heads: list[bytes] = []

    async def relay(self, stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        self.heads.append(head)
        wanted = b"Proxy-Authorization: Basic " + base64.b64encode(b"relay:" + PASSWORD.encode())
        if wanted.lower() not in head.lower():
            await stream.send_all(GATEWAY % b"407")
            return
        method, target, _ = head.split(b" ", 2)
        is_tunnel = method == b"CONNECT"
        place = target if is_tunnel else target.removeprefix(b"http://").partition(b"/")[0]
        ip, port = place.decode().rsplit(":", 1)
        self.asked.append(place.decode())
        async with await trio.open_tcp_stream(ip.strip("[]"), int(port)) as onward:
            await (stream.send_all(CONNECTED) if is_tunnel else onward.send_all(head))
            await both_ways(stream, onward)


REPLY = b"\x05%c\x00\x01\x00\x00\x00\x00\x00\x00"


class SocksProxy(Proxy):
    scheme = "socks5"

    def __init__(self, reply: int = 0, password: str | None = PASSWORD, **known) -> None:
        super().__init__(**known)
        self.reply = reply
        self.password = password

    async def relay(self, stream: trio.SocketStream) -> None:
        methods = await stream.receive_some()
        mine = 0 if self.password is None else 2
        await stream.send_all(bytes([5, mine if mine in methods[2:] else 255]))
        if self.password is not None:
            given = await stream.receive_some()
            is_right = given == b"\x01\x05relay%c%b" % (len(self.password), self.password.encode())
            await stream.send_all(bytes([1, 0 if is_right else 1]))
        asked = await stream.receive_some()
        if not asked:
            return
        kind, ip = (socket.AF_INET, asked[4:8]) if asked[3] == 1 else (socket.AF_INET6, asked[4:20])
        text, port = socket.inet_ntop(kind, ip), int.from_bytes(asked[-2:])
        self.asked.append(f"{text}:{port}")
        await stream.send_all(REPLY % self.reply)
        if not self.reply:
            async with await trio.open_tcp_stream(text, port) as onward:
                await both_ways(stream, onward)


async def both_ways(one: trio.SocketStream, other: trio.SocketStream) -> None:
    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(65536):
                await sink.send_all(data)
        except BROKEN:
            linger_not(sink)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


def linger_not(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
