"""The caller's side of the HTTP API: requests to a daemon over its Unix socket or TCP, and its answers or problems."""

import os
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec

TIMEOUT_S = 150.0
"""A test event's answer takes as long as its receiver: at most the longest `timeout` of a webhook, and some more."""
LONG_S = 3600.0
"""How long a copy of the store may be in the making, or a look at all of it, before anything is answered."""
SUBMITTED_LINES = 512
SUBMITTED_BYTES = 256 * 1024
"""Of events that one request submits: well below what a body may hold, and enough for a commit."""
STREAM_SILENCE_S = 45.0
"""A stream says something every 15 s: after three times that it is broken."""


class Unreachable(Exception):
    """Nobody answers there, or not in time. `is_forbidden`: the socket's file mode does not let us in. `is_absent`:
    there is no socket, or nobody listens on it.
    """

    def __init__(self, place: str, detail: str, *, is_forbidden: bool = False, is_absent: bool = False) -> None:
        super().__init__(f"{place}: {detail}")
        self.is_forbidden = is_forbidden
        self.is_absent = is_absent


class Problem(Exception):
    """The daemon refused (RFC 9457). `errors` are pairs of field and detail."""

    def __init__(self, status: int, code: str, detail: str, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors


class Message(msgspec.Struct, frozen=True):
    """One server-sent event (WHATWG HTML §9.2): what kind, its id where it has one, its data's bytes.

    Also, of the kind `place`, an id without data: where to go on from although there was no event yet.
    """

    kind: str
    id: str
    data: bytes


class ApiClient:
    """One daemon's API. Close it, or use it as a context manager."""

    def __init__(self, place: str, key: str | None = None) -> None:
        """`place` is `unix:PATH` or `http(s)://HOST:PORT`; `key` is sent as a bearer token where it is given.

        Environment proxies and `.netrc` are never used.
        """
        self.place = place
        self._socket = place.removeprefix("unix:") if place.startswith("unix:") else None
        headers = {"user-agent": "hookrelay-cli"} | ({"authorization": f"Bearer {key}"} if key else {})
        is_unix = place.startswith("unix:")
        # certificates are verified wherever there are any; where there are none, reading the authorities takes 0.1 s
        has_tls = place.startswith("https:")
        transport = httpx.HTTPTransport(uds=place.removeprefix("unix:") if is_unix else None, verify=has_tls)
        self._client = httpx.Client(
            base_url="http://localhost" if is_unix else place,
            transport=transport,
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, connect=5.0),
            trust_env=False,
        )

    def __enter__(self) -> "ApiClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Any:
        """The decoded JSON answer; None where it has no body. `query` entries that are None are left out.

        Raises Problem where the daemon refuses, Unreachable where there is none.
        """
        content, extra = None, dict(headers or {})
        if body is not None:
            content = msgspec.json.encode(body)
            extra.setdefault("content-type", "application/json")
        with self._told():
            timeout = httpx.Timeout(timeout_s, connect=5.0)
            answer = self._client.request(
                method, _with_query(path, query), content=content, headers=extra, timeout=timeout
            )
        return _read(answer)

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[dict[str, Any]]:
        """Every row of a list, page after page."""
        cursor = None
        while True:
            answer = self.call("GET", path, query={"limit": 250, **(query or {}), "cursor": cursor})
            yield from answer["data"]
            cursor = answer["next_cursor"]
            if cursor is None:
                return

    def submit(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Submit events (one JSON object each, without newlines) and yield their answers in order.

        Raises Problem where the daemon refuses all of a request, Unreachable where it is not there, or goes away.
        """
        chunk, size = list[bytes](), 0
        for line in lines:
            chunk.append(line)
            size += len(line)
            if len(chunk) == SUBMITTED_LINES or size >= SUBMITTED_BYTES:
                yield from self._submit(chunk)
                chunk, size = [], 0
        if chunk:
            yield from self._submit(chunk)

    def _submit(self, lines: list[bytes]) -> list[bytes]:
        with self._told():
            answer = self._client.post(
                "/v1/events", content=b"\n".join(lines) + b"\n", headers={"content-type": "application/x-ndjson"}
            )
        if not answer.is_success:
            _read(answer)
        return answer.content.removesuffix(b"\n").split(b"\n")

    @contextmanager
    def stream(
        self, path: str, query: Mapping[str, object] | None = None, last_id: str | None = None
    ) -> Iterator[Iterator[Message]]:
        """The messages of a stream of server-sent events, as they come; resumes after `last_id`.

        Ends where the daemon ends it. Raises Problem and Unreachable, also from within the iteration.
        """
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_id} if last_id else {})
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=5.0)
        with (
            self._told(),
            self._client.stream("GET", _with_query(path, query), headers=headers, timeout=timeout) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                _read(answer)
            yield _messages(answer.iter_raw())

    @contextmanager
    def download(self, method: str, path: str) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        """The answer's header fields and the parts of its body, which may be long in coming and is not kept.

        Raises Problem and Unreachable, also from within the iteration: also where the body ends before its length.
        """
        timeout = httpx.Timeout(LONG_S, connect=5.0)
        with self._told(), self._client.stream(method, path, timeout=timeout) as answer:
            if answer.status_code != 200:
                answer.read()
                _read(answer)
            yield answer.headers, answer.iter_raw()

    def _look(self) -> None:
        """Unreachable where there is no socket: httpx would not close the one that it could not connect."""
        try:
            if self._socket is not None:
                os.stat(self._socket)
        except OSError as error:
            is_forbidden, is_absent = isinstance(error, PermissionError), isinstance(error, FileNotFoundError)
            detail = error.strerror or str(error)
            raise Unreachable(self.place, detail, is_forbidden=is_forbidden, is_absent=is_absent) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        self._look()
        try:
            yield
        except httpx.ConnectError as error:
            cause = cause_of(error)
            detail = (isinstance(cause, OSError) and cause.strerror) or str(error)
            raise Unreachable(
                self.place,
                detail,
                is_forbidden=isinstance(cause, PermissionError),
                is_absent=isinstance(cause, ConnectionRefusedError),
            ) from error
        except httpx.TimeoutException as error:
            raise Unreachable(self.place, "no answer in time") from error
        except httpx.HTTPError as error:
            raise Unreachable(self.place, str(error) or type(error).__name__) from error


def _with_query(path: str, query: Mapping[str, object] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{path}?{urllib.parse.urlencode(given, doseq=True)}" if given else path


def _read(answer: httpx.Response) -> Any:
    if answer.is_success:
        return msgspec.json.decode(answer.content) if answer.content else None
    try:
        said = msgspec.json.decode(answer.content)
        errors = tuple((each["field"], each["detail"]) for each in said.get("errors", ()))
        problem = Problem(answer.status_code, said["code"], said["detail"], errors)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        problem = Problem(answer.status_code, "unknown", f"the answer was {answer.status_code}, and no problem of ours")
    raise problem


def _messages(chunks: Iterator[bytes]) -> Iterator[Message]:
    rest = b""
    kind, last_id, told_id, data = "message", "", "", list[bytes]()
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not line:
                if data:
                    yield Message(kind, last_id, b"\n".join(data))
                elif last_id != told_id:
                    yield Message("place", last_id, b"")
                kind, data, told_id = "message", [], last_id
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                kind = value.decode()
            elif name == b"id":
                last_id = value.decode()


def cause_of(error: BaseException) -> BaseException:
    """What an exception of httpx's came of in the end."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
