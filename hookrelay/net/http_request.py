"""Bytes into one HTTP/1.1 request, strictly by RFC 9112, and the refusals that follow from them.

No socket and no clock: `serve` reads, this decides. What other servers let pass (bare LF, folded lines, Content-Length
with Transfer-Encoding, lenient trailers) is how two of them come to see two different requests.
"""

import re
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Struct

_TITLES = {
    "bad_request": (400, "The request is not HTTP/1.1 as it should be"),
    "request_timeout": (408, "The request came too slowly"),
    "too_large": (413, "The body is too large"),
    "expectation_failed": (417, "The expectation cannot be met"),
    "headers_too_large": (431, "The header block is too large"),
    "internal_error": (500, "A fault of ours"),
    "not_implemented": (501, "The request uses what this server does not know"),
    "unavailable": (503, "Not just now"),
    "version_not_supported": (505, "Only HTTP/1.1 is spoken here"),
}
REASONS = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    204: b"No Content",
    303: b"See Other",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}

# HTAB, CR and LF have rules of their own
_CONTROLS = bytes(set(range(32)) - {9, 10, 13} | {127})
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]*)?")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[\t\x20-\x7e\x80-\xff]*)?")
CHUNK_LINE_LIMIT = 256
TRAILER_LIMIT = 4096
OVERHEAD = 65536
"""Bytes of chunk framing that a body may have more than bytes of its own: tiny chunks cost time out of proportion."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
# blanks around the value are no matter of the pattern: it would try every way to share a long run (THREATS §3)
_FIELD = re.compile(rb"(%b):(.*)" % _TOKEN)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)((?:[/?].*)?)", re.IGNORECASE)
_SIZE = re.compile(rb"[0-9]{1,15}")


class Request(Struct, frozen=True, gc=False):
    """What a header block says."""

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]
    """Names in lower case, in the order in which they came."""
    size: int = 0
    """Bytes of its body by Content-Length."""
    is_chunked: bool = False
    keeps_alive: bool = True
    """Whether the client may send another request on the same connection."""
    waits_for_go: bool = False
    """Whether it sends its body only when it is told to (`Expect: 100-continue`)."""

    @property
    def has_body(self) -> bool:
        """Whether anything but the next request follows the header block."""
        return self.is_chunked or self.size > 0


class Refusal(Exception):
    """The request cannot be read: the answer says why, and the connection ends with it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


NOSNIFF = b"x-content-type-options: nosniff\r\n"
"""In every answer: no browser takes what a customer or receiver wrote for another type than is said (THREATS §3)."""


def problem(code: str, detail: str, *, with_body: bool = True) -> bytes:
    """A whole answer with an `application/problem+json` body (contract §4), after which the connection closes."""
    status, title = _TITLES[code]
    body = msgspec.json.encode(
        {
            "type": f"urn:hookrelay:problem:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "errors": [],
        }
    )
    head = (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\n%bContent-Length: %d\r\nConnection: close\r\n\r\n"
        % (status, REASONS[status], NOSNIFF, len(body))
    )
    return head + body if with_body else head


def take_head(buffer: bytearray, limit: int, max_fields: int, seen: int = 0) -> bytes | None:
    """Take a whole header block off the front of `buffer`; None while it is not whole. Refusal where it cannot be.

    What can never become a header block is refused at once, not when its time is up. The first `seen` bytes were looked
    at before and held no end: a client that sends byte by byte has none of them looked at twice.
    """
    if buffer.startswith(b"\r\n"):
        del buffer[:2]  # an empty line before a request is to be ignored (RFC 9112 §2.2)
        seen = max(seen - 2, 0)
    end = buffer.find(b"\r\n\r\n", max(seen - 3, 0)) + 4
    if end > limit or (end < 4 and len(buffer) >= limit):
        raise Refusal("headers_too_large", f"the header block may have {limit} bytes, blank line included")
    if end < 4:
        if buffer and buffer[0] <= 32 and buffer != b"\r":
            raise Refusal("bad_request", "this is not HTTP: speak plain HTTP/1.1 here, without TLS")
        if buffer.count(b"\n", seen) != buffer.count(b"\r\n", max(seen - 1, 0)):
            raise Refusal("bad_request", "a line must end with CR LF")
        return None
    head = bytes(buffer[:end])
    del buffer[:end]
    lines = head.count(b"\r\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines:
        raise Refusal("bad_request", "a line must end with CR LF, and neither may stand alone")
    if lines - 2 > max_fields:
        raise Refusal("headers_too_large", f"a request may have {max_fields} header fields")
    if b"\n " in head or b"\n\t" in head:
        raise Refusal("bad_request", "a header field must stand on one line")
    if len(head.translate(None, _CONTROLS)) != end:
        raise Refusal("bad_request", "a header block may not hold control characters")
    return head


def read_head(head: bytes) -> Request:
    """The request that `head` opens. Refusal where RFC 9112 has two readings of it, or we have none."""
    first, *lines = head[:-4].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise Refusal("bad_request", "the first line must be `METHOD /path HTTP/1.1`")
    method, target, version = line.groups()
    headers: list[tuple[bytes, bytes]] = []
    known: dict[bytes, bytes] = {}
    for text in lines:
        match = _FIELD.fullmatch(text)
        if match is None:
            right = "every header line must be `Name: value`, without a space before the colon"
            raise Refusal("bad_request", right)
        name, value = match[1].lower(), match[2].strip(b" \t")
        headers.append((name, value))
        if name in _FRAMING:
            if name in known:
                _check_twice(name, known[name], value)
            known[name] = value
    if version not in (b"1.1", b"1.0"):
        raise Refusal("version_not_supported", "the first line must be `METHOD /path HTTP/1.1`")
    if not target.startswith(b"/"):
        target = _path_of_other_form(method, target, version, headers, known)
    if b"#" in target:
        raise Refusal("bad_request", "the request's target may not have a fragment: leave out what begins with `#`")
    return _framed(method, target, version, headers, known)


def _path_of_other_form(
    method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]], known: dict[bytes, bytes]
) -> bytes:
    """The path of a target in absolute form, whose host takes the place of the header's (RFC 9112 §3.2.2); or `*`."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        right = "the request's target must be a path that begins with `/`, a URL, or for OPTIONS `*`"
        raise Refusal("bad_request", right)
    host, path = match.groups()
    if not host or host.startswith(b":") or not _HOST.fullmatch(host):
        raise Refusal("bad_request", "the URL in the request's first line must have a host, and no user")
    if b"host" in known:
        at = next(at for at, (name, _) in enumerate(headers) if name == b"host")
        headers[at] = (b"host", host)
        known[b"host"] = host
    elif version == b"1.0":
        headers.append((b"host", host))
    if not path and method == b"OPTIONS":
        return b"*"  # as a proxy that sends it on would have it (RFC 9112 §3.2.4)
    return path if path.startswith(b"/") else b"/" + path


_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})
"""The fields on which it depends where a request ends, and what follows it."""


def _check_twice(name: bytes, first: bytes, second: bytes) -> None:
    """Refusal where a field that stands there twice has two readings."""
    if name == b"host":
        raise Refusal("bad_request", "send one Host header, not several")
    if name == b"content-length" and first != second:
        raise Refusal("bad_request", "send one Content-Length header, not several that differ")
    if name == b"transfer-encoding":
        raise Refusal("not_implemented", "send `Transfer-Encoding: chunked` once, or a Content-Length")


def _framed(
    method: bytes, target: bytes, version: bytes, headers: list[tuple[bytes, bytes]], known: dict[bytes, bytes]
) -> Request:
    host = known.get(b"host")
    if host is None and version == b"1.1":
        raise Refusal("bad_request", "send a Host header")
    if host and not _HOST.fullmatch(host):
        raise Refusal("bad_request", "the Host header must be `name` or `name:port`")
    keeps_alive = version == b"1.1"
    if len(known) == 1 and host is not None:  # nearly all
        return Request(method, target, version, headers, keeps_alive=keeps_alive)
    size = 0
    length, coding, expectation = known.get(b"content-length"), known.get(b"transfer-encoding"), known.get(b"expect")
    if coding is not None:
        if length is not None:
            raise Refusal("bad_request", "send Content-Length or Transfer-Encoding, not both")
        if version == b"1.0":
            raise Refusal("bad_request", "HTTP/1.0 has no Transfer-Encoding: send a Content-Length")
        if coding.lower() != b"chunked":
            raise Refusal("not_implemented", "of transfer encodings only `chunked` is understood")
    elif length is not None:
        if not _SIZE.fullmatch(length):
            raise Refusal("bad_request", "Content-Length must be a whole number of bytes")
        size = int(length)
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Refusal("expectation_failed", "of expectations only `100-continue` is understood")
    if b"connection" in known:
        options = [value for name, value in headers if name == b"connection"]
        if b"close" in (option.strip().lower() for option in b",".join(options).split(b",")):
            keeps_alive = False
    return Request(
        method,
        target,
        version,
        headers,
        size,
        coding is not None,
        keeps_alive,
        expectation is not None and version == b"1.1" and (size > 0 or coding is not None),
    )


def path_of(target: bytes) -> tuple[str, bytes, bytes]:
    """Decoded path, path as sent and query of a target. What is not UTF-8 comes out as U+FFFD."""
    raw, _, query = target.partition(b"?")
    path = unquote_to_bytes(raw).decode("utf-8", "replace") if b"%" in raw else raw.decode("ascii")
    return path, raw, query


class SizedBody:
    """Takes a body of a known length off a buffer."""

    def __init__(self, size: int, limit: int) -> None:
        if size > limit:
            raise Refusal("too_large", f"a body may have {limit} bytes, this one has {size}")
        self._size = size
        self.body = bytearray()

    def feed(self, buffer: bytearray) -> bool:
        """Take what belongs to the body; whether it is whole."""
        part = buffer[: self._size - len(self.body)]
        del buffer[: len(part)]
        self.body += part
        return len(self.body) == self._size


class ChunkedBody:
    """Takes a chunked body off a buffer (RFC 9112 §7.1), strictly; extensions and trailers are dropped."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = 0
        """Bytes of the current chunk still to come, its CR LF included."""
        self._overhead = 0
        self._trailer: int | None = None
        """Bytes of the trailer so far; None before it."""
        self.body = bytearray()

    def feed(self, buffer: bytearray) -> bool:
        """Take what belongs to the body; whether it is whole."""
        while True:
            if self._left:
                if not self._take_data(buffer):
                    return False
                continue
            line = self._take_line(buffer)
            if line is None:
                return False
            if self._trailer is None:
                self._begin_chunk(line)
            elif not line:
                return True
            else:
                self._trailer += len(line) + 2
                if self._trailer > TRAILER_LIMIT:
                    raise Refusal("headers_too_large", f"trailers may have {TRAILER_LIMIT} bytes")

    def _take_line(self, buffer: bytearray) -> bytes | None:
        limit = CHUNK_LINE_LIMIT if self._trailer is None else TRAILER_LIMIT
        end = buffer.find(b"\r\n", 0, limit + 2)
        line = bytes(buffer[: end if end >= 0 else limit + 2])
        if b"\n" in line or (end < 0 and len(line) > limit + 1):
            raise Refusal("bad_request", f"in a chunked body a line must end with CR LF, within {limit} bytes")
        if end < 0:
            return None
        if b"\r" in line or len(line.translate(None, _CONTROLS)) != end:
            raise Refusal("bad_request", "a chunked body's lines may not hold control characters")
        del buffer[: end + 2]
        return line

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None:
            raise Refusal("bad_request", "a chunk must begin with its size in hexadecimal digits")
        size = int(match[1], 16)
        if len(self.body) + size > self._limit:
            raise Refusal("too_large", f"a body may have {self._limit} bytes")
        self._overhead += len(line) + 4
        if self._overhead > OVERHEAD + len(self.body):
            raise Refusal("bad_request", "the body's chunks are too small: send larger ones")
        if size:
            self._left = size + 2
        else:
            self._trailer = 0

    def _take_data(self, buffer: bytearray) -> bool:
        """Whether the current chunk is whole, its CR LF included."""
        if self._left > 2:
            part = buffer[: self._left - 2]
            del buffer[: len(part)]
            self.body += part
            self._left -= len(part)
        if self._left > 2 or len(buffer) < 2:
            if self._left == 2 and buffer and buffer[0] != 13:
                raise Refusal("bad_request", "a chunk is longer than its size says")
            return False
        if not buffer.startswith(b"\r\n"):
            raise Refusal("bad_request", "a chunk is longer than its size says")
        del buffer[:2]
        self._left = 0
        return True


def body_of(request: Request, limit: int) -> SizedBody | ChunkedBody | None:
    """What takes the request's body off the buffer; None where it has none. Refusal where it is over `limit`."""
    if request.is_chunked:
        return ChunkedBody(limit)
    return SizedBody(request.size, limit) if request.size else None
