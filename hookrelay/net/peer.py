"""Who is at the other end of a Unix socket."""

import socket
import struct
from typing import NamedTuple


class Process(NamedTuple):
    """Who has connected to a Unix socket, as the kernel noted it then (SO_PEERCRED, unix(7))."""

    uid: int
    pid: int
    """0 where it is of another PID namespace."""


_NOBODY = -1
"""What is said of connections that are no Unix sockets'."""


def process_at(sock: socket.socket) -> Process | None:
    """Whose the other end of a Unix socket is; None where the kernel does not say."""
    try:
        pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except (OSError, struct.error):
        return None
    return None if uid == _NOBODY else Process(uid & 0xFFFFFFFF, pid)
