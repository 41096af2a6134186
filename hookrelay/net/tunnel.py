"""One connection through `egress.proxy` to one receiver, and one exchange after another on it, by httpx.

What came of an attempt as a whole is `net.proxy`'s to say. Of httpx only the transport is used, which unlike its client
adds no header, keeps no cookie, follows nothing, reads no environment and logs no URL.
"""

import os
import ssl
from collections.abc import AsyncIterator, Callable
from math import inf
from operator import attrgetter
from typing import Any, Literal, NamedTuple, cast

import httpx
import trio

from hookrelay.model import AttemptError
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.failure import AttemptFailure, of_os_error
from hookrelay.net.http1 import HEAD_LIMIT
from hookrelay.net.resolve import Address

Phase = Literal["idle", "look_up", "connect", "proxy", "tunnel", "tls", "send", "answer", "body"]

_CONNECT_ANSWERS: dict[str, tuple[AttemptError, str]] = {
    "403": ("local_fault", "the proxy refuses connections to that address and port (403)"),
    "407": ("local_fault", "the proxy wants another user name or password than `egress.proxy` gives (407)"),
    "502": ("connect_error", "the proxy could not connect to the receiver (502)"),
    # a good proxy says so of itself, but the most used one says it of receivers that refuse
    "503": ("connect_error", "the proxy could not connect to the receiver (503)"),
    "504": ("connect_timeout", "the receiver did not answer the proxy's connection request (504)"),
}

_SOCKS_ANSWERS: dict[str, tuple[AttemptError, str]] = {
    "Connection refused": ("connect_refused", "nothing listens at that address and port, says the proxy"),
    "Host unreachable": ("connect_error", "the proxy could not reach the receiver's host"),
    "Network unreachable": ("connect_error", "the proxy could not reach the receiver's network"),
    "TTL expired": ("connect_timeout", "the receiver did not answer the proxy's connection request"),
    "Connection not allowed by ruleset": ("local_fault", "the proxy's rules refuse connections to that address"),
}


class Way:
    """One connection through the proxy to one address. It owns its socket, which httpx does not always close.

    After any exception, Cancelled included, it is to be closed.
    """

    def __init__(
        self,
        dialer: Dialer,
        origin: Origin,
        proxy: str,
        address: Address,
        context: ssl.SSLContext | None,
        progress: Callable[[Phase], None],
    ) -> None:
        self._dialer = dialer
        self._is_socks = proxy.startswith("socks5:")
        self.is_tunnel = self._is_socks or origin.scheme == "https"
        self._scheme = origin.scheme
        self._address = address
        self._progress = progress
        self._phase: Phase = "idle"
        self._tls = _Tls(context, origin.host)
        self._transport = httpx.AsyncHTTPTransport(
            verify=cast("ssl.SSLContext", self._tls),
            trust_env=False,
            proxy=proxy,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
        )
        self._patience = trio.CancelScope()
        self._within_s = inf
        self._sock: trio.socket.SocketType | None = None
        self._is_kept = False
        self.is_dropped = False
        """Whether a kept connection turned out to be closed, without an answer to the last request."""
        self.is_spent = False
        self.remote: str | None = None
        """The receiver's address, once the proxy was told what to send there."""

    def is_clean(self) -> bool:
        """Whether nothing has come in unasked and nobody has closed: only then may it be used again."""
        return not self.is_spent and self._sock is not None and not self._sock.is_readable()

    async def ask(self, parts: "Parts", within_s: float) -> httpx.Response:
        """The answer to one request, its body still to be read. AttemptFailure where there is none.

        The proxy gets `within_s` to connect to the address.
        """
        place = _Place(self._scheme, self._address, parts.target, is_bracketed=not self._is_socks)
        request = httpx.Request(
            parts.method, place, headers=parts.headers, stream=_Body(parts.body), extensions={"trace": self._follow}
        )
        request.url = place  # it made a plain one of it
        self._within_s = within_s
        with trio.CancelScope() as self._patience:
            try:
                return await self._transport.handle_async_request(request)
            except AttemptFailure:
                raise
            except Exception as error:  # garbage from a SOCKS proxy raises whatever it happens to
                raise self._judged(error) from error
        raise AttemptFailure("connect_timeout", f"the proxy had no connection to {self._address} in {within_s:.3g} s")

    def settle(self, response: httpx.Response) -> None:
        """End this exchange, whose body has been read: the way is clean again only if all was in order."""
        sock = self._sock
        if sock is None or sock.fileno() < 0 or self._tls.has_more() or _has_surplus(response):
            self.close()
        self._is_kept = True

    def close(self) -> None:
        """Close without ceremony. May be called again."""
        self.is_spent = True
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._dialer.open_connections -= 1

    async def _follow(self, event: str, info: dict[str, Any]) -> None:
        """What httpcore tells of its progress (its `trace` extension)."""
        step = event.partition(".")[2]
        match step:
            case "connect_tcp.started":
                if self._is_kept:  # a new connection must not be made without a look-up
                    self.is_dropped = True
                    raise AttemptFailure("reset", "the connection was closed since its last answer")
                self._reach("proxy")
            case "connect_tcp.complete":
                self._sock = info["return_value"].get_extra_info("socket")
                self._dialer.open_connections += 1
                if self.is_tunnel:
                    self._reach("tunnel")
                    self._patience.deadline = trio.current_time() + self._within_s
            case "setup_socks5_connection.complete":
                self._stand()
            case "start_tls.started":
                self._stand()
                self._reach("tls")
            case "send_request_headers.started" if info["request"].method != b"CONNECT":
                self._stand()
                self._reach("send")
            case "receive_response_headers.started" if info["request"].method != b"CONNECT":
                self._reach("answer")
            case _:
                pass

    def _stand(self) -> None:
        self._patience.deadline = inf
        self.remote = str(self._address)

    def _reach(self, phase: Phase) -> None:
        self._phase = phase
        self._progress(phase)

    # --- whose fault --------------------------------------------------------------------------------------------

    def _judged(self, error: Exception) -> AttemptFailure:
        cause = _os_error(error)
        if self._phase == "proxy":
            if not isinstance(error, httpx.TransportError):
                raise error
            return _unreached(cause)
        if self._phase == "tunnel":
            return self._untunnelled(error)
        if not isinstance(error, httpx.TransportError) or isinstance(error, httpx.LocalProtocolError):
            raise error
        if self._phase == "tls":
            if cause is None:
                return AttemptFailure("reset", "the connection broke during the TLS handshake")
            return of_os_error(cause, "agreeing on TLS")
        is_garbage = isinstance(error, httpx.RemoteProtocolError) and not str(error).startswith("Server disconnected")
        self.is_dropped = self._is_kept and not is_garbage
        if not self.is_tunnel:
            what = "does not answer in HTTP/1.1" if is_garbage else "closed the connection without an answer"
            return AttemptFailure("local_fault", f"the proxy {what}")
        if is_garbage:
            return AttemptFailure("protocol_error", f"the answer is not HTTP/1.1: {str(error)[:120]!a}")
        if cause is None:
            return AttemptFailure("reset", "the receiver closed the connection without an answer")
        if isinstance(cause, ssl.SSLError):
            return AttemptFailure("reset", f"the TLS connection broke: {cause.reason or cause}")
        return of_os_error(cause, "waiting for the answer")

    def _untunnelled(self, error: Exception) -> AttemptFailure:
        """Why the proxy, which is there, made no connection to the receiver. Nothing that it wrote is repeated."""
        if not isinstance(error, httpx.ProxyError):
            kind = "SOCKS5" if self._is_socks else "HTTP/1.1"
            return AttemptFailure("local_fault", f"the proxy did not answer in {kind} when asked for a connection")
        said = str(error)
        if not self._is_socks:
            code = said[:3]
            return AttemptFailure(
                *_CONNECT_ANSWERS.get(code, ("local_fault", f"the proxy answered {code!a} to CONNECT"))
            )
        reason = said.rpartition("could not connect: ")[2].rstrip(".")
        if reason in _SOCKS_ANSWERS:
            return AttemptFailure(*_SOCKS_ANSWERS[reason])
        if "could not connect" in said:
            return AttemptFailure("local_fault", "the proxy could not connect, and did not say why")
        return AttemptFailure("local_fault", "the proxy refuses the user name and password of `egress.proxy`, or none")


class _Tls:
    """Stands for an SSLContext towards httpx: makes TLS with the receiver's name, where httpx has but the address.

    (Of httpx's ways to say the name, `sni_hostname`, tunnels through HTTP proxies take no notice.)
    """

    def __init__(self, context: ssl.SSLContext | None, host: str) -> None:
        self._context = context
        self._host = host
        self._incoming: ssl.MemoryBIO | None = None
        self._object: ssl.SSLObject | None = None

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server_side: bool, server_hostname: object
    ) -> ssl.SSLObject:
        if self._context is None:
            raise TypeError("TLS for an origin without")
        self._incoming = incoming
        self._object = self._context.wrap_bio(incoming, outgoing, server_hostname=self._host)
        return self._object

    def set_alpn_protocols(self, protocols: list[str]) -> None:
        """The context has its own already, and is shared."""

    def has_more(self) -> bool:
        """Whether bytes have come in that nobody has read yet."""
        if self._incoming is None or self._object is None:
            return False
        return self._incoming.pending > 0 or self._object.pending() > 0


class _Place(httpx.URL):
    """Where a request goes, byte for byte: httpx would quote the path anew, and forget IPv6's brackets."""

    def __init__(self, scheme: str, address: Address, path: bytes, *, is_bracketed: bool) -> None:
        super().__init__(scheme=scheme, host=address.ip, port=address.port)
        self._host = f"[{address.ip}]" if is_bracketed and ":" in address.ip else address.ip
        self._path = path

    @property
    def raw_host(self) -> bytes:
        return self._host.encode()

    @property
    def raw_path(self) -> bytes:
        return self._path


# --- requests and answers as httpx has them -----------------------------------------------------------------------


class _Body(httpx.AsyncByteStream):
    """A request's body. Not a generator, as httpx's own: one that is left in the middle is complained of."""

    def __init__(self, body: bytes) -> None:
        self._left = [body] if body else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


class Parts(NamedTuple):
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


def taken_apart(request: bytes) -> Parts:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    fields = (line.partition(b":") for line in lines)
    return Parts(method.decode(), target, [(name, value.strip()) for name, _, value in fields], body)


def shown_head(response: httpx.Response, *, is_direct: bool) -> bytes:
    """Status line and fields as they came, as far as httpx tells. AttemptFailure for what no receiver may answer.

    `is_direct`: the receiver has answered, through a tunnel, and not the proxy.
    """
    version, reason = response.extensions["http_version"], response.extensions["reason_phrase"]
    code, fields = response.status_code, response.headers.raw
    if code == 407 and not is_direct:
        raise AttemptFailure(*_CONNECT_ANSWERS["407"])
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise AttemptFailure("protocol_error", f"the status line is not HTTP/1.1's: {version.decode('latin-1')!a}")
    if code == 101 or code > 599:
        raise AttemptFailure("protocol_error", f"{code} is no status that answers a POST")
    if {b"content-length", b"transfer-encoding"} <= {name.lower() for name, _ in fields}:
        raise AttemptFailure("protocol_error", "the answer has both Content-Length and Transfer-Encoding")
    head = b"\r\n".join([b"%b %d %b" % (version, code, reason), *(b"%b: %b" % field for field in fields)])
    if len(head) > HEAD_LIMIT:
        raise AttemptFailure("protocol_error", f"the answer's head is over {HEAD_LIMIT // 1024} KiB")
    return head


_UNREAD = attrgetter("stream._httpcore_stream._stream._connection._h11_state.trailing_data")


def _has_surplus(response: httpx.Response) -> bool:
    """Whether more came in than the answer: httpx would take it for the answer to the next request (THREATS §1).

    It does not tell, so its insides are asked; where they have changed, no connection is kept.
    """
    try:
        unread, _ = _UNREAD(response)
    except AttributeError:
        return True
    return bool(unread)


def _os_error(error: BaseException) -> OSError | None:
    """The operating system's or TLS's error at the bottom of `error`, whose own text is empty."""
    found = None
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, BaseExceptionGroup):
            at = at.exceptions[0]
        if isinstance(at, OSError):
            found = at
        at = at.__cause__ or at.__context__  # httpcore drops causes (`from None`), which leaves the context
    return found


def _unreached(cause: OSError | None) -> AttemptFailure:
    if cause is None:
        return AttemptFailure("local_fault", "the proxy cannot be reached")
    failure = of_os_error(cause, "connecting to the proxy")
    if failure.code == "local_fault":
        return failure
    number = cause.errno or 0
    text = os.strerror(number) if number > 0 else cause.strerror  # negative: of a look-up
    return AttemptFailure("local_fault", f"the proxy cannot be reached: {text}")
