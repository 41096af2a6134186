"""What a reload would change is told by key, and no secret with it."""

from pathlib import Path

import pytest

from hookrelay.config.compare import Change, changes, keep_fixed, needing_restart
from hookrelay.config.load import load
from hookrelay.config.settings import Loaded

HOOK = """
[[webhook]]
name = "one"
url = "https://example.com/"
events = ["*"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
"""


@pytest.fixture
def read(tmp_path: Path):
    def make(settings: str = "", webhooks: str = "") -> Loaded:
        (tmp_path / "webhooks.d").mkdir(exist_ok=True)
        (tmp_path / "webhooks.d" / "a.toml").write_text(webhooks)
        (tmp_path / "hookrelay.toml").write_text(settings)
        return load(tmp_path / "hookrelay.toml", {})

    return make


def between(before: Loaded, after: Loaded) -> list[Change]:
    return changes(before.config, after.config, before.webhooks, after.webhooks)


def test_the_same_files_change_nothing(read):
    assert between(read("log.level = 'debug'", HOOK), read("log.level = 'debug'", HOOK)) == []


def test_settings_are_told_by_key_as_a_person_would_write_them(read):
    told = between(read("delivery.rate_limit = '1/s'"), read("delivery.timeout = '10s'\negress.deny = ['10.0.0.0/8']"))
    assert told == [
        Change("delivery.timeout", "30s", "10s"),
        Change("delivery.rate_limit", "1/s", None),
        Change("egress.deny", [], ["10.0.0.0/8"]),
    ]


@pytest.mark.parametrize(
    "setting",
    [
        *("store.max_size = '1GiB'", "api.mode = '0660'", "events.group = 'staff'"),
        "telemetry.otlp_endpoint = 'http://127.0.0.1:4318'",
    ],
)
def test_what_only_a_restart_changes_is_told_as_such_and_kept(setting, read):
    before, after = read(), read(setting)
    (told,) = between(before, after)
    assert told.needs_restart
    assert needing_restart(before.config, after.config) == [told.what]
    assert needing_restart(before.config, keep_fixed(after.config, before.config)) == []


def test_a_password_shows_neither_before_nor_after(read):
    told = between(
        read("egress.proxy = 'http://me:hunter2@proxy.example:1'"),
        read("egress.proxy = 'http://me:other@proxy.example:1'"),
    )
    assert told == [Change("egress.proxy", "***", "***")]


def test_webhooks_come_go_and_change_by_field(read):
    two = HOOK.replace('"one"', '"two"')
    changed = HOOK.replace("example.com", "example.org") + 'timeout = "5s"\nheaders.x-key = "hunter2"\n'
    before, after = read("", HOOK + two), read("", changed + HOOK.replace('"one"', '"three"'))
    one, gone, come = before.webhooks[0].id, before.webhooks[1].id, after.webhooks[1].id
    assert between(before, after) == [
        Change(gone, "https://example.com/ (file:a.toml)", None),
        Change(f"{one}.url", "https://example.com/", "https://example.org/"),
        Change(f"{one}.timeout", "30s", "5s"),
        Change(f"{one}.headers", "***", "***"),
        Change(come, None, "https://example.com/ (file:a.toml)"),
    ]


def test_another_secret_is_told_without_showing_it(read):
    before, after = read("", HOOK), read("", HOOK.replace("MfKQ", "MfKR"))
    assert between(before, after) == [Change(f"{before.webhooks[0].id}.secret", "***", "***")]


def test_a_pause_is_told_and_what_the_daemon_has_disabled_is_no_change(read):
    before, after = read("", HOOK), read("", HOOK + 'status = "paused"\n')
    assert between(before, after) == [Change(f"{before.webhooks[0].id}.status", "active", "paused")]


def test_the_content_of_a_schema_is_compared(read, tmp_path):
    said = "[event_types.'a.b']\nschema = 's.json'"
    (tmp_path / "s.json").write_text('{"type":"object"}')
    before = read(said)
    (tmp_path / "s.json").write_text('{"type":"string"}')
    assert [each.what for each in between(before, read(said))] == ["event_types.a.b.schema"]
