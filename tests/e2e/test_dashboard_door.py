"""Who gets into the dashboard, by which way, and what the door refuses (THREATS §3)."""

import json
import random
import re
import time
from http.client import HTTPConnection
from urllib.parse import quote, urlencode

import pytest
from api_rig import over_unix, serve
from rig import Reply, answer, wait_for

from hookrelay.web.dashboard.door import GUARDS
from hookrelay.web.dashboard.routes import ROUTES


class Browser:
    """Sends what a browser would, but for what a test says otherwise."""

    def __init__(self, port):
        self.port = port
        self.cookie = None

    def __call__(self, method, path, form=None, **fields):
        headers = {"host": f"127.0.0.1:{self.port}"}
        if self.cookie is not None:
            headers["cookie"] = self.cookie
        if method != "GET":
            headers |= {"origin": f"http://127.0.0.1:{self.port}", "sec-fetch-site": "same-origin"}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        headers = {name: value for name, value in headers.items() if value is not None}
        body = None
        if form is not None:
            body = urlencode(form, doseq=True)
            headers.setdefault("content-type", "application/x-www-form-urlencoded")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None:
                headers["content-length"] = str(len(body))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(None if body is None else body.encode())
            said = connection.getresponse()
            fields = {name.lower(): value for name, value in said.getheaders()}
            body = b"" if fields.get("content-type") == "text/event-stream" else said.read()
            reply = Reply(said.status, fields, body)
        finally:
            connection.close()
        kept = reply.headers.get("set-cookie")
        if kept is not None:
            self.cookie = kept.partition(";")[0]
        return reply

    def get(self, path, **fields):
        return self("GET", path, **fields)

    def post(self, path, form=None, **fields):
        return self("POST", path, form or {}, **fields)

    def sign_in(self, key):
        reply = self.post("/dashboard/sign-in", {"key": key})
        assert (reply.status, reply.headers["location"]) == (303, "/dashboard"), reply.body
        return self


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """One for all tests: none of them leaves anything behind that another would notice."""
    made = serve(tmp_path_factory.mktemp("house"), settings='event_types."a.b" = {}\n')
    yield made
    made.running.close()


@pytest.fixture
def signed_in(house):
    def come(tenant="acme", role="manage"):
        return Browser(house.port).sign_in(house.admin.key_for(tenant, role).key)

    return come


# --- signing in and out -----------------------------------------------------------------------------------------


def test_the_cookie_is_for_the_dashboard_alone_and_for_no_script(house):
    key = house.admin.key_for("acme", "read").key
    reply = Browser(house.port).post("/dashboard/sign-in", {"key": key})
    assert re.fullmatch(
        r"hookrelay_session=[\w-]{43}; Path=/dashboard; Max-Age=43200; HttpOnly; SameSite=Strict",
        reply.headers["set-cookie"],
    )
    said = Browser(house.port).post("/dashboard/sign-in", {"key": key}, x_forwarded_proto="https")
    assert said.headers["set-cookie"].endswith("; Secure")


def test_the_cookie_opens_nothing_of_the_api(house, signed_in):
    browser = signed_in("*", "admin")
    assert browser.get("/v1/webhooks").status == 401
    assert browser.post("/-/reload").status == 401


def test_a_wrong_key_is_refused_and_many_are_slowed_down_while_a_right_one_still_passes(tmp_path):
    house = serve(tmp_path)
    try:
        browser = Browser(house.port)
        replies = [browser.post("/dashboard/sign-in", {"key": f"wrong{number}é"}) for number in range(25)]
        assert {reply.status for reply in replies} == {401, 429}
        assert replies[-1].status == 429
        assert b"Too many wrong keys" in replies[-1].body
        assert browser.cookie is None
        browser.sign_in(house.admin.key_for("acme", "read").key)
    finally:
        house.running.close()


def test_a_key_that_may_only_submit_is_told_so(house):
    reply = Browser(house.port).post("/dashboard/sign-in", {"key": house.admin.key_for("acme", "submit").key})
    assert (reply.status, b"may only submit events" in reply.body) == (403, True)


@pytest.mark.parametrize(
    "next",
    [
        "//evil.example/",
        "https://evil.example/",
        "/dashboard@evil",
        "/\\evil.example",
        "/v1/webhooks",
        "/dashboardx",
        "\n",
        "/dashboard/../v1/webhooks",
        "/dashboard/..",
        "/dashboard/./deliveries",
        "/dashboard/%2e%2e/v1",
        "/dashboard/%2E./v1",
        "/dashboard//evil.example",
        "/dashboard//",
        "/dashboard/x%2f..%2f..%2fv1",
        "/dashboard/x%5c..%5cv1",
        "/dashboard\\..\\v1",
        "/dashboard/%00",
        "/dashboard/%0d%0aset-cookie:x=1",
        "/dashboard/deliveries?\r\nset-cookie: x=1",
        "/dashboard/deliveries?a=\x7f",
        "/dashboard/deliveries#/../..",
        "/dashboard;/../v1",
        "/dashboard/\u2025/v1",
    ],
)
def test_after_signing_in_nobody_is_led_elsewhere(house, next):
    key = house.admin.key_for("acme", "read").key
    reply = Browser(house.port).post("/dashboard/sign-in", {"key": key, "next": next})
    assert (reply.status, reply.headers["location"]) == (303, "/dashboard")


def test_whoever_must_sign_in_first_goes_on_to_what_they_wanted(house):
    browser = Browser(house.port)
    asked = browser.get("/dashboard/deliveries?status=failed")
    assert asked.headers["location"] == "/dashboard/sign-in?next=%2Fdashboard%2Fdeliveries%3Fstatus%3Dfailed"
    assert b'value="/dashboard/deliveries?status=failed"' in browser.get(asked.headers["location"]).body
    key = house.admin.key_for("acme", "read").key
    went = browser.post("/dashboard/sign-in", {"key": key, "next": "/dashboard/deliveries?status=failed"})
    assert went.headers["location"] == "/dashboard/deliveries?status=failed"


def test_signing_out_ends_the_session_for_good(house, signed_in):
    browser = signed_in()
    cookie = browser.cookie
    assert browser.get("/dashboard").status == 200
    assert browser.post("/dashboard/sign-out").status == 303
    browser.cookie = cookie
    assert browser.get("/dashboard").status == 303


def test_a_session_ends_with_its_key(house):
    caller = house.admin.key_for("acme", "manage")
    browser = Browser(house.port).sign_in(caller.key)
    assert browser.get("/dashboard").status == 200
    (row,) = (row for row in house.admin.data("/v1/keys?limit=250") if row["hint"] == caller.key[-4:])
    house.admin.delete(f"/v1/keys/{row['id']}")
    assert browser.get("/dashboard").status == 303
    assert browser.post("/dashboard/new", {"url": "https://example.com/"}).status == 401


def test_sessions_and_links_outlive_the_daemon_and_digests_alone_are_on_disk(tmp_path):
    house = serve(tmp_path)
    try:
        browser = Browser(house.port).sign_in(house.admin.key_for("acme", "read").key)
        made = house.admin.post("/v1/portal-links", {"tenant": "acme", "role": "read"}).json
        house.restart()
        assert browser.get("/dashboard").status == 200
        token = made["url"].rpartition("/")[2]
        assert Browser(house.port).get(f"/dashboard/link/{token}").status == 303
        house.running.end()
        secrets = [token.encode(), browser.cookie.partition("=")[2].encode()]
        for file in tmp_path.rglob("*"):
            if file.is_file():
                assert [secret for secret in secrets if secret in file.read_bytes()] == [], file
    finally:
        house.running.close()


# --- links ------------------------------------------------------------------------------------------------------


def path_of(made):
    return made["url"][made["url"].index("/dashboard") :]


def test_a_link_opens_once_and_shows_its_tenant_alone(house):
    mine = house.admin.make("https://example.com/mine", tenant="linked")
    theirs = house.admin.make("https://example.com/theirs", tenant="other")
    reply = house.admin.post("/v1/portal-links", {"tenant": "linked", "role": "manage", "for": "30m"})
    made = reply.json
    assert (reply.status, made["tenant"], made["role"]) == (201, "linked", "manage")
    assert made["url"].startswith(f"http://127.0.0.1:{house.port}/dashboard/link/")
    browser = Browser(house.port)
    assert browser("HEAD", path_of(made)).status == 204
    assert browser.get(path_of(made), sec_purpose="prefetch;prerender").status == 204
    assert browser.get(path_of(made)).headers["location"] == "/dashboard"
    shown = browser.get("/dashboard").body
    assert (b"/mine" in shown, b"/theirs" in shown) == (True, False)
    assert browser.get(f"/dashboard/webhooks/{mine['id']}").status == 200
    assert browser.get(f"/dashboard/webhooks/{theirs['id']}").status == 404
    again = Browser(house.port).get(path_of(made))
    assert (again.status, b"was opened before" in again.body) == (410, True)
    rows = house.admin.data("/v1/portal-links?tenant=linked")
    assert [(row["id"], row["status"], "url" in row) for row in rows] == [(made["id"], "open", False)]


def test_who_comes_from_another_site_by_a_link_is_let_in_by_a_page_of_ours(house):
    """A strict cookie does not go with a redirection that another site has begun."""
    made = house.admin.post("/v1/portal-links", {"tenant": "acme", "role": "read"}).json
    browser = Browser(house.port)
    reply = browser.get(path_of(made), sec_fetch_site="cross-site")
    assert (reply.status, b'content="0; url=/dashboard"' in reply.body) == (200, True)
    assert browser.get("/dashboard", sec_fetch_site="same-origin").status == 200


def test_a_link_and_its_session_can_be_ended(house):
    for is_opened in (False, True):
        made = house.admin.post("/v1/portal-links", {"tenant": "acme", "role": "read"}).json
        browser = Browser(house.port)
        if is_opened:
            assert browser.get(path_of(made)).status == 303
            assert browser.get("/dashboard").status == 200
        assert house.admin.delete(f"/v1/portal-links/{made['id']}").status == 204
        assert browser.get("/dashboard").status == 303
        assert Browser(house.port).get(path_of(made)).status == 410
        assert house.admin.delete(f"/v1/portal-links/{made['id']}").status == 404


def test_a_reading_link_manages_nothing(house):
    webhook = house.admin.make("https://example.com/", tenant="acme")
    made = house.admin.post("/v1/portal-links", {"tenant": "acme", "role": "read"}).json
    browser = Browser(house.port)
    browser.get(path_of(made))
    for path, methods in ROUTES.items():
        if "POST" in methods and methods["POST"][1] is not None:
            assert (path, browser.post(path.replace("{id}", webhook["id"])).status) == (path, 403)


@pytest.mark.parametrize(
    ("wish", "fields"),
    [
        ({}, {"tenant"}),
        ({"tenant": "a b", "role": "submit", "for": "soon"}, {"tenant", "role", "for"}),
        ({"tenant": "acme", "for": "8d"}, {"for"}),
        ({"tenant": "acme", "for": "1s"}, {"for"}),
        ({"tenant": "acme", "for": 5, "colour": "red"}, {"for", "colour"}),
        ({"tenant": 7}, {"tenant"}),
    ],
)
def test_every_mistake_in_a_wish_for_a_link_is_told(house, wish, fields):
    reply = house.admin.post("/v1/portal-links", wish)
    assert (reply.status, {error["field"] for error in reply.json["errors"]}) == (422, fields)


def test_links_are_made_by_administrators_and_for_their_own_tenant(house):
    for role in ("manage", "read", "submit"):
        assert house.caller("acme", role).post("/v1/portal-links", {"tenant": "acme"}).status == 403
    own = house.caller("acme", "admin")
    assert own.post("/v1/portal-links", {"role": "read"}).json["tenant"] == "acme"
    assert own.post("/v1/portal-links", {"tenant": "other"}).status == 403
    assert own.post("/v1/portal-links", {"tenant": "*"}).status == 403
    other = house.admin.post("/v1/portal-links", {"tenant": "other"}).json
    assert own.delete(f"/v1/portal-links/{other['id']}").status == 404
    assert {row["tenant"] for row in own.data("/v1/portal-links")} == {"acme"}


def test_where_the_dashboard_is_not_served_no_link_is_made_and_no_page_shown(daemon):
    running = daemon().start()
    admin = over_unix(running.at / "a.sock")
    reply = admin.post("/v1/portal-links", {"tenant": "acme"})
    assert (reply.status, "api.listen" in reply.json["detail"]) == (409, True)
    shown = admin.get("/dashboard")
    assert (shown.status, b"served on the TCP addresses" in shown.body) == (404, True)


def test_links_begin_with_the_public_url(tmp_path):
    house = serve(tmp_path, settings='api.public_url = "https://hooks.example.com"\n')
    try:
        made = house.admin.post("/v1/portal-links", {"tenant": "acme"}).json
        assert made["url"].startswith("https://hooks.example.com/dashboard/link/")
        reply = Browser(house.port).get(path_of(made), host="hooks.example.com")
        assert (reply.status, reply.headers["set-cookie"].endswith("; Secure")) == (303, True)
    finally:
        house.running.close()


# --- other sites ------------------------------------------------------------------------------------------------

EVERY = [(path, method) for path, methods in ROUTES.items() for method in methods]


@pytest.mark.parametrize(("path", "method"), EVERY)
def test_a_forged_host_origin_or_cookie_is_refused(house, signed_in, path, method):
    path = path.replace("{id}", "app.css" if "static" in path else "wh_01HQ3K5M7N0000000000000001")
    browser = signed_in("*", "admin")
    form = {} if method == "POST" else None
    assert browser(method, path, form, host="evil.example").status == 421
    assert browser(method, path, form, host=f"127.0.0.1.evil.example:{house.port}").status == 421
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{house.port + 1}", "http://[", "é"):
        assert (origin, browser(method, path, form, origin=origin.encode()).status) == (origin, 403)
    if method == "POST":
        assert browser(method, path, form, origin=None, sec_fetch_site=None).status == 403
        for site in ("cross-site", "same-site", "none"):
            assert browser(method, path, form, sec_fetch_site=site).status == 403
    if ROUTES.get(path, {}).get(method, (None, ()))[1] is None or "static" in path or "link" in path:
        return
    for cookie in ("hookrelay_session=", "hookrelay_session=x", f"other={browser.cookie}", "=;;=", "a" * 8000):
        browser.cookie = cookie
        reply = browser(method, path, form)
        assert (cookie, reply.status) == (cookie, 303 if method == "GET" else 401)


@pytest.mark.parametrize(("path", "method"), EVERY)
def test_every_answer_carries_the_guards(house, signed_in, path, method):
    path = path.replace("{id}", "app.css" if "static" in path else "none")
    reply = signed_in("*", "admin")(method, path, {} if method == "POST" else None, accept="text/html")
    assert {name: reply.headers.get(name) for name in GUARDS} == GUARDS


def test_no_page_holds_a_script_or_a_style_of_its_own(house, signed_in):
    house.admin.make("https://example.com/", tenant="acme")
    browser = signed_in()
    for path in ("/dashboard", "/dashboard/new", "/dashboard/deliveries", "/dashboard/sign-in"):
        text = browser.get(path).body.decode()
        assert re.findall(r"<script(?![^>]* src=\"/dashboard/static/)", text) == []
        assert re.findall(r"<style| style=| on[a-z]+=|javascript:", text) == []
        for address in re.findall(r'(?:src|href|action)="([^"]*)"', text):
            assert address.startswith(("/", "#", "?")), address


# --- what else may come -----------------------------------------------------------------------------------------


def test_what_is_not_there_and_what_cannot_be_done_is_said_on_a_page(house, signed_in):
    browser = signed_in()
    for path in (
        "/dashboard/nothing",
        "/dashboard/webhooks/wh_1",
        "/dashboard/deliveries/dlv_1",
        "/dashboard/static/x",
    ):
        reply = browser.get(path)
        assert (path, reply.status, b"</html>" in reply.body) == (path, 404, True)
    assert browser.post("/dashboard/deliveries").status == 405
    assert browser("PUT", "/dashboard", {}).status == 405
    assert browser.get("/dashboard/sign-out").status == 405
    assert browser.get("/dashboard/").status == 200


def test_bad_forms_are_refused_with_reason(house, signed_in):
    browser = signed_in()
    assert browser.post("/dashboard/new", {"url": ""}, content_type="text/plain").status == 415
    assert browser.post("/dashboard/new", {"url": "x" * 1_100_000}).status == 413
    assert browser.post("/dashboard/new", [("a", "1")] * 3000).status == 400
    assert browser.post("/dashboard/new", {"url": b"\xff\xfe"}).status in (400, 422)
    reply = browser.post("/dashboard/new", {"url": "https://example.com/", "events": ["a b", "x*"]})
    assert (reply.status, b"need another look" in reply.body) == (422, True)


def test_static_files_are_packed_and_kept_for_ever_by_their_marked_address(house):
    browser = Browser(house.port)
    page = browser.get("/dashboard/sign-in").body.decode()
    addresses = re.findall(r'"(/dashboard/static/[^"]+)"', page)
    assert len(addresses) == 4
    for address in addresses:
        plain = browser.get(address)
        packed = browser.get(address, accept_encoding="gzip, br")
        assert plain.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert packed.headers["content-encoding"] == "gzip"
        assert len(packed.body) < len(plain.body)
    assert browser.get("/dashboard/static/app.css").headers["cache-control"] == "no-cache"
    assert b"Zero-Clause BSD" in browser.get("/dashboard/static/htmx-LICENSE.txt").body


def test_another_tenants_things_are_not_there(house, told):
    told.says["/theirs"] = answer(500)
    theirs = house.admin.make(told.url("/theirs"), tenant="b1", retry=["24h"])
    house.admin.post("/v1/events", {"type": "a.b", "tenant": "b1", "data": 1})
    wait_for(lambda: house.admin.data("/v1/deliveries?tenant=b1")[0]["attempt_count"] == 1)
    delivery = house.admin.data("/v1/deliveries?tenant=b1")[0]["id"]
    browser = Browser(house.port).sign_in(house.admin.key_for("a1", "admin").key)
    for path, methods in ROUTES.items():
        if "{id}" not in path or "static" in path or "link" in path:
            continue
        id = delivery if "/deliveries/" in path else theirs["id"]
        for method in methods:
            reply = browser(method, path.replace("{id}", id), {"type": "a.b"} if method == "POST" else None)
            assert (path, method, reply.status) == (path, method, 404)
    assert browser.get("/dashboard?tenant=b1").status == 403
    assert browser.get("/dashboard/overview").status == 403
    assert theirs["id"].encode() not in browser.get("/dashboard").body
    assert delivery.encode() not in browser.get("/dashboard/deliveries").body
    made = browser.post("/dashboard/new", {"url": "https://example.com/", "events": "*", "tenant": "b1"})
    assert made.status == 200
    assert [row["tenant"] for row in house.admin.data("/v1/webhooks?q=example.com&tenant=a1")] == ["a1"]


def test_a_session_ends_after_its_time(tmp_path):
    house = serve(tmp_path)
    try:
        made = house.admin.post("/v1/portal-links", {"tenant": "acme", "for": "1m"}).json
        browser = Browser(house.port)
        assert browser.get(path_of(made)).status == 303
        ends = house.admin.data("/v1/portal-links")[0]["expires_at"]
        assert 50 < _unix(ends) - time.time() < 61
    finally:
        house.running.close()


def _unix(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def test_a_body_is_saved_as_it_was_sent_and_never_taken_for_a_page(house, told):
    house.admin.make(told.url("/saved"), tenant="saved")
    data = {"html": "<script>alert(1)</script>", "long": "x" * 200_000}
    house.admin.post("/v1/events", {"type": "a.b", "tenant": "saved", "data": data})
    (request,) = told.wait_at("/saved", 1)
    delivery = house.admin.data("/v1/deliveries?tenant=saved")[0]["id"]
    browser = Browser(house.port).sign_in(house.admin.key_for("saved", "read").key)
    saved = browser.get(f"/dashboard/deliveries/{delivery}/body")
    assert saved.body == request.body
    assert saved.headers["content-type"] == "text/plain; charset=utf-8"
    assert saved.headers["content-disposition"] == f'attachment; filename="{delivery}.json"'
    page = browser.get(f"/dashboard/deliveries/{delivery}")
    assert len(page.body) < 100_000
    assert b"of which the beginning is shown" in page.body
    assert json.loads(saved.body)["data"] == data


ODD = (
    *("", "0", "-1", "1e9", "9" * 30, "٣٣٣", "\x00", "é" * 50, "a" * 3000, "*", "*.x", "..", "\\", "%", "null", "[]"),
    *("2026-02-26T10:00", "0001-01-01T00:00", "9999-12-31T23:59", "2026-02-26T10:00+99:99", "24h", "own", "failed"),
    *("exponential(1,", "a: b\nc", "Host: x", "\u202e", "-99999", "https://[::1", "https://ex ample", "on", "discard"),
    *("Z2Fy", "ZGVsaXZlcmllczo5OTk5OTk5OTk5OTk5OTk5OTk5"),
)
FIELDS = (
    *(
        "q",
        "status",
        "cursor",
        "tenant",
        "said",
        "span",
        "type",
        "code",
        "time",
        "from",
        "to",
        "tz",
        "attempt",
        "window",
    ),
    *("until", "replay", "next", "url", "events", "more_events", "rate_limit", "max_in_flight", "timeout", "retry"),
    *("headers", "tag", "overlap", "held", "request"),
)


def test_no_page_has_a_fault_whatever_it_is_asked(served, told):
    house = served()
    luck = random.Random(5)  # noqa: S311 -- the same each time
    webhook = house.admin.make(told.url("/hooks"), tenant="acme")["id"]
    house.admin.post("/v1/events", {"type": "a.b", "tenant": "acme", "data": 1})
    told.wait_at("/hooks", 1)
    delivery = house.admin.data("/v1/deliveries")[0]["id"]
    browser = Browser(house.port).sign_in(house.admin.key_for("*", "admin").key)
    routes = [(path, method) for path, method in EVERY if not path.endswith(("live", "sign-out", "delete"))]
    for path, method in luck.choices(routes, k=500):
        id = delivery if "/deliveries/" in path else webhook
        full = path.replace("{id}", id if luck.random() < 0.9 else quote(luck.choice(ODD), safe=""))
        fields = [(luck.choice(FIELDS), luck.choice(ODD)) for _ in range(luck.randint(0, 4))]
        reply = browser.get(f"{full}?{urlencode(fields)}") if method == "GET" else browser.post(full, fields)
        assert reply.status < 500, (method, full, fields, reply.body)
    assert "request_failed" not in house.running.log()


# --- redirects --------------------------------------------------------------------------------------------------


def test_where_a_redirect_pointed_is_told_everywhere_and_taken_over_with_one_click(house, shop, told):
    told.says["/old"] = answer(301, b"", "Location: /new/t0ken")
    webhook = shop.admin.make(told.url("/old"), tenant=shop.tenant, retry=[])
    shop.admin.post("/v1/events", {"type": "a.b", "tenant": shop.tenant, "data": 1})
    failures = f"/v1/deliveries?status=failed&tenant={shop.tenant}"
    wait_for(lambda: shop.admin.data(failures))
    (failed,) = shop.admin.data(failures)
    assert failed["error"]["code"] == "http_status"
    assert "pointed to /new/t0ken: redirects are not followed" in failed["error"]["detail"]
    assert "url" in failed["error"]["detail"]
    assert "redirects are not followed" in house.running.log()
    assert "t0ken" not in house.running.log()

    browser = Browser(house.port).sign_in(shop.key("manage"))
    reader = Browser(house.port).sign_in(shop.key("read"))
    new = told.url("/new/t0ken")
    for path in (f"/dashboard/deliveries/{failed['id']}", f"/dashboard/webhooks/{webhook['id']}"):
        (form,) = re.findall(rf'<form method="post" action="([^"]+)"><input type="hidden" name="url" value="{new}">',
                             browser.get(path).body.decode())  # fmt: skip
        assert f"Change the URL to {new}" in browser.get(path).body.decode()
        assert "Change the URL to" not in reader.get(path).body.decode()
    assert reader.post(form, {"url": new}).status == 403
    assert browser.post(form, {"url": "ftp://x"}).status == 422
    moved = browser.post(form, {"url": new})
    assert (moved.status, moved.headers["location"]) == (303, f"/dashboard/webhooks/{webhook['id']}?said=moved")
    assert shop.admin.get(f"/v1/webhooks/{webhook['id']}").json["url"] == new
    for path in (f"/dashboard/deliveries/{failed['id']}", f"/dashboard/webhooks/{webhook['id']}?said=moved"):
        assert "Change the URL to" not in browser.get(path).body.decode()
    shop.admin.post("/v1/events", {"type": "a.b", "tenant": shop.tenant, "data": 1})
    told.wait_at("/new/t0ken", 1)


def test_no_redirect_to_where_nothing_may_go_is_offered(house, shop, told):
    for path, to in {"/a": "http://169.254.169.254/", "/b": "javascript:alert(1)", "/c": "/c"}.items():
        told.says[path] = answer(308, b"", f"Location: {to}")
        webhook = shop.admin.make(told.url(path), tenant=shop.tenant, retry=[])
        said = shop.admin.post(f"/v1/webhooks/{webhook['id']}/test").json
        page = Browser(house.port).sign_in(shop.key("manage")).get(f"/dashboard/deliveries/{said['id']}").body.decode()
        assert "redirects are never followed" in page
        assert "Change the URL to" not in page
