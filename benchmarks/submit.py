"""Submits events over events.sock, in a process of its own: `python -m benchmarks.submit SOCKET COUNT [RATE]`.

Without a rate it sends as fast as the daemon takes; with one, that many a second. Prints how long it took and what was
refused.
"""

import socket
import sys
import threading
import time

from benchmarks.rig import event

CHUNK = 32


def main(path: str, count: int, rate: float | None = None) -> None:
    """Send, while a thread reads the answers."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    refused = []

    def read() -> None:
        answered, rest = 0, b""
        while answered < count:
            data = sock.recv(1 << 20)
            if not data:
                sys.exit("the daemon hung up")
            *lines, rest = (rest + data).split(b"\n")
            answered += len(lines)
            if b'"error"' in data:
                refused.extend(line for line in lines if b'"error"' in line)

    reader = threading.Thread(target=read)
    reader.start()
    started = time.perf_counter()
    step = CHUNK if rate is None else max(1, int(rate / 1000))
    for first in range(0, count, step):
        if rate is not None:
            ahead = started + first / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
        sock.sendall(b"".join(map(event, range(first, min(first + step, count)))))
    reader.join()
    print(f"submitted={count} seconds={time.perf_counter() - started:.3f} refused={len(refused)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else None)
