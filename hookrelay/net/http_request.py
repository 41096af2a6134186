"""What a request's head may look like: everything two readers could disagree about is refused (RFC 9112)."""

import json
import re

from msgspec import Struct

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,15}")


TITLES = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}
"""Statuses that the server answers by itself, with their phrases (RFC 9110 §15, RFC 6585 §5)."""


class BadRequest(Exception):
    """The request cannot be taken: the connection ends after this answer."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Head(Struct, frozen=True):
    """A request's head, found to be unambiguous."""

    method: bytes
    target: bytes
    length: int | None
    """Of the body; None where it is chunked."""
    wants_continue: bool


def check(block: bytes, count_limit: int) -> Head:
    """Judge a head, given without its blank line. Raises BadRequest."""
    request_line, *lines = block.split(b"\r\n")
    if len(lines) > count_limit:
        raise BadRequest(431, "too_large", f"over {count_limit} header fields")
    method, target, version = _request_line(request_line)
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, value = _field(line)
        fields.setdefault(name, []).append(value)
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version == b"HTTP/1.1"):
        raise _bad(f"{len(hosts)} Host fields where there must be one")
    expect = fields.get(b"expect", [])
    if expect and [value.lower() for value in expect] != [b"100-continue"]:
        raise BadRequest(417, "expectation_failed", "the only expectation there is is 100-continue")
    return Head(method, target, _length(fields, version), bool(expect) and version == b"HTTP/1.1")


def problem(status: int, title: str, code: str, detail: str) -> bytes:
    """The body of an answer that the server gives itself (RFC 9457)."""
    return json.dumps(
        {
            "type": f"urn:hookrelay:problem:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "errors": [],
        }
    ).encode()


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = line.split(b" ")
    if len(parts) != 3 or not _TOKEN.fullmatch(parts[0]) or not re.fullmatch(rb"[\x21-\x7e]+", parts[1]):
        raise _bad("the request line is not METHOD /path HTTP/1.1")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise _bad("the request line does not end with HTTP/1.1 or HTTP/1.0")
    if not target.startswith(b"/"):
        raise _bad("the request target is not a path that begins with /")
    return method, target, version


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name):
        raise _bad("a header line is folded, or has no name before its colon")
    if not _VALUE.fullmatch(value):
        raise _bad("a header value holds a control character")
    return name.lower(), value.strip(b" \t")


def _length(fields: dict[bytes, list[bytes]], version: bytes) -> int | None:
    lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise _bad("Content-Length and Transfer-Encoding together")
        if version == b"HTTP/1.0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise BadRequest(501, "not_implemented", "the only transfer coding here is chunked, with HTTP/1.1")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise _bad("Content-Length must stand once, as a whole number")
    return int(lengths[0])


def _bad(detail: str) -> BadRequest:
    return BadRequest(400, "invalid_request", detail)
