"""`hookrelay check`: what it prints where, and its exit codes."""

import os
import tempfile
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from hookrelay.cli import permissions
from hookrelay.cli.check import check, command
from hookrelay.cli.permissions import User
from hookrelay.config import load

WEBHOOK = """
[[webhook]]
name = "one"
url = "https://example.com/"
events = ["*"]
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwPp1x6LZIZZ8="
"""


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "DEFAULT_PATH", tmp_path / "hookrelay.toml")
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "hookrelay.toml").write_text("")
    (tmp_path / "webhooks.d" / "a.toml").write_text(WEBHOOK + WEBHOOK.replace("one", "two"))
    return tmp_path / "hookrelay.toml"


def test_a_right_configuration_is_ok(config_file, capsys):
    assert check(config_file, print_effective=False) == 0
    assert capsys.readouterr() == (f"ok: {config_file}: 2 webhooks in 1 file\n", "")


def test_without_a_path_the_default_file_is_checked_where_it_exists(config_file, capsys):
    config_file.write_text("x = 1\n")
    assert check(None, print_effective=False) == 78
    config_file.unlink()
    assert check(None, print_effective=False) == 0
    said = f"ok: no configuration at {config_file}: every default holds; 2 webhooks in 1 file\n"
    assert capsys.readouterr().out == said


def test_every_mistake_is_a_line_on_stderr_and_counted(config_file):
    config_file.write_text("[delivery]\ntimeout = 30\nretyr = 1\n")
    result = CliRunner().invoke(command, ["--config", str(config_file)])
    assert result.exit_code == 78
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f'{config_file}:2: delivery.timeout: expected a duration such as "30s", got an integer',
        f"{config_file}:3: delivery.retyr: is unknown: did you mean retry?",
        "2 mistakes",
    ]


def test_print_shows_the_settings_in_force_as_toml_alone_on_stdout(config_file, monkeypatch):
    monkeypatch.setenv("HOOKRELAY_DELIVERY__TIMEOUT", "10s")
    monkeypatch.setenv("HOOKRELAY_EGRESS__PROXY", "http://user:hunter2@proxy.example:3128")
    result = CliRunner().invoke(command, ["--config", str(config_file), "--print"])
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout)["delivery"]["timeout"] == "10s"
    assert "hunter2" not in result.output
    assert "whsec_" not in result.output
    assert result.stderr == f"ok: {config_file}: 2 webhooks in 1 file\n"


def test_a_missing_file_that_was_named_is_a_mistake(tmp_path):
    result = CliRunner().invoke(command, ["--config", str(tmp_path / "nowhere.toml")])
    assert result.exit_code == 78
    assert "there is no such file" in result.stderr


def test_help_shows_examples():
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    assert "hookrelay check --config ./hookrelay.toml --print" in result.output


@pytest.fixture
def folder(monkeypatch):
    """A configuration that others may get to, unlike pytest's own folders; root looks, the daemon's user is another."""
    monkeypatch.setattr(permissions, "daemon_user", lambda _: User("hookrelay", 4321, "hooks", frozenset({4321})))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "webhooks.d").mkdir(mode=0o755)
        (folder / "hookrelay.toml").write_text('store.key_file = "store.key"\n')
        (folder / "webhooks.d" / "a.toml").write_text(WEBHOOK)
        (folder / "store.key").write_text("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwPp1x6LZIZZ8=\n")
        (folder / "store.key").chmod(0o600)
        yield folder


def test_what_root_may_read_and_the_daemons_user_may_not_is_a_mistake(folder):
    webhooks, key = folder / "webhooks.d" / "a.toml", folder / "store.key"
    webhooks.chmod(0o600)
    result = CliRunner().invoke(command, ["--config", str(folder / "hookrelay.toml")])
    assert result.exit_code == 78
    assert result.stderr.splitlines() == [
        f"{webhooks}: the daemon's user hookrelay may not read it: chgrp hooks {webhooks}; chmod 640 {webhooks}",
        f"{key}: the daemon's user hookrelay may not read it: chown hookrelay {key}; chmod 600 {key}",
        "2 mistakes",
    ]


def test_what_systemd_hands_to_the_daemon_alone_is_no_mistake(folder, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert check(folder / "hookrelay.toml", print_effective=False) == 0
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    monkeypatch.setenv("HOOKRELAY_STORE__KEY_FILE", str(folder / "store.key"))
    assert check(folder / "hookrelay.toml", print_effective=False) == 0


def test_only_root_is_told_what_another_user_may_not_read(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 4320)
    assert check(folder / "hookrelay.toml", print_effective=False) == 0
