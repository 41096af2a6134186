"""What people come to the dashboard for, done in a real browser as they do it."""

import json
import re
import subprocess

import pytest
from api_rig import serve
from playwright.sync_api import Page, Route, expect
from rig import answer, wait_for
from standardwebhooks import Webhook as Standard

CATALOGUE = """
event_types."booking.created" = { description = "A guest has booked a table", example = { booking = "b_1" } }
event_types."booking.cancelled" = { description = "A booking was cancelled" }
event_types."payment.failed" = { description = "A card was declined" }
event_types.ping = {}
delivery.retry = ["1s", "24h"]
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = serve(tmp_path_factory.mktemp("house"), settings=CATALOGUE)
    yield made
    made.running.close()


def submit(shop, type="booking.created", **fields):
    reply = shop.admin.post("/v1/events", {"type": type, "data": {"booking": 7}, **fields})
    assert reply.status == 202, reply.body
    return reply.json["id"]


def open_endpoint(page: Page, url: str) -> None:
    page.goto("/dashboard")
    page.get_by_role("link", name=url).click()
    page.get_by_role("heading", name=url).wait_for()
    page.wait_for_load_state()


def test_from_signing_in_to_the_history_of_the_test_event(shop, visitor, told):
    someone = visitor(shop, permissions=["clipboard-read", "clipboard-write"])
    page = someone.page
    page.goto("/dashboard")
    someone.expected = {401}
    page.get_by_label("API key").fill("mistyped")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#key-wrong")).to_contain_text("opens nothing")
    page.get_by_label("API key").fill(shop.key())
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="No endpoint yet")).to_be_visible()
    page.get_by_role("link", name="Add endpoint").first.click()
    page.get_by_label("URL").fill(told.url("/hooks"))
    expect(page.locator("#url-verdict")).to_contain_text("Deliveries may go there")
    expect(page.get_by_label("Rate limit")).to_be_hidden()  # folded under "Advanced"
    page.get_by_label("booking.*").check()
    expect(page.get_by_label("All events")).not_to_be_checked()  # whoever picks some does not want all
    expect(page.get_by_label("booking.created")).to_be_disabled()  # a prefix covers it
    page.get_by_label("payment.failed").check()
    page.get_by_role("button", name="Create").click()

    expect(page.get_by_role("heading", name="Endpoint created")).to_be_visible()
    secret = page.locator("#secret").inner_text()
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
    page.wait_for_load_state()
    page.get_by_role("button", name="Copy").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    for language in ("Python", "Node", "Go", "PHP"):
        expect(page.locator("summary", has_text=language)).to_be_visible()
    page.get_by_role("link", name="Go on: send a test").click()
    page.wait_for_load_state()

    expect(page.get_by_label("Event type").first).to_contain_text("booking.created")
    expect(page.get_by_label("Event type").first).not_to_contain_text("ping")
    page.get_by_label("Event type").first.select_option("booking.created")
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("Delivered: HTTP 200 in")

    assert shop.admin.data("/v1/webhooks")[0]["events"] == ["booking.*", "payment.failed"]
    (request,) = told.at("/hooks")
    told_event = Standard(secret).verify(request.body, request.headers)
    assert (told_event["test"], told_event["data"]) == (True, {"booking": "b_1"})

    # the history shows it by itself, without the page being loaded again
    row = page.locator("#rows tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Succeeded")
    expect(row.locator(".tag")).to_have_text("test")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", name="booking.created")).to_be_visible()
    expect(page.locator("#attempts")).to_contain_text("Attempt 1: 200")
    page.locator("summary", has_text="Request headers").click()
    expect(page.locator("#attempts")).to_contain_text("webhook-id: evt_")
    expect(page.locator("#attempts")).to_contain_text("webhook-signature: ***")
    expect(page.locator("#attempts")).to_contain_text("Connect")
    expect(page.locator("#pretty")).to_contain_text('"booking": "b_1"')


def test_why_a_delivery_failed_is_said_and_a_retry_mends_it(shop, visitor, told):
    told.says["/orders"] = answer(404, b'{"error": "no route /orders"}')
    shop.admin.make(told.url("/orders"), retry=["1s"])
    submit(shop)
    page = visitor(shop).sign_in(shop.key())
    page.get_by_role("link", name=told.url("/orders")).click()
    page.locator("#rows").get_by_role("link", name="booking.created").click()
    expect(page.locator("#outcome")).to_contain_text("There is nothing at this path of the server")
    expect(page.locator("#attempts")).to_contain_text("no route /orders")
    expect(page.locator("#outcome .state")).to_have_text("Failed")  # live: the second attempt has failed meanwhile
    expect(page.locator("#attempts")).to_contain_text("Attempt 2: HTTP 404")

    told.says["/orders"] = answer(200)
    page.get_by_role("button", name="Retry now").click()
    expect(page.locator("#outcome .state")).to_have_text("Succeeded")
    expect(page.locator("#attempts")).to_contain_text("Attempt 3: 200")
    wait_for(lambda: len(told.at("/orders")) == 3)

    # where no button would do, the page says what does
    made = shop.admin.data("/v1/webhooks")[0]
    shop.admin.patch(f"/v1/webhooks/{made['id']}", {"status": "paused"})
    expect(page.locator("#outcome")).to_contain_text("endpoint is paused: resume it to send this again")
    expect(page.get_by_role("button", name="Send again")).to_have_count(0)


def test_a_url_that_may_not_be_called_is_refused_as_it_is_typed_and_when_it_is_sent(served, visitor):
    house = served(settings="egress.allow_http = false\negress.allow = []\n")
    someone = visitor(house)
    page = someone.sign_in(house.admin.key_for("acme", "manage").key)
    page.get_by_role("link", name="Add endpoint").first.click()
    page.get_by_label("URL").fill("https://10.1.2.3/hooks")
    expect(page.locator("#url-verdict")).to_contain_text("leads to an address that is not public")
    page.get_by_label("URL").fill("http://example.com/hooks")
    expect(page.locator("#url-verdict")).to_contain_text("https")
    page.get_by_label("Description").fill("kept")
    page.locator("summary", has_text="Advanced").click()
    page.get_by_label("Rate limit").fill("lots")
    page.get_by_label("At once").fill("many")
    someone.expected = {422}
    page.get_by_role("button", name="Create").click()
    expect(page.locator("#mistakes")).to_have_text("3 fields need another look.")
    expect(page.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Description")).to_have_value("kept")
    expect(page.get_by_label("Rate limit")).to_be_visible()
    expect(page.locator("#rate_limit-wrong")).to_contain_text("is not a rate")
    page.get_by_label("Rate limit").fill("10/s")
    expect(page.locator("#rate_limit-wrong")).to_be_hidden()  # what is being mended looks so
    assert house.admin.data("/v1/webhooks") == []


def test_what_is_typed_before_the_scripts_have_come_is_checked_then(shop, visitor):
    someone = visitor(shop)
    page = someone.sign_in(shop.key())
    held: list[Route] = []
    someone.context.route("**/htmx.min.js*", lambda route: held.append(route))
    page.goto("/dashboard/new", wait_until="commit")
    page.get_by_label("URL").fill("https://10.1.2.3/hooks")
    wait_for(lambda: held or page.wait_for_timeout(20))
    held[0].continue_()
    expect(page.locator("#url-verdict")).to_contain_text("leads to an address that is not public")


def test_a_form_that_is_sent_twice_makes_one_endpoint(shop, visitor, told):
    page = visitor(shop).sign_in(shop.key())
    page.get_by_role("link", name="Add endpoint").first.click()
    page.get_by_label("URL").fill(told.url("/hooks"))
    page.get_by_role("button", name="Create").dblclick()
    expect(page.get_by_role("heading", name="Endpoint created")).to_be_visible()
    secret = page.locator("#secret").inner_text()
    page.reload()  # the browser sends the form once more
    expect(page.locator("#secret")).to_have_text(secret)
    assert len(shop.admin.data("/v1/webhooks")) == 1


def test_settings_are_changed_field_by_field_and_headers_keep_their_values(shop, visitor, told):
    made = shop.admin.make(told.url("/hooks"), headers={"x-token": "s3cret", "x-old": "1"})
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("link", name="Settings", exact=True).click()
    expect(page.get_by_label("Headers")).to_have_value("x-token: ***\nx-old: ***")
    page.get_by_label("Headers").fill("x-token: ***\nx-new: 2")
    page.get_by_label("Description").fill("the shop")
    page.get_by_label("In order").check()
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.good")).to_contain_text("The changes are saved")
    page.wait_for_load_state()
    now = shop.admin.get(f"/v1/webhooks/{made['id']}").json
    assert (now["description"], now["ordered"], now["timeout"]) == ("the shop", True, made["timeout"])
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("Delivered")
    (request,) = told.at("/hooks")
    assert (request.headers["x-token"], request.headers["x-new"], "x-old" in request.headers) == ("s3cret", "2", False)


def test_a_change_over_another_persons_change_is_not_made_unseen(shop, visitor, told):
    made = shop.admin.make(told.url("/hooks"))
    someone = visitor(shop)
    page = someone.sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("link", name="Settings", exact=True).click()
    shop.admin.patch(f"/v1/webhooks/{made['id']}", {"description": "theirs"})
    page.get_by_label("Description").fill("mine")
    someone.expected = {412}
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.bad")).to_contain_text("Somebody else has changed this endpoint")
    expect(page.get_by_label("Description")).to_have_value("mine")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".notice.good")).to_be_visible()
    assert shop.admin.get(f"/v1/webhooks/{made['id']}").json["description"] == "mine"


def test_pausing_holds_and_resuming_delivers(shop, visitor, told):
    shop.admin.make(told.url("/hooks"))
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#standing .state")).to_have_text("Paused")
    submit(shop)
    expect(page.locator("#rows .state")).to_have_text("Held")
    expect(page.get_by_role("button", name="Resume without the 1 held")).to_be_visible()
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(page.locator("#standing .state")).to_have_text("Active")
    expect(page.locator("#rows .state")).to_have_text("Succeeded")


def test_a_waiting_delivery_is_cancelled(shop, visitor, told):
    told.says["/hooks"] = answer(500)
    shop.admin.make(told.url("/hooks"), retry=["24h"])
    submit(shop)
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.locator("#rows").get_by_role("link", name="booking.created").click()
    expect(page.locator("#attempts .next")).to_contain_text("Next attempt")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#outcome .state")).to_have_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_a_rotated_secret_signs_beside_the_old_one(shop, visitor, told):
    made = shop.admin.make(told.url("/hooks"))
    someone = visitor(shop)
    page = someone.sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("link", name="Rotate secret").click()
    page.get_by_label("Both sign for").fill("soon")
    someone.expected = {422, 412}
    page.get_by_role("button", name="Rotate").click()
    expect(page.locator(".wrong")).to_contain_text("not a duration")
    page.get_by_label("Both sign for").fill("1h")
    page.get_by_role("button", name="Rotate").click()
    secret = page.locator("#secret").inner_text()
    page.reload()  # sent once more, it rotates nothing
    expect(page.get_by_role("heading", name="It was changed meanwhile")).to_be_visible()
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("Delivered")
    (request,) = told.at("/hooks")
    for each in (secret, made["secret"]):
        assert Standard(each).verify(request.body, request.headers)


def test_an_endpoint_is_deleted_only_after_a_second_thought(shop, visitor, told):
    shop.admin.make(told.url("/hooks"))
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete this endpoint?")).to_be_visible()
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="No endpoint yet")).to_be_visible()
    assert shop.admin.data("/v1/webhooks") == []


def test_a_replay_shows_its_count_before_and_its_progress_after(shop, visitor, told):
    told.says["/hooks"] = answer(500)
    shop.admin.make(told.url("/hooks"), retry=["1s"])
    for _ in range(3):
        submit(shop)
    wait_for(lambda: len(shop.admin.data("/v1/deliveries?status=failed")) == 3)
    told.says["/hooks"] = answer(200)
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.get_by_role("link", name="Replay").click()
    page.wait_for_load_state()
    page.get_by_label("Event type").fill("payment.failed")
    page.get_by_role("button", name="Count").click()
    expect(page.locator("#counted")).to_contain_text("No delivery matches")
    page.get_by_label("Event type").fill("")
    expect(page.locator("#counted")).to_be_empty()  # it is no count of what the form says now
    page.get_by_role("button", name="Count").click()
    expect(page.locator("#counted")).to_contain_text("3 deliveries match.")
    assert len(told.at("/hooks")) == 6
    page.get_by_role("button", name="Replay all 3").click()
    expect(page.locator("#progress")).to_contain_text("3 deliveries are on the way again.")
    wait_for(lambda: len(told.at("/hooks")) == 9)
    page.get_by_role("link", name="See the history").click()
    expect(page.locator("#rows .state.succeeded")).to_have_count(3)


def test_the_history_is_narrowed_by_status_type_code_and_time(shop, visitor, told):
    told.says["/hooks"] = lambda request: answer(200 if b"payment" in request.body else 503)
    shop.admin.make(told.url("/hooks"), retry=["24h"])
    submit(shop, "booking.created")
    submit(shop, "payment.failed")
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(2)

    def narrow(**fields: str) -> list[str]:
        open_endpoint(page, told.url("/hooks"))
        history = page.locator("#history")
        for label, value in fields.items():
            field = history.get_by_label(label.replace("_", " "))
            if field.evaluate("each => each.tagName") == "SELECT":
                field.select_option(label=value)
            else:
                field.fill(value)
        history.get_by_role("button", name="Show").click()
        page.wait_for_url(re.compile(r"status="))
        return page.locator("#rows tbody th").all_inner_texts()

    assert narrow(Status="Succeeded") == ["payment.failed"]
    assert narrow(Event_type="booking.created") == ["booking.created"]
    assert narrow(HTTP_code="503") == ["booking.created"]
    assert narrow(Time="Last hour") == ["payment.failed", "booking.created"]
    assert narrow(Status="Cancelled") == []
    expect(page.locator("#rows")).to_contain_text("No delivery matches")
    page.locator("summary", has_text="From").click()
    page.get_by_label("To", exact=True).fill("2020-01-01T10:00")
    page.locator("#f-status").select_option("")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#rows")).to_contain_text("No delivery matches")


def test_a_delivery_in_the_list_of_all_leads_to_its_endpoint(shop, visitor, told):
    for name in ("alpha", "beta"):
        shop.admin.make(told.url(f"/{name}"))
    submit(shop)
    page = visitor(shop).sign_in(shop.key())
    page.get_by_role("link", name="Deliveries").click()
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    page.locator("#rows .to").get_by_role("link", name=told.url("/beta")).click()
    expect(page.get_by_role("heading", name=told.url("/beta"))).to_be_visible()


def test_a_test_may_be_of_any_type_that_the_endpoint_wants(shop, visitor, told):
    shop.admin.make(told.url("/hooks"), events=["invoice.paid", "booking.*"])
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    types = page.get_by_label("Event type").first
    assert types.inner_text().split() == ["booking.created", "booking.cancelled", "invoice.paid"]
    types.select_option("invoice.paid")
    page.get_by_role("button", name="Send test").click()
    expect(page.locator("#exchange h3")).to_contain_text("Delivered")
    assert b'"type":"invoice.paid"' in told.at("/hooks")[0].body


def test_pages_of_the_history_go_back_to_the_beginning(shop, visitor, told):
    shop.admin.make(told.url("/hooks"))
    lines = "".join(json.dumps({"type": "a.b", "data": number}) + "\n" for number in range(60)).encode()
    shop.admin.post("/v1/events", lines, content_type="application/x-ndjson")
    wait_for(lambda: len(told.at("/hooks")) == 60)
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    seen: list[str] = []
    for count in (25, 25, 10):
        expect(page.locator("#rows tbody tr")).to_have_count(count)
        seen += page.locator("#rows tbody tr").evaluate_all("rows => rows.map(row => row.id)")
        if count == 25:
            page.get_by_role("link", name="Older").click()
    assert len(set(seen)) == 60
    assert seen == sorted(seen, reverse=True)
    page.get_by_role("link", name="Newest").click()
    expect(page.locator("#rows tbody tr")).to_have_count(25)


def test_what_is_copied_as_curl_is_accepted_by_a_receiver_that_checks_signatures(shop, visitor, told):
    made = shop.admin.make(told.url("/hooks"))
    submit(shop, data={"text": 'it\'s "quoted" $HOME `x` \\ é'})
    page = visitor(shop, permissions=["clipboard-read", "clipboard-write"]).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.locator("#rows").get_by_role("link", name="booking.created").click()
    page.wait_for_load_state()
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()").replace("whsec_...", made["secret"])
    subprocess.run(["bash", "-euc", command], check=True, capture_output=True, timeout=20)
    first, second = told.at("/hooks")
    assert second.body == first.body
    assert Standard(made["secret"]).verify(second.body, second.headers)


@pytest.mark.parametrize(
    "text", ["long " * 4000, "'" * 1500, "e\u202eerongi"], ids=["long", "quotation marks", "unseen"]
)
def test_a_body_that_no_command_should_hold_is_saved_beside_it(text, shop, visitor, told, tmp_path):
    made = shop.admin.make(told.url("/hooks"))
    event = json.dumps({"type": "booking.created", "data": text}, ensure_ascii=False)
    assert shop.admin.post("/v1/events", event.encode()).status == 202
    page = visitor(shop).sign_in(shop.key())
    open_endpoint(page, told.url("/hooks"))
    page.locator("#rows").get_by_role("link", name="booking.created").click()
    page.locator("summary", has_text="As curl").click()
    expect(page.get_by_text("save the whole body beside it first")).to_be_visible()
    with page.expect_download() as begun:
        page.get_by_role("link", name="Save the whole body").click()
    begun.value.save_as(tmp_path / begun.value.suggested_filename)
    command = page.locator("#curl").inner_text().replace("whsec_...", made["secret"])
    subprocess.run(["bash", "-euc", command], check=True, capture_output=True, timeout=60, cwd=tmp_path)
    first, second = told.at("/hooks")
    assert second.body == first.body
    assert Standard(made["secret"]).verify(second.body, second.headers)


def test_endpoints_are_found_by_any_word_of_theirs(shop, visitor, told):
    for name in ("alpha", "beta", "gamma"):
        shop.admin.make(told.url(f"/{name}"), description=f"the {name} shop")
    page = visitor(shop).sign_in(shop.key())
    expect(page.locator(".endpoints li")).to_have_count(3)
    page.get_by_label("Search").fill("BETA")
    expect(page.locator(".endpoints li")).to_have_count(1)
    expect(page.locator(".endpoints li")).to_contain_text("the beta shop")
    page.get_by_label("Search").fill("nothing like it")
    expect(page.locator("#webhooks")).to_contain_text("No endpoint matches")
    page.get_by_label("Search").fill("")
    page.get_by_label("Status").select_option("paused")
    expect(page.locator("#webhooks")).to_contain_text("No endpoint matches")


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
def test_the_dashboard_works(has_scripts, shop, visitor, told):
    page = visitor(shop, java_script_enabled=has_scripts).sign_in(shop.key())
    page.get_by_role("link", name="Add endpoint").first.click()
    page.get_by_label("URL").fill(told.url("/hooks"))
    page.get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Go on: send a test").click()
    page.wait_for_load_state()
    page.get_by_role("button", name="Send test").click()
    if has_scripts:
        page.get_by_role("link", name="Open this delivery").click()
    expect(page.locator("#outcome .state")).to_have_text("Succeeded")


def test_going_back_through_searches_shows_whole_pages(shop, visitor, told):
    for name in ("alpha", "beta"):
        shop.admin.make(told.url(f"/{name}"))
    page = visitor(shop).sign_in(shop.key())
    for word in ("alpha", "beta"):
        page.get_by_label("Search").fill(word)
        expect(page.locator(".endpoints li")).to_have_count(1)
        expect(page.locator(".endpoints li")).to_contain_text(word)
        page.wait_for_url(f"**q={word}**")
    page.go_back()
    expect(page.locator(".endpoints li")).to_contain_text("alpha")
    expect(page.get_by_role("heading", name="Webhooks")).to_be_visible()
    expect(page.get_by_label("Search")).to_have_value("alpha")


def test_a_link_opens_its_tenants_webhooks_once_and_no_one_elses(house, visitor, told):
    house.admin.make(told.url("/mine"), tenant="acme")
    theirs = house.admin.make(told.url("/theirs"), tenant="other")
    house.admin.post("/v1/events", {"type": "a.b", "tenant": "other", "data": 1})
    told.wait_at("/theirs", 1)
    link = house.admin.post("/v1/portal-links", {"tenant": "acme", "role": "manage", "for": "1h"}).json["url"]
    someone = visitor(house)
    someone.page.goto(link)
    expect(someone.page.get_by_role("heading", name="Webhooks")).to_be_visible()
    expect(someone.page.locator(".endpoints li")).to_have_count(1)
    someone.expected = {404, 410}
    delivery = house.admin.data("/v1/deliveries?tenant=other")[0]["id"]
    for path in (f"/dashboard/webhooks/{theirs['id']}", f"/dashboard/deliveries/{delivery}"):
        someone.page.goto(path)
        expect(someone.page.get_by_role("heading", name="There is no such thing")).to_be_visible()
    second = visitor(house)
    second.expected = {410}
    second.page.goto(link)
    expect(second.page.get_by_role("heading", name="This link opens nothing any more")).to_be_visible()


def test_a_click_on_another_sites_page_opens_a_link(house, visitor):
    """The cookie is strict: the browser sends it only once a page of ours leads on."""
    link = house.admin.post("/v1/portal-links", {"tenant": "clicked", "role": "read", "for": "1h"}).json["url"]
    someone = visitor(house)
    page = f'<!doctype html><title>Platform</title><link rel="icon" href="data:,"><a href="{link}">Webhooks</a>'
    someone.context.route("http://platform.example/", lambda route: route.fulfill(body=page, content_type="text/html"))
    someone.page.goto("http://platform.example/")
    someone.page.get_by_role("link", name="Webhooks").click()
    expect(someone.page.get_by_role("heading", name="No endpoint yet")).to_be_visible()
    assert someone.page.url.endswith("/dashboard")
