"""The commands that ask the daemon for its objects, against a server that answers as its API does."""

import json

import pytest
from api_samples import (
    ATTEMPT,
    DELIVERY,
    DLV,
    EVT,
    FAILED,
    KEY,
    KEY_ROW,
    SECRET,
    WAITING,
    WEBHOOK,
    WH,
    WHOLE,
    WHOLE_FAILED,
    on_a_terminal,
    run,
)
from stub_api import page

# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_list_is_asked_for_with_its_filters_over_both_sockets(api):
    api.answers["GET /v1/webhooks"] = page(WEBHOOK)
    result = run(api, "webhooks", "list", "--status", "active", "--tenant", "acme", "--search", "a b&c")
    assert api.last.query == {"status": "active", "tenant": "acme", "q": "a b&c", "limit": "51"}
    titles, _, row = result.stdout.splitlines()
    assert titles.split() == ["id", "status", "url", "events", "tenant", "source"]
    assert row.split() == [WH, "active", "https://hooks.example/in", "booking.*", "acme", "api"]


def test_the_key_of_the_environment_is_sent_and_there_is_no_option_for_it(api):
    api.answers["GET /v1/webhooks"] = page()
    run(api, "webhooks", "list", HOOKRELAY_KEY="hookrelay_live_sk_x")
    assert api.last.headers["authorization"] == "Bearer hookrelay_live_sk_x"
    run(api, "webhooks", "list", "--key", "hookrelay_live_sk_x", code=2)


def test_json_is_exactly_the_objects_of_all_pages_empty_ones_among_them(stub):
    rows = [
        {**WEBHOOK, "id": f"wh_{number}", "metadata": {"text": "zażółć\u009b[31m\u200b\U0001f600"}}
        for number in range(3)
    ]
    stub.answers["GET /v1/webhooks"] = [page(rows[0], cursor="a"), page(cursor="b"), page(*rows[1:])]
    result = run(stub, "webhooks", "list", "--all", "--output", "json")
    assert json.loads(result.stdout) == rows
    assert "zażółć\\u009b[31m\\u200b\U0001f600" in result.stdout
    assert [asked.query.get("cursor") for asked in stub.asked] == [None, "a", "b"]


def test_an_empty_list_is_an_empty_array_and_in_a_table_a_hint(stub):
    stub.answers["GET /v1/webhooks"] = page()
    assert run(stub, "webhooks", "list", "--output", "json").stdout == "[]\n"
    result = run(stub, "webhooks", "list")
    assert result.stdout == ""
    assert result.stderr.startswith("No webhooks: ")


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_list_ends_at_its_limit_and_says_where_there_is_more(stub, output):
    stub.answers["GET /v1/webhooks"] = lambda asked: page(*[WEBHOOK] * 3)
    result = run(stub, "webhooks", "list", "--limit", 2, "--output", output)
    assert result.stdout.count(WH) == 2
    assert "There are more" in result.stderr
    assert "There are more" not in run(stub, "webhooks", "list", "--limit", 3).stderr


def test_a_narrow_terminal_gets_the_first_columns_and_is_told_of_the_others(stub):
    row = {**WEBHOOK, "id": "wh_01HQ3K5M7N8P9QRSTVWXYZ0123"}
    stub.answers["GET /v1/webhooks"] = page(row)
    _, seen = on_a_terminal(stub, "webhooks", "list", COLUMNS="80")
    assert "Left out here: tenant, source." in seen
    assert any(row["id"] in line and "https://hooks.example/in" in line for line in seen.splitlines())
    assert "Left out" not in on_a_terminal(stub, "webhooks", "list", COLUMNS="120")[1]


def test_a_webhook_is_shown_with_what_waits_for_it(stub):
    stub.answers[f"GET /v1/webhooks/{WH}"] = (200, WEBHOOK | WAITING)
    result = run(stub, "webhooks", "show", WH)
    assert stub.last.query == {"include": "waiting"}
    assert "url              https://hooks.example/in\n" in result.stdout
    assert "3 pending and 12 held deliveries: its rate limit says when the next may go, until 2026-" in result.stdout
    assert json.loads(run(stub, "webhooks", "show", WH, "--output", "json").stdout) == WEBHOOK | WAITING


def test_what_a_customer_wrote_cannot_drive_the_terminal(stub):
    stub.answers[f"GET /v1/webhooks/{WH}"] = (200, WEBHOOK | {"description": "a\x1b[2J\nstatus  active"})
    lines = run(stub, "webhooks", "show", WH).stdout.splitlines()
    assert "description      a\\x1b[2J\\nstatus  active" in lines


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ([], {}),
        (["--description", "for accounts", "--tenant", "acme"], {"description": "for accounts", "tenant": "acme"}),
        (["--rate-limit", "10/s", "--max-in-flight", "3"], {"rate_limit": "10/s", "max_in_flight": 3}),
        (["--timeout", "5s", "--ordered"], {"timeout": "5s", "ordered": True}),
        (["--no-ordered", "--metadata", '{"a": [1]}'], {"ordered": False, "metadata": {"a": [1]}}),
        (["--retry", "5s", "--retry", "5m"], {"retry": ["5s", "5m"]}),
        (["--retry", "exponential(1s, 2, 1h, 12)"], {"retry": "exponential(1s, 2, 1h, 12)"}),
        (["--retry", "none"], {"retry": []}),
        (["--header", "x-a: b: c", "--header", "x-b:d"], {"headers": {"x-a": "b: c", "x-b": "d"}}),
        (["--header-file", "authorization={file}"], {"headers": {"authorization": "in the file"}}),
        (["--secret-file", "{file}"], {"secret": "in the file"}),
    ],
)
def test_a_webhook_is_made_of_what_is_given_and_nothing_else(stub, tmp_path, options, body):
    (tmp_path / "file").write_text("in the file\n")
    stub.answers["POST /v1/webhooks"] = (201, WEBHOOK | {"secret": SECRET})
    given = [option.format(file=tmp_path / "file") if "{file}" in option else option for option in options]
    run(stub, "webhooks", "create", "--url", "https://a.example", "--event", "a.*", "--event", "b", *given)
    assert stub.last.body == {"url": "https://a.example", "events": ["a.*", "b"], **body}


def test_a_webhook_that_was_made_before_is_shown_without_a_secret_that_has_changed(stub):
    stub.answers["POST /v1/webhooks"] = (201, WEBHOOK)
    result = run(stub, "webhooks", "create", "--url", "https://a.example", "--event", "a", "--idempotency-key", "k1")
    assert "shown this once" not in result.stderr
    assert f"`hookrelay webhooks rotate-secret {WH}` makes another" in result.stderr


def test_a_new_secret_is_shown_once_and_a_given_one_comes_from_standard_input(stub):
    stub.answers["POST /v1/webhooks"] = (201, WEBHOOK | {"secret": SECRET})
    create = ["webhooks", "create", "--url", "https://a.example", "--event", "*", "--secret-file", "-"]
    result = run(stub, *create, "--idempotency-key", "k1", stdin=f"{SECRET}\n")
    assert stub.last.body["secret"] == SECRET
    assert stub.last.headers["idempotency-key"] == "k1"
    assert result.stdout.count(SECRET) == 1
    assert "shown this once" in result.stderr
    result = run(stub, *create, "--output", "json", stdin=SECRET)
    assert json.loads(result.stdout)["secret"] == SECRET
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--url", "https://b.example"], {"url": "https://b.example"}),
        (["--event", "a"], {"events": ["a"]}),
        (["--description", ""], {"description": ""}),
        (["--reset", "rate-limit", "--reset", "retry"], {"rate_limit": None, "retry": None}),
        (["--header", "x-a: b", "--remove-header", "x-b"], {"headers": {"x-a": "b", "x-b": None}}),
    ],
)
def test_an_update_sends_only_what_was_given(stub, options, body):
    stub.answers[f"PATCH /v1/webhooks/{WH}"] = (200, WEBHOOK)
    run(stub, "webhooks", "update", WH, *options)
    assert stub.last.body == body


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["update", WH], "Nothing to change was given"),
        (["update", WH, "--timeout", "5s", "--reset", "timeout"], "cannot both be meant"),
        (["update", WH, "--metadata", "{x}"], "--metadata is not JSON"),
        (["update", WH, "--header", "authorization Bearer hunter2"], "--header is a name, a colon and a value"),
        (["update", WH, "--header-file", "authorization"], "--header-file is a name, = and a file"),
        (["create", "--event", "a"], "--url"),
        (["show", DLV], "ids of webhooks start with wh_, and `hookrelay webhooks list` shows them"),
        (["show", "wh_../../keys"], "ids of webhooks start with wh_"),
        (["delete", WH], "Add --yes: nobody is there to ask"),
        (
            ["resume", WH, "--discard"],
            "Resume wh_01HQ3K5M7N (https://hooks.example/in) and cancel 3 pending and 12 held",
        ),
    ],
)
def test_wrong_usage_is_told_before_anything_is_changed(stub, arguments, told):
    stub.answers[f"GET /v1/webhooks/{WH}"] = (200, WEBHOOK | WAITING)
    result = run(stub, "webhooks", *arguments, code=2)
    assert told in result.stderr
    assert "hunter2" not in result.stderr
    assert [asked.method for asked in stub.asked] in ([], ["GET"])


def test_a_webhook_is_paused_resumed_and_deleted(stub):
    stub.answers[f"PATCH /v1/webhooks/{WH}"] = lambda asked: (200, WEBHOOK | {"status": asked.body["status"]})
    stub.answers[f"DELETE /v1/webhooks/{WH}"] = (204, None)
    assert run(stub, "webhooks", "pause", WH).stdout.startswith(f"{WH} is paused: ")
    assert stub.last.body == {"status": "paused"}
    assert run(stub, "webhooks", "resume", WH).stdout == f"{WH} is active: what was held is delivered now\n"
    assert stub.last.body == {"status": "active"}
    run(stub, "webhooks", "resume", WH, "--discard", "--yes")
    assert stub.last.body == {"status": "active", "held": "discard"}
    assert json.loads(run(stub, "webhooks", "pause", WH, "--output", "json").stdout)["status"] == "paused"
    assert run(stub, "webhooks", "delete", WH, "--yes").stdout == f"{WH} is deleted\n"
    assert run(stub, "webhooks", "delete", WH, "--yes", "--output", "json").stdout == ""


@pytest.mark.parametrize(("said", "methods"), [("y\n", ["GET", "DELETE"]), ("n\n", ["GET"]), ("\n", ["GET"])])
def test_a_person_is_asked_before_a_webhook_is_deleted(stub, said, methods):
    stub.answers[f"GET /v1/webhooks/{WH}"] = (200, WEBHOOK | WAITING)
    stub.answers[f"DELETE /v1/webhooks/{WH}"] = (204, None)
    code, seen = on_a_terminal(stub, "webhooks", "delete", WH, typed=said)
    assert "Delete wh_01HQ3K5M7N (https://hooks.example/in) and cancel 3 pending and 12 held deliveries?" in seen
    assert code == (0 if "DELETE" in methods else 1)
    assert [asked.method for asked in stub.asked] == methods


def test_a_test_event_shows_the_whole_exchange(stub, tmp_path):
    stub.answers[f"POST /v1/webhooks/{WH}/test"] = (200, WHOLE | {"test": True})
    (tmp_path / "data.json").write_text('{"booking": 7}')
    result = run(stub, "webhooks", "test", WH, "--type", "booking.created", "--data", f"@{tmp_path / 'data.json'}")
    assert stub.last.body == {"type": "booking.created", "data": {"booking": 7}}
    assert "event      evt_01HQ3K5M7N (booking.created, a test)\n" in result.stdout
    exchange = result.stdout[result.stdout.index("-- request") :]
    assert exchange.splitlines() == [
        "-- request of attempt 1, 2026-02-26T10:00:00.000Z",
        f"webhook-id: {EVT}",
        "x-source: ***",
        "",
        "{",
        '  "booking": 7',
        "}",
        "",
        "-- answer from 203.0.113.7:443: 200 after 12 ms",
        "content-type: text/plain",
        "",
        "thank you",
        "very much",
    ]


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_test_event_that_is_not_accepted_exits_with_1(stub, output):
    stub.answers[f"POST /v1/webhooks/{WH}/test"] = (200, WHOLE_FAILED)
    result = run(stub, "webhooks", "test", WH, "--output", output, code=1)
    assert stub.last.body == {}
    if output == "table":
        assert result.stdout.endswith("-- error\nhttp_status: the receiver answered 500\n")
    else:
        assert json.loads(result.stdout) == WHOLE_FAILED


def test_an_attempt_that_reached_nobody_is_shown_as_well(stub):
    reached = {"response_code": None, "response_headers": None, "response_body": None, "remote_address": None}
    error = {"code": "dns_error", "detail": "no such name"}
    attempt = {**ATTEMPT, **reached, "request_headers": None, "error": error}
    delivery = {**WHOLE_FAILED, "response_code": None, "error": error, "attempts": [attempt]}
    stub.answers[f"POST /v1/webhooks/{WH}/test"] = (200, delivery)
    result = run(stub, "webhooks", "test", WH, code=1)
    assert "-- answer: none after 12 ms\n\n-- error\ndns_error: no such name\n" in result.stdout


def test_a_rotated_secret_is_shown_with_the_end_of_the_old_one(stub):
    answer = WEBHOOK | {"secret": SECRET, "previous_secret_until": "2026-02-27T10:00:00.000Z"}
    stub.answers[f"POST /v1/webhooks/{WH}/rotate-secret"] = (200, answer)
    result = run(stub, "webhooks", "rotate-secret", WH, "--overlap", "24h")
    assert stub.last.body == {"overlap": "24h"}
    assert f"secret            {SECRET}\nold secret until  2026-02-27T10:00:00.000Z\n" in result.stdout
    assert json.loads(run(stub, "webhooks", "rotate-secret", WH, "--output", "json").stdout) == answer
    assert stub.last.body == {}
    run(stub, "webhooks", "rotate-secret", WH, "--secret-file", "-", stdin=SECRET)
    assert stub.last.body == {"secret": SECRET}


# --- deliveries and events --------------------------------------------------------------------------------------------


def test_deliveries_are_listed_by_every_filter(stub):
    stub.answers["GET /v1/deliveries"] = page(FAILED)
    filters = ["--status", "failed", "--type", "a.b", "--since", "24h", "--until", "2026-02-26T10:00:00Z"]
    filters += ["--code", "500", "--webhook", WH, "--event", EVT, "--tenant", "acme"]
    result = run(stub, "deliveries", "list", *filters)
    assert stub.last.query == {
        "status": "failed",
        "type": "a.b",
        "since": "24h",
        "until": "2026-02-26T10:00:00Z",
        "response_code": "500",
        "webhook": WH,
        "event": EVT,
        "tenant": "acme",
        "limit": "51",
    }
    row = [DLV, "failed", "booking.created", "500", "http_status", "1", "2026-02-26T10:00:00.000Z", WH, "12"]
    assert result.stdout.splitlines()[-1].split() == row


def test_a_delivery_is_shown_with_its_payload_and_its_attempts(stub):
    second = {**ATTEMPT, "number": 2, "response_body": "better"}
    stub.answers[f"GET /v1/deliveries/{DLV}"] = (200, {**WHOLE, "attempts": [ATTEMPT, second]})
    result = run(stub, "deliveries", "show", DLV)
    shown = [line.split() for line in result.stdout.splitlines()]
    assert [row for row in shown if row[1:] == [ATTEMPT["started_at"], "12", "200", "-"]] == [
        ["1", ATTEMPT["started_at"], "12", "200", "-"],
        ["2", ATTEMPT["started_at"], "12", "200", "-"],
    ]
    assert "-- request of attempt 2" in result.stdout
    assert "better" in result.stdout
    assert "thank you" not in result.stdout


def test_a_delivery_without_attempts_shows_what_will_be_sent(stub):
    waiting = {**WHOLE, "status": "pending", "attempts": [], "response_code": None, "response_time_ms": None}
    stub.answers[f"GET /v1/deliveries/{DLV}"] = (200, waiting)
    assert '-- payload\n{\n  "booking": 7\n}\n' in run(stub, "deliveries", "show", DLV).stdout
    assert json.loads(run(stub, "deliveries", "show", DLV, "--output", "json").stdout) == waiting


@pytest.mark.parametrize(("verb", "status"), [("retry", "pending"), ("cancel", "cancelled")])
def test_a_delivery_is_retried_and_cancelled(stub, verb, status):
    stub.answers[f"POST /v1/deliveries/{DLV}/{verb}"] = (202, DELIVERY | {"status": status})
    assert run(stub, "deliveries", verb, DLV).stdout.startswith(f"{DLV} is {status}: ")
    assert json.loads(run(stub, "deliveries", verb, DLV, "--output", "json").stdout)["status"] == status


def test_events_are_listed_and_shown_with_their_deliveries(stub):
    event = {
        "id": EVT,
        "type": "a.b",
        "tenant": "acme",
        "timestamp": "2026-02-26T10:00:00.000Z",
        "idempotency_key": None,
        "ordering_key": None,
        "test": False,
        "created_at": "2026-02-26T10:00:00.000Z",
    }
    whole = event | {"data": {"n": 1}, "delivery_count": 300, "deliveries": [DELIVERY]}
    stub.answers["GET /v1/events"] = page(event)
    stub.answers[f"GET /v1/events/{EVT}"] = (200, whole)
    assert (
        EVT in run(stub, "events", "list", "--type", "a.b", "--since", "1h", "--until", "1m", "--tenant", "acme").stdout
    )
    assert stub.last.query == {"type": "a.b", "since": "1h", "until": "1m", "tenant": "acme", "limit": "51"}
    result = run(stub, "events", "show", EVT)
    assert '-- data\n{\n  "n": 1\n}\n\n-- deliveries: 300\n' in result.stdout
    assert DLV in result.stdout
    assert f"--event {EVT} --all" in result.stderr
    assert json.loads(run(stub, "events", "show", EVT, "--output", "json").stdout) == whole


# --- who changed what -------------------------------------------------------------------------------------------------


def test_records_are_listed_by_every_filter_and_no_text_in_them_reaches_the_terminal_raw(stub):
    record = {
        "id": "aud_01HQ3K5M7N",
        "created_at": "2026-02-26T10:00:00.000Z",
        "tenant": "acme",
        "action": "key.created",
        "object": KEY,
        "actor": "uid:0",
        "session": None,
        "pid": 4711,
        "address": None,
        "fields": ["url", "status"],
        "url_before": "https://a.example/",
        "url_after": "https://b.example/",
        "details": {"name": "\x1b[31mred\u202e", "status": ["failed", "cancelled"], "type": None},
    }
    stub.answers["GET /v1/audit"] = page(record)
    given = {"action": "key.created", "actor": "uid:0", "object": KEY, "since": "24h", "until": "1h", "tenant": "acme"}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    result = run(stub, "audit", "list", *options)
    assert stub.last.query == {**given, "limit": "51"}
    said = result.stdout.splitlines()[-1]
    assert "uid:0 (pid 4711)" in said
    what = r"url, status; https://a.example/ -> https://b.example/; name=\x1b[31mred\u202e; status=failed,cancelled"
    assert what in said
    assert json.loads(run(stub, "audit", "list", "--output", "json").stdout) == [record]
    stub.answers["GET /v1/audit"] = page()
    assert "nothing was changed yet" in run(stub, "audit", "list").stderr


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_listed_and_revoked(stub):
    made = KEY_ROW | {"key": "hookrelay_live_sk_abc"}
    stub.answers["POST /v1/keys"] = (201, made)
    stub.answers["GET /v1/keys"] = page(KEY_ROW)
    stub.answers[f"DELETE /v1/keys/{KEY}"] = (204, None)
    result = run(stub, "keys", "create", "--tenant", "*", "--role", "admin", "--name", "ops")
    assert stub.last.body == {"tenant": "*", "role": "admin", "name": "ops"}
    assert result.stdout.endswith("key     hookrelay_live_sk_abc\n")
    assert "shown this once" in result.stderr
    result = run(stub, "keys", "create", "--tenant", "a", "--role", "read", "--output", "json")
    assert json.loads(result.stdout) == made
    assert stub.last.body == {"tenant": "a", "role": "read"}
    assert run(stub, "keys", "list").stdout.splitlines()[-1].split()[3:6] == ["x9Qz", "ops", "never"]
    assert "Revoke key_01HQ3K5M7N (ops, admin of *)? Add --yes" in run(stub, "keys", "revoke", KEY, code=2).stderr
    assert stub.last.method == "GET"
    assert run(stub, "keys", "revoke", KEY, "--yes").stdout == f"{KEY} is revoked\n"
    assert stub.last.method == "DELETE"


# --- links to the dashboard -------------------------------------------------------------------------------------------


LNK = "lnk_01HQ3K5M7N"
LINK_ROW = {
    "id": LNK,
    "tenant": "acme",
    "role": "read",
    "status": "unopened",
    "created_at": "2026-02-26T10:00:00.000Z",
    "expires_at": "2026-02-26T11:00:00.000Z",
}


def test_a_link_is_printed_alone_so_that_scripts_can_take_it(stub):
    stub.answers["POST /v1/portal-links"] = (201, {**LINK_ROW, "url": "https://hooks.example/dashboard/link/x"})
    result = run(stub, "dashboard-link", "--tenant", "acme", "--role", "read", "--for", "30m")
    assert result.stdout == "https://hooks.example/dashboard/link/x\n"
    assert "It opens once, until 2026-02-26T11:00:00.000Z" in result.stderr
    assert stub.last.body == {"tenant": "acme", "role": "read", "for": "30m"}
    made = json.loads(run(stub, "dashboard-link", "--tenant", "acme", "--output", "json").stdout)
    assert made["id"] == LNK


def test_links_are_listed_and_ended(stub):
    stub.answers["GET /v1/portal-links"] = page(LINK_ROW)
    stub.answers[f"DELETE /v1/portal-links/{LNK}"] = (204, None)
    row = run(stub, "dashboard-link", "--list").stdout.splitlines()[-1].split()
    assert row == [LNK, "unopened", "read", "acme", "2026-02-26T11:00:00.000Z"]
    assert run(stub, "dashboard-link", "--revoke", LNK).stdout == f"{LNK} opens nothing any more\n"
    assert "ids of links start with lnk_" in run(stub, "dashboard-link", "--revoke", "key_1", code=2).stderr
