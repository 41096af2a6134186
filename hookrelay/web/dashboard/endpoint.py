"""One endpoint's page, and what can be done there."""

from typing import Any

import msgspec

from hookrelay.model import FieldError, Refused, Webhook
from hookrelay.rules.pattern import is_event_type
from hookrelay.rules.redirect import MOVED
from hookrelay.rules.tally import Totals
from hookrelay.rules.webhook_texts import read_duration
from hookrelay.rules.wording import shown
from hookrelay.store import history
from hookrelay.store.tally import Failure
from hookrelay.units import format_duration
from hookrelay.web.api.webhooks import OVERLAP_MOST_S, etag, example_of
from hookrelay.web.dashboard import charts, reasons
from hookrelay.web.dashboard.delivery import exchange, moved_to
from hookrelay.web.dashboard.door import Visit, redirect
from hookrelay.web.dashboard.history import history_of
from hookrelay.web.dashboard.snippets import SNIPPETS
from hookrelay.web.dashboard.webhooks import events_of, form, read_form, refuse, types_to_test
from hookrelay.web.http import Answer

SPANS = {"1h": (120, 30, "1 hour"), "24h": (1800, 48, "24 hours"), "7d": (14_400, 42, "7 days")}
"""How charts may be seen: seconds a slot, slots, and in words."""
SAID = {
    "created": "The endpoint is ready.",
    "changed": "The changes are saved, and hold from the next attempt on.",
    "moved": "The endpoint has its new address, which holds from the next attempt on.",
    "paused": "Paused: deliveries are held until you resume.",
    "resumed": "Active again: what was held is being delivered.",
    "discarded": "Active again: what was held is cancelled.",
    "unchanged": "Nothing was changed.",
}


async def page(visit: Visit) -> Answer:
    """GET: everything about one endpoint"""
    webhook = visit.webhook()
    span = _span(visit)
    parts = await _changing(visit, webhook, span)
    return visit.page(
        "endpoint.html",
        **parts,
        types=types_to_test(visit, webhook),
        said=SAID.get(visit.request.parameter("said") or "", ""),
        timeout=format_duration(webhook.timeout_s),
        metadata=msgspec.json.encode(webhook.metadata).decode(),
        retry=webhook.retry if isinstance(webhook.retry, str) else ", ".join(webhook.retry),
        live=_live_address(visit, webhook, span),
        spans=SPANS,
    )


async def live(visit: Visit) -> Answer:
    """GET: what changes on that page, as it changes"""
    span = _span(visit)
    seq = visit.webhook().seq
    rows = visit.request.parameter("cursor") is None

    def version() -> object:
        now = visit.parts.catalog().by_seq.get(seq)
        if now is None:
            return None
        waiting = visit.parts.waiting(now)
        standing = now.status, now.updated_ms, visit.parts.tally.attempts(seq)
        return standing, waiting["pending"], waiting["held"], waiting["why"]

    async def make() -> dict[str, str]:
        webhook = visit.webhook()
        values = await _changing(visit, webhook, span)
        made = {name: visit.html(f"part_{name}.html", **values) for name in ("standing", "charts")}
        if rows:
            made["rows"] = visit.html("part_rows.html", **values)
        return made

    return visit.follow(version, make)


def _span(visit: Visit) -> str:
    span = visit.request.parameter("span") or "24h"
    return span if span in SPANS else "24h"


def _live_address(visit: Visit, webhook: Webhook, span: str) -> str:
    query = visit.request.scope["query_string"].decode("latin-1")
    return f"/dashboard/webhooks/{webhook.id}/live?{query or f'span={span}'}"


async def _changing(visit: Visit, webhook: Webhook, span: str) -> dict[str, Any]:
    width_s, count, _ = SPANS[span]
    tally = visit.parts.tally
    slots = await tally.series(webhook.seq, width_s, count)
    day = [totals for _, totals in (slots if span == "24h" else await tally.series(webhook.seq, 1800, 48))]
    whole = sum(day[1:], day[0])
    failure = (await tally.failures([webhook.seq])).get(webhook.seq)
    waiting = visit.parts.waiting(webhook)
    return {
        "webhook": webhook,
        "is_file": webhook.source != "api",
        "states": reasons.STATES,
        "disabled": reasons.DISABLED.get(webhook.disabled_reason or "", ""),
        "waiting": waiting,
        "why": reasons.WAITS.get(waiting["why"] or "", ""),
        "day": whole,
        "failed": _failed(whole),
        "failure": failure,
        "failed_by": None if failure is None else reasons.short(failure.error_code, failure.response_code),
        "moved_to": await _moved_to(visit, webhook, failure),
        "failure_id": None if failure is None else (await visit.delivery_ids([failure.delivery])).get(failure.delivery),
        "span": span,
        "span_name": SPANS[span][2],
        "charts": [
            ("outcomes", "Attempts by outcome", charts.outcomes(slots)),
            ("latencies", "How long attempts took", charts.latencies(slots)),
        ],
        **await history_of(visit, webhook),
    }


async def _moved_to(visit: Visit, webhook: Webhook, failure: Failure | None) -> str | None:
    """Where its receiver said last that it wants to be called."""
    if failure is None or failure.response_code not in MOVED:
        return None
    found = await visit.parts.store.read(history.delivery, failure.delivery)
    return moved_to(visit, webhook, found[3][-1] if found is not None and found[3] else None)


def _failed(totals: Totals) -> int:
    return totals.attempts - totals.counts[0]


# --- changes ----------------------------------------------------------------------------------------------------


async def edit(visit: Visit) -> Answer:
    """GET: the form with what is in force"""
    webhook = _editable(visit)
    return visit.page("edit.html", webhook=webhook, tag=etag(webhook), is_stale=False, **form(visit, _said(webhook)))


async def change(visit: Visit) -> Answer:
    """POST: what the form says"""
    webhook = _editable(visit)
    values, errors = read_form(visit)
    tag = visit.field("tag")
    before = form(visit, _said(webhook))["text"]
    # what stands for a default stays one: only what was changed is said
    patch = {name: value for name, value in values.items() if not _is_same(visit, name, before, webhook)}
    if "headers" in patch:
        patch["headers"] = {**{name: None for name, _ in webhook.headers}, **patch["headers"]}
    try:
        refuse(visit, {name: value for name, value in values.items() if value is not None}, errors)
        if not patch:
            return _back(webhook, "unchanged")
        await visit.parts.editor.update(webhook, patch, lambda now: not tag or etag(now) == tag, by=visit.actor)
    except Refused as refused:
        if refused.code not in ("invalid_field", "precondition_failed"):
            raise
        again = form(visit, {**values, "tenant": webhook.tenant}, errors=refused.errors)
        is_stale = refused.code == "precondition_failed"
        status = 412 if is_stale else 422
        tag = etag(webhook) if is_stale else tag
        return visit.page("edit.html", status=status, webhook=webhook, tag=tag, is_stale=is_stale, **again)
    return _back(webhook, "changed")


def _is_same(visit: Visit, name: str, before: dict[str, str], webhook: Webhook) -> bool:
    if name == "events":
        return tuple(events_of(visit)) == webhook.events
    if name == "ordered":
        return (visit.field("ordered") == "on") == webhook.ordered
    return visit.field(name) == before[name]


def _said(webhook: Webhook) -> dict[str, Any]:
    return {
        "url": webhook.url,
        "description": webhook.description,
        "tenant": webhook.tenant,
        "events": webhook.events,
        "rate_limit": webhook.rate_limit,
        "max_in_flight": webhook.max_in_flight,
        "timeout": format_duration(webhook.timeout_s),
        "retry": webhook.retry,
        "ordered": webhook.ordered,
        "headers": {name: "***" for name, _ in webhook.headers},
    }


def _editable(visit: Visit) -> Webhook:
    webhook = visit.webhook()
    if webhook.source != "api":
        file = webhook.source.removeprefix("file:")
        raise Refused("file_managed", f"this endpoint stands in {file}: whoever edits that file can change it")
    return webhook


async def move(visit: Visit) -> Answer:
    """POST: the address that its receiver's redirect named"""
    webhook = _editable(visit)
    await visit.parts.editor.update(webhook, {"url": visit.field("url")}, lambda now: True, by=visit.actor)
    return _back(webhook, "moved")


async def pause(visit: Visit) -> Answer:
    """POST: take no more attempts"""
    webhook = _editable(visit)
    await visit.parts.editor.update(webhook, {"status": "paused"}, lambda now: True, by=visit.actor)
    return _back(webhook, "paused")


async def resume(visit: Visit) -> Answer:
    """POST: go on, with what was held or without"""
    webhook = visit.webhook()
    held = "discard" if visit.field("held") == "discard" else "deliver"
    patch = {"status": "active", "held": held}
    await visit.parts.editor.update(webhook, patch, lambda now: True, by=visit.actor)
    return _back(webhook, "discarded" if held == "discard" else "resumed")


async def rotate_page(visit: Visit) -> Answer:
    """GET: what rotating means, and how long both secrets shall sign"""
    webhook = _editable(visit)
    return visit.page("rotate.html", webhook=webhook, overlap="24h", wrong="", tag=etag(webhook))


async def rotate(visit: Visit) -> Answer:
    """POST: another secret, shown this once"""
    webhook = _editable(visit)
    overlap = visit.field("overlap") or "24h"
    tag = visit.field("tag")  # a page that is sent again rotates nothing again
    overlap_s, wrong = 0.0, ""
    try:
        overlap_s = read_duration(overlap)
    except ValueError as error:
        wrong = str(error)
    if overlap_s > OVERLAP_MOST_S:
        wrong = f'{shown(overlap)} is out of range: from "0s" to "30d", such as "24h"'
    if wrong:
        return visit.page("rotate.html", status=422, webhook=webhook, overlap=overlap, wrong=wrong, tag=tag)
    editor = visit.parts.editor
    rotated = await editor.rotate(webhook, overlap_s, None, lambda now: etag(now) == tag, by=visit.actor)
    return visit.page(
        "secret.html",
        webhook=rotated.webhook,
        secret=rotated.text,
        previous_until_ms=rotated.previous_until_ms,
        is_new=False,
        snippets=SNIPPETS,
    )


async def delete_page(visit: Visit) -> Answer:
    """GET: what deleting means"""
    webhook = _editable(visit)
    return visit.page("delete.html", webhook=webhook, waiting=visit.parts.waiting(webhook))


async def delete(visit: Visit) -> Answer:
    """POST: the endpoint's end"""
    await visit.parts.editor.delete(_editable(visit), lambda now: True, by=visit.actor)
    return redirect("/dashboard?said=deleted")


async def test(visit: Visit) -> Answer:
    """POST: one attempt now; the whole exchange"""
    webhook = visit.webhook()
    type = visit.field("type")
    if not is_event_type(type):
        right = f'{shown(type)} is not an event type: write one such as "booking.created"'
        raise Refused("invalid_field", right, errors=[FieldError("type", right)])
    seq = await visit.unless_gone(visit.parts.redeliverer.test(webhook, type, example_of(visit, type), by=visit.actor))
    if not visit.is_part:
        return redirect(f"/dashboard/deliveries/{(await visit.delivery_ids([seq]))[seq]}")
    return visit.page("part_exchange.html", **await exchange(visit, seq))


def _back(webhook: Webhook, said: str) -> Answer:
    return redirect(f"/dashboard/webhooks/{webhook.id}?said={said}")
