"""All webhooks on a page, and the way to a new one. Pages say *endpoint*, as customers do."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hookrelay.model import FieldError, Refused, Webhook
from hookrelay.rules.egress_url import as_stored, check_url, tidied
from hookrelay.rules.match import matches
from hookrelay.rules.pattern import RIGHT_TENANT, is_tenant, parts
from hookrelay.rules.wording import shown
from hookrelay.store import events
from hookrelay.web.api.webhooks import KEY_WINDOW_MS, default_type
from hookrelay.web.call import Call
from hookrelay.web.dashboard import charts, reasons
from hookrelay.web.dashboard.door import Visit
from hookrelay.web.dashboard.snippets import SNIPPETS
from hookrelay.web.http import Answer
from hookrelay.web.query import Query, listed

PAGE = 25
HOUR_S = 3600
TYPES_MOST = 150
"""Event types that are offered one by one; of a larger catalogue the prefixes are, the rest is typed."""
DESCRIPTION_MOST = 160
"""Characters of a type's description beside its name."""
STATUSES = ("active", "paused", "disabled")


# --- the list ---------------------------------------------------------------------------------------------------


async def collection(visit: Visit) -> Answer:
    """GET: the webhooks, the newest first"""
    return visit.page("part_webhooks.html" if visit.is_part else "webhooks.html", **await _listed(visit))


async def live(visit: Visit) -> Answer:
    """GET: the same, as it changes"""
    shown_now = [webhook.seq for webhook in _found(visit)[0]]

    def version() -> object:
        catalog, counts = visit.parts.catalog(), visit.parts.tally.attempts
        known = [catalog.by_seq[seq] for seq in shown_now if seq in catalog.by_seq]
        waiting = [(each["pending"], each["held"]) for each in map(visit.parts.waiting, known)]
        standing = [(webhook.status, webhook.updated_ms, counts(webhook.seq)) for webhook in known]
        return standing, waiting, catalog.count(None)

    async def make() -> dict[str, str]:
        return {"webhooks": visit.html("part_webhooks.html", **await _listed(visit))}

    return visit.follow(version, make, least_s=2.0)


def _found(visit: Visit) -> tuple[list[Webhook], str | None]:
    known = ("q", "status", "cursor")
    query = Query({name: values for name, values in visit.request.query().items() if name in known}, known)
    status = query.word("status", STATUSES) if query.text("status") else None
    text = (query.text("q") or "").strip().lower()
    window = query.window("webhooks")
    query.done()
    found: list[Webhook] = []
    for webhook in visit.parts.catalog().before(visit.tenant(), window.after):
        if (status is None or webhook.status == status) and (not text or _mentions(webhook, text)):
            found.append(webhook)
            if len(found) > PAGE:
                return found[:PAGE], found[PAGE - 1].id
    return found, None


def _mentions(webhook: Webhook, text: str) -> bool:
    if text in webhook.url.lower() or text in webhook.description.lower() or text in webhook.id.lower():
        return True
    return any(text in event.lower() for event in webhook.events)


async def _listed(visit: Visit) -> dict[str, Any]:
    found, last = _found(visit)
    tally, query = visit.parts.tally, visit.request
    sums = await tally.summaries([webhook.seq for webhook in found], HOUR_S, 24)
    failures = await tally.failures([webhook.seq for webhook in found])
    failure_ids = await visit.delivery_ids([failure.delivery for failure in failures.values()])
    rows = []
    for webhook in found:
        slots = sums[webhook.seq]
        day = sum(slots[1:], slots[0])
        failure = failures.get(webhook.seq)
        rows.append(
            {
                "webhook": webhook,
                "spark": charts.spark(slots),
                "rate": day.success_rate,
                "p95": day.percentile(0.95),
                "waiting": visit.parts.waiting(webhook),
                "failure": failure,
                "failure_id": None if failure is None else failure_ids.get(failure.delivery),
                "failed_by": None if failure is None else reasons.short(failure.error_code, failure.response_code),
            }
        )
    text, status = query.parameter("q") or "", query.parameter("status") or ""
    return {
        "rows": rows,
        "total": visit.parts.catalog().count(visit.tenant()),
        "text": text,
        "chosen": status,
        "states": reasons.STATES,
        "statuses": STATUSES,
        "tenant": query.parameter("tenant") or "",
        "is_first": query.parameter("cursor") is None,
        "older": None if last is None else listed((), "webhooks", last)["next_cursor"],
        "said": "The endpoint is deleted." if query.parameter("said") == "deleted" else "",
        "query": query.scope["query_string"].decode("latin-1"),
    }


# --- a new one --------------------------------------------------------------------------------------------------


class Choice(Struct):
    """One event type, or all below a prefix, to be ticked."""

    value: str
    label: str
    description: str
    is_chosen: bool


class Branch(Struct):
    """Event types that begin alike."""

    prefix: Choice | None
    """All of them at once; None for types without a dot."""
    choices: list[Choice]
    count: int


async def new(visit: Visit) -> Answer:
    """GET: the form"""
    tenant = visit.tenant() or ("default" if visit.sees_tenants else "")
    return visit.page("new.html", **form(visit, {"tenant": tenant, "events": ["*"]}, request=secrets.token_hex(16)))


async def create(visit: Visit) -> Answer:
    """POST: make it, and show its secret: this once"""
    values, errors = read_form(visit)
    tenant = visit.field("tenant") if visit.sees_tenants else ""
    if is_tenant(tenant) or not tenant:
        values["tenant"] = visit.allowed_tenant(tenant or None) or "default"
    else:
        errors.append(FieldError("tenant", f"{shown(tenant)} is not a tenant: {RIGHT_TENANT}"))
    try:
        said = {name: value for name, value in values.items() if value is not None}
        refuse(visit, said, errors)
        webhook, secret = await visit.parts.editor.create(said, _request_key(visit, said), by=visit.actor)
    except Refused as refused:
        if refused.code != "invalid_field":
            raise
        again = form(visit, values, request=visit.field("request"), errors=refused.errors)
        return visit.page("new.html", status=422, **again)
    return visit.page(
        "secret.html", webhook=webhook, secret=secret, previous_until_ms=None, is_new=True, snippets=SNIPPETS
    )


async def check(visit: Visit) -> Answer:
    """GET: what the egress rules say of a URL, as it is typed"""
    url = tidied(visit.request.parameter("url") or "")
    policy = visit.parts.editor.policy()
    wrong: str | None = None
    ascii_url = url
    try:
        ascii_url = as_stored(url)
        wrong = check_url(ascii_url, policy, is_operator=visit.actor.is_operator)
    except ValueError as error:
        wrong = str(error)
    return visit.page("part_url.html", url=url, ascii_url=ascii_url, wrong=wrong)


def _request_key(visit: Visit, values: Mapping[str, Any]) -> events.Key | None:
    """Of two clicks on one form, or one page sent again, comes one webhook."""
    request = visit.field("request")
    if not (len(request) == 32 and request.isascii() and request.isalnum()):
        return None
    store = visit.parts.store
    name = f"dashboard {visit.caller.session_id} {request}"
    content = msgspec.json.encode(values, order="deterministic")
    return events.idempotency_key(
        store.salt, str(values["tenant"]), name, "", content, store.running_ms(), KEY_WINDOW_MS
    )


def refuse(visit: Visit, values: Mapping[str, Any], errors: list[FieldError]) -> None:
    """Refused with all mistakes at once where there are any: `errors`, and those in what could be read of the form."""
    if errors:
        raise Refused(
            "invalid_field",
            "the form has mistakes",
            errors=[*errors, *visit.parts.editor.mistakes(values, visit.actor)],
        )


# --- the form, for new ones and for changes ---------------------------------------------------------------------


def read_form(visit: Visit) -> tuple[dict[str, Any], list[FieldError]]:
    """The webhook's fields as the API takes them, and what cannot be read as such."""
    errors: list[FieldError] = []
    values: dict[str, Any] = {
        "url": visit.field("url"),
        "description": visit.field("description"),
        "events": events_of(visit),
        "rate_limit": visit.field("rate_limit") or None,
        "max_in_flight": None,
        "timeout": visit.field("timeout") or None,
        "retry": _retry(visit.field("retry")),
        "ordered": visit.field("ordered") == "on",
    }
    if not values["events"]:
        errors.append(FieldError("events", "choose at least one, or all of them"))
        values["events"] = ["*"]
    elif "*" in values["events"]:
        values["events"] = ["*"]
    if (text := visit.field("max_in_flight")) != "":
        if text.isascii() and text.isdigit() and len(text) < 6:
            values["max_in_flight"] = int(text)
        else:
            errors.append(FieldError("max_in_flight", f"{shown(text)} is not a number: write one from 1 to 1000"))
    headers: dict[str, str] = {}
    for line in filter(str.strip, visit.field("headers").split("\n")):
        name, colon, value = line.partition(":")
        if not colon:
            errors.append(FieldError("headers", f"{shown(line.strip())} has no colon: write a line as Name: value"))
        headers[name.strip()] = value.strip()
    values["headers"] = headers
    return values, errors


def events_of(visit: Visit) -> list[str]:
    """The events that are ticked, and those that are typed beside them."""
    return list(dict.fromkeys([*visit.fields("events"), *visit.field("more_events").replace(",", " ").split()]))


def _retry(text: str) -> list[str] | str | None:
    if not text:
        return None
    return text if "(" in text else text.replace(",", " ").split()


def form(
    visit: Visit, values: Mapping[str, Any], *, request: str = "", errors: Sequence[FieldError] = ()
) -> dict[str, Any]:
    """What the form's template shows: fields as text, and mistakes by field."""
    by_field: dict[str, list[str]] = {}
    for error in errors:
        by_field.setdefault(error.field.partition(".")[0].partition("[")[0], []).append(error.detail)
    chosen = list(values.get("events", ()))
    branches, others = _tree(visit, chosen)
    retry = values.get("retry")
    defaults = visit.parts.config().delivery
    known = ("url", "description", "rate_limit", "max_in_flight", "timeout", "tenant")
    text = {name: "" if values.get(name) is None else str(values[name]) for name in known}
    headers = "\n".join(f"{name}: {value}" for name, value in dict(values.get("headers", {})).items())
    return {
        "text": {
            **text,
            "retry": retry if isinstance(retry, str) else " ".join(retry or ()),
            "headers": headers,
            "more_events": " ".join(others),
        },
        "is_ordered": bool(values.get("ordered")),
        "wants_all": chosen == ["*"],
        "branches": branches,
        "errors": by_field,
        "mistakes_total": sum(len(each) for each in by_field.values()),
        "request": request,
        "defaults": defaults,
        "default_retry": defaults.retry if isinstance(defaults.retry, str) else " ".join(defaults.retry),
        "allows_http": visit.parts.config().egress.allow_http,
        "is_advanced": any(name in by_field for name in _ADVANCED) or any(values.get(name) for name in _ADVANCED),
    }


_ADVANCED = ("rate_limit", "max_in_flight", "timeout", "retry", "headers", "ordered")


def _tree(visit: Visit, chosen: Sequence[str]) -> tuple[list[Branch], list[str]]:
    """The catalogue as a tree of two levels, and what was chosen beside it."""
    catalogue = visit.parts.config().event_types
    groups: dict[str, list[Any]] = {}
    for each in sorted(catalogue, key=lambda each: each.name):
        head, *rest = parts(each.name)
        groups.setdefault(f"{head}{rest[0]}*" if rest else "", []).append(each)
    is_short = len(catalogue) <= TYPES_MOST
    branches: list[Branch] = []
    offered = {"*"}
    for prefix, types in groups.items():
        choices = [
            Choice(each.name, each.name, each.description[:DESCRIPTION_MOST], each.name in chosen) for each in types
        ]
        if not is_short:
            choices = []
            if not prefix or len(branches) >= TYPES_MOST:
                continue
        whole = Choice(prefix, prefix, _whole(len(types)), prefix in chosen)
        branches.append(Branch(whole if prefix else None, choices, len(types)))
        offered |= {prefix, *(choice.value for choice in choices)}
    return branches, [each for each in chosen if each not in offered]


def _whole(count: int) -> str:
    return f"{'this type' if count == 1 else f'all {count} types'}, and those that are added later"


def types_to_test(call: Call, webhook: Webhook) -> list[str]:
    """Event types to pick for a test: those it wants of the catalogue, those it names, or one that it might want."""
    names = [each.name for each in call.parts.config().event_types if matches(webhook.events, each.name)]
    names += [event for event in webhook.events if "*" not in event]
    return list(dict.fromkeys(names or [default_type(webhook)]))[:TYPES_MOST]
