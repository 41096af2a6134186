"""Who may do what over the API: keys, roles and tenants, and how everybody else is turned away."""

import contextlib
import hashlib
import json
import re
import socket
from http.client import HTTPConnection

import pytest
from api_rig import Told, fields_of, is_problem, over_tcp, serve
from rig import answer, wait_for

from hookrelay.web.app import ROUTES

ROLES = ("admin", "manage", "read", "submit")
READ, MANAGE, ADMIN = {"admin", "manage", "read"}, {"admin", "manage"}, {"admin"}
ALLOWED = {
    ("GET", "/v1/webhooks"): READ,
    ("POST", "/v1/webhooks"): MANAGE,
    ("GET", "/v1/webhooks/{id}"): READ,
    ("PATCH", "/v1/webhooks/{id}"): MANAGE,
    ("DELETE", "/v1/webhooks/{id}"): MANAGE,
    ("POST", "/v1/webhooks/{id}/test"): MANAGE,
    ("POST", "/v1/webhooks/{id}/rotate-secret"): MANAGE,
    ("GET", "/v1/webhooks/{id}/deliveries"): READ,
    ("POST", "/v1/webhooks/{id}/replay"): MANAGE,
    ("GET", "/v1/deliveries"): READ,
    ("GET", "/v1/deliveries/{id}"): READ,
    ("POST", "/v1/deliveries/{id}/retry"): MANAGE,
    ("POST", "/v1/deliveries/{id}/cancel"): MANAGE,
    ("GET", "/v1/events"): READ,
    ("POST", "/v1/events"): {"admin", "submit"},
    ("GET", "/v1/events/stream"): READ,
    ("GET", "/v1/events/{id}"): READ,
    ("POST", "/v1/events/purge"): ADMIN,
    ("GET", "/v1/event-types"): set(ROLES),
    ("GET", "/v1/keys"): ADMIN,
    ("POST", "/v1/keys"): ADMIN,
    ("DELETE", "/v1/keys/{id}"): ADMIN,
    ("GET", "/v1/portal-links"): ADMIN,
    ("POST", "/v1/portal-links"): ADMIN,
    ("DELETE", "/v1/portal-links/{id}"): ADMIN,
    ("GET", "/v1/audit"): ADMIN,
    ("GET", "/v1/status"): ADMIN,
    ("POST", "/v1/backup"): ADMIN,
    ("POST", "/v1/check"): ADMIN,
    ("POST", "/-/reload"): ADMIN,
    ("GET", "/metrics"): set(ROLES),
    ("GET", "/-/healthy"): set(ROLES),
    ("GET", "/-/ready"): set(ROLES),
    ("GET", "/openapi.json"): set(ROLES),
    ("GET", "/docs"): set(ROLES),
    ("GET", "/docs/style.css"): set(ROLES),
}
"""What the contract and docs/api.md promise; written down once more, so that a slip of the router's table shows."""
FOR_ALL = {"/v1/status", "/v1/backup", "/v1/check", "/-/reload"}
"""What takes an administrator of all tenants."""
OPEN = {"/metrics", "/-/healthy", "/-/ready", "/openapi.json", "/docs", "/docs/style.css"}
EVERYWHERE = {"/v1/event-types", *OPEN}
"""What tells everybody the same."""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A daemon with two tenants: `victim` has a bit of everything, `mallory` keys only."""
    taken = Told()
    served = serve(tmp_path_factory.mktemp("access"))
    served.taken = taken
    owner = served.owner = served.caller("victim", "admin")
    taken.says["/down"] = answer(500)
    made = owner.make(taken.url("/down"), events=["private.*"], retry=["1h"], metadata={"marker": "victim-marker"})
    paused = owner.make(taken.url("/paused"), events=["private.*"])
    owner.patch(f"/v1/webhooks/{paused['id']}", {"status": "paused"})
    event = owner.post("/v1/events", {"type": "private.fact", "data": "victim-marker"}).json["id"]
    wait_for(lambda: owner.data(f"/v1/webhooks/{made['id']}/deliveries")[0]["attempt_count"] == 1)
    pending = owner.data(f"/v1/webhooks/{made['id']}/deliveries")[0]["id"]
    served.ids = {
        "webhooks": made["id"],
        "deliveries": pending,
        "events": event,
        "keys": owner.data("/v1/keys")[0]["id"],
        "portal-links": owner.post("/v1/portal-links", {"role": "read"}).json["id"],
    }
    yield served
    with contextlib.closing(served.running):
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()
    taken.close()


def paths():
    """Every route's method and path."""
    return [(method, path) for path, methods in ROUTES.items() for method in methods]


def asked(api, method, path):
    """The status and body of a call; of a stream only what comes first."""
    if path.startswith("/v1/events/stream"):
        with contextlib.closing(HTTPConnection("localhost", timeout=20)) as connection:
            connection.sock = api.connect()
            connection.request(method, path, headers={"authorization": f"Bearer {api.key}"})
            said = connection.getresponse()
            return said.status, said.read1()
    reply = api(method, path, {} if method in ("POST", "PATCH") else None)
    return reply.status, reply.body


def everything(served):
    """All that there is of the victim."""
    return [
        served.admin.get(f"/v1/{kind}?limit=250&tenant=victim").json
        for kind in ("webhooks", "deliveries", "events", "keys", "portal-links")
    ] + [served.admin.get(f"/v1/{kind}/{served.ids[kind]}").json for kind in ("webhooks", "deliveries", "events")]


# --- roles ------------------------------------------------------------------------------------------------------


def test_the_table_of_roles_knows_every_route():
    assert ALLOWED.keys() == set(paths())


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_call_what_the_table_says_and_nothing_else(house, role):
    key = house.caller("roles", role)
    for method, path in paths():
        status, said = asked(key, method, path.replace("{id}", "nothing"))
        if path in FOR_ALL:
            assert status == 403, (method, path)  # of one tenant
        elif role in ALLOWED[method, path]:
            assert status in (200, 201, 202, 400, 404, 422), (method, path, said)
        else:
            assert status == 403, (method, path)
            assert json.loads(said)["code"] == "forbidden"


def test_what_is_of_the_whole_house_takes_an_administrator_of_all_tenants(house):
    for role in ROLES:
        key = house.caller("*", role)
        expected = 200 if role == "admin" else 403
        assert key.get("/v1/status").status == expected
        for path in FOR_ALL - {"/v1/status"}:
            assert key.post(path).status == expected, path
    assert house.admin.get("/v1/status").status == 200


def test_a_submitter_submits_and_sees_nothing(house):
    key = house.caller("quiet", "submit")
    said = key.post("/v1/events", {"type": "a", "data": 1})
    assert said.status == 202
    for path in (f"/v1/events/{said.json['id']}", "/v1/events", "/v1/deliveries", "/v1/webhooks"):
        assert is_problem(key.get(path), 403, "forbidden")
    assert is_problem(house.caller("quiet", "manage").post("/v1/events", {"type": "a", "data": 1}), 403, "forbidden")


# --- tenants ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_no_route_shows_or_changes_anything_of_another_tenant(house, role):
    mallory = house.caller("mallory", role)
    before = everything(house)
    secrets = ["victim", *house.ids.values()]
    for method, path in paths():
        kind = path.split("/")[2] if path.count("/") > 1 else ""
        full = path.replace("{id}", house.ids.get(kind, ""))
        queries = ["", "?tenant=victim"]
        if path == "/v1/deliveries":
            queries += [f"?webhook={house.ids['webhooks']}", f"?event={house.ids['events']}"]
        if path == "/v1/events/stream":
            queries += [f"?webhook={house.ids['webhooks']}", f"?last_event_id={house.ids['events']}"]
        for query in queries:
            status, said = asked(mallory, method, full + query)
            where = (method, full + query, status, said)
            if path in EVERYWHERE:
                assert status in (200, 403, 422), where
            elif "{id}" in path or query == "?tenant=victim":
                assert status in (403, 404), where
            else:
                assert status in (200, 201, 202, 400, 403, 422), where
            if path not in EVERYWHERE:
                text = said.decode().replace(full, "")
                assert not [secret for secret in secrets if secret in text], where
    assert everything(house) == before


def test_naming_another_tenant_in_a_body_is_refused(house):
    mallory = house.caller("mallory", "admin")
    before = everything(house)
    for path, body in (
        ("/v1/webhooks", {"url": house.taken.url("/spy"), "events": ["*"], "tenant": "victim"}),
        ("/v1/events", {"type": "private.fact", "data": 1, "tenant": "victim"}),
        ("/v1/keys", {"tenant": "victim", "role": "admin"}),
        ("/v1/keys", {"tenant": "*", "role": "read"}),
        ("/v1/portal-links", {"tenant": "victim"}),
        ("/v1/events/purge", {"tenant": "victim"}),
        ("/v1/portal-links", {"tenant": "*"}),
    ):
        assert is_problem(mallory.post(path, body), 403, "forbidden"), path
        assert is_problem(mallory.post(path + "?tenant=victim", body), 403, "forbidden"), path
    line = json.dumps({"type": "private.fact", "data": 1, "tenant": "victim"}).encode()
    many = mallory.post("/v1/events", line, content_type="application/x-ndjson")
    assert json.loads(many.body)["error"]["code"] == "forbidden"
    made = mallory.make(house.taken.url("/own"))
    moved = mallory.patch(f"/v1/webhooks/{made['id']}", {"tenant": "victim"})
    assert is_problem(moved, 422, "invalid_field")
    assert everything(house) == before


def test_another_tenants_object_and_one_that_never_was_get_the_same_answer(house):
    mallory = house.caller("mallory", "admin")
    for kind, id in house.ids.items():
        never = id[:-1] + ("0" if id[-1] != "0" else "1")
        method = "DELETE" if kind in ("keys", "portal-links") else "GET"
        theirs, none = (mallory(method, f"/v1/{kind}/{each}") for each in (id, never))
        assert (theirs.status, theirs.body, theirs.headers) == (none.status, none.body, none.headers)
        assert theirs.status == 404
    theirs, none = (mallory.get(f"/v1/deliveries?webhook={id}") for id in (house.ids["webhooks"], "wh_none"))
    assert (theirs.status, theirs.body) == (none.status, none.body)


def test_webhooks_get_only_the_events_of_their_tenant(house):
    mallory = house.caller("mallory", "admin")
    spy = mallory.make(house.taken.url("/spy-on-all"), events=["*"])
    (said,) = house.running.submit(b'{"type":"private.fact","data":1,"tenant":"victim"}')
    assert said["deliveries"] == 2
    own = mallory.post("/v1/events", {"type": "private.fact", "data": 1}).json
    house.taken.wait_at("/spy-on-all", 1)
    assert set(house.taken.ids("/spy-on-all")) == {own["id"]}
    assert [row["tenant"] for row in mallory.data("/v1/deliveries")] == ["mallory"] * len(
        mallory.data("/v1/deliveries")
    )
    assert mallory.delete(f"/v1/webhooks/{spy['id']}").status == 204


def test_an_administrator_sees_all_tenants_and_narrows_to_one(house):
    for api in (house.admin, house.caller("*", "read")):
        assert {row["tenant"] for row in api.get("/v1/webhooks?limit=250").json["data"]} >= {"victim"}
        for kind in ("webhooks", "deliveries", "events"):
            rows = api.get(f"/v1/{kind}?tenant=victim&limit=250").json["data"]
            assert {row["tenant"] for row in rows} == {"victim"}
            assert api.get(f"/v1/{kind}/{house.ids[kind]}").status == 200
            assert is_problem(api.get(f"/v1/{kind}/{house.ids[kind]}?tenant=mallory"), 404, "not_found")
            assert is_problem(api.get(f"/v1/{kind}?tenant=no%20tenant"), 422, "invalid_field")


# --- keys -------------------------------------------------------------------------------------------------------


def test_keys_are_made_listed_and_revoked(house):
    made = house.admin.post("/v1/keys", {"tenant": "keys", "role": "read", "name": "the booking app"})
    key = made.json
    assert made.status == 201
    assert re.fullmatch(r"hookrelay_live_sk_[A-Za-z0-9]{32}", key["key"])
    assert key.keys() == {"id", "key", "tenant", "role", "name", "hint", "created_at", "last_used_at"}
    assert re.fullmatch(r"key_[0-9A-HJKMNP-TV-Z]{26}", key["id"])
    assert (key["tenant"], key["role"], key["name"]) == ("keys", "read", "the booking app")
    assert key["hint"] == key["key"][-4:]
    assert key["last_used_at"] is None
    text = key.pop("key")
    listed = house.admin.get("/v1/keys?tenant=keys")
    assert listed.json["data"] == [key]
    assert text.encode() not in listed.body
    assert house.stranger(text).get("/v1/webhooks").status == 200
    (used,) = house.admin.data("/v1/keys?tenant=keys")
    assert used["last_used_at"] >= key["created_at"]
    more = [house.admin.post("/v1/keys", {"tenant": "keys", "role": "read"}).json["id"] for _ in range(5)]
    pages = list(house.admin.pages("/v1/keys?tenant=keys", 2))
    assert [row["id"] for page in pages for row in page] == sorted([key["id"], *more])  # by id: two of one millisecond
    assert house.admin.delete(f"/v1/keys/{key['id']}").status == 204
    assert is_problem(house.stranger(text).get("/v1/webhooks"), 401, "unauthorized")
    assert is_problem(house.admin.delete(f"/v1/keys/{key['id']}"), 404, "not_found")


def test_every_mistake_of_a_new_key_is_named(house):
    reply = house.admin.post("/v1/keys", {"tenant": "no tenant", "role": "king", "name": 5, "colour": 1})
    assert is_problem(reply, 422, "invalid_field")
    assert fields_of(reply) == {"tenant", "role", "name", "colour"}
    assert fields_of(house.admin.post("/v1/keys", {})) == {"tenant", "role"}
    assert house.admin.post("/v1/keys?tenant=keys2", {"role": "read"}).json["tenant"] == "keys2"


def test_an_administrator_of_a_tenant_makes_and_sees_keys_of_it_alone(house):
    chief = house.caller("acme", "admin")
    assert chief.post("/v1/keys", {"tenant": "acme", "role": "manage"}).status == 201
    assert chief.post("/v1/keys", {"role": "submit"}).json["tenant"] == "acme"
    assert {row["tenant"] for row in chief.data("/v1/keys")} == {"acme"}
    assert len(chief.data("/v1/keys")) == 3


def test_a_revoked_key_opens_nothing_from_then_on_not_even_on_an_open_connection(house):
    made = house.admin.post("/v1/keys", {"tenant": "acme", "role": "read"}).json
    with contextlib.closing(HTTPConnection("127.0.0.1", house.port, timeout=20)) as connection:
        for expected in (200, 401):
            connection.request("GET", "/v1/webhooks", headers={"authorization": f"Bearer {made['key']}"})
            said = connection.getresponse()
            said.read()
            assert said.status == expected
            assert house.admin.delete(f"/v1/keys/{made['id']}").status == (204 if expected == 200 else 404)


def test_keys_are_kept_as_digests_alone_and_survive_a_restart(tmp_path):
    served = serve(tmp_path)
    try:
        key = served.admin.post("/v1/keys", {"tenant": "a", "role": "admin", "name": "first"}).json
        gone = served.admin.post("/v1/keys", {"tenant": "a", "role": "admin"}).json
        assert served.admin.delete(f"/v1/keys/{gone['id']}").status == 204
        api = served.stranger(key["key"])
        assert api.get("/v1/webhooks").status == 200
        before = api.data("/v1/keys")
        for _ in range(2):
            kept = b"".join(path.read_bytes() for path in served.running.at.glob("h.db*"))
            random = key["key"].removeprefix("hookrelay_live_sk_").encode()
            assert random not in kept
            assert random[:16] not in kept
            assert hashlib.sha256(key["key"].encode()).digest() in kept
            assert key["key"] not in served.running.log()
            served.restart()
        assert api.data("/v1/keys")[0]["created_at"] == before[0]["created_at"]
        assert before[0]["last_used_at"] is not None
        assert is_problem(served.stranger(gone["key"]).get("/v1/webhooks"), 401, "unauthorized")
        assert served.running.end() == 0
    finally:
        served.running.close()


def test_when_a_key_was_last_used_outlives_the_daemon(tmp_path):
    served = serve(tmp_path)
    try:
        key = served.caller("a", "read")
        assert key.get("/v1/webhooks").status == 200
        (before,) = served.admin.data("/v1/keys")
        assert before["last_used_at"] is not None
        served.restart()
        assert served.admin.data("/v1/keys") == [before]
        assert served.running.end() == 0
    finally:
        served.running.close()


# --- whoever has no key -----------------------------------------------------------------------------------------


def test_no_key_and_a_wrong_key_are_two_401_and_neither_says_more(tmp_path):
    served = serve(tmp_path)
    try:
        right = served.caller("a", "read").key
        nobody = served.stranger()
        keyless = ["Bearer", "Bearer ", f"Basic {right}", right]
        tokens = [
            "Bearer x", f"Bearer {right}x", f"Bearer {right[:-1]}",
            f"Bearer {right.lower()}", "Bearer \xe4\xf6\xfc\xff", "Bearer " + "x" * 9000, f"Bearer {right} {right}",
        ]  # fmt: skip
        replies = [nobody.get("/v1/webhooks"), *(nobody.get("/v1/webhooks", authorization=text) for text in keyless)]
        replies += [nobody.get(path) for path in ("/v1/nothing", "/", "/v1/keys", "/v1/webhooks/wh_x", "/-/reload")]
        replies += [nobody(method, "/v1/events", b"{") for method in ("POST", "PUT", "DELETE", "PATCH")]
        wrong = [nobody.get("/v1/webhooks", authorization=text) for text in tokens]
        revoked = served.admin.key_for("b", "admin")
        row = next(row for row in served.admin.data("/v1/keys") if row["tenant"] == "b")
        assert served.admin.delete(f"/v1/keys/{row['id']}").status == 204
        wrong.append(nobody.get("/v1/webhooks", authorization=f"Bearer {revoked.key}"))
        assert {reply.status for reply in replies + wrong} == {401}
        (without,), (with_one,) = ({reply.body for reply in some} for some in (replies, wrong))
        assert b"no key was sent" in without
        assert b"is not known" in with_one
        replies += wrong
        assert {reply.headers["www-authenticate"] for reply in replies} == {"Bearer"}
        assert is_problem(replies[0], 401, "unauthorized")
        assert nobody.get("/v1/webhooks", authorization=f"bearer  {right} ").status == 200
        raw = b"GET /v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\nAuthorization: Bearer x\r\n\r\n"
        with nobody.connect() as sock:
            sock.sendall(raw % right.encode())
            assert sock.recv(65536).split(b"\r\n")[0].split()[1] in (b"400", b"401")
        assert served.running.end() == 0
    finally:
        served.running.close()


def test_whoever_shows_many_wrong_keys_is_throttled_and_a_right_key_still_passes(tmp_path):
    served = serve(tmp_path)
    try:
        right = served.caller("a", "read")
        replies = [served.stranger(f"wrong {number}").get("/v1/webhooks") for number in range(40)]
        codes = [reply.status for reply in replies]
        assert codes[:10] == [401] * 10
        assert codes == sorted(codes)
        assert codes[-1] == 429
        assert is_problem(replies[-1], 429, "rate_limited")
        assert 1 <= int(replies[-1].headers["retry-after"]) <= 60
        assert right.get("/v1/webhooks").status == 200
        assert served.stranger("wrong again").get("/v1/webhooks").status == 429
        assert is_problem(served.stranger().get("/v1/webhooks"), 401, "unauthorized")  # no key: no guess
        elsewhere = over_tcp(served.port, "wrong")
        elsewhere.connect = lambda: socket.create_connection(("127.0.0.1", served.port), 20, ("127.0.0.2", 0))
        assert elsewhere.get("/v1/webhooks").status == 401
        assert served.admin.get("/v1/webhooks").status == 200
        assert served.stranger("wrong").get("/metrics").status == 200
        assert served.running.end() == 0
    finally:
        served.running.close()


# --- whoever comes with a browser ---------------------------------------------------------------------------------

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def test_a_browser_at_the_root_is_led_to_the_dashboard_and_a_program_is_not(house):
    for api in (house.stranger(), house.caller("a", "read")):
        for method in ("GET", "HEAD"):
            reply = api(method, "/", accept=BROWSER)
            assert (reply.status, reply.headers["location"]) == (303, "/dashboard")
            assert reply.headers["vary"].lower() == "accept"
    for accept in ("application/json", "*/*", "application/json, text/html;q=0.1", "text/html;q=0", ""):
        assert is_problem(house.stranger().get("/", accept=accept), 401, "unauthorized"), accept
        assert is_problem(house.admin.get("/", accept=accept), 404, "not_found"), accept
    assert is_problem(house.stranger().get("/", accept=BROWSER, host="evil.example"), 421, "wrong_host")
    assert is_problem(house.admin.get("/", accept=BROWSER), 404, "not_found")  # no dashboard over the Unix socket
    assert is_problem(house.stranger().post("/", accept=BROWSER), 401, "unauthorized")
    assert is_problem(house.stranger().get("/v1/webhooks", accept=BROWSER), 401, "unauthorized")


# --- whoever asks for what is not there -------------------------------------------------------------------------


def test_only_known_hosts_are_answered(house):
    key = house.caller("a", "admin")
    for path in ("/v1/webhooks", "/metrics", "/-/ready", "/docs", "/openapi.json", "/v1/nothing"):
        for host in ("evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.", "", "0x7f.1"):
            assert is_problem(key.get(path, host=host), 421, "wrong_host"), (path, host)
    assert is_problem(key.get("/v1/webhooks", host="[::1"), 400, "bad_request")
    for host in ("localhost", "LocalHost:1", f"127.0.0.1:{house.port}", "[::1]"):
        assert key.get("/v1/webhooks", host=host).status == 200
    assert house.admin.get("/v1/webhooks", host="anything.example").status == 200


def test_hosts_can_be_configured(tmp_path):
    served = serve(tmp_path, "", 'api.hosts = ["hooks.example.com"]\n')
    try:
        key = served.caller("a", "admin")
        assert key.get("/v1/webhooks", host="hooks.example.com").status == 200
        assert key.get("/v1/webhooks", host="other.example.com").status == 421
        assert served.running.end() == 0
    finally:
        served.running.close()


def test_a_method_that_a_path_lacks_is_a_405_that_names_those_it_has(house):
    for api in (house.admin, house.caller("a", "admin")):
        for path, methods in ROUTES.items():
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} - methods.keys():
                reply = api(method, path.replace("{id}", "x"))
                assert is_problem(reply, 405, "method_not_allowed"), (method, path)
                named = set(reply.headers["allow"].split(", "))
                assert named == methods.keys() | ({"HEAD"} if "GET" in methods else set())


def test_a_path_that_is_not_there_is_a_404(house):
    for api in (house.admin, house.caller("a", "admin")):
        for path in (
            "/", "/v1", "/v2/webhooks", "/v1/webhook", "/v1/webhooks/", "/v1/webhooks//test", "/v1/webhooks/x/y",
            "/v1/webhooks/x/test/y", "/v1/deliveries/x/y", "/v1/events/x/y", "/v1/keys/x/y", "/V1/webhooks",
            "/v1//webhooks",
            "/metrics/", "/-/reload/x", "/docs/../v1/keys", "/docs/%2e%2e/x", "/%00", "/v1/webhooks/%00",
        ):  # fmt: skip
            assert is_problem(api.get(path), 404, "not_found"), path


def test_head_is_answered_like_get_without_a_body(house):
    for path in ("/v1/webhooks", "/v1/deliveries", "/-/ready", "/openapi.json", "/v1/nothing"):
        got, head = house.admin.get(path), house.admin("HEAD", path)
        assert (head.status, head.body) == (got.status, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


def test_bodies_of_another_type_and_bodies_that_are_too_large_are_refused_everywhere(house):
    mine = house.admin.make(house.taken.url("/bodies"))["id"]
    for method, path in paths():
        if method not in ("POST", "PATCH") or path.startswith(("/-/", "/v1/deliveries")):
            continue
        full = path.replace("{id}", mine)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            if kind:
                reply = house.admin(method, full, b"{}", content_type=kind)
                assert is_problem(reply, 415, "unsupported_media_type"), (full, kind)
                assert "application/json" in reply.json["detail"]
        large = house.admin(method, full, b'{"url":"' + b"x" * (5 << 20) + b'"}')
        assert is_problem(large, 413, "too_large"), full
        assert is_problem(house.admin(method, full, b"{nope"), 400, "invalid_json")
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/json;x=y"):
        assert house.admin.patch(f"/v1/webhooks/{mine}", b"{}", content_type=kind).status == 200
