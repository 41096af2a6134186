"""Calls of the API at a steady rate, reads and writes mixed: `python -m benchmarks.call SOCKET RATE SECONDS`.

A process of its own on plain sockets, so that little of what it costs is its own. Prints what it did as JSON.
"""

import json
import signal
import socket
import sys
import threading
import time

CONNECTIONS = 32
BODY = {"url": "https://example.com/hooks", "events": ["nothing.like_it"], "tenant": "bench"}


class _Connection:
    """One kept connection; a request at a time."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(path)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n"
        self._sock.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + content)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._sock.recv(65536)
        head_bytes, _, rest = answer.partition(b"\r\n\r\n")
        length = 0
        for line in head_bytes.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        while len(rest) < length:
            rest += self._sock.recv(65536)
        return int(head_bytes[9:12]), rest


class _Tally:
    """What all callers have seen."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.refused = 0
        self.is_over = False


def main() -> None:
    """Call until the time is over, or for ever where it is 0 and somebody ends the process."""
    path, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    tally = _Tally()

    def stop(*_: object) -> None:
        tally.is_over = True

    signal.signal(signal.SIGTERM, stop)
    started = time.monotonic()
    callers = [
        threading.Thread(target=_keep_calling, args=(path, rate / CONNECTIONS, started + number / rate, tally))
        for number in range(CONNECTIONS)
    ]
    for caller in callers:
        caller.start()
    while not tally.is_over and (not seconds or time.monotonic() - started < seconds):
        time.sleep(0.05)
    tally.is_over = True
    for caller in callers:
        caller.join()
    times = sorted(tally.times)
    ms = {f"p{share}_ms": round(times[len(times) * share // 100] * 1000, 2) for share in (50, 99)}
    made = {"calls": len(times), "refused": tally.refused, "rate": round(len(times) / (time.monotonic() - started), 1)}
    print(json.dumps({**made, **ms}))


def _keep_calling(path: str, rate: float, started: float, tally: _Tally) -> None:
    """One caller: its calls are spread evenly, and where it falls behind it does not hurry to catch up."""
    connection = _Connection(path)
    made: list[str] = []
    hook = json.loads(connection.call("GET", "/v1/webhooks?limit=1")[1])["data"][0]["id"]
    number, next_at = 0, started
    while not tally.is_over:
        time.sleep(max(0.0, next_at - time.monotonic()))
        next_at = max(next_at + 1 / rate, time.monotonic() - 1 / rate)
        begun = time.perf_counter()
        status, answer = _call(connection, number % 10, hook, made)
        tally.times.append(time.perf_counter() - begun)
        tally.refused += status >= 400
        if number % 10 == 0 and status == 201:
            made.append(json.loads(answer)["id"])
        number += 1


def _call(connection: _Connection, turn: int, hook: str, made: list[str]) -> tuple[int, bytes]:
    """Seven reads and three writes in ten."""
    if turn == 0:
        return connection.call("POST", "/v1/webhooks", BODY)
    if turn == 3 and made:
        return connection.call("PATCH", f"/v1/webhooks/{made[-1]}", {"description": str(time.time())})
    if turn == 6 and made:
        return connection.call("DELETE", f"/v1/webhooks/{made.pop()}")
    if turn in (1, 4):
        return connection.call("GET", f"/v1/webhooks/{hook}/deliveries?limit=20")
    if turn in (2, 8):
        return connection.call("GET", "/v1/webhooks?limit=20")
    return connection.call("GET", f"/v1/webhooks/{hook}")


if __name__ == "__main__":
    main()
