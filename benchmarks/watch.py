"""Live pages of the dashboard that somebody keeps open: `python -m benchmarks.watch PORT COOKIE PATH COUNT`.

Reads all that their streams tell, until it is ended by SIGTERM; prints how much that was.
"""

import selectors
import signal
import socket
import sys


def main() -> None:
    """Open the pages, say so, and read."""
    port, cookie, path, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    is_over = False

    def stop(*_: object) -> None:
        nonlocal is_over
        is_over = True

    signal.signal(signal.SIGTERM, stop)
    streams = selectors.DefaultSelector()
    for number in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        # each another one: the same page is made once for all that show it
        sock.sendall(f"GET {path}?reader={number} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        streams.register(sock, selectors.EVENT_READ)
    size = messages = ended = 0
    while not is_over:
        for key, _ in streams.select(0.1):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(1 << 18)
            size += len(data)
            messages += data.count(b"event: parts")
            if not data:
                streams.unregister(key.fileobj)
                ended += 1
    print(f"{messages} messages, {size / 1024:,.0f} KiB, {ended} ended")


main()
