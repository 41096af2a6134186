"""What tenants are told of where private names lead: on every road, beside what administrators are told there."""

import contextlib
import json
from http.client import HTTPConnection

import pytest
from api_rig import Served, Told, serve
from browser import cookie_for
from rig import wait_for

PUBLIC = "leads to an address that is not public"
PRIVATE = ("127.0.0.", "::1", "egress.", "built-in", "operator")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A house in which `localhost` leads to an address that may not be called, and one that was opened."""
    taken = Told()
    settings = f'egress.allow = ["[::1/128]:{taken.port}", "127.0.0.2/32:{taken.port}"]\n'
    settings += 'egress.deny = ["127.0.0.1/32"]\n'
    house = serve(tmp_path_factory.mktemp("told"), settings=settings)
    key = house.caller("acme", "manage")
    house.blocked = key.make(f"http://localhost:{taken.port}/hooks", retry=[])
    tested = key.post(f"/v1/webhooks/{house.blocked['id']}/test", {})
    assert tested.status == 200
    house.delivery = tested.json["id"]
    house.tested = tested.body.decode()
    with contextlib.closing(taken):
        yield house, key
        with contextlib.closing(house.running):
            assert house.running.end() == 0


def gives_nothing_away(text: str) -> bool:
    """Raises where it does."""
    assert not [word for word in PRIVATE if word in text], text
    return True


def page(house: Served, path: str, key: str) -> str:
    connection = HTTPConnection("127.0.0.1", house.port, timeout=40)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"cookie": cookie_for(house.port, key)})
        said = connection.getresponse()
        text = said.read().decode()
        assert said.status == 200, text
        return text


def test_a_url_that_is_refused_is_told_by_its_rule_to_administrators_and_to_the_log_alone(shop):
    house, key = shop
    good = key.make("https://example.com/hooks")
    for url in (
        "https://127.0.0.1/x",
        "https://127.0.0.1:8443/secret-path",
        "https://[::ffff:10.0.0.5]/",
        "https://db.internal/x",
        "https://localhost:9999/x",
        "http://10.0.0.5/x",
        "https://example.com:25/x",
    ):
        made = key.post("/v1/webhooks", {"url": url, "events": ["*"]})
        changed = key.patch(f"/v1/webhooks/{good['id']}", {"url": url})
        for reply in (made, changed):
            assert reply.status == 422
            (error,) = reply.json["errors"]
            assert error["field"] == "url"
            assert not [word for word in ("egress.", "built-in", "operator", "RFC") if word in reply.body.decode()]
            assert PUBLIC in error["detail"] or "port 25" in error["detail"] or "https://" in error["detail"]
        told = house.admin.post("/v1/webhooks", {"url": url, "events": ["*"], "tenant": "acme"})
        changed = house.admin.patch(f"/v1/webhooks/{good['id']}", {"url": url})
        for reply in (told, changed):
            assert "an operator may" in reply.json["errors"][0]["detail"] or "egress.deny" in reply.body.decode()
    log = house.running.log()
    assert log.count("webhook_url_refused") == 14
    assert "db.internal:443" in log
    assert "secret-path" not in log


@pytest.mark.parametrize(
    "path",
    [
        "/v1/deliveries",
        "/v1/deliveries/{delivery}",
        "/v1/webhooks/{webhook}/deliveries",
        "/v1/events/{event}",
    ],
)
def test_why_an_attempt_was_blocked_is_told_in_public_words_to_tenants_and_whole_to_administrators(shop, path):
    house, key = shop
    event = key.get(f"/v1/deliveries/{house.delivery}").json["event_id"]
    path = path.format(delivery=house.delivery, webhook=house.blocked["id"], event=event)
    for api in (key, house.caller("acme", "read"), house.caller("acme", "admin")):
        text = api.get(path).body.decode()
        assert "egress_blocked" in text
        assert PUBLIC in text
        gives_nothing_away(text.replace("http://localhost", ""))
    for api in (house.admin, house.caller("*", "read")):
        assert "egress.deny: 127.0.0.1/32" in api.get(path).body.decode()
    assert house.running.log().count("egress.deny: 127.0.0.1/32") >= 1


def test_a_test_call_and_the_stream_tell_no_more(shop):
    house, key = shop
    assert PUBLIC in house.tested
    assert gives_nothing_away(house.tested)
    with contextlib.closing(HTTPConnection("127.0.0.1", house.port, timeout=20)) as connection:
        headers = {"authorization": f"Bearer {key.key}"}
        connection.request("GET", "/v1/events/stream?include=deliveries", headers=headers)
        answer = connection.getresponse()
        key.post(f"/v1/webhooks/{house.blocked['id']}/test", {})
        while not (line := answer.readline()).startswith(b"data: "):
            assert line
        assert json.loads(line[6:])["error"]["detail"] == f"the URL {PUBLIC}"


def test_the_dashboard_tells_no_more_neither_in_pages_nor_while_a_url_is_typed(shop):
    house, key = shop
    everybody = house.caller("*", "admin")
    for path in (f"/dashboard/deliveries/{house.delivery}", f"/dashboard/webhooks/{house.blocked['id']}"):
        assert gives_nothing_away(page(house, path, key.key).replace("http://localhost", ""))
    assert PUBLIC in page(house, f"/dashboard/deliveries/{house.delivery}", key.key)
    assert "egress.deny: 127.0.0.1/32" in page(house, f"/dashboard/deliveries/{house.delivery}", everybody.key)
    check = "/dashboard/check-url?url=https%3A%2F%2Fdb.internal%2Fx"
    assert PUBLIC in page(house, check, key.key)
    assert gives_nothing_away(page(house, check, key.key))
    assert "an operator may add" in page(house, check, everybody.key)


def test_where_an_attempt_to_an_address_went_that_operators_opened_is_told_to_them_alone(tmp_path):
    taken = Told()
    house = serve(tmp_path, settings=f'egress.allow = ["[::1/128]:{taken.port}", "127.0.0.1/32:{taken.port}"]\n')
    with contextlib.closing(taken), contextlib.closing(house.running):
        key = house.caller("acme", "manage")
        hook = key.make(f"http://localhost:{taken.port}/opened")
        tested = key.post(f"/v1/webhooks/{hook['id']}/test", {}).json
        assert tested["status"] == "succeeded"
        path = f"/v1/deliveries/{tested['id']}"
        for said in (tested, key.get(path).json):
            assert said["attempts"][0]["remote_address"] is None
        assert house.admin.get(path).json["attempts"][0]["remote_address"] == f"127.0.0.1:{taken.port}"
        assert house.running.end() == 0


def test_announcements_of_failures_go_to_operators_only_and_tell_them_all(shop):
    house, key = shop
    port = house.blocked["url"].rpartition(":")[2].partition("/")[0]
    house.admin.make(f"http://127.0.0.2:{port}/", tenant="hookrelay", events=["hookrelay.*"])
    assert house.admin.post("/v1/events", {"type": "a", "data": 1, "tenant": "acme"}).status == 202
    found = []

    def announced():
        found[:] = house.admin.data("/v1/events?tenant=hookrelay&type=hookrelay.delivery.failed")
        return found

    wait_for(announced)
    assert "egress.deny: 127.0.0.1/32" in house.admin.get(f"/v1/events/{found[0]['id']}").body.decode()
    assert key.get(f"/v1/events/{found[0]['id']}").status == 404
    assert key.get("/v1/events?tenant=hookrelay").status == 403


def test_exports_hold_urls_and_nothing_of_where_they_lead(shop):
    house, _ = shop
    done = house.running.command("export", "--api", f"unix:{house.running.at / 'a.sock'}")
    assert done.returncode == 0, done.stderr
    assert "/hooks" in done.stdout
    assert gives_nothing_away(done.stdout.replace("http://127.0.0.2", ""))
