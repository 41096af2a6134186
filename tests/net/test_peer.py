"""Who is at the other end of a Unix socket."""

import os
import socket
import sys

import processes

from hookrelay.net.peer import process_at


def test_the_kernel_tells_the_user_and_the_process_that_connected(tmp_path):
    path = str(tmp_path / "s")
    connect = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(20)
        process = processes.start([sys.executable, "-c", connect])
        assert process.wait(20) == 0
        sock, _ = listener.accept()
        with sock:  # as it was when it connected, whatever became of it
            assert process_at(sock) == (os.getuid(), process.pid)


def test_a_tcp_connection_has_none():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        sock, _ = server.accept()
        with sock:
            assert process_at(sock) is None
        assert process_at(client) is None
