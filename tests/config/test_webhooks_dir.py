"""webhooks.d: what its files come to, and every mistake in them with its line; never a secret's text."""

import base64
import os
from pathlib import Path

import pytest

from hookrelay.config.load import load
from hookrelay.model import ConfigError, Webhook
from hookrelay.rules.webhook import DEFAULT_RETRY, file_webhook_id, parse_retry


def secret(number: int) -> str:
    return "whsec_" + base64.b64encode(bytes([number]) * 32).decode()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "hookrelay.toml").write_text("")
    (tmp_path / "webhooks.d").mkdir()
    return tmp_path / "webhooks.d"


def load_from(folder, environ=None):
    return load(folder.parent / "hookrelay.toml", environ or {})


def mistakes_of(folder, environ=None):
    with pytest.raises(ConfigError) as error:
        load_from(folder, environ)
    return error.value.mistakes


def table(name="one", **said) -> str:
    """One `[[webhook]]`; a field that is None is left out, others are TOML."""
    fields = {
        "name": f'"{name}"', "url": '"https://example.com/"', "events": '["*"]', "secret": f'"{secret(1)}"', **said,
    }  # fmt: skip
    return "[[webhook]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)


# --- what is right ----------------------------------------------------------------------------------------------


def test_a_small_webhook_gets_every_default_and_an_id_of_its_name(folder):
    (folder / "shop.toml").write_text(table("shop"))
    loaded = load_from(folder)
    assert loaded.files == (folder / "shop.toml",)
    assert loaded.webhooks == (
        Webhook(
            id=file_webhook_id("shop"),
            name="shop",
            url="https://example.com/",
            events=("*",),
            retry=DEFAULT_RETRY,
            delays=parse_retry(DEFAULT_RETRY),
            secrets=(bytes([1]) * 32,),
            source="file:shop.toml",
        ),
    )


def test_what_delivery_says_is_the_default_of_webhooks_that_do_not_say(folder):
    settings = (
        '[delivery]\ntimeout = "5s"\nretry = "exponential(1s, 2, 4s, 4)"\nmax_in_flight = 2\nrate_limit = "1/s"\n'
    )
    (folder.parent / "hookrelay.toml").write_text(settings)
    (folder / "a.toml").write_text(table("silent") + table("loud", timeout='"9s"', retry="[]", rate_limit='"2/s"'))
    silent, loud = load_from(folder).webhooks
    assert (silent.timeout_s, silent.delays, silent.max_in_flight, silent.rate_limit) == (5.0, (0, 1, 2, 4), 2, "1/s")
    assert (loud.timeout_s, loud.delays, loud.max_in_flight, loud.rate_limit) == (9.0, (0,), 2, "2/s")


def test_files_come_by_name_and_hidden_or_other_ones_are_not_read(folder):
    (folder / "b.toml").write_text(table("three"))
    (folder / "a.toml").write_text(table("two") + table("one"))
    (folder / "c.toml").write_text("# nothing yet\n")
    (folder / ".#d.toml").write_text("garbage")
    (folder / "e.toml~").write_text("garbage")
    loaded = load_from(folder)
    names = {file_webhook_id(name): name for name in ("one", "two", "three")}
    assert [names[webhook.id] for webhook in loaded.webhooks] == ["two", "one", "three"]
    assert [file.name for file in loaded.files] == ["a.toml", "b.toml", "c.toml"]


def test_a_secret_file_holds_one_secret_a_line_newest_first(folder):
    (folder / "one.secret").write_text(f"{secret(2)}\r\n\n  {secret(1)}\n")
    (folder / "a.toml").write_text(table(secret=None, secret_file='"one.secret"'))
    assert load_from(folder).webhooks[0].secrets == (bytes([2]) * 32, bytes([1]) * 32)


def test_a_secret_may_come_from_the_environment(folder):
    (folder / "a.toml").write_text(table(secret=None, secret_env='"SHOP_SECRET"'))
    assert load_from(folder, {"SHOP_SECRET": secret(3)}).webhooks[0].secrets == (bytes([3]) * 32,)


def test_http_is_right_where_egress_allows_it(folder):
    (folder / "a.toml").write_text(table(url='"http://hooks.example/"'))
    [mistake] = mistakes_of(folder)
    assert "egress.allow_http" in mistake.detail
    assert load_from(folder, {"HOOKRELAY_EGRESS__ALLOW_HTTP": "true"}).webhooks[0].url == "http://hooks.example/"


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ("10.1.2.3", "10.1.0.0/16"),
        ("[fd00::1]:8080", "[fd00::/8]:8080"),
        ("localhost:8080", "127.0.0.1/32:8080"),
        ("billing.internal", "*.internal"),
        ("127.0.0.1:25", "127.0.0.1/32:25"),
    ],
)
def test_a_host_of_one_s_own_network_is_right_where_egress_opens_it(folder, host, rule):
    (folder / "a.toml").write_text(table(url=f'"https://{host}/"'))
    [mistake] = mistakes_of(folder)
    assert (mistake.line, mistake.key) == (3, "webhook[0].url")
    assert "built-in" in mistake.detail
    assert "to egress.allow" in mistake.detail
    loaded = load_from(folder, {"HOOKRELAY_EGRESS__ALLOW": f'["{rule}"]'})
    assert loaded.webhooks[0].url == f"https://{host}/"
    assert len(loaded.config.egress.policy.allow) == 1


def test_a_host_that_egress_denies_is_refused(folder):
    (folder / "a.toml").write_text(table(url='"https://8.8.8.8/"'))
    assert load_from(folder).webhooks
    [mistake] = mistakes_of(folder, {"HOOKRELAY_EGRESS__DENY": '["8.8.8.0/24"]'})
    assert "egress.deny: 8.8.8.0/24" in mistake.detail


@pytest.mark.parametrize(
    ("broken", "url"),
    [
        ("[egress]\nallow_http = 1\n", "http://hooks.example/"),
        ("[egress]\nallow = 1\n", "https://localhost/"),
        ("[egress]\nallow = ['x y', '127.0.0.1']\n", "https://10.1.2.3/"),
        ("[egress]\ndeny = 1\n", "https://hooks.example/"),
        ("[egress\n", "http://localhost:8080/"),
    ],
)
def test_no_mistake_follows_from_another(folder, broken, url):
    (folder.parent / "hookrelay.toml").write_text(broken)
    (folder / "a.toml").write_text(table(url=f'"{url}"'))
    [mistake] = mistakes_of(folder)
    assert mistake.file.endswith("hookrelay.toml")


def test_an_international_host_name_is_kept_in_its_ascii_form(folder):
    (folder / "a.toml").write_text(table(url='"https://bücher.example/"'))
    assert load_from(folder).webhooks[0].url == "https://xn--bcher-kva.example/"


def test_a_webhook_may_start_paused(folder):
    (folder / "a.toml").write_text(table("one") + table("two", status='"active"') + table("three", status='"paused"'))
    assert [webhook.status for webhook in load_from(folder).webhooks] == ["active", "active", "paused"]


def test_another_folder_can_be_named_and_must_be_there(folder):
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "a.toml").write_text(table())
    assert len(load_from(folder, {"HOOKRELAY_DELIVERY__WEBHOOKS_DIR": "other"}).webhooks) == 1
    [mistake] = mistakes_of(folder, {"HOOKRELAY_DELIVERY__WEBHOOKS_DIR": "nowhere"})
    assert str(mistake) == f"{folder.parent}/nowhere: there is no such folder: create it, or name another"
    [mistake] = mistakes_of(folder, {"HOOKRELAY_DELIVERY__WEBHOOKS_DIR": "hookrelay.toml"})
    assert "name a folder" in mistake.detail


# --- what is wrong ----------------------------------------------------------------------------------------------

WRONG = [
    ("url", None, 2, "is missing"),
    ("url", '"example.com"', 4, "https://"),
    ("events", None, 2, "is missing"),
    ("events", '"*"', 4, "expected a list of event types"),
    ("events[1]", '["a",\n5]', 5, "got an integer"),
    ("events[2]", '["a",\n# more\n"b",\n"a"]', 7, "twice"),
    ("description", "5", 4, "expected text"),
    ("tenant", '"a b"', 4, "not a tenant"),
    ("rate_limit", "10", 4, 'expected a rate such as "10/s", got an integer'),
    ("max_in_flight", "0", 4, "1 to 1000"),
    ("timeout", '"1ms"', 4, '"100ms"'),
    ("retry[0]", '["never"]', 4, "not a duration"),
    ("headers.Host", '{ Host = "x" }', 4, "hookrelay alone"),
    ("headers.x-a", '{ x-b = "c", x-a = 5 }', 4, "got an integer"),
    ('headers."a.b"', '{ "a.b" = "ä" }', 4, "printable ASCII"),
    ("ordered", '"yes"', 4, "true or false"),
    ("metadata", "{ at = 2026-01-01 }", 4, "JSON lacks"),
    ("ca_file", '"x"', 4, "there is no such file"),
    ("ca_file", "5", 4, "expected a path"),
    ("ca_file", '""', 4, "is the path of a file"),
    ("ca_files", '"x"', 4, "did you mean ca_file?"),
    ("status", '"disabled"', 4, '"active" or "paused"'),
    ("status", "true", 4, '"active" or "paused"'),
    ("url", '"https://①②⑦.⓪.⓪.①/"', 4, "IDNA 2008"),
    ("secret_fil", '"x"', 4, "did you mean secret_file?"),
    ("name", None, 2, "is missing"),
    ("name", "5", 4, "expected a name"),
    ("name", '"a b"', 4, '"accounts"'),
    ("name", f'"{"a" * 65}"', 4, "1 to 64"),
    ("secret", None, 2, "give one of secret, secret_file"),
    ("secret", "5", 4, "expected a secret"),
    ("secret", '"hunter2"', 4, "whsec_"),
    ("secret", '"whsec_hunter2"', 4, "base64"),
]


@pytest.mark.parametrize(("key", "text", "line", "telling"), WRONG)
def test_a_wrong_field_is_told_with_file_line_and_key(folder, key, text, line, telling):
    field = key.partition("[")[0].partition(".")[0]
    header, *others = table().splitlines()
    below = [other for other in others if not other.startswith(f"{field} =")]
    given = [] if text is None else [f"{field} = {text}"]
    (folder / "a.toml").write_text("\n".join(["# webhooks", header, "# the field", *given, *below]))
    [mistake] = mistakes_of(folder)
    assert (mistake.file, mistake.line, mistake.key) == (str(folder / "a.toml"), line, f"webhook[0].{key}")
    assert telling in mistake.detail
    assert "hunter2" not in str(mistake)


@pytest.mark.parametrize(
    ("key", "value", "telling"),
    [
        ("secret_file", '"nowhere"', "no such file"),
        ("secret_file", "5", "expected a path"),
        ("secret_file", '""', "is the path of a file"),
        ("secret_file", f'"{secret(7)}"', "is the path of a file"),
        ("secret_file", '"empty"', "holds 0 secrets"),
        ("secret_file", '"many"', "holds 11 secrets"),
        ("secret_file", '"bad"', 'line 2 of "bad" is not base64'),
        ("secret_file", '"latin"', 'line 1 of "latin" is not base64'),
        ("secret_file", '"."', "name a file"),
        ("secret_file", '"pipe"', "name a file"),
        ("secret_env", '"NOT_SET"', "no environment variable NOT_SET"),
        ("secret_env", '"BAD"', "the environment variable BAD does not start with whsec_"),
        ("secret_env", f'"{secret(7)}"', "is the name of an environment variable"),
        ("secret_env", '"whsec_hunter2"', "is the name of an environment variable"),
        ("secret_env", '"a b"', "is the name of an environment variable"),
        ("secret_env", "true", "is the name of an environment variable"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_without_its_text(folder, key, value, telling):
    (folder / "empty").write_text("\n\n")
    (folder / "many").write_text(f"{secret(1)}\n" * 11)
    (folder / "bad").write_text(f"{secret(1)}\nwhsec_hunter2\n")
    (folder / "latin").write_bytes(b"whsec_\xe4hunter2")
    os.mkfifo(folder / "pipe")
    (folder / "a.toml").write_text(table(secret=None, **{key: value}))
    [mistake] = mistakes_of(folder, {"BAD": "hunter2"})
    assert (mistake.line, mistake.key) == (5, f"webhook[0].{key}")
    assert telling in mistake.detail
    assert "hunter2" not in str(mistake)
    assert "BwcHBw" not in str(mistake)


def test_only_one_way_to_a_secret_is_right(folder):
    (folder / "a.toml").write_text(table(secret_file='"x"', secret_env='"Y"'))
    told = [(mistake.line, mistake.key, mistake.detail) for mistake in mistakes_of(folder)]
    assert told == [
        (6, "webhook[0].secret_file", "stands beside secret: keep one of them"),
        (7, "webhook[0].secret_env", "stands beside secret: keep one of them"),
    ]


def test_a_name_is_one_webhook_s_over_all_files(folder):
    (folder / "a.toml").write_text(table("same"))
    (folder / "b.toml").write_text(table("other") + table("same"))
    [mistake] = mistakes_of(folder)
    assert (mistake.file, mistake.line, mistake.key) == (str(folder / "b.toml"), 7, "webhook[1].name")
    assert f"{folder}/a.toml:2" in mistake.detail


@pytest.mark.parametrize(
    ("text", "line", "key", "telling"),
    [
        ("[webhook]\nname = 'a'\n", 1, "webhook", "[[webhook]], with two brackets"),
        ("webhook = [\n5]\n", 2, "webhook[0]", "expected a table, got an integer"),
        ("[[webhooks]]\nname = 'a'\n", 1, "webhooks", "did you mean webhook?"),
        ("\nname = 'a'\n", 2, "name", "put a line [[webhook]] above it"),
        ("[log]\n", 1, "log", "is unknown: there are webhook"),
        ("[[webhook]\n", 1, "", "is not TOML"),
    ],
)
def test_a_file_of_another_shape_is_told_what_would_be_right(folder, text, line, key, telling):
    (folder / "a.toml").write_text(text)
    [mistake] = mistakes_of(folder)
    assert (mistake.line, mistake.key) == (line, key)
    assert telling in mistake.detail


def test_ten_thousand_webhooks_in_a_file_are_read_and_the_last_one_s_mistake_has_its_line(folder):
    tables = [table(f"hook-{number}") for number in range(10_000)]
    (folder / "a.toml").write_text("".join(tables))
    assert len(load_from(folder).webhooks) == 10_000
    (folder / "a.toml").write_text("".join(tables) + table("last", timeout="1"))
    [mistake] = mistakes_of(folder)
    assert (mistake.line, mistake.key) == (50_006, "webhook[10000].timeout")
