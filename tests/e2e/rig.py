"""The daemon as a process and the receivers that it calls: what the end-to-end tests share."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import processes

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
GOOD = b'{"type":"booking.created","data":1}'


def wait_for(condition: Callable[[], Any], within_s: float = 20, told: Callable[[], str] = lambda: "") -> None:
    """Look until the condition holds; `told` says more where it never does."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.01)


_probed = itertools.count(os.getpid() * 97)


def free_port() -> int:
    """A port that nobody listens on just now, and that no outgoing connection of this machine takes meanwhile: those
    have ports from 32768. Tests that run beside this one begin to look elsewhere.
    """
    while True:
        port = 12_000 + next(_probed) % 20_000
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def is_listened_to(path: Path) -> bool:
    """Whether somebody takes connections there: the file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        sock.connect(str(path))
        return True
    return False


def line(number: int, **fields: object) -> bytes:
    """A good line for events.sock, with its newline."""
    return json.dumps({"type": "booking.created", "data": {"number": number}, **fields}).encode() + b"\n"


def hook(name: str, port: int, **fields: object) -> str:
    """A `[[webhook]]` table whose URL's path is its name; dotted fields such as `headers.X-Shop` are allowed."""
    said = {"name": name, "url": f"http://127.0.0.1:{port}/{name}", "events": ["*"], "secret": SECRET, **fields}
    return "[[webhook]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())


class Request(NamedTuple):
    """One request as it came over the wire."""

    head: bytes
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> dict[str, str]:
        """By name as it was sent; a name that came twice is an error."""
        fields = [field.split(": ", 1) for field in self.head.decode().split("\r\n")[1:]]
        assert len(dict(fields)) == len(fields)
        return dict(fields)

    @property
    def id(self) -> str:
        return json.loads(self.body)["id"]


def answer(status: int = 200, body: bytes = b"", *fields: str) -> bytes:
    """A whole answer."""
    head = [f"HTTP/1.1 {status} Told", f"content-length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


OK = answer()
Script = Callable[[Request, int], bytes]


class Receiver:
    """Records every whole request; answers what `script(request, number)` returns, which may wait. Numbers from 1.

    With an empty answer the connection is closed.
    """

    def __init__(self, script: Script | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.is_closed = threading.Event()
        self._script = script
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def ids(self, path: str | None = None) -> Counter[str]:
        """How often each event came."""
        return Counter(request.id for request in list(self.requests) if path in (None, request.path))

    def wait(self, requests: int, within_s: float = 20) -> None:
        wait_for(lambda: len(self.requests) >= requests, within_s, lambda: f"{len(self.requests)} of {requests} came")

    def close(self) -> None:
        self.is_closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._converse, args=(sock, self.connections), daemon=True).start()

    def _converse(self, sock: socket.socket, connection: int) -> None:
        with contextlib.suppress(OSError), sock:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            rest = b""
            with sock:
                while True:
                    while b"\r\n\r\n" not in rest:
                        data = sock.recv(65536)
                        if not data:
                            return
                        rest += data
                    head, _, rest = rest.partition(b"\r\n\r\n")
                    size = next(int(f[15:]) for f in head.split(b"\r\n") if f.lower().startswith(b"content-length:"))
                    while len(rest) < size:
                        data = sock.recv(65536)
                        if not data:
                            return
                        rest += data
                    request, rest = Request(head, rest[:size], connection), rest[size:]
                    with self._lock:
                        self.requests.append(request)
                        number = len(self.requests)
                    said = OK if self._script is None else self._script(request, number)
                    if not said:
                        return
                    sock.sendall(said)


class Client:
    """A connection to events.sock that stays open."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self._kept = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answers(self) -> Iterator[dict[str, Any]]:
        """Whole answers until the daemon closes; one that was cut off is none."""
        while True:
            while b"\n" not in self._kept:
                data = b""
                with contextlib.suppress(ConnectionResetError):  # it closed with lines of ours unread
                    data = self.sock.recv(65536)
                if not data:
                    return
                self._kept += data
            text, _, self._kept = self._kept.partition(b"\n")
            yield json.loads(text)

    def ask(self, data: bytes) -> dict[str, Any]:
        """The answer to one line."""
        self.send(data)
        return next(self.answers())

    def close(self) -> None:
        self.sock.close()


class Reply(NamedTuple):
    """What the HTTP API said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


NOBODY = Reply(0, {}, b"")


def call(sock: socket.socket, path: str, method: str = "GET", host: str = "localhost") -> Reply:
    """One HTTP request over a connected socket, which it closes. Header names come in lower case."""
    with sock:
        sock.settimeout(20)
        try:
            sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            said = b""
            while data := sock.recv(65536):
                said += data
        except OSError:
            return NOBODY
    if not said:
        return NOBODY
    head, _, body = said.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    split = (field.partition(":") for field in fields)
    return Reply(int(status.split()[1]), {name.lower(): value.strip() for name, _, value in split}, body)


class Daemon:
    """A configuration in a folder, and the daemon that runs on it."""

    def __init__(self, at: Path, webhooks: str = "", settings: str = "", **environment: str) -> None:
        self.at = at
        self.process: subprocess.Popen[bytes] | None = None
        self.config = at / "hookrelay.toml"
        self.hooks = at / "webhooks.d" / "hooks.toml"
        self.environment = environment
        self._clients: list[Client] = []
        self.hooks.parent.mkdir(exist_ok=True)
        self.hooks.write_text(webhooks)
        said = {
            "store.url": '"sqlite://h.db"',
            "events.socket": '"e.sock"',
            "api.listen": '["unix:a.sock"]',
            "egress.allow_http": "true",
            "egress.allow": '["127.0.0.1/32"]',
        }
        own = {setting.partition(" = ")[0] for setting in settings.splitlines()}
        lines = [f"{key} = {value}\n" for key, value in said.items() if key not in own]
        self.config.write_text("".join(lines) + settings)

    # --- the process ----------------------------------------------------------------------------------------------

    def run(self) -> "subprocess.CompletedProcess[str]":
        """To its end, where it is expected to end by itself."""
        return subprocess.run(self._command(), env=self._env(), capture_output=True, text=True, timeout=30)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Another command of the same program."""
        command = [sys.executable, "-m", "hookrelay", *words]
        return subprocess.run(command, env=self._env(), capture_output=True, text=True, timeout=60)

    def run_briefly(self, *options: str) -> int:
        """Start it, wait until it is ready, stop it: its exit code."""
        return self.start(*options).end()

    def timed_start(self) -> float:
        """Seconds from nothing to readiness; it is stopped then."""
        started = time.monotonic()
        self.start()
        took = time.monotonic() - started
        assert self.end() == 0
        return took

    def launch(self, *options: str) -> "Daemon":
        """Start it and do not wait."""
        with (self.at / "log").open("ab") as log:
            self.process = processes.start([*self._command(), *options], env=self._env(), stdout=log, stderr=log)
        return self

    def start(self, *options: str) -> "Daemon":
        """Start it and wait until it is ready."""
        self.launch(*options)
        wait_for(self.is_ready, told=self.log)
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        return self.get("/-/ready").status == 200

    def rewrite(self, webhooks: str) -> None:
        """Put other webhooks in the file, all at once: a reload may be reading it."""
        fresh = self.at / "hooks.new"
        fresh.write_text(webhooks)
        fresh.replace(self.hooks)

    def tell(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, within_s: float = 30) -> int:
        """Signal it and wait; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def wait(self, within_s: float) -> int:
        assert self.process is not None
        return self.process.wait(within_s)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "hookrelay", "serve", "--config", str(self.config)]

    def _env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKRELAY_")}
        return kept | self.environment

    # --- what it says ---------------------------------------------------------------------------------------------

    def log(self) -> str:
        return (self.at / "log").read_text()

    def logged(self, event: str, within_s: float = 10) -> None:
        """Wait for a log line."""
        wait_for(lambda: f'"event": "{event}"' in self.log(), within_s, self.log)

    def get(self, path: str, method: str = "GET") -> Reply:
        """Over the API's Unix socket; status 0 where nobody answers."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self.at / "a.sock"))
        except OSError:
            sock.close()
            return NOBODY
        return call(sock, path, method)

    def metric(self, series: str) -> float:
        """The figure; 0 where there is no such series (yet)."""
        lines = self.get("/metrics").body.decode().splitlines()
        return next((float(text.split()[-1]) for text in lines if text.startswith(series + " ")), 0.0)

    def settled(self, within_s: float = 20) -> None:
        """Wait until nothing is pending."""
        wait_for(lambda: self.metric("hookrelay_pending_deliveries") == 0, within_s, self.log)

    def client(self) -> Client:
        """A connection that is closed with the daemon, at the latest."""
        self._clients.append(Client(self.at / "e.sock"))
        return self._clients[-1]

    def submit(self, *lines: bytes) -> list[dict[str, Any]]:
        """The answers to these lines, over a connection of their own."""
        client = self.client()
        client.send(b"".join(text.rstrip(b"\n") + b"\n" for text in lines))
        client.sock.shutdown(socket.SHUT_WR)
        answers = list(client.answers())
        client.close()
        return answers

    def webhook(self, name: str) -> dict[str, Any]:
        """The webhook whose URL ends so."""
        rows = self.get("/v1/webhooks").json["data"]
        (found,) = [row for row in rows if row["url"].endswith("/" + name)]
        return found

    def deliveries(self, name: str) -> list[dict[str, Any]]:
        """The webhook's deliveries, oldest first."""
        rows = self.get(f"/v1/webhooks/{self.webhook(name)['id']}/deliveries?limit=250").json["data"]
        return rows[::-1]

    def attempts(self, delivery: str) -> list[dict[str, Any]]:
        return self.get(f"/v1/deliveries/{delivery}").json["attempts"]

    @contextlib.contextmanager
    def store(self) -> Iterator[apsw.Connection]:
        """A copy of a stopped daemon's store: reading the original would change what the next start finds."""
        copy = self.at / "copy"
        copy.mkdir()
        for path in self.at.glob("h.db*"):
            shutil.copy(path, copy)
        conn = apsw.Connection(str(copy / "h.db"))
        try:
            yield conn
        finally:
            conn.close()
            shutil.rmtree(copy)
