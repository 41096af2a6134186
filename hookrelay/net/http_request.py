"""Bytes into one HTTP/1.1 request, more strictly than h11 alone is, and the refusals that follow from them.

No socket and no clock: `serve` reads, this decides. What h11 lets pass and RFC 9112 does not (bare LF, folded lines,
Content-Length with Transfer-Encoding, lenient trailers) is how two servers come to see two different requests.
"""

import re
from urllib.parse import unquote_to_bytes

import h11
import msgspec

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

_H11_SAYS = {
    "illegal request line": "the first line must be `METHOD /path HTTP/1.1`",
    "illegal header line": "every header line must be `Name: value`, without a space before the colon",
    "Missing mandatory Host": "send a Host header",
    "Found multiple Host": "send one Host header, not several",
    "conflicting Content-Length headers": "send one Content-Length header, not several that differ",
    "bad Content-Length": "Content-Length must be a whole number of bytes",
    "multiple Transfer-Encoding headers": "send `Transfer-Encoding: chunked` once, or a Content-Length",
    "Only Transfer-Encoding": "of transfer encodings only `chunked` is understood",
}


class Refusal(Exception):
    """The request cannot be read: the answer says why, and the connection ends with it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


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
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        % (status, REASONS[status], len(body))
    )
    return head + body if with_body else head


def take_head(buffer: bytearray, limit: int, max_fields: int) -> bytes | None:
    """Take a whole header block off the front of `buffer`; None while it is not whole. Refusal where it cannot be.

    What can never become a header block is refused at once, not when its time is up.
    """
    if buffer.startswith(b"\r\n"):
        del buffer[:2]  # an empty line before a request is to be ignored (RFC 9112 §2.2)
    end = buffer.find(b"\r\n\r\n") + 4
    if end > limit or (end < 4 and len(buffer) >= limit):
        raise Refusal("headers_too_large", f"the header block may have {limit} bytes, blank line included")
    if end < 4:
        if buffer and buffer[0] <= 32 and buffer != b"\r":
            raise Refusal("bad_request", "this is not HTTP: speak plain HTTP/1.1 here, without TLS")
        if buffer.count(b"\n") != buffer.count(b"\r\n"):
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


def read_head(protocol: h11.Connection, head: bytes) -> h11.Request:
    """The request that `head` opens. Refusal where RFC 9112 has two readings of it, or we have none."""
    try:
        protocol.receive_data(head)
        request = protocol.next_event()
    except h11.RemoteProtocolError as error:
        said = str(error).partition(":")[0]
        code = "not_implemented" if error.error_status_hint == 501 else "bad_request"
        raise Refusal(code, _H11_SAYS.get(said, "the header block is not that of an HTTP/1.1 request")) from None
    if type(request) is not h11.Request:
        raise Refusal("bad_request", "the header block is not that of an HTTP/1.1 request")
    if request.http_version not in (b"1.1", b"1.0"):
        raise Refusal("version_not_supported", "the first line must be `METHOD /path HTTP/1.1`")
    if not request.target.startswith(b"/") or b"#" in request.target:
        raise Refusal("bad_request", "the request's target must be a path that begins with `/`, without a fragment")
    _check_fields(request)
    return request


def _check_fields(request: h11.Request) -> None:
    names = [name for name, _ in request.headers]
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            raise Refusal("bad_request", "send Content-Length or Transfer-Encoding, not both")
        if request.http_version == b"1.0":
            raise Refusal("bad_request", "HTTP/1.0 has no Transfer-Encoding: send a Content-Length")
    for name, value in request.headers:
        if name == b"host" and not _HOST.fullmatch(value):
            raise Refusal("bad_request", "the Host header must be `name` or `name:port`")
        if name == b"expect" and value.lower() != b"100-continue":
            raise Refusal("expectation_failed", "of expectations only `100-continue` is understood")


def field(request: h11.Request, name: bytes) -> bytes | None:
    """The value of the first header field called `name` (in lower case)."""
    for each, value in request.headers:
        if each == name:
            return value
    return None


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

    def framed(self) -> bytes:
        """The body as it goes to h11."""
        return bytes(self.body)


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

    def framed(self) -> bytes:
        """The body as it goes to h11: in one chunk, however it came."""
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.body), bytes(self.body)) if self.body else b"0\r\n\r\n"

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


def body_of(request: h11.Request, limit: int) -> SizedBody | ChunkedBody | None:
    """What takes the request's body off the buffer; None where it has none. Refusal where it is over `limit`."""
    if field(request, b"transfer-encoding") is not None:
        return ChunkedBody(limit)
    size = field(request, b"content-length")
    return SizedBody(int(size), limit) if size is not None and int(size) else None
