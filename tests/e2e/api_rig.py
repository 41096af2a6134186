"""Calls of the HTTP API as customers and operators make them, over the Unix socket and over TCP."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from rig import OK, Daemon, Receiver, Reply, Request, free_port, wait_for

PROBLEM = {"type", "title", "status", "detail", "code", "errors"}
SETTINGS = 'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n'


class Api:
    """One caller. Each call has a connection of its own, so that a restart of the daemon is none of its business."""

    def __init__(self, connect: Callable[[], socket.socket], key: str | None = None) -> None:
        self.connect = connect
        self.key = key

    def with_key(self, key: str | None) -> "Api":
        """The same way with another key."""
        return Api(self.connect, key)

    def __call__(self, method: str, path: str, body: object = None, **fields: str) -> Reply:
        """The answer to one call. A body that is neither bytes nor None is sent as JSON; `if_match=…` is a header."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if self.key is not None:
            headers.setdefault("authorization", f"Bearer {self.key}")
        if body is not None:
            headers.setdefault("content-type", "application/json")
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with contextlib.closing(HTTPConnection("localhost", timeout=40)) as connection:
            connection.sock = self.connect()
            connection.sock.settimeout(40)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            said = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, said, answer.read())

    def get(self, path: str, **fields: str) -> Reply:
        return self("GET", path, **fields)

    def post(self, path: str, body: object = None, **fields: str) -> Reply:
        return self("POST", path, body, **fields)

    def patch(self, path: str, body: object = None, **fields: str) -> Reply:
        return self("PATCH", path, body, **fields)

    def delete(self, path: str, **fields: str) -> Reply:
        return self("DELETE", path, **fields)

    def data(self, path: str) -> list[dict[str, Any]]:
        """The rows of a list's one page."""
        reply = self.get(path)
        assert reply.status == 200, reply.body
        assert reply.json["next_cursor"] is None
        rows: list[dict[str, Any]] = reply.json["data"]
        return rows

    def pages(self, path: str, limit: int) -> Iterator[list[dict[str, Any]]]:
        """Page after page of a list, each fetched when it is asked for."""
        cursor, join = "", "&" if "?" in path else "?"
        while True:
            reply = self.get(f"{path}{join}limit={limit}{cursor}")
            assert reply.status == 200, reply.body
            yield reply.json["data"]
            if reply.json["next_cursor"] is None:
                return
            cursor = f"&cursor={reply.json['next_cursor']}"

    def make(self, url: str, **fields: object) -> dict[str, Any]:
        """A new webhook."""
        reply = self.post("/v1/webhooks", {"url": url, "events": ["*"], **fields})
        assert reply.status == 201, reply.body
        made: dict[str, Any] = reply.json
        return made

    def key_for(self, tenant: str, role: str) -> "Api":
        """A caller with a new key."""
        reply = self.post("/v1/keys", {"tenant": tenant, "role": role})
        assert reply.status == 201, reply.body
        return self.with_key(reply.json["key"])


def over_unix(path: Path) -> Api:
    """An administrator of all tenants, by the file's mode."""

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
        except OSError:
            sock.close()
            raise
        return sock

    return Api(connect)


def over_tcp(port: int, key: str | None = None) -> Api:
    return Api(lambda: socket.create_connection(("127.0.0.1", port), 40), key)


class Served:
    """A running daemon, its administrator over the Unix socket, and its port for others."""

    def __init__(self, running: Daemon, port: int) -> None:
        self.running = running
        self.port = port
        self.admin = over_unix(running.at / "a.sock")

    def caller(self, tenant: str, role: str) -> Api:
        """A caller over TCP with a new key."""
        return over_tcp(self.port, self.admin.key_for(tenant, role).key)

    def stranger(self, key: str | None = None) -> Api:
        """A caller over TCP without a key, or with any text as one."""
        return over_tcp(self.port, key)

    def restart(self) -> None:
        assert self.running.end() == 0
        self.running.start()


class Shop:
    """A tenant of its own: tests share the daemon, and see nothing of one another."""

    def __init__(self, house: Served, tenant: str) -> None:
        self.port = house.port
        self.tenant = tenant
        self.admin = house.caller(tenant, "admin")
        self._key_for = partial(house.admin.key_for, tenant)

    def key(self, role: str = "manage") -> str:
        """A new key of the tenant's."""
        key = self._key_for(role).key
        assert key is not None
        return key


def serve(at: Path, webhooks: str = "", settings: str = "", **environment: str) -> Served:
    """A daemon that listens on both kinds of socket."""
    at.mkdir(exist_ok=True)
    port = free_port()
    running = Daemon(at, webhooks, SETTINGS.format(port=port) + settings, **environment)
    try:
        running.start()
    except BaseException:
        running.close()
        raise
    return Served(running, port)


def is_problem(reply: Reply, status: int, code: str) -> bool:
    """The answer is this problem, in the contract's shape. Raises where it is not."""
    assert reply.status == status, (reply.status, reply.body)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json.keys() == PROBLEM
    assert (reply.json["status"], reply.json["code"]) == (status, code), reply.body
    assert reply.json["detail"]
    return True


def fields_of(reply: Reply) -> set[str]:
    """The fields that a problem blames."""
    return {error["field"] for error in reply.json["errors"]}


class Told(Receiver):
    """Answers each path as it is told, 200 where it is not: bytes, or a function of the request."""

    def __init__(self) -> None:
        self.says: dict[str, bytes | Callable[[Request], bytes]] = {}
        super().__init__(self._say)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Request]:
        """What came for this path."""
        return [request for request in list(self.requests) if request.path == path]

    def wait_at(self, path: str, count: int, within_s: float = 20) -> list[Request]:
        """The same, once there are so many."""
        wait_for(lambda: len(self.at(path)) >= count, within_s, lambda: f"{len(self.at(path))} of {count} came")
        return self.at(path)

    def _say(self, request: Request, number: int) -> bytes:
        said = self.says.get(request.path, OK)
        return said if isinstance(said, bytes) else said(request)


class Gate:
    """An answer that waits until it is opened; how many were on at once, at most."""

    def __init__(self, said: bytes = OK) -> None:
        self._said = said
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0

    def __call__(self, request: Request) -> bytes:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self._open.wait(30)
        with self._lock:
            self.now -= 1
        return self._said

    def open(self) -> None:
        self._open.set()
