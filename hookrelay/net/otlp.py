"""The way to a collector of telemetry: one POST of protobuf after the other, over a kept connection.

Imported only where there is a collector: httpx takes 100 ms. The operator chose the address, so egress has no say; no
proxy and no credentials are taken from the environment but those that are handed in.
"""

import os
import ssl
from collections.abc import Sequence

import httpx
import trio

from hookrelay.model import Trust
from hookrelay.net.failure import AttemptFailure, tls_detail
from hookrelay.net.trust import Trusts
from hookrelay.rules.otlp import Answer

TIMEOUT_S = 10.0
"""For all of a request; OTLP exporters have the same."""
BODY_KEPT = 64 << 10


class Collector:
    """One collector. Of httpx only the transport is used: it follows nothing, reads no environment, logs no URL."""

    def __init__(
        self, url: str, headers: Sequence[tuple[str, str]], *, ca_file: str | None, own_ca_file: str | None
    ) -> None:
        """`headers` may hold credentials: they show nowhere. `own_ca_file` is trusted beside the other authorities."""
        self._url = httpx.URL(url)
        self._headers = [("host", self._url.netloc.decode("ascii")), *headers]
        self._trusts = Trusts(ca_file)
        self._trust = Trust(ca_file=own_ca_file)
        self._transport: httpx.AsyncHTTPTransport | None = None

    async def post(self, body: bytes, encoding: str | None) -> Answer:
        """What the collector says to `body`; status 0 where it says nothing whole within `TIMEOUT_S`."""
        fields = [
            *self._headers,
            ("content-type", "application/x-protobuf"),
            *([] if encoding is None else [("content-encoding", encoding)]),
            ("accept-encoding", "identity"),
            ("content-length", str(len(body))),
        ]
        request = httpx.Request("POST", self._url, headers=fields, content=body)
        answer = Answer(0, f"no answer within {TIMEOUT_S:g} s")
        with trio.move_on_after(TIMEOUT_S):
            try:
                return await self._exchange(request)
            except AttemptFailure as failure:
                answer = Answer(0, failure.detail)
            except (httpx.TransportError, OSError) as error:
                answer = Answer(0, _told(error))
        await self.close()  # httpcore has lost track of cancelled requests before: the next one begins afresh
        return answer

    async def close(self) -> None:
        """Close the connection. Does not wait."""
        transport, self._transport = self._transport, None
        if transport is not None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await transport.aclose()

    async def _exchange(self, request: httpx.Request) -> Answer:
        if self._transport is None:
            self._transport = httpx.AsyncHTTPTransport(
                verify=await self._trusts.context(self._trust) if self._url.scheme == "https" else False,
                trust_env=False,
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60.0),
            )
        response = await self._transport.handle_async_request(request)
        head = b"".join(b"\r\n%b: %b" % field for field in response.headers.raw)
        kept = bytearray()
        try:
            # read on where it is too much: a generator left in the middle is complained of when it is collected
            async for part in response.aiter_raw():
                kept += part[: BODY_KEPT - len(kept)]
        finally:
            await response.aclose()
        return Answer(response.status_code, "", b"HTTP/1.1 %d%b" % (response.status_code, head), bytes(kept))


def _told(error: BaseException) -> str:
    """What went wrong, by the system's error at the bottom of it; no text that a header could be in."""
    known: OSError | None = None
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, BaseExceptionGroup):
            at = at.exceptions[-1]  # of several addresses
        if isinstance(at, OSError):
            known = at
        at = at.__cause__ or at.__context__
    if isinstance(known, ssl.SSLError):
        return tls_detail(known)
    if known is not None:
        number = known.errno or 0
        return os.strerror(number) if number > 0 else known.strerror or "no connection can be made"
    return "the connection broke off before the answer was whole"
