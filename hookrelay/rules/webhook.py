"""Is this a well-formed webhook, and what does it say once every default is filled in?

Serves files and API alike: plain values in, `Webhook` or every mistake out. Where a URL may lead is
`rules.egress`'s question; where a mistake stands in a file is `config`'s.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hookrelay.model import FieldError, Trust, Webhook, WebhookFields, WebhookStatus, random_ulid
from hookrelay.rules.egress import Policy, target
from hookrelay.rules.egress_url import as_stored, check_url
from hookrelay.rules.pattern import RIGHT_PATTERN, RIGHT_TENANT, TYPE_LENGTH, is_pattern, is_tenant
from hookrelay.rules.webhook_texts import (
    DEFAULT_RETRY,
    MAX_WAITS,
    RETRY_EXAMPLE,
    check_max_in_flight,
    check_rate,
    decode_secret,
    parse_retry,
    parse_timeout,
    parse_wait,
)
from hookrelay.rules.wording import MISTAKES_MOST, got, shown, unknown
from hookrelay.units import parse_duration

__all__ = [
    "DEFAULT_RETRY",
    "Defaults",
    "check",
    "check_json",
    "decode_secret",
    "file_webhook_id",
    "parse_retry",
    "read",
    "resolve",
]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_HALF_STAR = re.compile(r"[A-Za-z0-9_-]\*|\*[A-Za-z0-9_-]")
_MAX_EVENTS = 1000
_MAX_HEADERS = 32
_MAX_METADATA = 4096
_MAX_DEPTH = 64
_OURS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"),
        *("content-type", "accept-encoding", "user-agent", "idempotency-key"),
    }
)


class Defaults(Struct, frozen=True):
    """What a webhook that does not say gets: the `delivery.*` settings."""

    timeout_s: float = 30.0
    retry: tuple[str, ...] | str = DEFAULT_RETRY
    max_in_flight: int = 8
    rate_limit: str | None = None


# --- a whole webhook --------------------------------------------------------------------------------------------


def read(
    values: Mapping[str, object], *, policy: Policy, also: Collection[str] = (), is_operator: bool = True
) -> tuple[WebhookFields | None, list[FieldError]]:
    """Webhook fields from decoded JSON or TOML: the fields where nothing is wrong, else None and every mistake.

    The URL comes back as it is to be kept (`as_stored`). `also` names keys that the caller reads itself;
    they are passed over, and suggested for misspelt ones.
    """
    strange = islice((key for key in values if key not in _FIELDS and key not in also), MISTAKES_MOST)
    errors = [FieldError(key[:64], unknown(key[:64], [*_FIELDS, *also])) for key in strange]
    good: dict[str, Any] = {}
    for name, (kind, required, _, example) in _FIELDS.items():
        if name not in values:
            if required:
                errors.append(FieldError(name, f"is missing: every webhook needs one, such as {example}"))
            continue
        wrong = list(islice(_type_errors(name, values[name]), MISTAKES_MOST))
        errors += wrong
        if not wrong:
            good[name] = values[name]
        elif _CHECKS[kind](values[name]):
            good[name] = _right_items(name, values[name])
    if "url" in good:
        try:
            good["url"] = as_stored(good["url"])
        except ValueError as error:
            errors.append(FieldError("url", str(error)))
            del good["url"]
    # a stand-in for what is missing or unusable lets the rest be checked as well
    fields = WebhookFields(**{"url": "https://example.com/", "events": ["*"], **good})
    errors += check(fields, policy=policy, is_operator=is_operator)
    return (None if errors else fields), errors


def check(fields: WebhookFields, *, policy: Policy, is_operator: bool = True) -> list[FieldError]:
    """Every mistake in fields that have the right types, each with what would be right.

    Whoever is no operator is not told where names lead, nor what operators have set.
    """
    errors: list[FieldError] = []
    if (wrong := check_url(fields.url, policy, is_operator=is_operator)) is not None:
        errors.append(FieldError("url", wrong))
    errors += _event_errors(fields.events)
    if len(fields.description) > 1024:
        errors.append(FieldError("description", f"is {len(fields.description)} characters long: at most 1024"))
    if not is_tenant(fields.tenant):
        errors.append(FieldError("tenant", f"{shown(fields.tenant)} is not a tenant: {RIGHT_TENANT}"))
    errors += _caught("secret", decode_secret, fields.secret)
    errors += _caught("rate_limit", check_rate, fields.rate_limit)
    errors += _caught("max_in_flight", check_max_in_flight, fields.max_in_flight)
    errors += _caught("timeout", parse_timeout, fields.timeout)
    errors += _retry_errors(fields.retry)
    errors += _header_errors(fields.headers)
    errors += _caught("metadata", _check_metadata, fields.metadata)
    return errors


def resolve(
    fields: WebhookFields,
    *,
    id: str,
    source: str,
    defaults: Defaults,
    secrets: tuple[bytes, ...],
    status: WebhookStatus = "active",
    held: Literal["deliver", "discard"] = "deliver",
    trust: Trust | None = None,
    name: str = "",
) -> Webhook:
    """The webhook in force that checked `fields` describe. `secrets` sign, newest first."""
    retry = defaults.retry if fields.retry is None else fields.retry
    if not isinstance(retry, str):
        retry = tuple(retry)
    return Webhook(
        id=id,
        name=name,
        tenant=fields.tenant,
        url=fields.url,
        events=tuple(fields.events),
        description=fields.description,
        status=status,
        rate_limit=defaults.rate_limit if fields.rate_limit is None else fields.rate_limit,
        max_in_flight=defaults.max_in_flight if fields.max_in_flight is None else fields.max_in_flight,
        timeout_s=defaults.timeout_s if fields.timeout is None else parse_duration(fields.timeout),
        retry=retry,
        delays=_delays(retry),
        headers=tuple(fields.headers.items()),
        ordered=fields.ordered,
        metadata=fields.metadata,
        secrets=secrets,
        trust=trust,
        held=held,
        source=source,
    )


def called(webhook: Webhook) -> str:
    """What people call it: its name in a file, or its URL's host; path and query may carry a token."""
    return webhook.name or target(webhook.url).host


def told(webhook: Webhook) -> dict[str, str]:
    """Which webhook it is, as a line of the log says it."""
    return {"webhook": webhook.id, "webhook_name": called(webhook), "tenant": webhook.tenant}


def file_webhook_id(name: str) -> str:
    """The id of the webhook called `name` in a file: the same at every start, whatever else changes.

    A ULID of time zero, so that it sorts first and can never be one that the store makes.
    """
    return "wh_" + random_ulid(0, int.from_bytes(hashlib.sha256(name.encode()).digest()[:10], "big"))


def check_json(value: object) -> None:
    """`value` can be written as JSON, and is not nested deeper than events may be. ValueError says what is right."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, float) and not math.isfinite(each):
                raise ValueError("holds inf or nan, which JSON lacks: write a number or text")
            elif isinstance(each, int) and abs(each) >= 1 << 63:
                raise ValueError("holds an integer beyond 64 bits: write it as text")
            elif each is not None and not isinstance(each, str | int | float):
                raise ValueError(f'holds {got(each)}, which JSON lacks: write it as text, such as "2026-02-26"')
        if not below:
            return
        level = below
    raise ValueError(f"is nested more than {_MAX_DEPTH} deep: make it flatter")


# --- types ------------------------------------------------------------------------------------------------------


_CHECKS: dict[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "texts": lambda value: isinstance(value, list),
    "pairs": lambda value: isinstance(value, dict),
    "count": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "flag": lambda value: isinstance(value, bool),
    "retry": lambda value: isinstance(value, str | list),
}

_FIELDS: dict[str, tuple[str, bool, str, str]] = {
    # field: kind, required, what it is, an example
    "url": ("text", True, "a URL", '"https://example.com/hooks"'),
    "events": ("texts", True, "a list of event types", '["booking.created", "payment.*"]'),
    "description": ("text", False, "text", '"Bookings for the accounts"'),
    "tenant": ("text", False, "a tenant's name", '"acme"'),
    "secret": ("text", False, "a secret", '"whsec_" and base64'),
    "rate_limit": ("text", False, "a rate", '"10/s"'),
    "max_in_flight": ("count", False, "a whole number", "8"),
    "timeout": ("text", False, "a duration", '"30s"'),
    "retry": ("retry", False, "a list of durations or an exponential", RETRY_EXAMPLE),
    "headers": ("pairs", False, "a table of header names and texts", "x-source and hookrelay"),
    "ordered": ("flag", False, "true or false", "true"),
    "metadata": ("pairs", False, "a table (a JSON object)", 'team = "billing"'),
}
_NULLABLE = {field.name for field in msgspec.structs.fields(WebhookFields) if field.default is None}


def _type_errors(name: str, value: object) -> Iterator[FieldError]:
    kind, _, noun, example = _FIELDS[name]
    if value is None and name in _NULLABLE:
        return
    if not _CHECKS[kind](value):
        yield FieldError(name, f"expected {noun} such as {example}, got {got(value)}")
    elif isinstance(value, list):
        item = '"booking.created"' if name == "events" else '"5m"'
        for index, each in enumerate(value):
            if not isinstance(each, str):
                yield FieldError(f"{name}.{index}", f"expected text such as {item}, got {got(each)}")
    elif isinstance(value, dict) and name == "headers":
        for key, each in value.items():
            if not isinstance(each, str):
                yield FieldError(f"{name}.{key[:64]}", f'expected text such as "hookrelay", got {got(each)}')


def _right_items(name: str, value: Any) -> Any:
    """A value of which only some items have the right type, so that the others' mistakes are told as well."""
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if isinstance(each, str)}
    return [
        each if isinstance(each, str) else (f"x{index}" if name == "events" else "1s")
        for index, each in enumerate(value)
    ]


# --- rules ------------------------------------------------------------------------------------------------------


def _caught(field: str, parse: Callable[[Any], object], value: object) -> Iterator[FieldError]:
    if value is not None:
        try:
            parse(value)
        except ValueError as error:
            yield FieldError(field, str(error))


def _event_errors(events: list[str]) -> Iterator[FieldError]:
    if not events:
        yield FieldError("events", 'is empty: name event types such as "booking.created", or "*" for all')
    if len(events) > _MAX_EVENTS:
        yield FieldError("events", f'has {len(events)} entries: at most {_MAX_EVENTS}; "booking.*" stands for many')
        return
    seen: set[str] = set()
    for index, text in enumerate(events):
        if text in seen:
            yield FieldError(f"events.{index}", f"{shown(text)} stands there twice: once is enough")
        seen.add(text)
        if len(text) > TYPE_LENGTH:
            yield FieldError(f"events.{index}", f"is {len(text)} characters long: at most {TYPE_LENGTH}")
        elif not is_pattern(text):
            what = "has * within a word" if _HALF_STAR.search(text) else "is not an event type"
            yield FieldError(f"events.{index}", f"{shown(text)} {what}: write {RIGHT_PATTERN}")


def _retry_errors(retry: list[str] | str | None) -> Iterator[FieldError]:
    if not isinstance(retry, list) or len(retry) > MAX_WAITS:
        yield from _caught("retry", parse_retry, retry)
    else:
        for index, text in enumerate(retry):
            yield from _caught(f"retry.{index}", parse_wait, text)


def _header_errors(headers: dict[str, str]) -> Iterator[FieldError]:
    if len(headers) > _MAX_HEADERS:
        yield FieldError("headers", f"has {len(headers)} entries: at most {_MAX_HEADERS}")
        return
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            yield FieldError(
                "headers",
                f"{shown(name)} is not a header's name: 1 to 128 letters, digits and -, such as x-source",
            )
        elif lower in _OURS or lower.startswith(("proxy-", "webhook-")):
            yield FieldError(f"headers.{name[:64]}", "is set by hookrelay alone: use another name, such as x-source")
        elif lower in seen:
            yield FieldError(f"headers.{name[:64]}", "stands there twice: names differ by more than case")
        seen.add(lower)
        # the value stays unsaid: it may be a password
        if len(value) > 4096:
            yield FieldError(f"headers.{name[:64]}", f"is {len(value)} characters long: at most 4096")
        elif not _VALUE.fullmatch(value):
            yield FieldError(
                f"headers.{name}",
                "has a character that no header may hold: printable ASCII without space at either end, "
                'such as "Bearer abc"',
            )


def _check_metadata(metadata: dict[str, Any]) -> None:
    check_json(metadata)
    size = len(msgspec.json.encode(metadata))
    if size > _MAX_METADATA:
        raise ValueError(f"is {size} bytes as JSON: at most {_MAX_METADATA}")


# ten thousand webhooks share a handful of schedules
_delays = lru_cache(maxsize=256)(parse_retry)
