"""A collector of telemetry that speaks OTLP/HTTP, and remembers every span."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rig import wait_for

Script = Callable[[int], tuple[int, dict[str, str]] | None]


class Post(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes
    status: int


class Told(NamedTuple):
    """One span, decoded."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    status: int
    message: str


class Collector:
    """Answers what `script(number)` says, a status and headers, from 1; it may wait. None: the connection is closed."""

    def __init__(self, script: Script = lambda number: (200, {})) -> None:
        self.posts: list[Post] = []
        self.is_closed = threading.Event()
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                with lock:
                    outer.posts.append(Post(self.path, {k.lower(): v for k, v in self.headers.items()}, raw, 0))
                    number = len(outer.posts)
                said = script(number)
                if said is None:
                    self.close_connection = True
                    return
                status, headers = said
                outer.posts[number - 1] = outer.posts[number - 1]._replace(status=status)
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def setting(self) -> str:
        """The line of the configuration that has spans sent here."""
        return f'telemetry.otlp_endpoint = "http://127.0.0.1:{self.port}"\n'

    def requests(self) -> list[ExportTraceServiceRequest]:
        """What was taken, decoded."""
        return [ExportTraceServiceRequest.FromString(_plain(post)) for post in list(self.posts) if post.status == 200]

    def spans(self, name: str = "") -> list[Told]:
        """The spans that were taken, as they began; those whose names begin so."""
        found = [
            _told(span)
            for request in self.requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted((span for span in found if span.name.startswith(name)), key=lambda span: span.start_ns)

    def wait(self, posts: int) -> None:
        wait_for(lambda: len(self.posts) >= posts, 40, lambda: f"{len(self.posts)} of {posts} came")

    def close(self) -> None:
        self.is_closed.set()
        self._server.shutdown()
        self._server.server_close()


def _plain(post: Post) -> bytes:
    return gzip.decompress(post.raw) if post.headers.get("content-encoding") == "gzip" else post.raw


def _told(span: Any) -> Told:
    return Told(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes},
        span.status.code,
        span.status.message,
    )
