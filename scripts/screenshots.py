"""Draws the pictures of docs/images: a daemon with sample data, and a browser that looks at its pages.

`make screenshots` runs it. Everything happens on loopback and in a temporary folder.
"""

import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "e2e"), str(ROOT / "tests")]

from api_rig import Served, Told, serve  # noqa: E402 -- what tests start daemons with is not installed
from browser import Visitor, chromium  # noqa: E402
from rig import Request, answer, wait_for  # noqa: E402

CATALOGUE = {
    "booking.created": "A guest has booked a table",
    "booking.changed": "Time, table or number of guests were changed",
    "booking.cancelled": "A booking was cancelled, by the guest or the house",
    "booking.no_show": "The guests did not come",
    "payment.succeeded": "A deposit or a bill was paid",
    "payment.failed": "A card was declined",
    "payment.refunded": "Money went back to the guest",
    "review.published": "A guest has written a review",
    "guest.updated": "A guest's data were changed",
}
EXAMPLE = {"booking": {"id": "b_7Q2M", "table": 12, "guests": 4, "at": "2026-11-28T19:30:00+01:00"}, "source": "web"}
ENDPOINTS = {
    "/webhooks/bookings": {"description": "The shop's back office", "events": ["booking.*"]},
    "/hooks/crm": {
        "description": "CRM",
        "events": ["booking.*", "guest.updated"],
        "rate_limit": "100/s",
        "retry": ["2s"],
    },
    "/payments": {"description": "Accounting", "events": ["payment.*"]},
    "/slack": {"description": "#bookings in the team's chat", "events": ["booking.created", "booking.cancelled"]},
    "/mailer": {"description": "Letters to guests", "events": ["*"]},
    "/legacy/in": {"description": "The old system, until spring", "events": ["booking.*"]},
    "/reviews": {"description": "", "events": ["review.published"]},
}
PICTURES = (
    ("sign-in", "/dashboard/sign-in", "light", 1280),
    ("webhooks", "/dashboard", "light", 1280),
    ("webhooks-dark", "/dashboard", "dark", 1280),
    ("add-endpoint", "/dashboard/new", "light", 1280),
    ("endpoint", "/dashboard/webhooks/{crm}", "light", 1280),
    ("endpoint-phone", "/dashboard/webhooks/{crm}", "light", 375),
    ("delivery", "/dashboard/deliveries/{failed}", "light", 1280),
    ("delivery-dark", "/dashboard/deliveries/{failed}", "dark", 1280),
    ("deliveries", "/dashboard/deliveries", "light", 1280),
    ("replay", "/dashboard/webhooks/{crm}/replay?window=24h&status=failed", "light", 1280),
    ("overview", "/dashboard/overview", "light", 1280),
)
"""Name, path, colour scheme, width."""


def main() -> None:
    """Draw all of them into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(7)
    told = Told()
    with tempfile.TemporaryDirectory() as at:
        settings = 'delivery.retry = ["2s", "24h"]\n'
        for name, text in CATALOGUE.items():
            settings += f'event_types."{name}" = {{ description = "{text}" }}\n'
        house = serve(Path(at), settings=settings)
        try:
            names = _furnish(house, told)
            _draw(house, names, folder)
        finally:
            house.running.close()
            told.close()


def _furnish(house: Served, told: Told) -> dict[str, str]:
    """Endpoints that do well and badly, and what happened to them; ids by name."""
    rolls = itertools.cycle(random.random() for _ in range(997))

    def fails_now_and_then(request: Request) -> bytes:
        time.sleep(0.01 + next(rolls) * 0.09)
        roll = next(rolls)
        if roll < 0.06:
            return answer(503, b"upstream timed out")
        if roll < 0.09:
            return answer(422, b'{"error": "unknown guest"}', "content-type: application/json")
        return answer(200, b'{"ok": true}', "content-type: application/json", "server: nginx")

    told.says["/hooks/crm"] = fails_now_and_then

    def wants_no_refunds(request: Request) -> bytes:
        if b"payment.refunded" in request.body:
            return answer(401, b'{"error": "signature does not match"}', "content-type: application/json")
        return answer(200)

    told.says["/payments"] = wants_no_refunds
    told.says["/legacy/in"] = answer(410)
    told.says["/mailer"] = lambda request: answer(204) if next(rolls) < 0.97 else answer(500, b"queue is full")
    ids = {}
    for path, fields in ENDPOINTS.items():
        ids[path] = house.admin.make(told.url(path), tenant="trattoria", **fields)["id"]
    house.admin.patch(f"/v1/webhooks/{ids['/slack']}", {"status": "paused"})
    for lines in _events():
        house.admin.post("/v1/events", lines, content_type="application/x-ndjson")
    wait_for(lambda: house.admin.get("/v1/status").json["in_flight"] == 0 and len(told.requests) > 1000, 60)
    refused = f"/v1/webhooks/{ids['/payments']}/deliveries?response_code=401&limit=250"
    wait_for(lambda: all(row["attempt_count"] == 2 for row in house.admin.get(refused).json["data"]), 60)
    failing = house.admin.get(refused).json["data"]
    _spread(house)
    return {"crm": ids["/hooks/crm"], "failed": failing[0]["id"]}


def _events() -> Iterator[bytes]:
    types = list(CATALOGUE)
    for _ in range(8):
        rows = [json.dumps({"type": random.choice(types), "tenant": "trattoria", "data": EXAMPLE}) for _ in range(60)]
        yield "\n".join(rows).encode()


def _spread(house: Served) -> None:
    """Let the charts tell of a day: what was counted in the last minutes is told of the hours before, too."""
    from hookrelay.store import open as opening

    assert house.running.end() == 0
    now = int(time.time())
    opened = opening.open_file(house.running.at / "h.db", max_size=10 << 30, now_ms=now * 1000)
    rows = opened.writer.execute("SELECT start, scope, counter, sum(count) FROM tally WHERE size = 1800 GROUP BY 2, 3")
    for start, scope, counter, count in rows.fetchall():
        for back in range(1, 47):
            share = (1.2 + random.random()) * (0.15 if 14 < back < 28 else 1.0)
            opened.writer.execute(
                "INSERT OR IGNORE INTO tally VALUES (1800, ?, ?, ?, ?)",
                (start - 1800 * back, scope, counter, max(0, round(count * share / 2))),
            )
    opened.writer.close()
    for each in (opened.marker, opened.lock):
        if each is not None:
            each.close()
    house.running.start()


def _draw(house: Served, names: dict[str, str], folder: Path) -> None:
    key = house.admin.key_for("*", "admin").key
    with chromium() as browser:
        for name, path, scheme, width in PICTURES:
            visitor = Visitor(
                browser, house, color_scheme=scheme, viewport={"width": width, "height": 860}, locale="en-GB"
            )
            if name != "sign-in":
                visitor.sign_in(key)
            visitor.page.goto(path.format(**names))
            visitor.page.wait_for_timeout(800)
            visitor.page.screenshot(path=folder / f"{name}.png", full_page=name not in ("endpoint-phone", "deliveries"))
            visitor.check()
            visitor.close()
            print(folder / f"{name}.png")


if __name__ == "__main__":
    main()
