"""The configuration that `check --print` shows: complete, without secrets, and a configuration itself."""

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.config.keys import SECTIONS
from hookrelay.config.load import load
from hookrelay.config.show import describe
from hookrelay.units import format_duration, format_size

EVERYTHING = """
[store]
url = "sqlite:///data/a.db"
retention = "36h"
max_size = "100MiB"
key_file = "key"
[events]
mode = "0600"
group = "booking"
closed_catalogue = true
[api]
listen = ["unix:a.sock", "[::1]:80", "h:1"]
[delivery]
retry = "exponential(1s, 2, 1h, 12)"
rate_limit = "10/s"
disable_after = "never"
webhooks_dir = "hooks"
[egress]
allow = ["10.0.0.0/8", "10.1.0.0/16:80", "[fd00::/8]:443", "fd01::/16", "localhost:1", "*.internal"]
deny = ["192.0.2.0/24"]
ca_file = "ca.pem"
proxy = "http://proxy.example:3128"
resolver = "[2001:db8::1]:5353"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4318"
[event_types."a.b"]
description = "d"
example = { x = [1, "y"] }
schema = "schema.json"
[event_types.c]
"""


@pytest.mark.parametrize("text", ["", EVERYTHING])
def test_what_is_shown_reads_back_as_the_same_configuration(tmp_path, text):
    (tmp_path / "schema.json").write_text("{}")
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "key").write_text("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "hooks").mkdir()
    config_file = tmp_path / "hookrelay.toml"
    config_file.write_text(text or '[delivery]\nwebhooks_dir = "hooks"\n')
    config = load(config_file, {}).config
    config_file.write_text(tomli_w.dumps(describe(config)))
    assert load(config_file, {}).config == config


def test_a_proxy_s_password_is_masked(tmp_path):
    (tmp_path / "hookrelay.toml").write_text('[egress]\nproxy = "http://user:pass%40word@proxy.example:3128"\n')
    shown = describe(load(tmp_path / "hookrelay.toml", {}).config)
    assert shown["egress"]["proxy"] == "http://***@proxy.example:3128"


def test_every_section_with_a_default_is_shown_in_full(tmp_path):
    (tmp_path / "hookrelay.toml").write_text("")
    shown = describe(load(tmp_path / "hookrelay.toml", {}).config)
    for section, keys in SECTIONS.items():
        assert list(shown.get(section, {})) == [key.name for key in keys.values() if key.default is not None]


@given(st.integers(60_000, 9_999_999_999), st.integers(16 << 10, 16 << 30))
def test_a_duration_and_a_size_are_shown_exactly(tmp_path_factory, ms, kib):
    file = tmp_path_factory.getbasetemp() / "shown.toml"
    file.write_text(f'[store]\nretention = "{ms}ms"\nmax_size = "{kib}KiB"\n')
    store = load(file, {}).config.store
    assert (store.retention_s, store.max_size) == (pytest.approx(ms / 1000), kib << 10)
    shown = describe(load(file, {}).config)["store"]
    assert (shown["retention"], shown["max_size"]) == (format_duration(ms / 1000), format_size(kib << 10))
