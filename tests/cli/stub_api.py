"""A daemon's HTTP API as far as a test says: answers by method and path, and keeps what it was asked."""

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

Answer = tuple[int, object]


class Asked(NamedTuple):
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


class Stream:
    """An answer of server-sent events: these bytes, then the end, or silence until the stub closes."""

    def __init__(self, *messages: bytes, ends: bool = True) -> None:
        self.messages = messages
        self.ends = ends


HANG_UP = object()
"""The connection ends without an answer."""


def problem(status: int, code: str, detail: str, *errors: tuple[str, str]) -> Answer:
    fields = [{"field": field, "detail": text} for field, text in errors]
    return status, {"type": "t", "title": "t", "status": status, "detail": detail, "code": code, "errors": fields}


def page(*rows: object, cursor: str | None = None) -> Answer:
    return 200, {"data": list(rows), "next_cursor": cursor}


class StubApi:
    """Answers what `answers` holds under `"METHOD /path"`: an answer, several of them in turn, or a function."""

    def __init__(self, path: str | None = None) -> None:
        """Listens on the Unix socket `path`, else on a free port of 127.0.0.1."""
        self.answers: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self._closed = threading.Event()
        self._server = _Server(self._handler(), path)
        self.place = f"http://127.0.0.1:{self._server.server_address[1]}" if path is None else f"unix:{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def last(self) -> Asked:
        return self.asked[-1]

    def _answer(self, asked: Asked) -> Any:
        self.asked.append(asked)
        said = self.answers.get(f"{asked.method} {asked.path}")
        if said is None:
            return problem(404, "not_found", f"there is nothing at {asked.path}")
        if isinstance(said, list):
            said = said.pop(0)
        return said(asked) if isinstance(said, Callable) else said

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                url = urlsplit(self.path)
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                query = {name: ",".join(values) for name, values in parse_qs(url.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                said = stub._answer(Asked(self.command, url.path, query, json.loads(body) if body else None, headers))
                if said is HANG_UP:
                    return
                if isinstance(said, Stream):
                    self._stream(said)
                    return
                status, value = said
                content = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _stream(self, stream: Stream) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                for message in stream.messages:
                    self.wfile.write(message)
                if not stream.ends:
                    stub._closed.wait()

            do_GET = do_POST = do_PATCH = do_DELETE = _any

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    def __init__(self, handler: type[BaseHTTPRequestHandler], path: str | None) -> None:
        self.address_family = socket.AF_INET if path is None else socket.AF_UNIX
        super().__init__(("127.0.0.1", 0) if path is None else path, handler)

    def server_bind(self) -> None:
        # http.server's own takes the address apart as a TCP one
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
