"""Lists of deliveries, as they are asked for by form."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec

from hookrelay.model import Webhook
from hookrelay.rules.pattern import is_event_type
from hookrelay.store.history import Wanted
from hookrelay.web.api.deliveries import STATUSES, is_dead_letters, show
from hookrelay.web.dashboard import reasons
from hookrelay.web.dashboard.door import Visit
from hookrelay.web.dashboard.webhooks import TYPES_MOST
from hookrelay.web.http import Answer
from hookrelay.web.query import listed, read_cursor, read_moment

PAGE = 25
TIMES = {"": "Any time", "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days"}
FILTERS = ("status", "type", "code", "time", "from", "to", "tz")


async def collection(visit: Visit) -> Answer:
    """GET: the deliveries of all webhooks, the newest first"""
    types = [each.name for each in visit.parts.config().event_types][:TYPES_MOST]
    return visit.page("deliveries.html", types=types, **await history_of(visit, None))


async def live(visit: Visit) -> Answer:
    """GET: the same, as it changes"""
    metrics = visit.parts.metrics

    def version() -> object:
        return sum(metrics.attempts.values()), metrics.events["accepted"], sum(metrics.deliveries.values())

    async def make() -> dict[str, str]:
        return {"rows": visit.html("part_rows.html", **await history_of(visit, None))}

    return visit.follow(version, make, least_s=2.0)


async def history_of(visit: Visit, webhook: Webhook | None) -> dict[str, Any]:
    """What the history's templates show: a page of deliveries, and the form that narrows it."""
    given = {name: (visit.request.parameter(name) or "").strip() for name in FILTERS}
    wanted, wrong = _wanted(given, visit.now_ms())
    kind = "deliveries" if webhook is None else f"deliveries:{webhook.id}"
    cursor = visit.request.parameter("cursor")
    after = None if cursor is None else read_cursor(cursor, kind)
    before = int(after) if after is not None and after.isdigit() and len(after) < 19 else None
    if webhook is not None:
        wanted = msgspec.structs.replace(wanted, webhook=webhook.seq)
    wanted = msgspec.structs.replace(wanted, without_tests=is_dead_letters(wanted, given["status"]))
    page = await visit.deliveries(wanted, before, PAGE)
    catalog = visit.parts.catalog()
    rows = [
        {
            "delivery": (each := show(row, visit)),
            "why": reasons.short(None if each.error is None else each.error.code, each.response_code),
            "endpoint": catalog.by_seq.get(row.webhook),
        }
        for row in page.rows
    ]
    kept = {name: value for name, value in given.items() if value and name != "tz"}
    kept |= {name: value for name in ("span", "tenant") if (value := visit.request.parameter(name))}
    where = "/dashboard/deliveries" if webhook is None else f"/dashboard/webhooks/{webhook.id}"
    last = None if page.next is None else listed((), kind, str(page.next))["next_cursor"]
    filters = {**kept, **({"tz": given["tz"]} if given["from"] or given["to"] else {})}
    return {
        "rows": rows,
        "is_of_all": webhook is None,
        "given": given,
        "kept": kept,
        "wrong": wrong,
        "statuses": STATUSES,
        "states": reasons.STATES,
        "times": TIMES,
        "here": where,
        "is_narrowed": any(given[name] for name in FILTERS if name != "tz"),
        "is_first": cursor is None,
        "first": f"{where}?{urlencode(filters)}#history",
        "older": None if last is None else f"{where}?{urlencode({**filters, 'cursor': last})}#history",
        "live_list": f"/dashboard/deliveries/live?{urlencode(filters)}",
    }


def _wanted(given: dict[str, str], now_ms: int) -> tuple[Wanted, list[str]]:
    """What the form asks for, and what of it makes no sense and is passed over: that is taken out of a time's field."""
    wrong: list[str] = []
    status = given["status"] if given["status"] in STATUSES else ""
    if given["status"] and not status:
        wrong.append("There is no such status.")
    type, code = given["type"], given["code"]
    if type and not is_event_type(type):
        wrong.append("The type is not that of any event: write one such as booking.created.")
        type = ""
    if code and not (code.isascii() and code.isdigit() and len(code) == 3 and 100 <= int(code) <= 599):
        wrong.append("The code is no HTTP status: write a number from 100 to 599.")
        code = ""
    since_ms = until_ms = None
    if given["time"]:
        if given["time"] in TIMES:
            since_ms = read_moment(given["time"], now_ms)
        else:
            wrong.append("There is no such time.")
    for name in ("from", "to"):
        if given[name]:
            try:
                ms = local_ms(given[name], given["tz"])
            except ValueError:
                wrong.append(f"“{name}” is no time: write one such as 2026-02-26T10:00.")
                given[name] = ""
            else:
                since_ms, until_ms = (ms, until_ms) if name == "from" else (since_ms, ms)
    is_waiting = status in ("pending", "held")
    wanted = Wanted(
        state="pending" if is_waiting else status or None,
        is_held=(status == "held") if is_waiting else None,
        type=type or None,
        since_ms=since_ms,
        until_ms=until_ms,
        code=int(code) if code else None,
    )
    return wanted, wrong


def local_ms(text: str, zone: str) -> int:
    """Unix milliseconds of a form's local time; `zone` is how many minutes it is behind UTC, as scripts say it.

    ValueError where it is no time, or one that no clock of ours will ever show.
    """
    minutes = int(zone) if zone.isascii() and zone.removeprefix("-").isdigit() and len(zone) < 5 else 0
    moment = datetime.fromisoformat(text)
    if not 1970 <= moment.year < 9999:
        raise ValueError(f"{text} is out of range")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC) + timedelta(minutes=minutes)
    return round(moment.timestamp() * 1000)
