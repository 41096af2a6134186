"""`/v1/webhooks/:id/deliveries` and `/v1/deliveries/:id`: the history."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hookrelay import __version__
from hookrelay.model import Event, Ids, Refused, Webhook
from hookrelay.rules.sign import shown_headers
from hookrelay.store import history
from hookrelay.store.chains import BLOCKED_MS
from hookrelay.units import format_time
from hookrelay.web.api import paging
from hookrelay.web.api.webhooks import find, json_answer


async def of_webhook(request: Request) -> Response:
    """GET /v1/webhooks/:id/deliveries, newest first"""
    webhook = find(request)
    store = request.app.state.parts.store
    kind = f"deliveries:{webhook.id}"
    page = paging.asked(request, kind)
    before = int(page.after) if page.after is not None else None
    rows = await store.read(history.deliveries_of, webhook.seq, before, page.limit + 1)
    data = [_shown(row, store.ids, webhook) for row in rows[: page.limit]]
    last = str(rows[page.limit - 1].seq) if len(rows) > page.limit else None
    return json_answer(paging.answer(data, kind, last))


async def one(request: Request) -> Response:
    """GET /v1/deliveries/:id, with its attempts and its payload"""
    parts = request.app.state.parts
    key = parts.store.ids.seq("dlv", request.path_params["id"])
    found = await parts.store.read(history.delivery, key[0]) if key is not None else None
    if found is None or found[0].created_ms != key[1]:
        raise Refused("not_found", "there is no delivery with this id: it may be past its retention")
    row, event_row, attempts = found
    ids = parts.store.ids
    webhook = parts.catalog().by_seq.get(row.webhook)
    event = Event(
        row.event,
        row.event_created_ms,
        ids.make("evt", row.event_created_ms, row.event),
        row.event_type,
        row.tenant,
        event_row.timestamp,
        event_row.data,
        event_row.ordering_key,
        event_row.traceparent,
        bool(row.test),
    )
    return json_answer(
        {
            **_shown(row, ids, webhook),
            "payload": msgspec.Raw(event.data),
            "attempts": [_attempt(attempt, row, ids, event, webhook) for attempt in attempts],
        }
    )


def _shown(row: history.DeliveryRow, ids: Ids, webhook: Webhook | None) -> dict[str, Any]:
    is_held = row.state == "pending" and webhook is not None and webhook.status != "active"
    error = None if row.error_code is None else {"code": row.error_code, "detail": row.error_detail or ""}
    return {
        "id": ids.make("dlv", row.created_ms, row.seq),
        "event_id": ids.make("evt", row.event_created_ms, row.event),
        "event_type": row.event_type,
        "webhook_id": row.webhook_id,
        "tenant": row.tenant,
        "status": "held" if is_held else row.state,
        "attempt_count": row.attempt_count,
        "response_code": row.response_code,
        "response_time_ms": None if row.duration_us is None else round(row.duration_us / 1000, 3),
        "error": error,
        "next_attempt_at": None if is_held else _next_attempt(row),
        "created_at": format_time(row.created_ms),
        "completed_at": None if row.completed_ms is None else format_time(row.completed_ms),
        "test": bool(row.test),
    }


def _next_attempt(row: history.DeliveryRow) -> str | None:
    """When it is due; nobody knows that of one which waits for an earlier delivery to end."""
    if row.state != "pending" or row.due_ms is None or row.due_ms >= BLOCKED_MS:
        return None
    return format_time(row.due_ms)


def _attempt(
    attempt: history.AttemptRow, row: history.DeliveryRow, ids: Ids, event: Event, webhook: Webhook | None
) -> dict[str, Any]:
    error = None if attempt.error_code is None else {"code": attempt.error_code, "detail": attempt.error_detail or ""}
    return {
        "id": ids.attempt(attempt.started_ms, row.seq, attempt.number),
        "number": attempt.number,
        "started_at": format_time(attempt.started_ms),
        "duration_ms": round(attempt.duration_us / 1000, 3),
        "response_code": attempt.response_code,
        "response_headers": _fields(attempt.response_head),
        # no head, no answer: its body is none rather than an empty one
        "response_body": (attempt.response_body or b"").decode("utf-8", "replace") if attempt.response_head else None,
        "request_headers": None
        if webhook is None
        else shown_headers(webhook, __version__, event, attempt.number, attempt.started_ms),
        "remote_address": attempt.remote_address,
        "error": error,
    }


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
