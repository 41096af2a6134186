"""Every page, as each kind of reader sees it: nothing to be said by axe, nothing too wide or too heavy."""

import json
import re

import pytest
from api_rig import Told, serve
from browser import faults, misfits
from playwright.sync_api import expect
from rig import answer, wait_for

from hookrelay.web.dashboard.routes import ROUTES

CATALOGUE = """
event_types."booking.created" = { description = "A guest has booked a table", example = { booking = "b_1" } }
event_types."booking.cancelled" = { description = "A booking was cancelled" }
event_types."payment.failed" = { description = "A card was declined" }
event_types.ping = {}
"""
FILE = """
[[webhook]]
name = "crm"
tenant = "acme"
url = "http://127.0.0.1:{port}/crm"
events = ["booking.*", "payment.failed"]
secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
description = "The CRM's own"
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A daemon with endpoints of every standing, and deliveries of every status. Tests leave it as it is."""
    told = Told()
    made = serve(tmp_path_factory.mktemp("house"), FILE.format(port=told.port), CATALOGUE + 'delivery.retry = ["1s"]\n')
    try:
        yield _furnish(made, told)
    finally:
        made.running.close()
        told.close()


def _furnish(made, told):
    told.says["/gone"] = answer(410)
    told.says["/broken"] = answer(500, b'{"error": "out of beans"}', "content-type: application/json")
    admin = made.admin
    for path, fields in {
        "/good": {"description": "The shop", "rate_limit": "100/s", "headers": {"x-a": "1"}},
        "/gone": {},
        "/broken": {"events": ["booking.created"]},
        "/paused": {},
    }.items():
        webhook = admin.make(told.url(path), tenant="acme", **fields)
        setattr(made, path[1:], webhook["id"])
        if path == "/paused":
            admin.patch(f"/v1/webhooks/{webhook['id']}", {"status": "paused"})
    made.file = next(each["id"] for each in admin.data("/v1/webhooks") if each["source"] != "api")
    event = {"type": "booking.created", "tenant": "acme", "data": {"guest": "Ada", "table": 7}, "ordering_key": "7"}
    admin.post("/v1/events", "\n".join([json.dumps(event)] * 3).encode(), content_type="application/x-ndjson")
    wait_for(lambda: len(admin.data("/v1/deliveries?status=failed")) == 3)
    wait_for(lambda: admin.get(f"/v1/webhooks/{made.gone}").json["status"] == "disabled")
    made.failed = admin.data("/v1/deliveries?status=failed")[0]["id"]
    made.held = admin.data("/v1/deliveries?status=held")[0]["id"]
    made.succeeded = admin.data("/v1/deliveries?status=succeeded")[0]["id"]
    return made


def pages(house):
    """Where there is something to see, for whoever manages a tenant."""
    return [
        "/dashboard",
        "/dashboard?q=nothing+like+it",
        "/dashboard/new",
        *(f"/dashboard/webhooks/{id}" for id in (house.good, house.gone, house.broken, house.paused, house.file)),
        f"/dashboard/webhooks/{house.good}?span=1h",
        f"/dashboard/webhooks/{house.good}?span=7d",
        f"/dashboard/webhooks/{house.good}/edit",
        f"/dashboard/webhooks/{house.good}/rotate",
        f"/dashboard/webhooks/{house.good}/delete",
        f"/dashboard/webhooks/{house.broken}/replay",
        f"/dashboard/webhooks/{house.broken}/replay?window=1h&status=failed",
        "/dashboard/deliveries",
        "/dashboard/deliveries?status=failed&code=nonsense",
        f"/dashboard/deliveries/{house.failed}",
        f"/dashboard/deliveries/{house.held}",
        f"/dashboard/deliveries/{house.succeeded}",
    ]


def test_the_judges_find_what_is_wrong(house, visitor):
    page = visitor(house, bypass_csp=True).page
    page.goto("/dashboard/sign-in")
    page.evaluate("document.querySelector('.about').style.color = '#777'")
    page.evaluate("document.body.append(document.createElement('button'))")
    found = "".join(faults(page))
    assert "light at 1600: color-contrast" in found
    assert "dark at 375: color-contrast" in found
    assert "button-name" in found
    page.evaluate("document.querySelector('h1').style.width = '3000px'")
    page.evaluate("document.querySelector('h1').textContent = 'x'.repeat(100000)")
    assert len(misfits(page)) == 3


def check(someone):
    page = someone.page
    assert (page.url, someone.faults()) == (page.url, [])
    assert (page.url, misfits(page)) == (page.url, [])


@pytest.mark.parametrize("part", range(3))
def test_every_page_can_be_used_by_everybody(part, house, visitor):
    someone = visitor(house)
    page = someone.sign_in(house.admin.key_for("acme", "manage").key)
    someone.expected = {422}
    for path in pages(house)[part::3]:
        page.goto(path)
        check(someone)


def test_no_page_is_left_out(house):
    """A new route is a page that is judged here, or is named among those that are none, or have a test of their own."""
    judged = {re.sub(r"/(wh|dlv)_\w+", "/{id}", path.partition("?")[0]) for path in pages(house)}
    others = {
        *("/dashboard/sign-in", "/dashboard/link/{id}", "/dashboard/overview", "/dashboard/webhooks/{id}/replays"),
        *("/dashboard/static/{id}", "/dashboard/check-url", "/dashboard/deliveries/{id}/body"),
    }
    routes = {path for path, methods in ROUTES.items() if "GET" in methods and not path.endswith("live")}
    assert routes == judged | others


def test_the_entrance_can_be_used_by_everybody(house, visitor):
    someone = visitor(house)
    someone.expected = {401, 404, 410, 422}
    for path in ("/dashboard/sign-in", "/dashboard/link/used", "/dashboard/nothing"):
        someone.page.goto(path)
        check(someone)


def test_pages_that_are_seen_once_can_be_used_by_everybody(served, visitor, told):
    house = served(settings=CATALOGUE + "delivery.retry = []\n")
    told.says["/broken"] = answer(500)
    broken = house.admin.make(told.url("/broken"), tenant="acme")["id"]
    for number in range(3):
        house.admin.post("/v1/events", {"type": "a.b", "tenant": "acme", "data": number})
    wait_for(lambda: len(house.admin.data("/v1/deliveries?status=failed")) == 3)
    someone = visitor(house, bypass_csp=True)
    someone.expected = {422}
    page = someone.sign_in(house.admin.key_for("acme", "manage").key)
    page.goto("/dashboard/new")
    page.get_by_label("URL").fill("nonsense")
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#mistakes")).to_be_visible()
    assert (misfits(page), faults(page)) == ([], [])
    page.get_by_label("URL").fill(told.url("/new"))
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#secret")).to_be_visible()
    assert (misfits(page), faults(page)) == ([], [])
    page.get_by_role("link", name="Go on: send a test").click()
    page.wait_for_load_state()
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_be_visible()
    assert (misfits(page), faults(page)) == ([], [])
    page.goto(f"/dashboard/webhooks/{broken}/replay?window=1h&status=failed")
    page.get_by_role("button", name="Replay all 3").click()
    expect(page.locator("#progress")).to_be_visible()
    assert (misfits(page), faults(page)) == ([], [])


def test_the_overview_tells_an_operator_how_all_of_it_does(house, visitor):
    someone = visitor(house)
    page = someone.sign_in(house.admin.key_for("*", "admin").key)
    page.get_by_role("link", name="Overview").click()
    expect(page.locator("#house")).to_contain_text("1 paused, 1 disabled")
    expect(page.locator("#house")).to_contain_text("410 Gone")
    expect(page.locator("#house dd a")).to_have_text("3")  # dead letters
    expect(page.locator("#tenants tbody tr")).to_contain_text("acme")
    check(someone)
    page.locator("#tenants").get_by_role("link", name="acme").click()
    expect(page.locator("h1 + p")).to_contain_text("5 endpoints of acme")
    check(someone)
    page.goto("/dashboard/overview?q=nobody")
    expect(page.locator("#tenants")).to_contain_text("No tenant's name holds that")


def test_a_reader_sees_everything_and_no_button_that_would_be_refused(house, visitor):
    someone = visitor(house)
    page = someone.sign_in(house.admin.key_for("acme", "read").key)
    for path in pages(house):
        if path.rpartition("/")[2].partition("?")[0] in ("new", "edit", "rotate", "delete", "replay"):
            continue
        page.goto(path)
        assert (path, page.locator("main form[method=post]").count()) == (path, 0)
        links = page.locator("main a").all_inner_texts()
        assert (path, {"Add endpoint", "Settings", "Rotate secret", "Replay", "Delete"} & set(links)) == (path, set())
    someone.expected = {403}
    page.goto("/dashboard/new")
    expect(page.locator("main")).to_contain_text("it takes admin, manage")


def test_an_endpoint_of_a_file_is_read_only_and_says_which_file(house, visitor):
    page = visitor(house).sign_in(house.admin.key_for("acme", "manage").key)
    page.goto(f"/dashboard/webhooks/{house.file}")
    expect(page.locator(".notice")).to_contain_text("hooks.toml")
    for name in ("Pause", "Settings", "Rotate secret", "Delete"):
        expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("Delivered")


def test_everything_is_reached_and_done_by_keyboard(served, visitor, told):
    house = served()
    page = visitor(house).sign_in(house.admin.key_for("acme", "manage").key)

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            found = page.evaluate(
                "(() => { const at = document.activeElement; const label = at.labels && at.labels[0];"
                " return ((label && label.innerText) || at.innerText || '').trim() })()"
            )
            if found.startswith(name):
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{name} does not show that it has the focus"
                return
        raise AssertionError(f"{name} is not reached by the tab key")

    tab_to("Add endpoint")
    page.keyboard.press("Enter")
    page.wait_for_url("**/new")
    tab_to("URL")
    page.keyboard.type(told.url("/hooks"))
    tab_to("All events")
    page.keyboard.press("Space")
    tab_to("Only these")
    page.keyboard.type("a.b")
    tab_to("Create")
    page.keyboard.press("Enter")
    expect(page.locator("#secret")).to_be_visible()
    tab_to("Go on")
    page.keyboard.press("Enter")
    page.wait_for_url("**/webhooks/**")
    tab_to("Send test")
    page.keyboard.press("Enter")
    expect(page.locator("#exchange h3")).to_contain_text("Delivered")
    tab_to("Pause")
    page.keyboard.press("Enter")
    expect(page.locator("#standing .state")).to_have_text("Paused")


def test_times_stand_in_the_readers_zone_with_the_exact_one_behind(house, visitor):
    page = visitor(house, timezone_id="Asia/Kathmandu", locale="en-GB").sign_in(
        house.admin.key_for("acme", "manage").key
    )
    page.goto(f"/dashboard/deliveries/{house.failed}")
    time = page.locator("#attempts time").first
    exact = time.get_attribute("datetime")
    hours, minutes = int(exact[11:13]), int(exact[14:16])
    there = (hours * 60 + minutes + 345) % 1440
    expect(time).to_contain_text(f"{there // 60:02d}:{there % 60:02d}:{exact[17:19]}")
    assert exact in time.get_attribute("title")


def test_what_moves_stands_still_for_those_who_asked_for_that(house, visitor):
    page = visitor(house, reduced_motion="reduce").sign_in(house.admin.key_for("acme", "manage").key)
    page.goto(f"/dashboard/webhooks/{house.good}")
    moving = page.evaluate("document.getAnimations().length")
    assert moving == 0
