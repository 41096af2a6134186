"""A receiver whose mood is the URL's: `python -m benchmarks.moody PORT FILE [FOLDER]`, with FOLDER's certificate TLS.

`/ok/N` is answered 200 and noted, `/drip/N` gets its head byte by byte and never whole, `/hang/N` gets nothing until
SIGUSR1. Keeps the count of all requests in FILE; at SIGTERM writes `N webhook-id monotonic-seconds` lines there.
"""

import os
import resource
import select
import signal
import socket
import ssl
import sys
import time
from collections import deque
from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DRIP = b"HTTP/1.1 200 OK\r\nX-Drip: "
DRIP_S = 0.25
"""Between two bytes."""


class Receiver:
    """One epoll loop; no parsing beyond what it needs."""

    def __init__(self, port: int, path: str, tls: ssl.SSLContext | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._tls = tls
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._clients: dict[int, socket.socket] = {}
        self._rests: dict[int, bytes] = {}
        self._shaking: set[int] = set()
        self._hanging: list[socket.socket] = []
        self._drips: deque[tuple[float, socket.socket, int]] = deque()
        self._arrivals: list[tuple[bytes, bytes, float]] = []
        self._is_released = False
        self._path = path
        self._count = 0
        self._counter = os.open(path, os.O_WRONLY | os.O_CREAT)

    def run(self) -> None:
        """Receive until SIGTERM."""
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGUSR1, self._release)
        while True:
            for number, _ in self._epoll.poll(self._drip()):
                if number == self._listener.fileno():
                    self._accept()
                    continue
                try:
                    self._read(number)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                except OSError:
                    self._close(number)

    def _end(self, *_: object) -> None:
        with open(self._path, "wb") as out:
            out.writelines(b"%b %b %.6f\n" % arrival for arrival in self._arrivals)
        sys.exit()

    def _release(self, *_: object) -> None:
        self._is_released = True
        for client in self._hanging:
            if client.fileno() >= 0:
                client.send(ANSWER)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        if self._tls is not None:
            client = self._tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            self._shaking.add(client.fileno())
        self._clients[client.fileno()] = client
        self._rests[client.fileno()] = b""
        self._epoll.register(client, select.EPOLLIN)

    def _close(self, number: int) -> None:
        self._epoll.unregister(number)
        self._shaking.discard(number)
        self._clients.pop(number).close()

    def _read(self, number: int) -> None:
        client = self._clients[number]
        if number in self._shaking:
            assert isinstance(client, ssl.SSLSocket)
            client.do_handshake()
            self._shaking.discard(number)
        data = client.recv(65536)
        if not data:
            self._close(number)
            return
        data = self._rests[number] + data
        head_end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ")
        if head_end < 0 or len(data) < head_end + 4 + int(data[at + 16 : data.find(b"\r\n", at)]):
            self._rests[number] = data
            return
        self._rests[number] = b""
        self._take(client, data)

    def _take(self, client: socket.socket, request: bytes) -> None:
        now = time.monotonic()
        _, mood, number = request[: request.find(b" ", 5)].split(b"/")
        self._count += 1
        if mood == b"ok":
            at = request.find(b"webhook-id: ") + 12
            self._arrivals.append((number, request[at : at + 30], now))
            client.send(ANSWER)
        elif mood == b"drip":
            self._drips.append((now, client, 0))
        elif self._is_released:
            client.send(ANSWER)
        else:
            self._hanging.append(client)
        os.pwrite(self._counter, b"%d" % self._count, 0)

    def _drip(self) -> float | None:
        """Send the bytes that are due; how long until the next is."""
        drips, now = self._drips, time.monotonic()
        while drips and drips[0][0] <= now:
            _, client, sent = drips.popleft()
            if client.fileno() < 0:
                continue
            try:
                client.send(DRIP[sent : sent + 1] or b"x")
            except OSError:
                continue  # it has hung up, and the loop is told so
            drips.append((now + DRIP_S, client, sent + 1))
        return drips[0][0] - now if drips else None


def main(port: int, path: str, folder: str | None = None) -> None:
    """Receive until SIGTERM, with as many connections as this host allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tls = None
    if folder is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(Path(folder) / "server.pem", Path(folder) / "server.key")
    Receiver(port, path, tls).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
