"""A backup of a running daemon: all that was acknowledged before it is in it, and it can be served from."""

import json
import os
import signal
import subprocess
import sys
import threading
from itertools import islice

import pytest
from api_rig import is_problem
from rig import Daemon, hook, line, wait_for

from hookrelay.store import backup


def run(at, *arguments, code=0, **environment):
    """The command, as it is called beside this daemon's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKRELAY_")}
    command = [sys.executable, "-m", "hookrelay", "backup", *map(str, arguments)]
    if not environment:
        command += ["--config", str(at / "hookrelay.toml")]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, timeout=120, cwd=at)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_backup_under_load_holds_every_event_acknowledged_before_it_and_serves(served, told, tmp_path):
    house = served(hook("one", told.port))
    client, acknowledged, stop = house.running.client(), [], threading.Event()

    def submit():
        number = 0
        while not stop.is_set():
            client.send(b"".join(line(number + each) for each in range(50)))
            acknowledged.extend(answer["id"] for answer in islice(client.answers(), 50))
            number += 50

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        wait_for(lambda: len(acknowledged) > 1000, 60)
        before = list(acknowledged)
        said = json.loads(run(tmp_path, "copy.db", "--output", "json").stdout)
        wait_for(lambda: len(acknowledged) > len(before))
    finally:
        stop.set()
        thread.join()
    copy = tmp_path / "copy.db"
    facts = backup.verify(copy)
    assert said == {
        "file": "copy.db",
        "size_bytes": copy.stat().st_size,
        "commits": facts.commits,
        "schema": facts.schema,
    }
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*")) + list(tmp_path.glob("*copying*"))
    house.running.settled(60)
    assert house.running.end() == 0

    restored = tmp_path / "restored"
    restored.mkdir()
    copy.rename(restored / "h.db")
    other = Daemon(restored, hook("one", told.port)).start()
    try:
        other.settled(60)
        ids = set()
        cursor = ""
        while cursor is not None:
            page = other.get(f"/v1/events?limit=250{cursor}").json
            ids |= {row["id"] for row in page["data"]}
            cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        assert ids >= set(before)
        assert set(told.ids("/one")) >= set(acknowledged)
        assert other.end() == 0
    finally:
        other.close()


def test_a_backup_never_replaces_a_file_unless_it_is_told_to_and_leaves_nothing_half(served, tmp_path):
    house = served()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "away").symlink_to("nowhere")
    for name in ("mine", "away"):
        assert "--force" in run(tmp_path, name, code=1).stderr
    assert (tmp_path / "mine").read_text() == "mine"
    run(tmp_path, "mine", "--force")
    assert backup.verify(tmp_path / "mine").commits >= 0
    assert "nowhere" in run(tmp_path, "nowhere/x", code=74).stderr
    assert not list(tmp_path.glob("**/.*"))
    assert house.running.end() == 0


def test_only_an_administrator_of_all_tenants_gets_the_store_and_one_at_a_time(served):
    house = served(settings="log.level = 'debug'\n")
    for tenant, role in (("acme", "admin"), ("*", "manage"), ("*", "read")):
        assert is_problem(house.caller(tenant, role).post("/v1/backup"), 403, "forbidden")
    reply = house.caller("*", "admin").post("/v1/backup", {})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/vnd.sqlite3"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert reply.body.startswith(b"SQLite format 3\0")
    assert is_problem(house.admin.post("/v1/backup", {"file": "/etc/x"}), 422, "invalid_field")
    assert not list(house.running.at.glob("*.copying*"))
    assert house.running.end() == 0


def test_a_client_that_goes_away_leaves_no_copy_and_the_next_gets_one(served):
    house = served()
    house.running.submit(*(line(number, data="x" * 200_000) for number in range(100)))
    for _ in range(3):
        sock = house.admin.connect()
        sock.sendall(b"POST /v1/backup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: list(house.running.at.glob("*.copying")), told=house.running.log)
        sock.close()
        wait_for(lambda: not list(house.running.at.glob("*.copying*")), told=house.running.log)
    with house.admin.connect() as first:
        first.sendall(b"POST /v1/backup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert first.recv(12) == b"HTTP/1.1 200"
        assert is_problem(house.admin.post("/v1/backup"), 409, "conflict")  # it does not read what it asked for
    wait_for(lambda: house.admin.post("/v1/backup").status == 200)
    assert "request_failed" not in house.running.log()
    assert house.running.end() == 0


def test_what_a_killed_daemon_left_of_a_copy_is_gone_after_the_next_start(served, tmp_path):
    house = served()
    house.running.submit(*(line(number, data="x" * 200_000) for number in range(60)))
    with house.admin.connect() as sock:
        sock.sendall(b"POST /v1/backup HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        wait_for(lambda: list(tmp_path.glob("*.copying")), told=house.running.log)
        house.running.end(signal.SIGKILL)
    house.running.start()
    assert not list(tmp_path.glob("*.copying*"))
    assert house.running.end() == 0


def test_without_a_daemon_the_command_reads_the_store_itself_and_behind_one_never(served, tmp_path):
    house = served()
    house.running.submit(line(1))
    house.running.end(signal.SIGKILL)
    run(tmp_path, "copy.db")
    assert backup.verify(tmp_path / "copy.db").commits >= 1
    run(tmp_path, "other.db", code=69, HOOKRELAY_API=f"unix:{tmp_path}/a.sock")
    house.running.start()
    (tmp_path / "a.sock").rename(tmp_path / "b.sock")
    held = run(tmp_path, "other.db", code=73)
    assert f"process id {house.running.process.pid}" in held.stderr
    (tmp_path / "b.sock").rename(tmp_path / "a.sock")
    assert not (tmp_path / "other.db").exists()
    assert house.running.end() == 0


@pytest.mark.parametrize("spoil", [b"junk" * 2000, b""])
def test_a_damaged_store_is_told_with_exit_code_65(served, tmp_path, spoil):
    house = served()
    assert house.running.end() == 0
    for file in tmp_path.glob("h.db-*"):
        file.unlink()
    (tmp_path / "h.db").write_bytes(spoil)
    assert str(tmp_path / "h.db") in run(tmp_path, "copy.db", code=65).stderr
    assert not (tmp_path / "copy.db").exists()
