"""What the doctor says of a host without a daemon: of each thing that is wrong what to do, and nothing of all else."""

import json
import os
import stat
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from api_samples import STATUS
from click.testing import CliRunner, Result
from stub_api import StubApi, page

from hookrelay.cli import findings, permissions
from hookrelay.cli.main import main
from hookrelay.cli.permissions import User
from hookrelay.config import load
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.resolve import Resolver
from hookrelay.store import open as opening
from hookrelay.store.db import Store

HOOKRELAY = User("hookrelay", 4321, "hooks", frozenset({4321, 4322}))
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


def test_on_a_sound_host_without_a_daemon_only_that_is_wrong_and_it_exits_1(at):
    result = doctor(at, "--output", "json")
    found = told(result)
    assert result.exit_code == 1
    assert {name: row["level"] for name, rows in found.items() for row in rows} == {
        "configuration": "ok", "daemon": "problem", "versions": "ok", "permissions": "ok", "disk": "ok", "clock": "ok",
        "dns": "ok", "tls": "ok", "egress": "ok", "descriptors": "ok", "integrity": "ok",
    }  # fmt: skip
    assert all(bool(row["remedy"]) == (row["level"] != "ok") for rows in found.values() for row in rows)
    said = doctor(at).stdout
    assert said.splitlines()[-1] == "10 ok, 0 to look at, 1 wrong"
    assert "`systemctl reset-failed hookrelay.service hookrelay.socket; systemctl restart hookrelay`" in said


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
    assert result.exit_code == 1  # no daemon runs
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
        ({"runtime": RUNTIME | {"open_files_limit": 1024}}, "descriptors", "LimitNOFILE=2200"),
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


def test_a_mistake_is_followed_by_a_start_where_the_daemon_is_down_and_by_a_reload_where_it_runs(at, request):
    _say("delivery.timeout = 'soon'")(at)
    assert told(doctor(at, "--output", "json"))["configuration"][0]["remedy"].endswith("; then start it")
    request.getfixturevalue("daemon")
    assert told(doctor(at, "--output", "json"))["configuration"][0]["remedy"].endswith("; then `hookrelay reload`")


def test_of_a_daemon_that_was_named_without_its_file_no_files_are_looked_at(at, daemon, monkeypatch):
    monkeypatch.setattr(load, "DEFAULT_PATH", at / "nothing.toml")
    environment = {"HOOKRELAY_API": f"unix:{at / 'a.sock'}"}
    result = CliRunner().invoke(main, ["doctor", "--output", "json"], env=environment)
    found = told(result)
    assert result.exit_code == 0, found
    assert "pass --config FILE to have its files looked at too" in found["configuration"][0]["said"]
    assert not found.keys() & {"permissions", "disk", "events"}
    assert "integrity" in found, "the daemon reads its store"


def test_of_a_daemon_that_was_named_and_is_down_no_files_are_looked_at_either(at, monkeypatch):
    monkeypatch.setattr(load, "DEFAULT_PATH", at / "nothing.toml")
    environment = {"HOOKRELAY_API": f"unix:{at / 'a.sock'}"}
    found = told(CliRunner().invoke(main, ["doctor", "--output", "json"], env=environment))
    assert found["daemon"][0]["level"] == "problem"
    assert not found.keys() & {"permissions", "disk", "events", "integrity"}


# --- what the daemon's user may read ----------------------------------------------------------------------------


def test_a_file_of_another_owner_is_closed_to_others_and_stays_open_to_the_daemons_group(at, monkeypatch):
    _secret(at)
    (at / "h.db").chmod(0o644)
    monkeypatch.setattr(permissions, "daemon_user", lambda _: HOOKRELAY)
    found = told(doctor(at, "--output", "json"))["permissions"]
    remedies = {row["remedy"] for row in found if row["level"] == "warning"}
    webhooks, store = at / "webhooks.d" / "a.toml", at / "h.db"
    assert f"chgrp hooks {webhooks}; chmod 640 {webhooks}" in remedies
    assert f"chown hookrelay {store}; chmod 600 {store}" in remedies
    monkeypatch.setattr(permissions, "daemon_user", lambda _: HOOKRELAY._replace(uid=os.getuid()))
    found = told(doctor(at, "--output", "json"))["permissions"]
    assert {f"chmod 600 {webhooks}", f"chmod 600 {store}"} <= {row["remedy"] for row in found}


def test_root_is_told_which_files_the_daemons_user_may_not_read(at, monkeypatch):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are shut to all others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "hookrelay.toml").write_text(f'store.url = "sqlite://{at}/h.db"\nevents.socket = "{at}/e.sock"\n')
        _secret(folder)
        webhooks, secret = folder / "webhooks.d" / "a.toml", folder / "webhooks.d" / "a.secret"
        said = webhooks.read_text().replace("secret =", "secret_file = 'a.secret' #")
        webhooks.write_text(said)
        secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
        secret.chmod(0o600)
        monkeypatch.setattr(permissions, "daemon_user", lambda _: HOOKRELAY)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        result = doctor(folder, "--output", "json", "--skip-integrity")
        found = told(result)["permissions"]
        assert [(row["level"], row["said"], row["remedy"]) for row in found] == [
            (
                "problem",
                f"{secret}: the daemon's user hookrelay may not read it",
                f"chgrp hooks {secret}; chmod 640 {secret}",
            )
        ]
        assert result.exit_code == 1
        monkeypatch.setattr(os, "geteuid", lambda: 4320)
        assert told(doctor(folder, "--output", "json", "--skip-integrity"))["permissions"][0]["level"] == "ok"


FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR
CONFIG, KEY, ELSEWHERE = Path("/conf/a.toml"), Path("/conf/store.key"), Path("/own/tls/ca.pem")


def _look(**owned: tuple[int, int, int]):
    """As `os.stat`, of a host where these have other modes, owners and groups than root:root, open to all."""

    def look(path: Path) -> os.stat_result:
        mode = FILE | 0o644 if path.suffix else FOLDER | 0o755
        bits, uid, gid = owned.get(path.name.partition(".")[0], (mode & 0o777, 0, 0))
        return os.stat_result((stat.S_IFMT(mode) | bits, 0, 0, 0, uid, gid, 0, 0, 0, 0))

    return look


@pytest.mark.parametrize(
    ("path", "owned", "remedy"),
    [
        (CONFIG, {}, None),
        (CONFIG, {"a": (0o640, 0, 4321)}, None),
        (CONFIG, {"a": (0o640, 0, 4322)}, None),
        (CONFIG, {"a": (0o600, 4321, 0)}, None),
        (CONFIG, {"a": (0o600, 0, 0)}, "chgrp hooks /conf/a.toml; chmod 640 /conf/a.toml"),
        (CONFIG, {"a": (0o640, 0, 0)}, "chgrp hooks /conf/a.toml; chmod 640 /conf/a.toml"),
        (CONFIG, {"a": (0o604, 0, 4321)}, "chgrp hooks /conf/a.toml; chmod 640 /conf/a.toml"),
        (CONFIG, {"a": (0o044, 4321, 4321)}, "chmod 600 /conf/a.toml"),
        (CONFIG, {"conf": (0o700, 0, 0)}, "chgrp hooks /conf; chmod 750 /conf"),
        (CONFIG, {"conf": (0o711, 0, 0)}, None),
        (CONFIG.parent, {"conf": (0o711, 0, 0)}, "chgrp hooks /conf; chmod 750 /conf"),
        (KEY, {"store": (0o400, 0, 0)}, "chown hookrelay /conf/store.key; chmod 600 /conf/store.key"),
        (ELSEWHERE, {"own": (0o700, 0, 0)}, "copy /own/tls/ca.pem to where hookrelay may read it"),
        (ELSEWHERE, {"ca": (0o640, 0, 77)}, "copy /own/tls/ca.pem to where hookrelay may read it"),
        (ELSEWHERE, {"ca": (0o600, 0, 0)}, "chgrp hooks /own/tls/ca.pem; chmod 640 /own/tls/ca.pem"),
    ],
)
def test_what_shuts_the_daemons_user_out_is_told_by_the_class_that_it_is_of(path, owned, remedy):
    found = permissions.shut_out([path], HOOKRELAY, {CONFIG.parent}, KEY, _look(**owned))
    assert len(found) == (remedy is not None)
    assert all(each.remedy.startswith(remedy) for each in found)


def test_a_shut_folder_is_told_once_for_all_that_is_in_it():
    look = _look(conf=(0o700, 0, 0))
    (found,) = permissions.shut_out([CONFIG.parent, CONFIG, KEY], HOOKRELAY, {CONFIG.parent}, KEY, look)
    assert found.said == "the daemon's user hookrelay may not open it"


def test_an_acl_is_believed_to_let_the_daemons_user_in(monkeypatch):
    monkeypatch.setattr(permissions.os, "listxattr", lambda _: ["system.posix_acl_access"])
    assert not permissions.shut_out([CONFIG], HOOKRELAY, {CONFIG.parent}, KEY, _look(a=(0o600, 0, 0)))


def test_the_daemons_user_is_the_owner_of_its_socket_else_of_its_store_else_of_the_folder(at, monkeypatch):
    config = load.load(at / "hookrelay.toml", {}).config
    owners, real = {"a.sock": 71, "h.db": 72, at.name: 73}, Path.stat

    def of_owner(path: Path) -> os.stat_result:
        found = real(path)
        return os.stat_result((*found[:4], owners.get(path.name, 0), 7, *found[6:]))

    monkeypatch.setattr(Path, "stat", of_owner)
    (at / "a.sock").touch()
    for name, uid in (("a.sock", 71), ("h.db", 72)):
        user = permissions.daemon_user(config)
        assert user is not None
        assert user.uid == uid
        (at / name).unlink()
    user = permissions.daemon_user(config)
    assert user is not None
    assert user.uid == 73
