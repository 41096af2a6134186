"""`/v1/webhooks`: what customers do with their webhooks."""

import hashlib
from base64 import b64encode
from collections.abc import Callable

import msgspec
from msgspec import Raw, structs

from hookrelay.model import FieldError, Refused
from hookrelay.model import Webhook as InForce
from hookrelay.redeliver import Replay
from hookrelay.rules.pattern import is_event_type, is_tenant, sample_type
from hookrelay.rules.same import spelled
from hookrelay.rules.webhook import decode_secret
from hookrelay.rules.webhook_texts import read_duration
from hookrelay.rules.wording import got, shown
from hookrelay.store import events
from hookrelay.units import format_duration, format_time
from hookrelay.web import body
from hookrelay.web.api import models
from hookrelay.web.api.deliveries import one_delivery
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.query import listed, read_moment

KEY_WINDOW_MS = 24 * 3_600_000
"""How long an Idempotency-Key of a request that made a webhook counts."""
OVERLAP_MOST_S = 30 * 86_400
STATES = ("failed", "cancelled", "succeeded")


async def collection(call: Call) -> Answer:
    """GET: the webhooks, by id"""
    query = call.query("limit", "cursor", "status", "q")
    window = query.window("webhooks")
    status = query.word("status", ("active", "paused", "disabled"))
    text = (query.text("q") or "").lower()
    query.done()
    found = (
        webhook
        for webhook in call.webhooks(window.after)
        if (status is None or webhook.status == status) and (not text or _mentions(webhook, text))
    )
    rows, has_more = window.cut(found)
    last = rows[-1].id if has_more else None
    return json_answer(listed([_encoded(webhook) for webhook in rows], "webhooks", last))


async def create(call: Call) -> Answer:
    """POST: a new webhook; its secret is in the answer, and nowhere else"""
    call.query().done()
    content = await body.read_bytes(call.request, body.JSON)
    values = body.decode_object(content)
    named = values.get("tenant")
    if isinstance(named, str) and call.request.parameter("tenant") not in (None, named):
        raise Refused("invalid_field", "?tenant= and the field tenant name two: keep one of them", field="tenant")
    # what is no tenant's name is told with all other mistakes
    tenant = call.allowed_tenant(named) if isinstance(named, str) and is_tenant(named) else call.tenant()
    if tenant is not None and "tenant" not in values:
        values["tenant"] = tenant
    webhook, secret = await call.parts.editor.create(
        values, _request_key(call, tenant or "default", content), by=call.actor
    )
    headers = {"etag": etag(webhook), "location": f"/v1/webhooks/{webhook.id}"}
    answer = show(webhook) if secret is None else structs.replace(show(webhook), secret=secret)
    return json_answer(answer, 201, headers)


async def one(call: Call) -> Answer:
    """GET: one webhook"""
    query = call.query("include")
    include = query.word("include", ("waiting",))
    query.done()
    webhook = call.webhook()
    tag = etag(webhook)
    if include is None and tag in _tags(call.request.header(b"if-none-match")):
        return Answer(status=304, headers={"etag": tag})
    if include is None:
        return json_answer(_encoded(webhook), headers={"etag": tag})
    answer = structs.replace(show(webhook), waiting=models.Waiting(**call.parts.waiting(webhook)))
    return json_answer(answer, headers={"etag": tag})


async def update(call: Call) -> Answer:
    """PATCH: change what the body names (RFC 7396)"""
    call.query().done()
    webhook = call.webhook()
    patch = await body.read_object(call.request, body.JSON, body.MERGE_PATCH)
    changed = await call.parts.editor.update(webhook, patch, _is_expected(call), by=call.actor)
    return json_answer(show(changed), headers={"etag": etag(changed)})


async def delete(call: Call) -> Answer:
    """DELETE: what waits is cancelled, the history stays"""
    call.query().done()
    await call.parts.editor.delete(call.webhook(), _is_expected(call), by=call.actor)
    return Answer(status=204)


async def rotate(call: Call) -> Answer:
    """POST: another secret; the one before signs beside it until the overlap ends"""
    call.query().done()
    webhook = call.webhook()
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, models.RotateWish.__struct_fields__, errors)
    overlap, secret = values.get("overlap", "24h"), values.get("secret")
    overlap_s = 0.0
    try:
        overlap_s = read_duration(_text(overlap, "a duration", "24h"))
        if overlap_s > OVERLAP_MOST_S:
            errors.append(FieldError("overlap", f'{shown(overlap)} is out of range: from "0s" to "30d", such as "24h"'))
    except ValueError as error:
        errors.append(FieldError("overlap", str(error)))
    try:
        if secret is not None:
            decode_secret(_text(secret, "a secret", "whsec_ and base64"))
    except ValueError as error:
        errors.append(FieldError("secret", str(error)))
    body.refuse(errors)
    rotated = await call.parts.editor.rotate(webhook, overlap_s, secret, _is_expected(call), by=call.actor)
    until_ms = rotated.previous_until_ms
    answer = structs.replace(
        show(rotated.webhook),
        secret=rotated.text,
        previous_secret_until=None if until_ms is None else format_time(until_ms),
    )
    return json_answer(answer, headers={"etag": etag(rotated.webhook)})


async def test(call: Call) -> Answer:
    """POST: one attempt now, whatever becomes of it"""
    call.query().done()
    webhook = call.webhook()
    content = await body.read_bytes(call.request, body.JSON)
    values = body.decode_object(content)
    errors: list[FieldError] = []
    body.check_known(values, models.TrialWish.__struct_fields__, errors)
    catalogue = {event_type.name: event_type for event_type in call.parts.config().event_types}
    type = values.get("type", default_type(webhook))
    if not (isinstance(type, str) and is_event_type(type)):
        what = shown(type) if isinstance(type, str) else got(type)
        errors.append(FieldError("type", f'{what} is not an event type: write one such as "booking.created"'))
    elif call.parts.config().events.closed_catalogue and "type" in values and type not in catalogue:
        errors.append(FieldError("type", f"{shown(type)} is not in the catalogue: GET /v1/event-types lists it"))
    body.refuse(errors)
    if "data" in values:
        data = bytes(msgspec.json.decode(content, type=dict[str, Raw])["data"])
    else:
        data = example_of(call, type)
    seq = await call.unless_gone(call.parts.redeliverer.test(webhook, type, data, by=call.actor))
    return json_answer(await one_delivery(call, seq))


async def replay(call: Call) -> Answer:
    """POST: have past deliveries made anew"""
    call.query().done()
    webhook = call.webhook()
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, models.ReplayWish.__struct_fields__, errors)
    now_ms = call.now_ms()
    times = {"since": 0, "until": now_ms}
    for name in times:
        value = values.get(name)
        try:
            if value is not None:
                times[name] = min(read_moment(_text(value, "a time", "2026-02-26T10:00:00Z"), now_ms), now_ms)
            elif name == "since":
                right = 'a time such as "2026-02-26T10:00:00Z", or how long ago, such as "24h"'
                errors.append(FieldError(name, f"is missing: {right}"))
        except ValueError as error:
            errors.append(FieldError(name, str(error)))
    states = values.get("status", ["failed"])
    if not isinstance(states, list) or not states or any(state not in STATES for state in states):
        errors.append(FieldError("status", f'a list of some of {", ".join(STATES)}, such as ["failed"]'))
    type = values.get("type")
    if type is not None and not (isinstance(type, str) and is_event_type(type)):
        errors.append(FieldError("type", 'an event type, such as "booking.created"'))
    dry_run = values.get("dry_run", False)
    if not isinstance(dry_run, bool):
        errors.append(FieldError("dry_run", f"expected true or false, got {got(dry_run)}"))
    body.refuse(errors)
    wanted = Replay(since_ms=times["since"], until_ms=times["until"], states=tuple(dict.fromkeys(states)), type=type)
    count = await call.parts.redeliverer.replay(webhook, wanted, dry_run=dry_run, by=call.actor)
    return json_answer(models.Replayed(count))


# --- how it is shown --------------------------------------------------------------------------------------------


def show(webhook: InForce) -> models.Webhook:
    """A webhook as the API shows it: no secret, and no header's value."""
    return models.Webhook(
        id=webhook.id,
        tenant=webhook.tenant,
        url=webhook.url,
        events=webhook.events,
        description=webhook.description,
        status=webhook.status,
        disabled_reason=webhook.disabled_reason,
        rate_limit=webhook.rate_limit,
        max_in_flight=webhook.max_in_flight,
        timeout=format_duration(webhook.timeout_s),
        retry=webhook.retry,
        headers={name: "***" for name, _ in webhook.headers},
        ordered=webhook.ordered,
        metadata=webhook.metadata,
        secret_hint=b64encode(webhook.secrets[0]).decode()[-4:] if webhook.secrets else "",
        source=webhook.source,
        created_at=format_time(webhook.created_ms),
        updated_at=format_time(webhook.updated_ms),
    )


_kept: dict[str, tuple[InForce, Raw]] = {}
"""How webhooks were shown last, by id: making it anew for each list is most of what a list costs."""
_KEPT_MOST = 10_000


def _encoded(webhook: InForce) -> Raw:
    """`show`, as JSON."""
    kept = _kept.get(webhook.id)
    if kept is not None and kept[0] is webhook:
        return kept[1]
    if len(_kept) >= _KEPT_MOST:
        _kept.clear()
    text = Raw(msgspec.json.encode(show(webhook)))
    _kept[webhook.id] = webhook, text
    return text


def etag(webhook: InForce) -> str:
    """A strong validator (RFC 9110 §8.8.3): every change gives another, for each has a moment of its own."""
    said = f"{webhook.id} {webhook.updated_ms} {webhook.status} {webhook.max_in_flight} {webhook.timeout_s}"
    more = f"{webhook.rate_limit} {webhook.retry} {webhook.url}"
    return f'"{hashlib.blake2b(f"{said} {more}".encode(), digest_size=9).hexdigest()}"'


# --- what is asked for ------------------------------------------------------------------------------------------


def _is_expected(call: Call) -> Callable[[InForce], bool]:
    given = call.request.header(b"if-match")
    if given is None or given.strip() == "*":
        return lambda webhook: True
    tags = _tags(given)
    return lambda webhook: etag(webhook) in tags


def _tags(header: str | None) -> set[str]:
    return set() if header is None else {tag.strip() for tag in header.split(",")}


def _request_key(call: Call, tenant: str, content: bytes) -> events.Key | None:
    key = call.request.header(b"idempotency-key")
    if key is None:
        return None
    check_idempotency_key(key)
    store, name = call.parts.store, f"POST /v1/webhooks {key}"
    of_bytes, of_value = (
        events.idempotency_key(store.salt, tenant, name, "", each, store.running_ms(), KEY_WINDOW_MS)
        for each in (content, spelled(content) or content)
    )
    return of_value._replace(earlier_fingerprint=of_bytes.fingerprint)


def check_idempotency_key(key: str) -> None:
    """Refused where a header cannot be an idempotency key."""
    if not (0 < len(key) < 256 and key.isascii() and key.isprintable()):
        raise Refused("invalid_field", "the header is 1 to 255 printable ASCII characters", field="Idempotency-Key")


def _mentions(webhook: InForce, text: str) -> bool:
    return any(text in each.lower() for each in (webhook.id, webhook.url, webhook.description))


def default_type(webhook: InForce) -> str:
    """A type that the webhook asked for, as far as it named one."""
    named = min(webhook.events, key=lambda event: "*" in event)
    return "hookrelay.test" if named == "*" else sample_type(named)


def example_of(call: Call, type: str) -> bytes:
    """The data of a test event of this type: the catalogue's example where it has one."""
    found = (each.example for each in call.parts.config().event_types if each.name == type)
    example = next(found, None)
    return msgspec.json.encode({"message": "A test event from hookrelay."} if example is None else example)


def _text(value: object, noun: str, example: str) -> str:
    """The value where it is text. ValueError says what is right."""
    if not isinstance(value, str):
        raise ValueError(f'expected {noun} such as "{example}", got {got(value)}')  # noqa: TRY004 -- a field's mistake
    return value
