"""A request's JSON body: of the right type, well-formed, and shown field by field where it is not what was wanted."""

from collections.abc import Collection, Mapping
from itertools import islice
from math import isinf
from typing import Any

import msgspec

from hookrelay.model import FieldError, Refused
from hookrelay.rules.payload import MAX_DEPTH, is_too_deep
from hookrelay.rules.wording import MISTAKES_MOST, got, shown, unknown
from hookrelay.web.http import Request

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
NDJSON = "application/x-ndjson"
LIMIT = 1 << 20
"""Bytes of any body but NDJSON's: whatever is in it, judging it holds nobody up for long."""


def _number(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise msgspec.DecodeError(f"the number {shown(text)} is out of range")
    return value


# msgspec's own way with large exponents takes 11 µs a number
_decode = msgspec.json.Decoder(float_hook=_number).decode


def media_type(request: Request) -> str:
    """What the body is said to be; JSON where nothing is said."""
    return (request.header(b"content-type") or JSON).partition(";")[0].strip().lower()


async def read_object(request: Request, *types: str) -> dict[str, Any]:
    """The body, a JSON object; an absent body is an empty one. Refused says what is wrong with it."""
    return decode_object(await read_bytes(request, *(types or (JSON,))))


async def read_bytes(request: Request, *types: str) -> bytes:
    """The body's bytes. Refused, without having been read, where it is of none of these types."""
    type = media_type(request)
    if type not in types and request.has_body():
        raise Refused("unsupported_media_type", f"send it with Content-Type: {' or '.join(types)}")
    return await request.body(None if type == NDJSON else LIMIT)


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; empty where that is. Refused says what is wrong with it."""
    if not body.strip():
        return {}
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid_json", f"byte {error.start + 1} is not UTF-8: encode the whole body as UTF-8") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and is_too_deep(body):
        raise Refused("invalid_json", f"the body is nested more than {MAX_DEPTH} levels deep: make it flatter")
    try:
        value = _decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        right = 'the body must be a JSON object, such as {"url": "https://example.com/"}'
        raise Refused("invalid_field", f"{right}, got {got(value)}")
    return value


def check_known(values: Mapping[str, object], known: Collection[str], errors: list[FieldError]) -> None:
    """Tell of fields that nobody reads."""
    strange = islice((name[:64] for name in values if name not in known), MISTAKES_MOST)
    errors += [FieldError(name, unknown(name, known)) for name in strange]


def refuse(errors: list[FieldError]) -> None:
    """Refused("invalid_field") with all of `errors`, where there are any."""
    if errors:
        count = "a field is" if len(errors) == 1 else f"{len(errors)} fields are"
        raise Refused("invalid_field", f"{count} not right: errors says which and why", errors=errors)
