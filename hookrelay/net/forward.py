"""Posts events to a server on this machine, signed as deliveries are: for `hookrelay listen`."""

import socket
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from hookrelay.net.api_client import cause_of

TIMEOUT_S = 30.0


class Forwarded(NamedTuple):
    """What came of it: a status, or what went wrong."""

    status: int | None
    error: str | None
    duration_ms: float


class Forwarder:
    """One URL. Follows no redirect, and asks neither the environment nor `.netrc`. Use it as a context manager."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = httpx.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)

    def __enter__(self) -> "Forwarder":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def post(self, headers: list[tuple[str, str]], body: bytes) -> Forwarded:
        """Post the body with these headers alone."""
        begun = time.perf_counter()
        status = error = None
        try:
            request = self._client.build_request("POST", self._url, content=body)
            request.headers = httpx.Headers(
                [("host", request.headers["host"]), *headers, ("content-length", str(len(body)))]
            )
            status = self._client.send(request).status_code
        except httpx.HTTPError as problem:
            error = self._told(problem)
        return Forwarded(status, error, (time.perf_counter() - begun) * 1000)

    def _told(self, problem: httpx.HTTPError) -> str:
        """What went wrong, in words that say where to look."""
        place, cause = urlsplit(self._url), cause_of(problem)
        port = place.port or (443 if place.scheme == "https" else 80)
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens at {place.hostname}, port {port}: start the server there, or name another port"
        if isinstance(cause, socket.gaierror):
            return f"the name {place.hostname} is not known here"
        if isinstance(problem, httpx.TimeoutException):
            return f"no answer within {TIMEOUT_S:g} s"
        return (isinstance(cause, OSError) and cause.strerror) or str(problem) or type(problem).__name__
