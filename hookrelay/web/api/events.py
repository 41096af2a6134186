"""`/v1/events` and `/v1/event-types`: events in over HTTP, and what was accepted."""

import msgspec
from msgspec import UNSET, Raw, structs

from hookrelay.ingest import Adapt
from hookrelay.model import FieldError, Ids, Refused, Submission
from hookrelay.rules.pattern import RIGHT_TENANT, is_tenant
from hookrelay.rules.wording import got, shown
from hookrelay.store import history
from hookrelay.store.purge import Purge
from hookrelay.units import format_time
from hookrelay.web import body
from hookrelay.web.api import deliveries, models
from hookrelay.web.api.webhooks import check_idempotency_key
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.query import listed, read_moment

DELIVERIES_SHOWN = 250
LINES_MOST = 20_000
STEP = 100
"""Lines that are judged in one turn of the loop."""


async def submit(call: Call) -> Answer:
    """POST: one event as JSON, or many as NDJSON"""
    call.query().done()
    content = await body.read_bytes(call.request, body.JSON, body.NDJSON)
    key = call.request.header(b"idempotency-key")
    if key is not None:
        check_idempotency_key(key)
    tenant = call.tenant()

    def adapt(submission: Submission) -> Submission:
        if key is not None:
            if submission.idempotency_key not in (None, key):
                raise Refused("invalid_event", "the header Idempotency-Key says otherwise", "idempotency_key")
            submission = structs.replace(submission, idempotency_key=key)
        if tenant is None or submission.tenant == tenant:
            return submission
        if submission.tenant != "default":
            raise Refused("forbidden", "the event is of another tenant than the key, or than ?tenant=", "tenant")
        return structs.replace(submission, tenant=tenant)

    if body.media_type(call.request) == body.NDJSON and content:
        return await _submit_many(call, content, adapt, has_key=key is not None)
    limit = call.parts.ingest.limits.max_size
    answer = await call.parts.ingest.take([content.strip() if len(content) <= limit else None], adapt)
    said = msgspec.json.decode(answer)
    if (error := said.get("error")) is not None:
        raise Refused(error["code"], error["detail"], error.get("field"))
    return json_answer(said, 202)


async def _submit_many(call: Call, content: bytes, adapt: Adapt, *, has_key: bool) -> Answer:
    if has_key:
        raise Refused(
            "invalid_field", "one key cannot stand for many events: give each line an idempotency_key of its own",
            field="Idempotency-Key",
        )  # fmt: skip
    limit = call.parts.ingest.limits.max_size
    lines = [line if len(line) <= limit else None for line in content.split(b"\n") if line.strip()]
    if len(lines) > LINES_MOST:
        raise Refused(
            "too_large", f"the body has {len(lines)} lines: at most {LINES_MOST}; events.sock takes any number"
        )
    # each step in a turn of its own: others are not held up
    answers = [await call.parts.ingest.take(lines[at : at + STEP], adapt) for at in range(0, len(lines), STEP)]
    return Answer(b"".join(answers), media_type=body.NDJSON, headers={"cache-control": "no-store"})


async def collection(call: Call) -> Answer:
    """GET: the events, newest first"""
    query = call.query("limit", "cursor", "type", "since", "until")
    limit, before = query.numbered_window("events")
    now_ms = call.now_ms()
    type = query.event_type("type")
    between = (query.moment("since", now_ms), query.moment("until", now_ms))
    query.done()
    page = await call.events(type, between, before, limit)
    last = None if page.next is None else str(page.next)
    return json_answer(listed([show(row, call.parts.store.ids) for row in page.rows], "events", last))


async def one(call: Call) -> Answer:
    """GET: one event, with its data and its deliveries"""
    call.query().done()
    row, data, count, rows = await call.event(DELIVERIES_SHOWN)
    ids = call.parts.store.ids
    found = [deliveries.show(each, call) for each in rows]
    return json_answer(structs.replace(show(row, ids), data=Raw(data), delivery_count=count, deliveries=found))


async def purge(call: Call) -> Answer:
    """POST: expunge the payloads of one event, or of a tenant's events"""
    call.query().done()
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, models.PurgeWish.__struct_fields__, errors)
    id, tenant, before = (values.get(name) for name in ("id", "tenant", "before"))
    dry_run = values.get("dry_run", False)
    now_ms = call.now_ms()
    before_ms = now_ms + 1
    if id is not None and (tenant is not None or before is not None):
        errors.append(FieldError("id", "names one event: leave tenant and before out, or id"))
    elif id is None and tenant is None and call.tenant() is None:
        errors.append(FieldError("tenant", 'is missing: a tenant such as "acme", or id for one event'))
    if id is not None and not isinstance(id, str):
        errors.append(FieldError("id", f"expected an event's id, got {got(id)}"))
    if tenant is not None and not (isinstance(tenant, str) and is_tenant(tenant)):
        what = shown(tenant) if isinstance(tenant, str) else got(tenant)
        errors.append(FieldError("tenant", f"{what} is not a tenant: {RIGHT_TENANT}"))
    try:
        if before is not None:
            before_ms = min(before_ms, read_moment(str(before) if isinstance(before, str) else "", now_ms))
    except ValueError:
        errors.append(FieldError("before", 'a time such as "2026-02-26T10:00:00Z", or how long ago, such as "24h"'))
    if not isinstance(dry_run, bool):
        errors.append(FieldError("dry_run", f"expected true or false, got {got(dry_run)}"))
    body.refuse(errors)
    if id is not None:
        event = await call.event_with(str(id))
        wanted = Purge(tenant=event.tenant, event=event.seq, before_ms=before_ms)
    else:
        whose = call.allowed_tenant(tenant) or call.tenant()
        wanted = Purge(tenant=str(whose), before_ms=before_ms)
    if dry_run:
        return json_answer(models.Purged(await call.parts.expunger.count(wanted), 0))
    done = await call.parts.expunger.purge(wanted, str(id), by=call.actor)
    return json_answer(models.Purged(done.events, done.cancelled))


async def types(call: Call) -> Answer:
    """GET: the catalogue of event types"""
    call.query().done()
    return json_answer(
        [
            models.EventType(
                each.name,
                each.description,
                UNSET if each.schema is None else each.schema_text,
                UNSET if each.example is None else each.example,
            )
            for each in call.parts.config().event_types
        ]
    )


def show(row: history.EventRow, ids: Ids) -> models.Event:
    """An event as lists show it."""
    return models.Event(
        id=ids.make("evt", row.created_ms, row.seq),
        type=row.type,
        tenant=row.tenant,
        timestamp=row.timestamp,
        idempotency_key=row.idempotency_key,
        ordering_key=row.ordering_key,
        test=bool(row.test),
        created_at=format_time(row.created_ms),
        purged_at=UNSET if row.purged_ms is None else format_time(row.purged_ms),
        payload_damaged=True if row.is_damaged else UNSET,
    )
