"""A receiver that notes when each delivery arrived: `python -m benchmarks.receiver PORT FILE`.

One epoll loop, no parsing beyond what it needs; writes `webhook-id monotonic-seconds` lines at SIGTERM.
"""

import select
import signal
import socket
import sys
import time

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def main(port: int, path: str) -> None:
    """Answer 200 to everything until SIGTERM."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    epoll = select.epoll()
    epoll.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    rests: dict[int, bytes] = {}
    arrivals: list[tuple[bytes, float]] = []

    def end(*_: object) -> None:
        with open(path, "wb") as out:
            out.writelines(b"%b %.6f\n" % arrival for arrival in arrivals)
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    while True:
        for number, _ in epoll.poll():
            if number == listener.fileno():
                client, _ = listener.accept()
                clients[client.fileno()] = client
                rests[client.fileno()] = b""
                epoll.register(client, select.EPOLLIN)
                continue
            data = clients[number].recv(65536)
            if not data:
                epoll.unregister(number)
                clients.pop(number).close()
                continue
            data = rests[number] + data
            head_end = data.find(b"\r\n\r\n")
            at = data.find(b"content-length: ")
            if head_end < 0 or len(data) < head_end + 4 + int(data[at + 16 : data.find(b"\r\n", at)]):
                rests[number] = data
                continue
            rests[number] = b""
            at = data.find(b"webhook-id: ") + 12
            arrivals.append((data[at : at + 30], time.monotonic()))
            clients[number].send(ANSWER)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
