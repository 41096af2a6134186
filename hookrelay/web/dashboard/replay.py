"""Replaying: choose a window and how deliveries ended, see how many that are, then watch it."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

from hookrelay.model import Refused, Webhook
from hookrelay.redeliver import Replay
from hookrelay.rules.pattern import is_event_type
from hookrelay.web.api.webhooks import STATES
from hookrelay.web.dashboard import reasons
from hookrelay.web.dashboard.door import Visit, redirect
from hookrelay.web.dashboard.history import local_ms
from hookrelay.web.dashboard.replays import Running
from hookrelay.web.http import Answer
from hookrelay.web.query import read_moment

WINDOWS = {
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "own": "From … to …",
}


async def page(visit: Visit) -> Answer:
    """GET: the form; with `window`, how many deliveries match"""
    webhook = visit.webhook()
    values = _form(visit, webhook, visit.request.query())
    if values["asked"] and not values["wrong"]:
        values["count"] = await visit.parts.redeliverer.replay(webhook, _wanted(values), dry_run=True)
    template = "part_replay_count.html" if visit.is_part else "replay.html"
    return visit.page(template, status=422 if values["wrong"] else 200, **values)


async def start(visit: Visit) -> Answer:
    """POST: have what matches delivered anew"""
    webhook = visit.webhook()
    names = ("window", "status", "type", "from", "to", "tz", "until")
    values = _form(visit, webhook, {name: visit.fields(name) for name in names})
    if values["wrong"]:
        return visit.page("replay.html", status=422, **values)
    wanted = _wanted(values)
    count = await visit.parts.redeliverer.replay(webhook, wanted, dry_run=True)
    work = partial(_replay, visit, webhook, wanted)
    luck = secrets.randbits(80)
    started = visit.house.replays.start(webhook, count, work, now_ms=visit.now_ms(), luck=luck)
    return redirect(f"/dashboard/webhooks/{webhook.id}/replays?replay={started.id}")


async def progress(visit: Visit) -> Answer:
    """GET: how far a replay is"""
    webhook, running = _running(visit)
    return visit.page("replaying.html", **_progress(visit, webhook, running))


async def live(visit: Visit) -> Answer:
    """GET: the same, as it goes on"""
    webhook, running = _running(visit)

    def version() -> object:
        waiting = visit.parts.waiting(webhook)
        return running.done, running.state, waiting["pending"], waiting["held"]

    async def make() -> dict[str, str]:
        return {"progress": visit.html("part_progress.html", **_progress(visit, visit.webhook(), running))}

    return visit.follow(version, make)


async def _replay(visit: Visit, webhook: Webhook, wanted: Replay, tell: Callable[[int], None]) -> int:
    return await visit.parts.redeliverer.replay(webhook, wanted, dry_run=False, tell=tell, by=visit.actor)


def _running(visit: Visit) -> tuple[Webhook, Running]:
    webhook = visit.webhook()
    running = visit.house.replays.find(visit.request.parameter("replay") or "")
    if running is None or running.webhook_id != webhook.id:
        raise Refused("not_found", "this replay is not remembered: the history shows what became of its deliveries")
    return webhook, running


def _progress(visit: Visit, webhook: Webhook, running: Running) -> dict[str, Any]:
    return {
        "webhook": webhook,
        "running": running,
        "waiting": visit.parts.waiting(webhook),
        "live": f"/dashboard/webhooks/{webhook.id}/replays-live?replay={running.id}",
    }


def _form(visit: Visit, webhook: Webhook, given: Any) -> dict[str, Any]:
    def first(name: str) -> str:
        return str((given.get(name) or [""])[0]).strip()

    now_ms = visit.now_ms()
    wrong: dict[str, str] = {}
    window = first("window")
    states = [state for state in STATES if state in (given.get("status") or ())]
    type = first("type")
    until = first("until")
    # what was counted is what is replayed: later deliveries are not among it
    until_ms = int(until) if until.isascii() and until.isdigit() and len(until) < 16 else now_ms
    since_ms = 0
    if window in WINDOWS and window != "own":
        since_ms = read_moment(window, now_ms)
    elif window == "own":
        for name in ("from", "to"):
            try:
                ms = local_ms(first(name), first("tz")) if first(name) or name == "from" else now_ms
            except ValueError:
                wrong[name] = "is no time: write one such as 2026-02-26T10:00"
            else:
                since_ms, until_ms = (ms, until_ms) if name == "from" else (since_ms, min(ms, until_ms))
    elif window:
        wrong["window"] = "choose one of the list"
    if window and not states:
        wrong["status"] = "choose at least one"
    if type and not is_event_type(type):
        wrong["type"] = "is not an event type: write one such as booking.created"
    return {
        "webhook": webhook,
        "asked": bool(window),
        "window": window or "24h",
        "windows": WINDOWS,
        "chosen": states if window else ["failed"],
        "all_states": STATES,
        "states": reasons.STATES,
        "type": type,
        "from_": "" if "from" in wrong else first("from"),
        "to": "" if "to" in wrong else first("to"),
        "tz": first("tz"),
        "since_ms": since_ms,
        "until_ms": until_ms,
        "wrong": wrong,
        "count": None,
    }


def _wanted(values: dict[str, Any]) -> Replay:
    return Replay(
        since_ms=values["since_ms"],
        until_ms=values["until_ms"],
        states=tuple(values["chosen"]),
        type=values["type"] or None,
    )
