"""Who changed what: every way to change something leaves one record, with who it was, and no secret in it."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import apsw
import pytest
from api_rig import Api, Served, Told, over_tcp, over_unix, serve
from rig import Reply, answer, hook, wait_for

from hookrelay.web.app import ROUTES as API
from hookrelay.web.dashboard.routes import ROUTES as DASHBOARD

HIDDEN = "a-value-that-no-record-holds"
FORM = "application/x-www-form-urlencoded"

Do = Callable[["Scene"], Callable[[], Reply]]
"""Makes what there must be, and returns what does one thing by the scene's caller."""


class Visitor:
    """Somebody in the dashboard, without a browser."""

    def __init__(self, port: int) -> None:
        self._api = over_tcp(port)
        self.cookie = ""

    def __call__(self, method: str, path: str, **form: object) -> Reply:
        fields = {"cookie": self.cookie, "origin": "http://localhost", "sec_fetch_site": "same-origin"}
        body = urlencode(form, doseq=True).encode() if method == "POST" else None
        reply = self._api(method, path, body, content_type=FORM, **fields)
        self.cookie = reply.headers.get("set-cookie", self.cookie).partition(";")[0]
        return reply

    def sign_in(self, key: str) -> Reply:
        return self("POST", "/dashboard/sign-in", key=key)


class Scene:
    """A daemon, somebody who asks, and what there is to ask for."""

    def __init__(self, house: Served, told: Told) -> None:
        self.house = house
        self.told = told
        self.admin = house.admin
        self.caller: Any = house.admin
        self.secrets: list[str] = []

    def webhook(self, **fields: object) -> dict[str, Any]:
        made = self.admin.make(self.told.url("/in"), headers={"x-hidden": HIDDEN}, retry=[], **fields)
        self.secrets.append(made["secret"].removeprefix("whsec_"))
        return made

    def delivery(self, status: str) -> dict[str, Any]:
        """A new webhook's one delivery, which has failed or is held."""
        made = self.webhook(tenant="deliveries", events=[f"a.n{len(self.secrets)}"])
        if status == "held":
            self.admin.patch(f"/v1/webhooks/{made['id']}", {"status": "paused"})
        event = {"type": made["events"][0], "tenant": "deliveries", "data": 1}
        assert self.admin.post("/v1/events", event).json["deliveries"] == 1
        path = f"/v1/webhooks/{made['id']}/deliveries?status={status}"
        wait_for(lambda: self.admin.data(path))
        (row,) = self.admin.data(path)
        return row

    def keep(self, reply: Reply, *names: str) -> Reply:
        """Remember what no record may hold."""
        for name in names:
            self.secrets.append(reply.json[name].removeprefix("whsec_").rpartition("/link/")[2])
        return reply


def newest(house: Served, query: str = "") -> list[dict[str, Any]]:
    reply = house.admin.get(f"/v1/audit?limit=250{query}")
    assert reply.status == 200, reply.body
    rows: list[dict[str, Any]] = reply.json["data"]
    return rows


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    made = Told()
    made.says["/in"] = answer(500)
    yield made
    made.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory, told) -> Iterator[Served]:
    made = serve(tmp_path_factory.mktemp("house"), hook("first", told.port))
    yield made
    made.running.close()


@pytest.fixture(scope="module")
def scene(house, told) -> Scene:
    return Scene(house, told)


# --- every route ------------------------------------------------------------------------------------------------


def on(path: str, make: Callable[[Scene], dict[str, Any]], body: object = None, method: str = "POST") -> Do:
    """Asks for something of what is made beforehand."""

    def prepare(scene: Scene) -> Callable[[], Reply]:
        id = make(scene)["id"]
        return lambda: scene.caller(method, path.replace("{id}", id), body)

    return prepare


def new_key(scene: Scene) -> dict[str, Any]:
    return scene.keep(scene.admin.post("/v1/keys", {"tenant": "acme", "role": "read"}), "key").json


def new_link(scene: Scene) -> dict[str, Any]:
    return scene.keep(scene.admin.post("/v1/portal-links", {"tenant": "acme"}), "url").json


def purgeable(scene: Scene) -> dict[str, Any]:
    return {"id": scene.delivery("failed")["event_id"]}


def purge(scene: Scene) -> Callable[[], Reply]:
    id = purgeable(scene)["id"]
    return lambda: scene.caller("POST", "/v1/events/purge", {"id": id})


def said(path: str, body: object, *secret: str) -> Do:
    return lambda scene: lambda: scene.keep(scene.caller("POST", path, body), *secret)


def of_webhook(scene: Scene) -> dict[str, Any]:
    return {"id": scene.delivery("failed")["webhook_id"]}


NEW = {"url": "http://127.0.0.1:9009/new", "events": ["*"], "headers": {"x-hidden": HIDDEN}}
CALLS: dict[tuple[str, str], tuple[str, Do]] = {
    ("POST", "/v1/webhooks"): ("webhook.created", said("/v1/webhooks", NEW, "secret")),
    ("PATCH", "/v1/webhooks/{id}"): (
        "webhook.updated",
        on("/v1/webhooks/{id}", Scene.webhook, {"url": "http://127.0.0.1:9009/moved"}, "PATCH"),
    ),
    ("DELETE", "/v1/webhooks/{id}"): ("webhook.deleted", on("/v1/webhooks/{id}", Scene.webhook, None, "DELETE")),
    ("POST", "/v1/webhooks/{id}/test"): ("webhook.tested", on("/v1/webhooks/{id}/test", Scene.webhook, {})),
    ("POST", "/v1/webhooks/{id}/rotate-secret"): (
        "webhook.secret_rotated",
        lambda scene: (lambda ask: lambda: scene.keep(ask(), "secret"))(
            on("/v1/webhooks/{id}/rotate-secret", Scene.webhook, {})(scene)
        ),
    ),
    ("POST", "/v1/webhooks/{id}/replay"): (
        "webhook.replayed",
        on("/v1/webhooks/{id}/replay", of_webhook, {"since": "1h"}),
    ),
    ("POST", "/v1/deliveries/{id}/retry"): (
        "delivery.retried",
        on("/v1/deliveries/{id}/retry", lambda scene: scene.delivery("failed")),
    ),
    ("POST", "/v1/deliveries/{id}/cancel"): (
        "delivery.cancelled",
        on("/v1/deliveries/{id}/cancel", lambda scene: scene.delivery("held")),
    ),
    ("POST", "/v1/events/purge"): ("events.purged", purge),
    ("POST", "/v1/keys"): ("key.created", said("/v1/keys", {"tenant": "acme", "role": "read"}, "key")),
    ("DELETE", "/v1/keys/{id}"): ("key.revoked", on("/v1/keys/{id}", new_key, None, "DELETE")),
    ("POST", "/v1/portal-links"): ("link.created", said("/v1/portal-links", {"tenant": "acme"}, "url")),
    ("DELETE", "/v1/portal-links/{id}"): ("link.revoked", on("/v1/portal-links/{id}", new_link, None, "DELETE")),
    ("POST", "/v1/backup"): ("store.backed_up", lambda scene: lambda: scene.caller("POST", "/v1/backup", {})),
    ("POST", "/-/reload"): ("config.reloaded", lambda scene: lambda: scene.caller("POST", "/-/reload")),
}
CHANGES_NOTHING = {("POST", "/v1/check"), ("POST", "/v1/events")}
"""The one only reads; the other's event is its own record."""


def test_every_call_that_changes_something_is_among_those_that_are_tried_here():
    there = {(method, path) for path, methods in API.items() for method in methods if method != "GET"}
    assert there == CALLS.keys() | CHANGES_NOTHING


@pytest.mark.parametrize("way", ["key", "socket"])
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_call_that_changes_something_leaves_one_record_of_who_it_was(scene, call, way):
    action, do = CALLS[call]
    if way == "key":
        made = scene.keep(scene.admin.post("/v1/keys", {"tenant": "*", "role": "admin"}), "key").json
        scene.caller = scene.house.stranger(made["key"])
        who = {"actor": made["id"], "address": "127.0.0.1", "pid": None, "session": None}
    else:
        scene.caller = scene.admin
        who = {"actor": f"uid:{os.getuid()}", "address": None, "pid": os.getpid(), "session": None}
    ask = do(scene)
    before = newest(scene.house)[0]["id"]
    assert ask().status < 300
    record = one_since(scene.house, before)
    assert record["action"] == action
    assert record.items() >= who.items()
    if call[1].startswith("/v1/webhooks/{id}"):
        assert record["object"].startswith("wh_")
    if action == "webhook.updated":
        assert (record["fields"], record["url_after"]) == (["url"], "http://127.0.0.1:9009/moved")
        assert record["url_before"].endswith("/in")


def one_since(house: Served, before: str) -> dict[str, Any]:
    """The one record since another, and nothing after it."""
    wait_for(lambda: newest(house)[0]["id"] != before)
    rows = newest(house)
    fresh = rows[: [row["id"] for row in rows].index(before)]
    assert len(fresh) == 1, fresh
    return fresh[0]


def tag_of(scene: Scene, id: str) -> str:
    return scene.admin.get(f"/v1/webhooks/{id}").headers["etag"]


def page(path: str, make: Callable[[Scene], dict[str, Any]], **form: object) -> Do:
    def prepare(scene: Scene) -> Callable[[], Reply]:
        id = make(scene)["id"]
        said = {name: tag_of(scene, id) if value is tag_of else value for name, value in form.items()}
        return lambda: scene.caller("POST", path.replace("{id}", id), **said)

    return prepare


def sign_in(scene: Scene) -> Callable[[], Reply]:
    key = scene.keep(scene.admin.post("/v1/keys", {"tenant": "*", "role": "admin"}), "key").json["key"]
    return lambda: Visitor(scene.house.port).sign_in(key)


def open_link(scene: Scene) -> Callable[[], Reply]:
    path = new_link(scene)["url"].partition("/dashboard")[2]
    return lambda: Visitor(scene.house.port)("GET", f"/dashboard{path}")


W = "/dashboard/webhooks/{id}"
PAGES: dict[tuple[str, str], tuple[str, Do]] = {
    ("POST", "/dashboard/new"): (
        "webhook.created",
        lambda scene: lambda: scene.caller("POST", "/dashboard/new", url=NEW["url"], events="*"),
    ),
    ("POST", f"{W}/edit"): (
        "webhook.updated",
        page(f"{W}/edit", Scene.webhook, url="http://127.0.0.1:9009/moved", events="*", headers="x-hidden: ***"),
    ),
    ("POST", f"{W}/move"): ("webhook.updated", page(f"{W}/move", Scene.webhook, url="http://127.0.0.1:9009/else")),
    ("POST", f"{W}/pause"): ("webhook.updated", page(f"{W}/pause", Scene.webhook)),
    ("POST", f"{W}/resume"): ("webhook.updated", page(f"{W}/resume", Scene.webhook)),
    ("POST", f"{W}/rotate"): ("webhook.secret_rotated", page(f"{W}/rotate", Scene.webhook, tag=tag_of)),
    ("POST", f"{W}/delete"): ("webhook.deleted", page(f"{W}/delete", Scene.webhook)),
    ("POST", f"{W}/test"): ("webhook.tested", page(f"{W}/test", Scene.webhook, type="a.b")),
    ("POST", f"{W}/replay"): ("webhook.replayed", page(f"{W}/replay", of_webhook, window="1h", status="failed")),
    ("POST", "/dashboard/deliveries/{id}/retry"): (
        "delivery.retried",
        page("/dashboard/deliveries/{id}/retry", lambda scene: scene.delivery("failed")),
    ),
    ("POST", "/dashboard/deliveries/{id}/cancel"): (
        "delivery.cancelled",
        page("/dashboard/deliveries/{id}/cancel", lambda scene: scene.delivery("held")),
    ),
    ("POST", "/dashboard/sign-in"): ("session.signed_in", sign_in),
    ("POST", "/dashboard/sign-out"): (
        "session.signed_out",
        lambda scene: lambda: scene.caller("POST", "/dashboard/sign-out"),
    ),
    ("GET", "/dashboard/link/{id}"): ("link.opened", open_link),
}


def test_every_page_that_changes_something_is_among_those_that_are_tried_here():
    there = {(method, path) for path, methods in DASHBOARD.items() for method in methods if method != "GET"}
    assert there | {("GET", "/dashboard/link/{id}")} == PAGES.keys()


@pytest.mark.parametrize("call", PAGES, ids=" ".join)
def test_every_page_that_changes_something_leaves_one_record_with_key_and_session(scene, call):
    action, do = PAGES[call]
    made = scene.keep(scene.admin.post("/v1/keys", {"tenant": "*", "role": "admin"}), "key").json
    scene.caller = Visitor(scene.house.port)
    assert scene.caller.sign_in(made["key"]).status == 303
    signed_in = newest(scene.house)[0]
    scene.secrets.append(scene.caller.cookie.partition("=")[2])
    ask = do(scene)
    before = newest(scene.house)[0]["id"]
    assert ask().status < 400
    record = one_since(scene.house, before)
    assert (record["action"], record["address"]) == (action, "127.0.0.1")
    if call[1] in ("/dashboard/sign-in", "/dashboard/link/{id}"):
        assert record["session"] == record["object"]
        assert record["actor"].startswith("key_" if action == "session.signed_in" else "lnk_")
    else:
        assert (signed_in["actor"], signed_in["session"][:4]) == (made["id"], "ses_")
        assert (record["actor"], record["session"]) == (made["id"], signed_in["session"])


# --- files ------------------------------------------------------------------------------------------------------


def test_a_reload_records_itself_its_caller_and_each_webhook_that_came_changed_or_went(tmp_path, told):
    house = serve(tmp_path, hook("a", told.port) + hook("b", told.port) + hook("same", told.port))
    try:
        assert [(row["action"], row["actor"]) for row in newest(house)] == [("webhook.created", "file:hooks.toml")] * 3
        ids = {row["url"].rpartition("/")[2]: row["id"] for row in house.admin.data("/v1/webhooks")}
        other = "whsec_" + "A" * 43 + "="
        house.running.rewrite(
            hook("b", told.port, events=["a.*"])
            + hook("same", told.port, secret=other, **{"headers.x-hidden": HIDDEN})
            + hook("c", told.port)
        )
        before = newest(house)[0]["id"]
        assert house.admin.post("/-/reload").status == 200
        rows = since(house, before)
        ids |= {row["url"].rpartition("/")[2]: row["id"] for row in house.admin.data("/v1/webhooks")}
        told_of = {row["object"]: row for row in rows}
        assert told_of[None]["action"] == "config.reloaded"
        assert (told_of[None]["actor"], told_of[None]["pid"]) == (f"uid:{os.getuid()}", os.getpid())
        assert told_of[ids["b"]].items() >= {"action": "webhook.updated", "fields": ["events"]}.items()
        assert told_of[ids["same"]].items() >= {"action": "webhook.updated", "fields": ["headers", "secret"]}.items()
        assert (told_of[ids["c"]]["action"], told_of[ids["c"]]["url_after"][-2:]) == ("webhook.created", "/c")
        assert {row["actor"] for row in rows if row["object"]} == {"file:hooks.toml"}
        before = newest(house)[0]["id"]
        house.running.tell(signal.SIGHUP)
        wait_for(lambda: newest(house)[0]["id"] != before)
        (row,) = since(house, before)
        assert (row["action"], row["actor"]) == ("config.reloaded", "signal:SIGHUP")
        text = stored(house)
        assert HIDDEN not in text
        assert other.removeprefix("whsec_") not in text
    finally:
        house.running.close()


def since(house: Served, before: str) -> list[dict[str, Any]]:
    rows = newest(house)
    return rows[: [row["id"] for row in rows].index(before)]


def stored(house: Served) -> str:
    """The whole table, and the log; the daemon is stopped for it."""
    assert house.running.end() == 0
    conn = apsw.Connection(str(house.running.at / "h.db"))
    try:
        return json.dumps(list(conn.execute("SELECT * FROM audit"))) + (house.running.at / "log").read_text()
    finally:
        conn.close()


# --- who sees it ------------------------------------------------------------------------------------------------


def test_a_tenants_administrator_sees_its_own_records_and_not_who_of_the_operators_it_was(house):
    own = house.caller("t1", "admin")
    mine = own.make("http://127.0.0.1:9009/x")
    house.admin.patch(f"/v1/webhooks/{mine['id']}", {"description": "by the operator"})
    house.admin.make("http://127.0.0.1:9009/x", tenant="t2")
    rows = own.data("/v1/audit")
    assert {row["tenant"] for row in rows} == {"t1"}
    by_action = {row["action"]: row for row in rows}
    assert by_action["webhook.created"]["actor"].startswith("key_")
    assert by_action["webhook.created"]["address"] == "127.0.0.1"
    by_operator = by_action["webhook.updated"]
    assert [by_operator[name] for name in ("actor", "pid", "address", "session")] == ["operator", None, None, None]
    assert own.data(f"/v1/audit?actor=uid:{os.getuid()}") == []
    assert [row["id"] for row in own.data("/v1/audit?actor=operator&action=webhook.updated")] == [by_operator["id"]]
    assert house.caller("t1", "manage").get("/v1/audit").status == 403
    assert own.get("/v1/audit?tenant=t2").status == 403
    wrong = house.admin.get("/v1/audit?action=everything&since=never&x=1")
    assert (wrong.status, {error["field"] for error in wrong.json["errors"]}) == (422, {"action", "since", "x"})


def test_records_are_found_by_what_when_and_who_page_by_page(house):
    own = house.caller("t3", "admin")
    hooks = [own.make("http://127.0.0.1:9009/x")["id"] for _ in range(5)]
    own.delete(f"/v1/webhooks/{hooks[0]}")
    pages = list(house.admin.pages("/v1/audit?tenant=t3", 2))
    rows = [row for page in pages for row in page]
    assert [len(page) for page in pages] == [2, 2, 2, 1]
    assert [row["object"] for row in rows][:6] == [hooks[0], *reversed(hooks)]
    assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
    assert [row["action"] for row in own.data(f"/v1/audit?object={hooks[0]}")] == ["webhook.deleted", "webhook.created"]
    key = rows[0]["actor"]
    assert len(own.data(f"/v1/audit?actor={key}")) == 6
    assert own.data("/v1/audit?until=1h") == []
    assert len(own.data("/v1/audit?since=1h&action=webhook.created")) == 5


def test_no_record_and_no_line_of_the_log_holds_a_secret(tmp_path, told):
    house = serve(tmp_path)
    try:
        scene = Scene(house, told)
        made = scene.keep(scene.admin.post("/v1/keys", {"tenant": "*", "role": "admin"}), "key").json
        for _, do in CALLS.values():
            scene.caller = house.stranger(made["key"])
            assert do(scene)().status < 300
        for _, do in PAGES.values():
            scene.caller = Visitor(house.port)
            scene.caller.sign_in(made["key"])
            scene.secrets.append(scene.caller.cookie.partition("=")[2])
            assert do(scene)().status < 400
        text = stored(house)
        assert len(scene.secrets) > 30
        assert [secret for secret in {*scene.secrets, HIDDEN} if secret in text] == []
    finally:
        house.running.close()


# --- power ------------------------------------------------------------------------------------------------------


def test_after_kill_9_no_change_is_there_without_its_record_nor_a_record_without_its_change(tmp_path):
    house = serve(tmp_path)
    try:
        for _ in range(3):
            threads = [threading.Thread(target=_make_many, args=(over_unix(tmp_path / "a.sock"),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            count = len(newest(house))
            wait_for(lambda count=count: len(newest(house)) >= min(count + 20, 250))
            house.running.end(signal.SIGKILL)
            for thread in threads:
                thread.join()
            house.running.start()
        made = {row["id"] for page in house.admin.pages("/v1/webhooks", 250) for row in page}
        recorded = [row["object"] for page in house.admin.pages("/v1/audit", 250) for row in page]
        assert len(recorded) == len(set(recorded))
        assert set(recorded) == made
    finally:
        house.running.close()


def _make_many(api: Api) -> None:
    try:
        for _ in range(1000):
            api.make("http://127.0.0.1:9009/x")
    except Exception:  # noqa: S110 -- killed, wherever that was
        pass
