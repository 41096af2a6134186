"""hookrelay.toml and the environment: every key right and wrong once, and what makes a file unreadable."""

import ipaddress
import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.config import load as module
from hookrelay.config.files import unreadable
from hookrelay.config.keys import KEYS
from hookrelay.config.load import load
from hookrelay.config.settings import EventType, Tcp, Unix
from hookrelay.model import ConfigError

V4, V6 = ipaddress.IPv4Network, ipaddress.IPv6Network
RETRY = ("5s", "5m", "30m", "2h", "5h", "10h", "14h", "20h", "24h")


@pytest.fixture
def config_file(tmp_path) -> Path:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/one").write_text("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
    (tmp_path / "keys/one").chmod(0o600)
    return tmp_path / "hookrelay.toml"


def mistakes_of(path, environ=None):
    with pytest.raises(ConfigError) as error:
        load(path, environ or {})
    return error.value.mistakes


def value_of(loaded, dotted):
    return getattr(getattr(loaded.config, KEYS[dotted].section), KEYS[dotted].field)


# --- values -----------------------------------------------------------------------------------------------------

DEFAULTS = {
    "store.url": Path("/var/lib/hookrelay/hookrelay.db"),
    "store.retention": 30 * 86400.0,
    "store.audit_retention": 365 * 86400.0,
    "store.max_size": 10 << 30,
    "store.key_file": None,
    "events.socket": Path("/run/hookrelay/events.sock"),
    "events.mode": 0o660,
    "events.group": None,
    "events.max_size": 256 << 10,
    "events.idempotency_window": 7 * 86400.0,
    "events.closed_catalogue": False,
    "api.listen": (Unix(Path("/run/hookrelay/api.sock")),),
    "api.hosts": ("localhost", "127.0.0.1", "[::1]"),
    "api.public_url": None,
    "api.key_prefix": "hookrelay_live_sk_",
    "api.mode": 0o600,
    "delivery.timeout": 30.0,
    "delivery.retry": RETRY,
    "delivery.max_in_flight": 8,
    "delivery.rate_limit": None,
    "delivery.disable_after": 5 * 86400.0,
    "delivery.max_connections": 1000,
    "delivery.removal_grace": 600.0,
    "delivery.webhooks_dir": Path("BASE/webhooks.d"),
    "egress.allow": (),
    "egress.deny": (),
    "egress.allow_http": False,
    "egress.ca_file": None,
    "egress.proxy": None,
    "egress.resolver": None,
    "log.level": "info",
    "log.format": "auto",
    "limits.webhooks_per_tenant": 1000,
    "limits.events_per_tenant": None,
    "metrics.per_webhook_limit": 1000,
    "metrics.webhook_info": False,
    "telemetry.otlp_endpoint": None,
}


def test_an_empty_file_gives_the_defaults_of_the_contract(config_file):
    config_file.write_text("")
    loaded = load(config_file, {})
    base = config_file.parent
    assert {key: value_of(loaded, key) for key in KEYS} == {**DEFAULTS, "delivery.webhooks_dir": base / "webhooks.d"}
    assert loaded.config.event_types == ()
    assert loaded.webhooks == loaded.files == ()


def test_no_file_gives_the_defaults_too(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "DEFAULT_PATH", tmp_path / "hookrelay.toml")
    loaded = load(None, {})
    assert value_of(loaded, "store.url") == Path("/var/lib/hookrelay/hookrelay.db")
    assert value_of(loaded, "delivery.webhooks_dir") == tmp_path / "webhooks.d"


RIGHT = [
    ("store.url", '"sqlite:///data/a.db"', Path("/data/a.db")),
    ("store.url", '"sqlite:////data/a.db"', Path("/data/a.db")),
    ("store.url", '"sqlite://a.db"', Path("BASE/a.db")),
    ("store.retention", '"90d"', 90 * 86400.0),
    ("store.audit_retention", '"90d"', 90 * 86400.0),
    ("store.max_size", '"16MiB"', 16 << 20),
    ("store.key_file", '"keys/one"', Path("BASE/keys/one")),
    ("events.socket", '"events.sock"', Path("BASE/events.sock")),
    ("events.mode", '"666"', 0o666),
    ("events.group", '"booking"', "booking"),
    ("events.max_size", '"1MiB"', 1 << 20),
    ("events.idempotency_window", '"24h"', 86400.0),
    ("events.closed_catalogue", "true", True),
    (
        "api.listen",
        '["unix:api.sock", "127.0.0.1:8080", "[::1]:0", "api.internal:80"]',
        (Unix(Path("BASE/api.sock")), Tcp("127.0.0.1", 8080), Tcp("::1", 0), Tcp("api.internal", 80)),
    ),
    ("api.listen", "[]", ()),
    ("api.hosts", '["Hooks.Example.com", "[::1]", "10.0.0.1"]', ("hooks.example.com", "[::1]", "10.0.0.1")),
    ("api.public_url", '"https://Hooks.Example.com/"', "https://hooks.example.com"),
    ("api.public_url", '"http://127.0.0.1:8080"', "http://127.0.0.1:8080"),
    ("api.key_prefix", '"otesse_live_sk_"', "otesse_live_sk_"),
    ("api.mode", '"0660"', 0o660),
    ("delivery.timeout", '"500ms"', 0.5),
    ("delivery.retry", '["1s", "1s"]', ("1s", "1s")),
    ("delivery.retry", "[]", ()),
    ("delivery.retry", '"exponential(1s, 2, 1h, 12)"', "exponential(1s, 2, 1h, 12)"),
    ("delivery.max_in_flight", "1", 1),
    ("delivery.rate_limit", '"10/s burst 50"', "10/s burst 50"),
    ("delivery.disable_after", '"never"', None),
    ("delivery.disable_after", '"1d"', 86400.0),
    ("delivery.removal_grace", '"1h"', 3600.0),
    ("delivery.max_connections", "5", 5),
    (
        "egress.allow",
        '["10.1.0.0/16", "127.0.0.1/32:8080", "192.0.2.1", "[fd00::/8]:443", "fd00::1", "[::1]", "LOCALHOST:80", '
        '"*.internal", "billing.internal.:443", "169.254.169.254/32:80", "[fe80::1]", "168.63.129.16", "0.0.0.0/1"]',
        (
            *((V4("10.1.0.0/16"), None), (V4("127.0.0.1/32"), 8080), (V4("192.0.2.1/32"), None)),
            *((V6("fd00::/8"), 443), (V6("fd00::1/128"), None), (V6("::1/128"), None), "localhost:80", "*.internal"),
            *("billing.internal:443", (V4("169.254.169.254/32"), 80), (V6("fe80::1/128"), None)),
            *((V4("168.63.129.16/32"), None), (V4("0.0.0.0/1"), None)),
        ),
    ),
    ("egress.deny", '["0.0.0.0/0", "2001:db8::/32"]', ((V4("0.0.0.0/0"), None), (V6("2001:db8::/32"), None))),
    ("egress.allow_http", "true", True),
    ("egress.ca_file", '"ca.pem"', Path("BASE/ca.pem")),
    ("egress.proxy", '"http://user:pass@proxy.example:3128"', "http://user:pass@proxy.example:3128"),
    ("egress.proxy", '"socks5://u:p%40ss@[fd00::1]:1080/"', "socks5://u:p%40ss@[fd00::1]:1080/"),
    ("egress.proxy", '"http://127.0.0.1:25"', "http://127.0.0.1:25"),
    ("egress.proxy", '"http://proxy"', "http://proxy"),
    ("egress.resolver", '"192.0.2.53"', Tcp("192.0.2.53", 53)),
    ("egress.resolver", '"[2001:db8::1]:5353"', Tcp("2001:db8::1", 5353)),
    ("log.level", '"debug"', "debug"),
    ("log.format", '"json"', "json"),
    ("limits.webhooks_per_tenant", "0", 0),
    ("limits.events_per_tenant", '"100/s burst 1000"', "100/s burst 1000"),
    ("metrics.per_webhook_limit", "0", 0),
    ("metrics.webhook_info", "true", True),
    ("telemetry.otlp_endpoint", '"http://127.0.0.1:4318"', "http://127.0.0.1:4318"),
    ("telemetry.otlp_endpoint", '"https://[fd00::1]/v1/traces"', "https://[fd00::1]/v1/traces"),
    ("telemetry.otlp_endpoint", '" HTTP://collector:4318\\n"', "http://collector:4318"),
    ("egress.proxy", '"Http://proxy.example:3128 "', "http://proxy.example:3128"),
]


def based(value, base):
    """`value` with its BASE paths below the folder `base`."""
    if isinstance(value, Path):
        return base / value.relative_to("BASE") if value.parts[0] == "BASE" else value
    if isinstance(value, Unix):
        return Unix(based(value.path, base))
    if isinstance(value, tuple) and not isinstance(value, str):
        return tuple(based(each, base) for each in value)
    return value


@pytest.mark.parametrize(("key", "text", "value"), RIGHT)
def test_a_right_value_in_the_file_is_taken(config_file, key, text, value):
    section, _, name = key.partition(".")
    config_file.write_text(f"[{section}]\n{name} = {text}\n")
    assert value_of(load(config_file, {}), key) == based(value, config_file.parent)


@pytest.mark.parametrize(("key", "text", "value"), RIGHT)
def test_the_environment_overrides_the_file(config_file, key, text, value):
    section, _, name = key.partition(".")
    other = next((right for k, right, v in RIGHT if k == key and v != value), text)
    config_file.write_text(f"[{section}]\n{name} = {other}\n")
    parsed = tomllib.loads(f"v = {text}")["v"]
    environ = {f"HOOKRELAY_{section}__{name}".upper(): parsed if isinstance(parsed, str) else text}
    assert value_of(load(config_file, environ), key) == based(value, config_file.parent)


def test_every_key_has_a_right_value_and_a_wrong_one_in_these_tables():
    assert {key for key, _, _ in RIGHT} | {"delivery.webhooks_dir"} == set(KEYS)
    assert {key.partition("[")[0] for key, _, _ in WRONG} == set(KEYS)


def test_an_empty_variable_turns_an_optional_key_off(config_file):
    config_file.write_text('[delivery]\nrate_limit = "1/s"\n')
    assert value_of(load(config_file, {"HOOKRELAY_DELIVERY__RATE_LIMIT": ""}), "delivery.rate_limit") is None


def test_a_list_in_the_environment_may_be_json(config_file):
    config_file.write_text("")
    environ = {"HOOKRELAY_API__HOSTS": '["local\\/host"]', "HOOKRELAY_API__LISTEN": '[ "127.0.0.1:1" ]'}
    [mistake] = mistakes_of(config_file, environ)
    assert (mistake.file, mistake.key) == ("environment", "HOOKRELAY_API__HOSTS[0]")
    assert '"local/host"' in mistake.detail


def test_other_variables_are_left_alone(config_file):
    config_file.write_text("")
    load(config_file, {"HOOKRELAY_API": "x", "HOOKRELAY_KEY": "y", "HOOKRELAY_": "", "OTHER__KEY": "z", "HOME": "/"})


# --- mistakes ---------------------------------------------------------------------------------------------------

WRONG = [
    ("store.url", "5", 'expected a URL such as "sqlite:///var/lib/hookrelay/hookrelay.db", got an integer'),
    ("store.url", '"postgresql://u:secret@h/db"', "not available yet"),
    ("store.url", '"mysql://u:secret@h/db"', "sqlite://"),
    ("store.url", '"sqlite:///a.db?mode=ro"', "options"),
    ("store.url", '"sqlite://"', "names no file"),
    ("store.url", '"sqlite:///:memory:"', "names no file"),
    ("store.retention", "30", 'expected a duration such as "30d", got an integer'),
    ("store.retention", '"30 days"', 'such as "500ms"'),
    ("store.retention", '"1s"', 'from "1m"'),
    ("store.audit_retention", '"1s"', 'from "1m"'),
    ("store.max_size", '"10GB"', '"10GiB"'),
    ("store.max_size", '"1MiB"', 'from "16MiB"'),
    ("store.key_file", "true", "expected a path"),
    ("store.key_file", '""', "not a path"),
    ("store.key_file", '"~/key"', "whole path"),
    ("events.socket", f'"/{"a" * 107}"', "at most 107"),
    ("events.mode", "432", 'expected a file mode in quotes such as "0660", got an integer'),
    ("events.mode", '"rw"', '"0660"'),
    ("events.mode", '"0680"', '"0660"'),
    ("events.group", '"a b"', "not a group"),
    ("events.max_size", '"1B"', 'from "1KiB"'),
    ("events.idempotency_window", "1.5", "got a number with a point"),
    ("events.closed_catalogue", '"yes"', "expected true or false, got text"),
    ("api.listen", '"127.0.0.1:80"', 'expected a list of places such as ["unix:/run/hookrelay/api.sock", '),
    ("api.listen[1]", '["127.0.0.1:80", ":80"]', "no place to listen"),
    ("api.listen[0]", '["127.0.0.1:65536"]', "no place to listen"),
    ("api.listen[0]", '["::1:80"]', "[::1]:8080"),
    ("api.listen[0]", f'["unix:/{"a" * 107}"]', "at most 107"),
    ("api.listen[1]", '["127.0.0.1:80", "127.0.0.1:80"]', "twice"),
    ("api.hosts", '"localhost"', "expected a list of hosts"),
    ("api.hosts[0]", '["localhost:80"]', "without port"),
    ("api.hosts[0]", "[5]", "got an integer"),
    ("api.public_url", '"hooks.example.com"', "not an address"),
    ("api.public_url", '"https://hooks.example.com/webhooks"', "has a path"),
    ("api.key_prefix", '"sk live"', "not a prefix"),
    ("api.mode", '"0"', '"0660"'),
    ("delivery.timeout", "30", 'expected a duration such as "30s", got an integer'),
    ("delivery.timeout", '"10m"', 'to "120s"'),
    ("delivery.retry", "5", "exponential(1s, 2, 1h, 12)"),
    ("delivery.retry", '"5s"', "exponential(1s, 2, 1h, 12)"),
    ("delivery.retry[1]", '["5s", "x"]', "not a duration"),
    ("delivery.max_in_flight", '"8"', "expected a whole number such as 8, got text"),
    ("delivery.max_in_flight", "0", "from 1 to 1000"),
    ("delivery.rate_limit", '"10"', '"10/s"'),
    ("delivery.disable_after", "false", "expected a duration"),
    ("delivery.disable_after", '"500ms"', 'from "1s"'),
    ("delivery.removal_grace", '"soon"', "30s"),
    ("delivery.max_connections", "0", "from 1 to"),
    ("delivery.max_connections", "0x" + "f" * 5000, "out of range"),
    ("delivery.webhooks_dir", "[]", "expected a path"),
    ("egress.allow", '"10.0.0.0/8"', "expected a list of networks"),
    ("egress.allow[0]", '["10.0.0.1/8"]', "write 10.0.0.0/8"),
    ("egress.allow[0]", '["0.0.0.0/0"]', "opens every address"),
    ("egress.allow[1]", '["::1", "::/0"]', "opens every address"),
    ("egress.allow[0]", '["[::/0]:443"]', "opens every address"),
    ("egress.allow[0]", '["10.0.0.0/8:0"]', "not a port"),
    ("egress.allow[0]", '["localhost:99999"]', "not a port"),
    ("egress.allow[0]", '["10.0.0.256"]', "not a network"),
    ("egress.allow[0]", '["fe80::1%eth0"]', "zone"),
    ("egress.allow[0]", '["https://example.com"]', "not a network"),
    ("egress.deny[0]", '["example.com"]', "not a network"),
    ("egress.allow_http", "1", "expected true or false, got an integer"),
    ("egress.allow[0]", '["169.254.0.0/16"]', 'such as "169.254.0.1/32"'),
    ("egress.allow[0]", '["169.254.169.254/31:80"]', 'such as "169.254.169.255/32:80"'),
    ("egress.allow[0]", '["0.0.0.0/8"]', "each address is opened alone"),
    ("egress.allow[1]", '["0.0.0.0/32", "224.0.0.0/24"]', "each address is opened alone"),
    ("egress.allow[0]", '["[ff02::/16]:443"]', 'such as "[ff02::1/128]:443"'),
    ("egress.allow[0]", '["fe80::/10"]', "link-local"),
    ("egress.allow[0]", '["fd00:ec2::/64"]', "cloud metadata"),
    ("egress.ca_file", '"nowhere.pem"', "there is no such file"),
    ("egress.ca_file", '"hookrelay.toml"', "holds no certificate"),
    ("egress.proxy", '"proxy:3128"', "http://proxy.example:3128"),
    ("egress.proxy", '"http://u:secret@"', "http://proxy.example:3128"),
    ("egress.proxy", '"https://u:secret@proxy.example:3128"', "http://proxy.example:3128"),
    ("egress.proxy", '"socks5h://u:secret@proxy.example:1080"', "write socks5://"),
    ("egress.proxy", '"http://u:p@secret@proxy.example:3128"', "%40"),
    ("egress.proxy", '"http://u:secret %@proxy.example:3128"', "%XX"),
    ("egress.proxy", '"http://u:secret@proxy.example:66666"', "http://proxy.example:3128"),
    ("egress.proxy", '"http://u:secret@proxy.example:3128/x"', "http://proxy.example:3128"),
    ("egress.proxy", '"http://u:secret@-proxy"', "http://proxy.example:3128"),
    ("egress.proxy", '"http://u:secret@[fd00::g]:1"', "http://proxy.example:3128"),
    ("egress.resolver", '"dns.example"', '"system"'),
    ("egress.resolver", "53", "expected a name server"),
    ("log.level", '"INFO"', "none of debug, info, warning, error"),
    ("log.format", "true", "expected one of auto, console, json"),
    ("limits.webhooks_per_tenant", "-1", "from 0"),
    ("limits.events_per_tenant", '"fast"', '"10/s"'),
    ("metrics.per_webhook_limit", "-1", "from 0"),
    ("metrics.webhook_info", '"yes"', "true or false"),
    ("telemetry.otlp_endpoint", '"127.0.0.1:4318"', '"http://127.0.0.1:4318"'),
    ("telemetry.otlp_endpoint", '"http://u:secret@collector:4318"', '"http://127.0.0.1:4318"'),
    ("telemetry.otlp_endpoint", '"http://collector:0"', '"http://127.0.0.1:4318"'),
]


@pytest.mark.parametrize(("key", "text", "telling"), WRONG)
def test_a_wrong_value_is_told_with_file_line_and_key(config_file, key, text, telling):
    section, _, name = key.partition("[")[0].partition(".")
    config_file.write_text(f"# a comment\n\n[{section}]\n# another\n{name} = {text}\n")
    [mistake] = mistakes_of(config_file)
    assert (mistake.file, mistake.line, mistake.key) == (str(config_file), 5, key)
    assert telling in mistake.detail
    assert "secret" not in mistake.detail
    assert str(mistake) == f"{config_file}:5: {key}: {mistake.detail}"


@pytest.mark.parametrize(
    ("name", "text", "telling"),
    [
        ("HOOKRELAY_DELIVERY__TIMEOUT", "10", "not a duration"),
        ("HOOKRELAY_DELIVERY__MAX_IN_FLIGHT", "many", "expected a whole number such as 8, got text"),
        ("HOOKRELAY_DELIVERY__MAX_IN_FLIGHT", "", "got text"),
        ("HOOKRELAY_DELIVERY__MAX_IN_FLIGHT", "8\nx = 1", "got text"),
        ("HOOKRELAY_DELIVERY__MAX_IN_FLIGHT", "9" * 5000, "expected a whole number"),
        ("HOOKRELAY_DELIVERY__RETRY", "[1]", "got an integer"),
        ("HOOKRELAY_EGRESS__ALLOW_HTTP", "yes", "expected true or false, got text"),
        ("HOOKRELAY_API__HOSTS", "localhost", "expected a list of hosts"),
        ("HOOKRELAY_API__HOSTS", "[" * 100_000, "expected a list of hosts"),
        ("HOOKRELAY_DELIVERY__TIMOUT", "10s", "did you mean HOOKRELAY_DELIVERY__TIMEOUT?"),
        ("HOOKRELAY_DELIVERIES__TIMEOUT", "10s", "did you mean HOOKRELAY_DELIVERY__TIMEOUT?"),
        ("HOOKRELAY_X__Y", "secret", "is unknown"),
        ("HOOKRELAY__X", "", "is unknown"),
        ("HOOKRELAY_delivery__timeout", "10s", "did you mean HOOKRELAY_DELIVERY__TIMEOUT?"),
        ("HOOKRELAY_EVENT_TYPES__A", "{}", "is unknown"),
    ],
)
def test_a_wrong_variable_is_told_by_its_name(config_file, name, text, telling):
    config_file.write_text("")
    [mistake] = mistakes_of(config_file, {name: text})
    assert (mistake.file, mistake.line, mistake.key.partition("[")[0]) == ("environment", None, name)
    assert telling in mistake.detail
    assert "secret" not in mistake.detail


@pytest.mark.parametrize(
    ("text", "line", "key", "telling"),
    [
        ("[delivery]\nretyr = []\n", 2, "delivery.retyr", "did you mean retry?"),
        ("[delivery]\nallow_http = true\n", 2, "delivery.allow_http", "did you mean egress.allow_http?"),
        ("\nretention = '1d'\n", 2, "retention", "did you mean store.retention?"),
        ("max_size = '1d'\n", 1, "max_size", "did you mean store.max_size or events.max_size?"),
        ("[log]\nzzz = 1\n", 2, "log.zzz", "there are format, level"),
        ("[deliveries]\nx = 1\n", 1, "deliveries", "did you mean delivery?"),
        ("delivery = 5\n", 1, "delivery", "expected a table, got an integer: write its keys below a line [delivery]"),
        ("[[delivery]]\n", 1, "delivery", "expected a table, got a list"),
        ("\n[[webhook]]\nname = 'a'\n", 2, "webhook", "webhooks.d/NAME.toml"),
        ('[log]\n"a\\u001b\\n" = 1\n', 2, 'log."a\\u001b\\n"', "unknown"),
        ("event_types = 1\n", 1, "event_types", "expected a table"),
    ],
)
def test_an_unknown_key_is_told_with_the_right_one(config_file, text, line, key, telling):
    config_file.write_text(text)
    [mistake] = mistakes_of(config_file)
    assert (mistake.line, mistake.key) == (line, key)
    assert telling in mistake.detail


def test_a_socket_cannot_serve_events_and_api(config_file):
    config_file.write_text('[events]\nsocket = "a.sock"\n\n[api]\nlisten = ["unix:a.sock"]\n')
    [mistake] = mistakes_of(config_file)
    assert (mistake.line, mistake.key) == (2, "events.socket")
    assert "api.listen" in mistake.detail


def test_every_mistake_of_all_files_and_the_environment_is_told_at_once_in_order(config_file):
    config_file.write_text(
        '[log]\nlevel = 1\n[api]\nhosts = ["a b", "c d"]\nx = 1\n[event_types."a b"]\n[store]\nurl = 1\n'
    )
    folder = config_file.parent / "webhooks.d"
    folder.mkdir()
    (folder / "b.toml").write_text("[[webhook]]\nurl = 1\n")
    (folder / "a.toml").write_text("nonsense\n")
    told = mistakes_of(config_file, {"HOOKRELAY_LOG__FORMAT": "xml", "HOOKRELAY_A__B": "1"})
    assert [(Path(mistake.file).name, mistake.line, mistake.key) for mistake in told] == [
        ("hookrelay.toml", 2, "log.level"),
        ("hookrelay.toml", 4, "api.hosts[0]"),
        ("hookrelay.toml", 4, "api.hosts[1]"),
        ("hookrelay.toml", 5, "api.x"),
        ("hookrelay.toml", 6, 'event_types."a b"'),
        ("hookrelay.toml", 8, "store.url"),
        ("environment", None, "HOOKRELAY_A__B"),
        ("environment", None, "HOOKRELAY_LOG__FORMAT"),
        ("a.toml", 1, ""),
        ("b.toml", 1, "webhook[0].events"),
        ("b.toml", 1, "webhook[0].name"),
        ("b.toml", 1, "webhook[0].secret"),
        ("b.toml", 2, "webhook[0].url"),
    ]


# --- the catalogue ----------------------------------------------------------------------------------------------


def test_the_catalogue_is_read(config_file):
    (config_file.parent / "booking.json").write_text('{"type": "object"}')
    config_file.write_text(
        '[event_types."booking.created"]\ndescription = "d"\nexample = { id = 1 }\nschema = "booking.json"\n'
        "[event_types.plain]\n"
    )
    assert load(config_file, {}).config.event_types == (
        EventType("booking.created", "d", {"id": 1}, config_file.parent / "booking.json", {"type": "object"}),
        EventType("plain"),
    )


@pytest.mark.parametrize(
    ("text", "line", "key", "telling"),
    [
        ('[event_types."a..b"]\n', 1, 'event_types."a..b"', "not an event type"),
        (f"[event_types.{'a' * 129}]\n", 1, None, "at most 128"),
        ("[event_types.booking.created]\n", 1, "event_types.booking", '[event_types."booking.created"]'),
        ("[event_types]\na = 1\n", 2, "event_types.a", "expected a table"),
        ("[event_types.a]\ndescripton = 'x'\n", 2, "event_types.a.descripton", "did you mean description?"),
        ("[event_types.a]\ndescription = 5\n", 2, "event_types.a.description", "expected text"),
        (f"[event_types.a]\ndescription = '{'x' * 1025}'\n", 2, "event_types.a.description", "1024"),
        ("[event_types.a]\n\nexample = { t = 2026-01-01 }\n", 3, "event_types.a.example", "JSON lacks"),
        ("[event_types.a]\nschema = 'nowhere.json'\n", 2, "event_types.a.schema", "no such file"),
        ("[event_types.a]\nschema = 'hookrelay.toml'\n", 2, "event_types.a.schema", "is not JSON"),
        ("[event_types.a]\nschema = 'list.json'\n", 2, "event_types.a.schema", "an object"),
        ("[event_types.a]\nschema = {}\n", 2, "event_types.a.schema", "expected a path"),
    ],
)
def test_a_wrong_entry_of_the_catalogue_is_told(config_file, text, line, key, telling):
    (config_file.parent / "list.json").write_text("[]")
    config_file.write_text(text)
    [mistake] = mistakes_of(config_file)
    assert mistake.line == line
    assert key is None or mistake.key == key
    assert telling in mistake.detail


# --- files that cannot be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "line", "telling"),
    [
        (b"a = 1\nb = \xff\n", 2, "UTF-8"),
        (b"\n\n# \xc3\x28\n", 3, "UTF-8"),
        (b"\xef\xbb\xbf[log]\n", 1, "byte-order mark"),
        ("[log]\n".encode("utf-16"), 1, "UTF-8"),
        (b"# x\n" * (1 << 18) + b"#", (1 << 18) + 1, "longer than 1 MiB"),
        (b"a = 1\nb = " + b"[" * 100_000, 2, "nested too deeply"),
        (b"\na = " + b"[" * 400 + b"]" * 400, 2, "nested too deeply"),
        (b"\n[" + b".".join([b"a"] * 100_000) + b"]", 2, "nested too deeply"),
        (b"[metrics]\nper_webhook_limit = " + b"9" * 5000, 2, "thousands of digits"),
        (b"[log]\nlevel = info\n", 2, "text stands in double quotes"),
        (b"[log]\nlevel = 'info'\nlevel = 'info'\n", 3, "overwrite"),
        (b"[log]\r\nlevel = \r\n", 2, "is not TOML"),
        (b"[log]\n\0\n", 2, "is not TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_one_mistake_with_its_line(config_file, content, line, telling):
    config_file.write_bytes(content)
    [mistake] = mistakes_of(config_file)
    assert (mistake.file, mistake.line, mistake.key) == (str(config_file), line, "")
    assert telling in mistake.detail
    assert len(mistake.detail) < 300


def test_a_missing_file_is_a_mistake(config_file):
    [mistake] = mistakes_of(config_file)
    assert str(mistake) == f"{config_file}: there is no such file: create it, or name another"


def test_a_folder_or_pipe_in_the_file_s_place_is_a_mistake_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        [mistake] = mistakes_of(path)
        assert mistake.file == str(path)
        assert "name a file" in mistake.detail


def test_a_file_without_permission_is_told_who_must_be_let_in():
    assert "permission denied" in unreadable(PermissionError(13, "Permission denied"))


def test_the_null_device_is_an_empty_file():
    assert value_of(load(Path(os.devnull), {}), "log.level") == "info"


@given(st.binary(max_size=80) | st.text("[]{}=.\"'\\#\n ab1,_-", max_size=60).map(str.encode))
def test_no_content_brings_loading_down(content):
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(content)
        file.flush()
        try:
            load(Path(file.name), {})
        except ConfigError as error:
            assert all(mistake.line is not None for mistake in error.mistakes)  # noqa: PT017 -- either end is right


# --- which file -------------------------------------------------------------------------------------------------


def test_the_default_file_is_found_only_where_it_is(monkeypatch, tmp_path):
    default = tmp_path / "hookrelay.toml"
    monkeypatch.setattr(module, "DEFAULT_PATH", default)
    assert module.find(None) is None
    assert module.find(Path("other")) == Path("other")
    default.touch()
    assert module.find(None) == default
    monkeypatch.setattr(module, "DEFAULT_PATH", default / "below-a-file")
    assert module.find(None) is None


def test_the_host_of_the_public_url_need_not_be_named_twice(config_file):
    config_file.write_text('[api]\npublic_url = "https://hooks.example.com:8443"\n')
    assert load(config_file, {}).config.api.hosts == ("localhost", "127.0.0.1", "[::1]", "hooks.example.com")
