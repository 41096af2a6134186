"""`/v1/deliveries` and `/v1/webhooks/:id/deliveries`: the history, and what people ask of it."""

from typing import Any

from msgspec import UNSET, Raw, structs

from hookrelay import __version__
from hookrelay.model import Event, Refused
from hookrelay.model import Webhook as InForce
from hookrelay.rules import told
from hookrelay.rules.sign import shown_headers
from hookrelay.store import history
from hookrelay.store.chains import BLOCKED_MS
from hookrelay.units import format_time
from hookrelay.web.api import models
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.query import Query, listed

FILTERS = ("limit", "cursor", "status", "type", "since", "until", "response_code")
STATUSES = ("pending", "held", "succeeded", "failed", "cancelled")


async def of_webhook(call: Call) -> Answer:
    """GET: the deliveries of one webhook, newest first, also of one that was deleted"""
    id = call.request.id
    webhook = await call.past_webhook(id)
    if webhook is None:
        raise Refused("not_found", "there is no webhook with this id")
    query = call.query(*FILTERS)
    return await _list(call, query, f"deliveries:{id}", history.Wanted(webhook=webhook))


async def collection(call: Call) -> Answer:
    """GET: the deliveries of all webhooks, newest first; `?status=failed` are the dead letters, tests aside"""
    query = call.query(*FILTERS, "webhook", "event")
    wanted = history.Wanted()
    if (id := query.text("webhook")) is not None:
        webhook = await call.past_webhook(id)
        if webhook is None:
            query.wrong("webhook", "there is no webhook with this id")
        else:
            wanted = history.Wanted(webhook=webhook)
    if (id := query.text("event")) is not None:
        key = call.parts.store.ids.seq("evt", id)
        if key is None:
            query.wrong("event", "there is no event with this id")
        else:
            wanted = structs.replace(wanted, event=key[0])
    return await _list(call, query, "deliveries", wanted)


async def _list(call: Call, query: Query, kind: str, wanted: history.Wanted) -> Answer:
    limit, before = query.numbered_window(kind)
    now_ms = call.now_ms()
    status = query.word("status", STATUSES)
    is_waiting = status in ("pending", "held")
    wanted = structs.replace(
        wanted,
        state="pending" if is_waiting else status,
        is_held=(status == "held") if is_waiting else None,
        type=query.event_type("type"),
        since_ms=query.moment("since", now_ms),
        until_ms=query.moment("until", now_ms),
        code=query.number("response_code", 100, 599),
        without_tests=is_dead_letters(wanted, status),
    )
    query.done()
    page = await call.deliveries(wanted, before, limit)
    last = None if page.next is None else str(page.next)
    return json_answer(listed([show(row, call) for row in page.rows], kind, last))


def is_dead_letters(wanted: history.Wanted, status: str | None) -> bool:
    """Whether what failed of all webhooks is asked for: a webhook's own history, and an event's, show tests as well."""
    return status == "failed" and wanted.webhook is None and wanted.event is None


async def one(call: Call) -> Answer:
    """GET: one delivery, with its attempts and its payload"""
    call.query().done()
    return json_answer(whole(call, *await call.delivery()))


async def retry(call: Call) -> Answer:
    """POST: one more attempt now"""
    call.query().done()
    row = (await call.delivery())[0]
    await call.parts.redeliverer.retry(row, by=call.actor)
    return json_answer(await _now(call, row.seq), 202)


async def cancel(call: Call) -> Answer:
    """POST: none any more"""
    call.query().done()
    row = (await call.delivery())[0]
    await call.parts.redeliverer.cancel(row, by=call.actor)
    return json_answer(await _now(call, row.seq))


async def _now(call: Call, seq: int) -> models.Delivery:
    found = await call.parts.store.read(history.recent, [seq])
    return show(found[0], call)


async def one_delivery(call: Call, seq: int) -> models.Delivery:
    """A delivery that the call has just brought about, whole."""
    found = await call.parts.store.read(history.delivery, seq)
    if found is None:
        raise Refused("not_found", "there is no delivery with this id")
    return whole(call, *found)


# --- how it is shown --------------------------------------------------------------------------------------------


def show(row: history.DeliveryRow, call: Call) -> models.Delivery:
    """A delivery as lists show it to this caller."""
    ids = call.parts.store.ids
    is_held = row.state == "pending" and row.webhook_status != "active"
    status: Any = "held" if is_held else row.state
    return models.Delivery(
        id=ids.make("dlv", row.created_ms, row.seq),
        event_id=ids.make("evt", row.event_created_ms, row.event),
        event_type=row.event_type,
        webhook_id=row.webhook_id,
        tenant=row.tenant,
        status=status,
        attempt_count=row.attempt_count,
        response_code=row.response_code,
        response_time_ms=None if row.duration_us is None else round(row.duration_us / 1000, 3),
        error=_fault(row.error_code, row.error_detail, call),
        next_attempt_at=None if is_held else _next_attempt(row),
        created_at=row.created_at,
        completed_at=row.completed_at,
        test=bool(row.test),
    )


def whole(
    call: Call,
    row: history.DeliveryRow,
    event_row: history.EventRow,
    data: bytes,
    attempts: list[history.AttemptRow],
) -> models.Delivery:
    """A delivery with its payload and all of its attempts."""
    ids = call.parts.store.ids
    webhook = call.parts.catalog().by_seq.get(row.webhook)
    event = Event(
        row.event,
        row.event_created_ms,
        ids.make("evt", row.event_created_ms, row.event),
        row.event_type,
        row.tenant,
        event_row.timestamp,
        data,
        event_row.ordering_key,
        event_row.traceparent,
        bool(row.test),
    )
    shown = [_attempt(attempt, row, call, event, webhook) for attempt in attempts]
    purged_at = UNSET if event_row.purged_ms is None else format_time(event_row.purged_ms)
    damaged = True if event_row.is_damaged else UNSET
    return structs.replace(
        show(row, call), payload=Raw(data), purged_at=purged_at, payload_damaged=damaged, attempts=shown
    )


def _fault(code: str | None, detail: str | None, call: Call) -> models.Fault | None:
    if code is None:
        return None
    detail = detail or ""
    return models.Fault(code, told.detail_for_tenants(code, detail) if call.is_of_tenant else detail)


def _next_attempt(row: history.DeliveryRow) -> str | None:
    """When it is due; nobody knows that of one which waits for an earlier delivery to end."""
    if row.state != "pending" or row.due_ms is None or row.due_ms >= BLOCKED_MS:
        return None
    return format_time(row.due_ms)


def _attempt(
    attempt: history.AttemptRow,
    row: history.DeliveryRow,
    call: Call,
    event: Event,
    webhook: InForce | None,
) -> models.Attempt:
    headers, ids, tracer = None, call.parts.store.ids, call.parts.tracer
    remote = attempt.remote_address
    if call.is_of_tenant:
        remote = told.address_for_tenants(remote, None if webhook is None else webhook.url)
    if webhook is not None:
        number, started_ms = attempt.number, attempt.started_ms
        trace = event.traceparent if tracer is None else tracer.header(event, webhook, number, started_ms)
        headers = shown_headers(webhook, __version__, event, number, started_ms, trace)
    return models.Attempt(
        id=ids.attempt(attempt.started_ms, row.seq, attempt.number),
        number=attempt.number,
        started_at=format_time(attempt.started_ms),
        duration_ms=round(attempt.duration_us / 1000, 3),
        response_code=attempt.response_code,
        response_headers=_fields(attempt.response_head),
        # no head, no answer: its body is none rather than an empty one
        response_body=(attempt.response_body or b"").decode("utf-8", "replace") if attempt.response_head else None,
        request_headers=headers,
        remote_address=remote,
        error=_fault(attempt.error_code, attempt.error_detail, call),
    )


def _fields(head: bytes | None) -> dict[str, str] | None:
    """A head's fields by lower-case name; a repeated field's values joined as RFC 9110 §5.3 allows."""
    if not head:
        return None
    fields: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.lower(), value.strip()
        fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
