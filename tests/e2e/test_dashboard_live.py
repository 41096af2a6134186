"""Pages that follow what happens: what changes comes by itself, nothing jumps, and nobody sees more than they may."""

import json
import socket
import time

import pytest
from api_rig import serve
from browser import cookie_for
from playwright.sync_api import expect
from rig import answer, wait_for


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = serve(tmp_path_factory.mktemp("house"))
    yield made
    made.running.close()


def submit(shop, count=1, **fields):
    event = {"type": "a.b", "data": 1, **fields}
    lines = "\n".join([json.dumps(event)] * count).encode()
    assert shop.admin.post("/v1/events", lines, content_type="application/x-ndjson").status == 200


def test_new_deliveries_come_in_above_and_what_was_there_stays(shop, visitor, told):
    webhook = shop.admin.make(told.url("/hooks"))
    submit(shop, 3)
    told.wait_at("/hooks", 3)
    page = visitor(shop).sign_in(shop.key("manage"))
    page.goto(f"/dashboard/webhooks/{webhook['id']}")
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(3)
    first = rows.first.get_attribute("id")
    page.evaluate("id => { document.getElementById(id).dataset.kept = 'yes' }", first)
    page.locator("summary", has_text="As a table").first.click()
    page.locator(f"#{first} a").focus()
    page.evaluate(
        "window.shift = 0; new PerformanceObserver(list => { for (const each of list.getEntries())"
        " if (!each.hadRecentInput) window.shift += each.value }).observe({type: 'layout-shift', buffered: false})"
    )
    submit(shop, 2)
    expect(rows).to_have_count(5)
    assert rows.first.get_attribute("id") > first
    expect(page.locator("#standing")).to_contain_text("0 of 5 failed")
    assert page.locator(f"#{first}").get_attribute("data-kept") == "yes"
    assert page.evaluate("document.activeElement.closest('tr').id") == first
    expect(page.locator("details.as-table").first).to_have_attribute("open", "")


def test_numbers_that_change_move_nothing(shop, visitor, told):
    webhook = shop.admin.make(told.url("/hooks"))
    submit(shop, 30)
    told.wait_at("/hooks", 30)
    page = visitor(shop).sign_in(shop.key("manage"))
    page.add_init_script(
        "window.heard = 0; const add = EventSource.prototype.addEventListener;"
        "EventSource.prototype.addEventListener = function (name, hear) {"
        " add.call(this, name, event => { hear(event); if (name === 'parts') window.heard += 1 }) }"
    )
    page.goto(f"/dashboard/webhooks/{webhook['id']}")
    expect(page.locator("#standing")).to_contain_text("0 of 30 failed")
    wait_for(lambda: page.evaluate("window.heard"), 40)  # what the first message of the stream brings is there
    where = "id => { const box = document.getElementById(id).getBoundingClientRect(); return [box.top, box.height] }"
    names = ("standing", "test", "charts", "history", "rows")
    before = {name: page.evaluate(where, name) for name in names}
    submit(shop, 70)
    expect(page.locator("#standing")).to_contain_text("0 of 100 failed")
    assert {name: page.evaluate(where, name) for name in names} == before


def test_a_page_that_nobody_looks_at_holds_no_connection(shop, visitor, told):
    webhook = shop.admin.make(told.url("/hooks"))
    someone = visitor(shop)
    page = someone.sign_in(shop.key("manage"))
    page.goto(f"/dashboard/webhooks/{webhook['id']}")
    hide = "value => { Object.defineProperty(document, 'hidden', {configurable: true, value});"
    hide += " document.dispatchEvent(new Event('visibilitychange')) }"
    page.evaluate(hide, True)
    looked_at = someone.open()
    looked_at.goto(page.url)
    submit(shop)
    expect(looked_at.locator("#rows tbody tr")).to_have_count(1)
    expect(looked_at.locator("#standing")).to_contain_text("0 of 1 failed")
    assert page.locator("#rows tbody tr").count() == 0
    page.evaluate(hide, False)
    expect(page.locator("#rows tbody tr")).to_have_count(1)


def test_eight_pages_of_one_browser_can_be_open_at_once(shop, visitor, told):
    """Browsers have six connections for one server: pages in the background must not take them all."""
    webhook = shop.admin.make(told.url("/hooks"))
    someone = visitor(shop)
    someone.sign_in(shop.key("manage"))
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, value: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    for _ in range(8):
        page = someone.open()
        page.goto(f"/dashboard/webhooks/{webhook['id']}")
        expect(page.locator("#standing")).to_be_visible()
        page.evaluate(hide)


# --- the stream itself ------------------------------------------------------------------------------------------


class Stream:
    """A reader of a live page's stream."""

    def __init__(self, house, path, cookie):
        self.sock = socket.create_connection(("127.0.0.1", house.port), 20)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{house.port}\r\nCookie: {cookie}\r\n\r\n"
        self.sock.sendall(head.encode())
        self.text = b""

    def until(self, *words, within_s=40):
        deadline = time.monotonic() + within_s
        while not all(word in self.text for word in words):
            assert time.monotonic() < deadline, self.text[-500:]
            self.sock.settimeout(max(0.1, deadline - time.monotonic()))
            data = self.sock.recv(65536)
            assert data, self.text[-500:]
            self.text += data
        return self.text

    def has_ended(self, within_s=40):
        """Whether the answer has come to its end; the connection may stay for another."""
        deadline = time.monotonic() + within_s
        while not self.text.endswith(b"\r\n0\r\n\r\n"):
            self.sock.settimeout(max(0.1, deadline - time.monotonic()))
            data = self.sock.recv(65536)
            if not data:
                break
            self.text += data
        return True

    def close(self):
        self.sock.close()


@pytest.fixture
def streams():
    made = []

    def make(*args):
        made.append(Stream(*args))
        return made[-1]

    yield make
    for each in made:
        each.close()


def cookie_of(house):
    return cookie_for(house.port, house.admin.key_for("acme", "manage").key)


def test_a_stream_tells_only_what_has_changed(shop, told, streams):
    webhook = shop.admin.make(told.url("/hooks"))
    stream = streams(shop, f"/dashboard/webhooks/{webhook['id']}/live", cookie_for(shop.port, shop.key()))
    stream.until(b'id="standing"', b'id="charts"', b'id="rows"')
    stream.text = b""
    submit(shop)
    stream.until(b"0 of 1 failed")
    stream.text = b""
    shop.admin.patch(f"/v1/webhooks/{webhook['id']}", {"status": "paused"})
    assert b'id="rows"' not in stream.until(b"Paused")


@pytest.mark.parametrize("end", ["sign out", "revoke the key", "delete the webhook"])
def test_a_stream_ends_when_its_reader_may_see_no_more(end, shop, told, streams):
    webhook = shop.admin.make(told.url("/hooks"))
    key = shop.key()
    cookie = cookie_for(shop.port, key)
    stream = streams(shop, f"/dashboard/webhooks/{webhook['id']}/live", cookie)
    stream.until(b'id="standing"')
    if end == "sign out":
        out = f"POST /dashboard/sign-out HTTP/1.1\r\nHost: 127.0.0.1:{shop.port}\r\nCookie: {cookie}\r\n"
        out += f"Origin: http://127.0.0.1:{shop.port}\r\nContent-Length: 0\r\n\r\n"
        with socket.create_connection(("127.0.0.1", shop.port)) as sock:
            sock.sendall(out.encode())
            assert b" 303 " in sock.recv(100)
    elif end == "revoke the key":
        (row,) = (row for row in shop.admin.data("/v1/keys") if row["hint"] == key[-4:])
        shop.admin.delete(f"/v1/keys/{row['id']}")
    else:
        shop.admin.delete(f"/v1/webhooks/{webhook['id']}")
    assert stream.has_ended()


def test_a_daemon_that_stops_waits_for_no_stream(served, streams):
    house = served()
    stream = streams(house, "/dashboard/live", cookie_of(house))
    stream.until(b'id="webhooks"')
    started = time.monotonic()
    assert house.running.end() == 0
    assert time.monotonic() - started < 20  # what is under way has 25 s
    assert stream.has_ended()


def test_one_keys_live_pages_are_bounded_and_leave_all_others_theirs_and_slow_readers_hold_nobody_up(
    served, told, streams
):
    house = served()
    webhook = house.admin.make(told.url("/hooks"), tenant="acme")
    path = f"/dashboard/webhooks/{webhook['id']}/live"
    greedy = house.admin.key_for("acme", "read").key
    cookies = [cookie_for(house.port, greedy), cookie_for(house.port, greedy)]  # two sessions, one key
    opened = [streams(house, path, cookies[number % 2]) for number in range(16)]
    for stream in opened:
        stream.until(b"retry:")
    for cookie in cookies:
        assert b"204 No Content" in streams(house, path, cookie).until(b"\r\n\r\n")
    theirs = house.admin.make(told.url("/others"), tenant="other")
    for cookie, place in (
        (cookie_for(house.port, house.admin.key_for("acme", "read").key), path),
        (cookie_for(house.port, house.admin.key_for("other", "read").key), f"/dashboard/webhooks/{theirs['id']}/live"),
        (cookie_of(house), path),
    ):
        assert b" 200 OK" in streams(house, place, cookie).until(b"\r\n\r\n")
    assert 'hookrelay_limits_met_total{limit="live_pages"} 2.0' in house.admin.get("/metrics").body.decode()
    submit(house, 200, tenant="acme")
    told.wait_at("/hooks", 200)
    started = time.monotonic()
    assert house.admin.get("/v1/webhooks").status == 200
    assert time.monotonic() - started < 15
    for stream in opened:
        stream.close()
    wait_for(lambda: b" 200 OK" in streams(house, path, cookies[0]).until(b"\r\n\r\n"))


def test_a_failure_shows_on_the_list_as_it_happens(shop, visitor, told):
    told.says["/hooks"] = answer(503)
    shop.admin.make(told.url("/hooks"), retry=["24h"])
    page = visitor(shop).sign_in(shop.key("read"))
    row = page.locator(".endpoints li")
    expect(row).to_contain_text("none")
    submit(shop)
    expect(row.locator(".figures")).to_contain_text("0 %")
    row.locator(".last").get_by_role("link", name="HTTP 503").click()
    expect(page.locator("#outcome")).to_contain_text("The server is not available")


def test_a_page_goes_on_after_the_daemon_was_away_and_says_when_it_goes_on_no_more(served, visitor, told):
    house = served()
    webhook = house.admin.make(told.url("/hooks"), tenant="acme")
    caller = house.admin.key_for("acme", "manage")
    someone = visitor(house)
    page = someone.sign_in(caller.key)
    page.goto(f"/dashboard/webhooks/{webhook['id']}")
    expect(page.locator("#standing")).to_contain_text("no attempt yet")
    # the browser tells of each look for a daemon that is not there
    someone.is_patient = True
    assert house.running.end() == 0
    expect(page.locator("#lost")).to_contain_text("Trying again")
    house.running.start()
    submit(house, tenant="acme")
    expect(page.locator("#rows tbody tr")).to_have_count(1)
    expect(page.locator("#lost")).to_be_empty()
    someone.expected = {401}
    (row,) = (row for row in house.admin.data("/v1/keys") if row["hint"] == caller.key[-4:])
    house.admin.delete(f"/v1/keys/{row['id']}")
    page.locator("#lost").get_by_role("link", name="Load it again").click()
    expect(page.get_by_label("API key")).to_be_visible()
