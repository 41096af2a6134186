"""How the whole house does, for those who run it."""

from time import monotonic
from typing import Any

from hookrelay.model import Refused
from hookrelay.rules.tally import scope_of_tenant
from hookrelay.store import history
from hookrelay.web.dashboard import charts, reasons
from hookrelay.web.dashboard.door import Visit
from hookrelay.web.dashboard.pulse import LOOK_S
from hookrelay.web.http import Answer

TENANTS = 50
"""Tenants on a page."""
DEAD_MOST = 10_000
"""Dead letters that are counted; more are told as that many and more."""


async def page(visit: Visit) -> Answer:
    """GET: everything on one page"""
    _check_operator(visit)
    return visit.page("overview.html", **await _values(visit))


async def live(visit: Visit) -> Answer:
    """GET: the same, as it changes"""
    _check_operator(visit)

    async def make() -> dict[str, str]:
        values = await _values(visit)
        return {name: visit.html(f"part_{name}.html", **values) for name in ("house", "charts", "tenants")}

    def version() -> object:
        return int(monotonic() / LOOK_S)

    return visit.follow(version, make, least_s=2.0)


async def _values(visit: Visit) -> dict[str, Any]:
    parts = visit.parts
    health = parts.health()
    slots = await parts.tally.series(0, 1800, 48)
    dead = await parts.store.read(history.count_dead, DEAD_MOST + 1)
    events, deliveries, attempts = visit.house.pulse.rates(parts.metrics)
    text = (visit.request.parameter("q") or "").strip()
    return {
        "health": health,
        "rates": (events, deliveries, attempts),
        "dead": dead,
        "dead_most": DEAD_MOST,
        "in_flight": parts.metrics.in_flight,
        "waits": reasons.WAITS,
        "reasons": reasons.DISABLED,
        "states": reasons.STATES,
        "charts": [
            ("outcomes", "Attempts by outcome", charts.outcomes(slots)),
            ("latencies", "How long attempts took", charts.latencies(slots)),
        ],
        "span_name": "24 hours",
        "text": text,
        **await _tenants(visit, text),
    }


async def _tenants(visit: Visit, text: str) -> dict[str, Any]:
    """The tenants that have webhooks, those with most to do first."""
    found: dict[str, dict[str, Any]] = {}
    catalog, backlog = visit.parts.catalog(), visit.parts.backlog()
    for seq, webhook in catalog.by_seq.items():
        row = found.get(webhook.tenant)
        if row is None:
            row = found[webhook.tenant] = {
                "tenant": webhook.tenant,
                "webhooks": 0,
                "disabled": 0,
                "pending": 0,
                "held": 0,
                "overdue_s": 0.0,
            }
        row["webhooks"] += 1
        row["disabled"] += webhook.status == "disabled"
        if (waits := backlog.get(seq)) is not None:
            row["pending"] += waits[0]
            row["held"] += waits[1]
            row["overdue_s"] = max(row["overdue_s"], waits[2])
    rows = [row for row in found.values() if text.lower() in row["tenant"].lower()]
    rows.sort(key=lambda row: (-row["pending"], -row["held"], -row["disabled"], row["tenant"]))
    shown = rows[:TENANTS]
    sums = await visit.parts.tally.summaries([scope_of_tenant(row["tenant"]) for row in shown], 3600, 24)
    for row in shown:
        slots = sums[scope_of_tenant(row["tenant"])]
        day = sum(slots[1:], slots[0])
        row |= {"attempts": day.attempts, "rate": day.success_rate}
    return {"tenants": shown, "more_tenants": len(rows) - len(shown), "all_tenants": len(found)}


def _check_operator(visit: Visit) -> None:
    if not visit.is_operator:
        raise Refused("forbidden", 'the overview takes a key with the role admin for all tenants ("*")')
