"""Errors as RFC 9457 problems: one table from what went wrong to what is answered (contract §4)."""

from collections.abc import Sequence

import msgspec

from hookrelay.model import FieldError, Refused
from hookrelay.rules.wording import MISTAKES_MOST
from hookrelay.web.http import Answer, Coded

TITLES: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "The body is not JSON"),
    "unauthorized": (401, "A valid key is needed"),
    "bad_request": (400, "The request is not understood"),
    "forbidden": (403, "The key does not allow this"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The method does not exist here"),
    "file_managed": (409, "The webhook is defined in a file"),
    "idempotency_conflict": (409, "The idempotency key was used for other content"),
    "limit_reached": (409, "There are as many as there may be"),
    "conflict": (409, "It is not in a state for that"),
    "precondition_failed": (412, "It was changed meanwhile"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body's type is not understood"),
    "wrong_host": (421, "This server does not answer for that host"),
    "invalid_field": (422, "A field is not right"),
    "invalid_event": (422, "The event is not well-formed"),
    "unknown_event_type": (422, "The catalogue does not know the event type"),
    "invalid_configuration": (422, "The files have mistakes"),
    "rate_limited": (429, "Too many requests"),
    "unavailable": (503, "Not just now"),
    "store_full": (503, "There is no room for it just now"),
    "store_damaged": (500, "The store is damaged"),
    "internal_error": (500, "A fault of ours"),
}


class Problem(Answer):
    """An answer that says what is wrong and what would be right."""

    __slots__ = ()

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        status, title = TITLES[code]
        content = {
            "type": f"urn:hookrelay:problem:{code}",
            "title": title,
            "status": status,
            "detail": detail,
            "code": code,
            "errors": [{"field": error.field, "detail": error.detail} for error in errors],
        }
        super().__init__(
            msgspec.json.encode(content), status=status, media_type="application/problem+json", headers=headers
        )


def problem_of(error: Refused) -> Problem:
    """The answer to a `Refused`."""
    errors = error.errors
    if error.field is not None and not errors:
        errors = (FieldError(error.field, error.detail),)
    return Problem(error.code, error.detail, errors[:MISTAKES_MOST], headers_of(error))


def headers_of(error: Refused) -> dict[str, str]:
    """What the answer to a `Refused` says beside its body."""
    if isinstance(error, Coded):
        return {"accept-encoding": "identity"}  # RFC 9110 §12.5.3: only where a coding is to blame
    return {"retry-after": "5"} if TITLES[error.code][0] in (429, 503) else {}
