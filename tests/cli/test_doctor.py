"""What the doctor says of a host without a daemon: of each thing that is wrong what to do, and nothing of all else."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from api_samples import STATUS
from click.testing import CliRunner, Result
from stub_api import StubApi, page

from hookrelay.cli import findings
from hookrelay.cli.main import main
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.resolve import Resolver
from hookrelay.store import open as opening
from hookrelay.store.db import Store

RUNTIME = {"python": "3.11.7", "sqlite": "3.54.1", "open_files_limit": 20_000, "max_connections": 1000}


def doctor(at: Path, *options: str, **environment: str) -> Result:
    """Its answer for the configuration in this folder."""
    return CliRunner().invoke(main, ["doctor", "--config", str(at / "hookrelay.toml"), *options], env=environment)


def told(result: Result) -> dict[str, list[dict[str, str]]]:
    """What was found, by the check."""
    found: dict[str, list[dict[str, str]]] = {}
    for each in json.loads(result.stdout):
        found.setdefault(each["check"], []).append(each)
    return found


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A sound store, whose daemon does not run."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(findings, "_is_synchronised", lambda: True)
    (tmp_path / "hookrelay.toml").write_text(
        'store.url = "sqlite://h.db"\nevents.socket = "e.sock"\napi.listen = ["unix:a.sock"]\n'
    )
    Store(opening.open_file(tmp_path / "h.db", max_size=1 << 30, now_ms=1))._close()
    return tmp_path


def test_a_sound_host_without_a_daemon_has_nothing_wrong_and_exits_0(at):
    result = doctor(at, "--output", "json")
    found = told(result)
    assert result.exit_code == 0
    assert {name: row["level"] for name, rows in found.items() for row in rows} == {
        "configuration": "ok", "daemon": "warning", "versions": "ok", "permissions": "ok", "disk": "ok", "clock": "ok",
        "dns": "ok", "tls": "ok", "egress": "ok", "descriptors": "ok", "integrity": "ok",
    }  # fmt: skip
    assert all(bool(row["remedy"]) == (row["level"] != "ok") for rows in found.values() for row in rows)
    said = doctor(at).stdout
    assert said.splitlines()[-1] == "10 ok, 1 to look at, 0 wrong"
    assert "systemctl start hookrelay" in said


def _cut(at: Path) -> None:
    os.truncate(at / "h.db", 4096 * 3)


def _set_back(at: Path) -> None:
    os.utime(at / "h.db", (time.time() + 7200,) * 2)


def _say(*lines: str):
    def write(at: Path) -> None:
        with (at / "hookrelay.toml").open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    return write


def _secret(at: Path) -> None:
    (at / "webhooks.d").mkdir()
    (at / "webhooks.d" / "a.toml").write_text(
        '[[webhook]]\nname = "a"\nurl = "https://a.example/"\nevents = ["*"]\n'
        'secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\n'
    )
    (at / "webhooks.d" / "a.toml").chmod(0o644)


def _old_copy(at: Path) -> None:
    (at / "h.db.before-schema-5").touch(0o600)
    os.utime(at / "h.db.before-schema-5", (1, 1))


@pytest.mark.parametrize(
    ("break_it", "check", "level", "remedy"),
    [
        (_say("delivery.timeout = 'soon'"), "configuration", "problem", "hookrelay check"),
        (_cut, "integrity", "problem", "restore a backup"),
        (lambda at: (at / "h.db").unlink(), "integrity", "problem", "restore a backup"),
        (lambda at: (at / "h.db").chmod(0o644), "permissions", "warning", "chmod 600"),
        (lambda at: at.chmod(0o777), "permissions", "problem", "chmod o-w"),
        (_secret, "permissions", "warning", "chmod 600"),
        (_set_back, "clock", "problem", "chrony"),
        (_say("egress.allow_http = true"), "egress", "warning", "turn it off"),
        (_say("egress.allow = ['128.0.0.0/2']"), "egress", "warning", "name the networks"),
        (_old_copy, "disk", "warning", "remove it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_thing_that_is_broken_is_told_with_its_remedy(at, break_it, check, level, remedy):
    break_it(at)
    result = doctor(at, "--output", "json")
    rows = told(result)[check]
    assert any(row["level"] == level and remedy in row["remedy"] for row in rows), rows
    assert result.exit_code == (1 if level == "problem" else 0)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_clock_that_nothing_keeps_and_missing_authorities_are_told(at, monkeypatch):
    monkeypatch.setattr(findings, "_is_synchronised", lambda: False)
    monkeypatch.setenv("SSL_CERT_FILE", str(at / "nothing.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(at / "nothing"))
    found = told(doctor(at, "--output", "json", "--skip-integrity"))
    assert "systemd-timesyncd" in found["clock"][0]["remedy"]
    assert "ca-certificates" in found["tls"][0]["remedy"]
    assert "integrity" not in found


@pytest.mark.parametrize(("free", "size", "remedy"), [(100, 1, "make room"), (140, 50, "backup"), (900, 990, "raise")])
def test_a_disk_without_room_is_told_by_what_it_keeps_from_going_on(at, monkeypatch, free, size, remedy):
    with (at / "hookrelay.toml").open("a") as file:
        file.write("store.max_size = '1000MiB'\n")
    os.truncate(at / "h.db", size << 20)
    monkeypatch.setattr(findings.shutil, "disk_usage", lambda _: SimpleNamespace(free=free << 20))
    (found,) = told(doctor(at, "--output", "json", "--skip-integrity"))["disk"]
    assert remedy in found["remedy"]
    assert found["level"] == ("problem" if free < 128 else "warning")


@pytest.mark.parametrize(("why", "level"), [("does not exist", "ok"), ("the name servers gave no answer", "problem")])
def test_name_servers_that_do_not_answer_are_told(at, monkeypatch, why, level):
    async def look_up(self: Resolver, host: str, port: int) -> None:
        raise AttemptFailure("dns_error", f"{host}: {why}")

    monkeypatch.setattr(Resolver, "look_up", look_up)
    (found,) = told(doctor(at, "--output", "json", "--skip-integrity"))["dns"]
    assert (found["level"], "egress.resolver" in found["remedy"]) == (level, level != "ok")


@pytest.fixture
def daemon(at):
    """What answers as a daemon that is well."""
    stub = StubApi(str(at / "a.sock"))
    stub.answers["GET /v1/status"] = (200, STATUS | {"runtime": RUNTIME})
    stub.answers["GET /v1/webhooks"] = page()
    stub.answers["POST /v1/check"] = (200, {"rows": 5, "tables": 11, "faults": []})
    yield stub
    stub.close()


@pytest.mark.parametrize(
    ("said", "check", "remedy"),
    [
        ({"trouble": "store_io: disk I/O error"}, "daemon", "journal"),
        ({"ready": False}, "daemon", "look again"),
        ({"reload": {"successful": False, "at": "2026-02-26"}}, "reload", "hookrelay check"),
        ({"version": "0.0.1"}, "versions", "restart"),
        ({"runtime": RUNTIME | {"open_files_limit": 1024}}, "descriptors", "LimitNOFILE=1600"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_ails_the_daemon_is_told_with_its_remedy(at, daemon, said, check, remedy):
    daemon.answers["GET /v1/status"] = (200, STATUS | {"runtime": RUNTIME} | said)
    found = told(doctor(at, "--output", "json"))
    assert any(row["level"] != "ok" and remedy in row["remedy"] for row in found[check]), found[check]


def test_what_the_daemon_finds_in_its_store_is_told_and_so_is_a_socket_that_is_gone(at, daemon):
    daemon.answers["POST /v1/check"] = (200, {"rows": 5, "tables": 11, "faults": ["index x lacks 2 rows"]})
    result = doctor(at, "--output", "json")
    found = told(result)
    assert "index x lacks 2 rows" in found["integrity"][0]["said"]
    assert "restore a backup" in found["integrity"][0]["remedy"]
    assert (found["events"][0]["level"], "e.sock" in found["events"][0]["said"]) == ("problem", True)
    assert result.exit_code == 1


def test_a_daemon_that_holds_the_store_and_does_not_answer_is_a_problem(at):
    held = opening.open_file(at / "h.db", max_size=1 << 30, now_ms=1)
    found = told(doctor(at, "--output", "json"))
    Store(held)._close()
    assert "process id" in found["integrity"][0]["said"]
    assert "does not answer" in found["integrity"][0]["remedy"]
