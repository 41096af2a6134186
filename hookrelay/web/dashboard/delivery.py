"""One delivery's page: what was sent, what came back, and why."""

from typing import Any

import msgspec
from markupsafe import Markup
from msgspec import Struct

from hookrelay.model import Event, Refused, Webhook
from hookrelay.rules import payload, phases
from hookrelay.rules import redirect as redirect_rules
from hookrelay.rules.egress_url import check_url
from hookrelay.store import history
from hookrelay.store.history import AttemptRow, DeliveryRow, EventRow
from hookrelay.web.api.deliveries import show, whole
from hookrelay.web.api.models import Attempt
from hookrelay.web.dashboard import curl, reasons
from hookrelay.web.dashboard.door import Visit, redirect
from hookrelay.web.dashboard.text import clip, visible
from hookrelay.web.http import Answer

PAYLOAD_BUDGET = 14_000
"""Bytes of HTML that each form of a payload takes on the page; all of it has an address of its own."""
NEWEST_BUDGET = 7_000
OTHER_BUDGET = 2_000
"""The same for what an attempt's receiver answered, and for its header fields."""
IN_FULL = 4
"""Attempts that are shown with all they came to; others are when they are asked for."""
SHOWN_MOST = 50
CURL_BUDGET = 18_000
"""Bytes of HTML that commands for a shell take."""
STEP_NAMES = {
    "look_up": "Look up the name",
    "proxy": "Connect to the proxy",
    "connect": "Connect",
    "tunnel": "Connect through the proxy",
    "tls": "Agree on TLS",
    "answer": "Send, wait for the answer",
}
SAID = {
    "retried": "One more attempt is on its way.",
    "cancelled": "Cancelled: there will be no further attempt.",
}


class Step(Struct):
    """A part of an attempt's time, as a bar."""

    name: str
    ms: float
    at: float
    """Where its bar begins and how long it is, of 100."""
    width: float


class Shown(Struct, kw_only=True):
    """One attempt on the time line."""

    attempt: Attempt
    is_full: bool
    short: str
    meaning: str
    steps: list[Step]
    request: Any
    response: Any
    response_is_whole: bool
    body: Any
    body_is_whole: bool


async def page(visit: Visit) -> Answer:
    """GET: everything about one delivery"""
    row, event, data, attempts = await visit.delivery()
    values = await _changing(visit, row, event, data, attempts)
    asked = visit.request.parameter("attempt") or ""
    more = f"?attempt={asked}" if asked.isascii() and asked.isdigit() else ""
    return visit.page(
        "delivery.html",
        **values,
        **_payload(visit, row, event, data),
        said=SAID.get(visit.request.parameter("said") or "", ""),
        live=f"/dashboard/deliveries/{visit.request.id}/live{more}",
    )


async def live(visit: Visit) -> Answer:
    """GET: what changes on that page, as it changes"""
    webhook = (await visit.delivery())[0].webhook

    def version() -> object:
        now = visit.parts.catalog().by_seq.get(webhook)
        if now is None:
            return None
        waiting = visit.parts.waiting(now)
        return visit.parts.tally.attempts(webhook), now.status, waiting["pending"], waiting["held"]

    async def make() -> dict[str, str]:
        values = await _changing(visit, *await visit.delivery())
        return {name: visit.html(f"part_{name}.html", **values) for name in ("outcome", "attempts")}

    return visit.follow(version, make)


async def retry(visit: Visit) -> Answer:
    """POST: one more attempt now"""
    await visit.parts.redeliverer.retry((await visit.delivery())[0], by=visit.actor)
    return redirect(f"/dashboard/deliveries/{visit.request.id}?said=retried")


async def cancel(visit: Visit) -> Answer:
    """POST: none any more"""
    await visit.parts.redeliverer.cancel((await visit.delivery())[0], by=visit.actor)
    return redirect(f"/dashboard/deliveries/{visit.request.id}?said=cancelled")


async def body(visit: Visit) -> Answer:
    """GET: the body of its requests, byte for byte, as a file"""
    row, event, data, _ = await visit.delivery()
    content = payload.body(_event(visit, row, event, data))
    name = f"{visit.request.id}.json"
    # as plain text: whatever stands in it, no browser takes it for a page
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Answer(content, media_type="text/plain; charset=utf-8", headers=headers)


def moved_to(visit: Visit, webhook: Webhook | None, attempt: AttemptRow | None) -> str | None:
    """Where the receiver of an attempt wants to be called, for whoever may change that; None: nowhere else.

    An attempt from before the endpoint was changed says nothing of how it is now.
    """
    if webhook is None or attempt is None or webhook.source != "api" or not visit.can_manage:
        return None
    if attempt.started_ms < webhook.updated_ms and webhook.status != "disabled":
        return None
    to = redirect_rules.moved_to(webhook.url, attempt.response_code, attempt.response_head)
    return None if to is None or check_url(to, visit.parts.editor.policy()) is not None else to


async def exchange(visit: Visit, seq: int) -> dict[str, Any]:
    """The one attempt of a test that has just been made, for its template."""
    found = await visit.parts.store.read(history.delivery, seq)
    if found is None:
        raise Refused("not_found", "there is no delivery with this id")
    row, event, data, attempts = found
    delivery = whole(visit, row, event, data, attempts)
    assert not isinstance(delivery.attempts, msgspec.UnsetType)  # noqa: S101 -- `whole` sets it
    sent, sent_is_whole = clip(payload.body(_event(visit, row, event, data)).decode(), NEWEST_BUDGET)
    return {
        "delivery": delivery,
        "shown": _shown(delivery.attempts[-1], attempts[-1], NEWEST_BUDGET),
        "sent": sent,
        "sent_is_whole": sent_is_whole,
    }


# --- how it is shown --------------------------------------------------------------------------------------------


async def _changing(
    visit: Visit, row: DeliveryRow, event: EventRow, data: bytes, attempts: list[AttemptRow]
) -> dict[str, Any]:
    delivery = whole(visit, row, event, data, attempts)
    assert not isinstance(delivery.attempts, msgspec.UnsetType)  # noqa: S101 -- `whole` sets it
    webhook = visit.parts.catalog().by_seq.get(row.webhook)
    asked = visit.request.parameter("attempt") or ""
    every = list(zip(delivery.attempts, attempts, strict=True))
    pairs = [pair for pair in every[:-SHOWN_MOST] if asked == str(pair[0].number)] + every[-SHOWN_MOST:]
    shown = []
    for place, (attempt, kept) in enumerate(reversed(pairs)):
        is_full = place < IN_FULL or asked == str(attempt.number)
        budget = NEWEST_BUDGET if place == 0 else OTHER_BUDGET
        shown.append(_shown(attempt, kept, budget if is_full else 0))
    last = shown[0] if shown else None
    waits = None if webhook is None or row.state != "pending" else visit.parts.waiting(webhook)["why"]
    return {
        "delivery": show(row, visit),
        "why_waits": reasons.WAITS[waits] if waits in ("in_flight", "held", "slowed", "rate_limit") else "",
        "webhook": webhook,
        "is_live": webhook is not None and webhook.status == "active",
        "states": reasons.STATES,
        "attempts": shown,
        "hidden": len(delivery.attempts) - len(shown),
        "last": last,
        "moved_to": moved_to(visit, webhook, attempts[-1] if attempts else None),
        "schedule": None if webhook is None else len(webhook.delays),
        "can_retry": visit.can_manage and webhook is not None and not row.test and event.purged_ms is None,
        "can_cancel": visit.can_manage and row.state == "pending",
        "why_held": "" if webhook is None else reasons.STATES[webhook.status].lower(),
    }


def _shown(attempt: Attempt, kept: AttemptRow, budget: int) -> Shown:
    error = attempt.error
    code = None if error is None else error.code
    response, response_is_whole = clip(_fields(attempt.response_headers), budget)
    body, body_is_whole = clip(attempt.response_body or "", budget)
    return Shown(
        attempt=attempt,
        is_full=budget > 0,
        short=reasons.short(code, attempt.response_code),
        meaning=reasons.of_attempt(code, attempt.response_code),
        steps=_steps(kept),
        request=clip(_fields(attempt.request_headers), max(budget, 1))[0],
        response=response,
        response_is_whole=response_is_whole,
        body=body,
        body_is_whole=body_is_whole,
    )


def _fields(headers: dict[str, str] | None) -> str:
    return "\n".join(f"{name}: {value}" for name, value in (headers or {}).items())


def _steps(kept: AttemptRow) -> list[Step]:
    steps = phases.read(kept.phases)
    whole_us = max(sum(us for _, us in steps), 1)
    at, found = 0.0, []
    for name, us in steps:
        width = us / whole_us * 100
        found.append(Step(STEP_NAMES[name], us / 1000, round(at, 2), round(max(width, 0.5), 2)))
        at += width
    return found


def _event(visit: Visit, row: DeliveryRow, event: EventRow, data: bytes) -> Event:
    id = visit.parts.store.ids.make("evt", row.event_created_ms, row.event)
    order, trace = event.ordering_key, event.traceparent
    return Event(
        row.event,
        row.event_created_ms,
        id,
        row.event_type,
        row.tenant,
        event.timestamp,
        data,
        order,
        trace,
        bool(row.test),
    )


def _payload(visit: Visit, row: DeliveryRow, event_row: EventRow, data: bytes) -> dict[str, Any]:
    event = _event(visit, row, event_row, data)
    sent = payload.body(event)
    pretty, pretty_is_whole = (
        clip(msgspec.json.format(sent[: PAYLOAD_BUDGET * 4], indent=2).decode(), PAYLOAD_BUDGET)
        if len(sent) <= PAYLOAD_BUDGET * 4
        else clip(sent.decode(), PAYLOAD_BUDGET)
    )
    raw, raw_is_whole = clip(sent.decode(), PAYLOAD_BUDGET)
    shell, needs_file = _curl(visit, row, event, sent)
    return {
        "pretty": pretty,
        "raw": raw,
        "is_whole": pretty_is_whole and raw_is_whole,
        "body_size": len(sent),
        "curl": shell,
        "needs_file": needs_file,
        "event": event_row,
        "body_file": f"/dashboard/deliveries/{visit.request.id}/body",
    }


def _curl(visit: Visit, row: DeliveryRow, event: Event, sent: bytes) -> tuple[Markup, bool]:
    """The commands that send it once more, and whether they need the body beside them as a file."""
    webhook = visit.parts.catalog().by_seq.get(row.webhook)
    url = "URL" if webhook is None else webhook.url
    own = () if webhook is None else tuple(name.lower() for name, _ in webhook.headers)
    body = sent.decode()
    file = f"{visit.request.id}.json"
    # what is copied is what was sent, or read from the file: a page writes some characters otherwise than they are
    is_plain = len(sent) <= curl.INLINE_MOST and visible(body) == body
    inline = body if is_plain else None
    for given, to, names in ((inline, url, own), (None, url, own), (None, url, ()), (None, "URL", ())):
        shown, is_whole = clip(curl.commands(to, names, event.id, given, file), CURL_BUDGET)
        if is_whole:
            break
    return shown, given is None
