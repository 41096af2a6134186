"""A request as routes read it, and the answers that they give: what the API needs of ASGI 3, and no more.

A framework's routing, requests and responses cost three times as much, which at 500 calls a second deliveries would
notice (docs/decisions/0013).
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import trio

from hookrelay.model import Refused
from hookrelay.net.asgi import BODY_MOST, Receive, Scope, Send
from hookrelay.rules.wording import shown

PARAMETERS_MOST = 64
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class Coded(Refused):
    """The body is in a content coding: the answer names those that are taken."""


class Request:
    """One request. Its body is read when a route asks for it, which has judged the rest by then."""

    __slots__ = ("_query", "_receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self._query: dict[str, list[str]] | None = None

    @property
    def id(self) -> str:
        """The part of the path that varies."""
        id: str = self.scope["path_params"]["id"]
        return id

    @property
    def address(self) -> str | None:
        """Where it came from over TCP: a proxy before us, where there is one."""
        client = self.scope["client"]
        return None if client is None else str(client[0])

    def header(self, name: bytes) -> str | None:
        """The value of a header field (its name in lower case); of the first where there are several."""
        for each, value in self.scope["headers"]:
            if each == name:
                text: str = value.decode("latin-1")
                return text
        return None

    def query(self) -> Mapping[str, list[str]]:
        """The parameters behind the question mark. Refused where there are too many to be meant."""
        if self._query is None:
            self._query = _parse(self.scope["query_string"]) if self.scope["query_string"] else {}
        return self._query

    def parameter(self, name: str) -> str | None:
        """The first value of a parameter."""
        values = self.query().get(name)
        return values[0] if values else None

    def has_body(self) -> bool:
        """Whether a body comes with it, as its header says."""
        return self.header(b"content-length") not in (None, "0") or self.header(b"transfer-encoding") is not None

    async def body(self, most: int | None = None) -> bytes:
        """The whole body; for one caller. One of over `most` bytes is refused by the server, with 413.

        Refused where it is in a content coding: none is undone here.
        """
        if most is not None:
            self.scope["state"][BODY_MOST] = most
        message = await self._receive()
        body: bytes = message["body"]
        if body:
            self._check_coding()
        return body

    def _check_coding(self) -> None:
        for name, value in self.scope["headers"]:
            if name != b"content-encoding":
                continue
            for coding in value.decode("latin-1").lower().split(","):
                if coding.strip() not in ("", "identity"):
                    raise Coded(
                        "unsupported_media_type",
                        f"the body is in the content coding {shown(coding.strip())}, which is not undone here: "
                        "send it as it is, without Content-Encoding",
                    )

    async def gone(self) -> None:
        """Return when the client has gone. The body must have been taken."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def prefers_html(accept: str) -> bool:
    """Whether an `Accept` header asks for a page rather than for JSON, as browsers' do (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[kind] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    json = next((weights[kind] for kind in ("application/json", "application/*", "*/*") if kind in weights), 0.0)
    return weights.get("text/html", 0.0) > json


def _parse(text: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True, max_num_fields=PARAMETERS_MOST):
            found.setdefault(name, []).append(value)
    except ValueError:
        raise Refused("invalid_field", f"there are over {PARAMETERS_MOST} query parameters: give fewer") from None
    return found


class Answer:
    """A whole answer, as an ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        media_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        if media_type is not None:
            self.headers.append((b"content-type", media_type.encode("latin-1")))
        if status not in (204, 304):
            self.headers.append((b"content-length", b"%d" % len(body)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Stream(Answer):
    """An answer that goes on until `parts` ends or the client goes away."""

    __slots__ = ("_lasting", "_parts", "_request")

    def __init__(
        self,
        request: Request,
        parts: AsyncIterator[bytes],
        *,
        media_type: str,
        headers: Mapping[str, str],
        lasting: AbstractContextManager[None],
    ) -> None:
        """`lasting` is entered before anything waits, and left when all is over."""
        super().__init__(status=204, media_type=media_type, headers=headers)
        self.status = 200
        self._request = request
        self._parts = parts
        self._lasting = lasting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send part after part, as they come."""
        with self._lasting:
            await self._run(send)

    async def _run(self, send: Send) -> None:
        await self._request.body()
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_parts, send, nursery.cancel_scope)
            await self._request.gone()
            nursery.cancel_scope.cancel()

    async def _send_parts(self, send: Send, whole: trio.CancelScope) -> None:
        try:
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        finally:
            await _close(self._parts)
        await send({"type": "http.response.body", "body": b""})
        whole.cancel()


async def _close(parts: Any) -> None:
    with trio.CancelScope(shield=True):
        await parts.aclose()


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A JSON answer that no cache keeps."""
    answer = Answer(msgspec.json.encode(content), status=status, headers=headers)
    answer.headers += _JSON
    return answer


_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
