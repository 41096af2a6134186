"""The caller's side of events.sock: many lines out, as many answers back, in order, with bounded memory."""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

READ = 65536
AHEAD_LINES = 512
"""Lines that are sent ahead of their answers: enough to fill the daemon's commits."""
AHEAD_BYTES = 256 * 1024


def submit(path: Path, lines: Iterable[bytes], timeout_s: float = 60.0) -> Iterator[bytes]:
    """Send `lines` (one JSON object each, without newlines) and yield their answers in order.

    Raises OSError where the daemon cannot be reached, ConnectionError where it goes away before all was answered, and
    TimeoutError where it takes nothing and says nothing for `timeout_s`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(str(path))
        answers = _Answers(sock)
        chunk = bytearray()
        waiting = unanswered = 0
        for line in lines:
            chunk += line + b"\n"
            waiting += 1
            if waiting < AHEAD_LINES and len(chunk) < AHEAD_BYTES:
                continue
            sock.sendall(chunk)
            chunk.clear()
            unanswered, waiting = unanswered + waiting, 0
            # one chunk stays ahead, so that the daemon is never without work
            while unanswered > AHEAD_LINES:
                found = answers.more()
                unanswered -= len(found)
                yield from found
        sock.sendall(chunk)
        unanswered += waiting
        while unanswered:
            found = answers.more()
            unanswered -= len(found)
            yield from found


def is_answered(path: Path, timeout_s: float = 5.0) -> bool:
    """Whether somebody takes lines there. Raises OSError where the socket cannot be connected to.

    Nothing is submitted: a blank line is skipped, and whoever has said all is hung up on.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout_s)
        sock.connect(str(path))
        sock.sendall(b"\n")
        sock.shutdown(socket.SHUT_WR)
        return sock.recv(READ) == b""


class _Answers:
    """Cuts what comes back into lines."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def more(self) -> list[bytes]:
        data = self._sock.recv(READ)
        if not data:
            raise ConnectionResetError("the daemon closed the connection")
        *lines, self._rest = (self._rest + data).split(b"\n")
        return lines
