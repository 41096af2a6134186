"""The command line against a daemon, over its Unix socket and over TCP with a key: from a webhook to its replay."""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import processes
import pytest
from interrupt import interrupt
from rig import OK, Daemon, Receiver, Request, answer, hook, line, wait_for

from hookrelay.rules.webhook import file_webhook_id


class Shell(NamedTuple):
    """Runs commands for one daemon, as somebody with this environment."""

    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKRELAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "hookrelay", *arguments],
            env=kept | self.environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture
def running(daemon: Callable[..., Daemon]) -> tuple[Daemon, str]:
    """A daemon on both kinds of sockets, and where it is over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = daemon(settings=f'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n').start()
    return started, f"http://127.0.0.1:{port}"


@pytest.fixture(params=["unix", "tcp"])
def shell(request: pytest.FixtureRequest, running: tuple[Daemon, str]) -> Shell:
    """Of an administrator, over either socket."""
    started, tcp = running
    local = Shell({"HOOKRELAY_API": f"unix:{started.at}/a.sock"})
    if request.param == "unix":
        return local
    key = local.json("keys", "create", "--tenant", "*", "--role", "admin")["key"]
    return Shell({"HOOKRELAY_API": tcp, "HOOKRELAY_KEY": key})


class Moody:
    """A receiver's script that answers 500 until it is well."""

    def __init__(self) -> None:
        self.is_well = False

    def __call__(self, request: Request, number: int) -> bytes:
        return OK if self.is_well else answer(500, b"no")


def make(shell: Shell, receiver: Receiver, *options: str) -> dict[str, Any]:
    url = f"http://127.0.0.1:{receiver.port}/in"
    made: dict[str, Any] = shell.json("webhooks", "create", "--url", url, "--event", "*", *options)
    return made


def test_a_webhook_is_made_tested_and_what_it_missed_is_replayed(shell, running, receiver):
    moody = Moody()
    there = receiver(moody)
    webhook = make(shell, there, "--retry", "none", "--header", "x-source: shop", "--tenant", "acme")
    id = webhook["id"]
    assert webhook["secret"].startswith("whsec_")
    assert [row["id"] for row in shell.json("webhooks", "list", "--tenant", "acme")] == [id]

    refused = shell.run("webhooks", "test", id, "--data", '{"n": 1}', code=1)
    assert "-- error\nhttp_status: " in refused.stdout
    assert there.requests[-1].headers["x-source"] == "shop"
    assert json.loads(there.requests[-1].body)["test"] is True
    moody.is_well = True
    assert "status     succeeded\n" in shell.run("webhooks", "test", id).stdout

    moody.is_well = False
    accepted = running[0].submit(*(line(number, tenant="acme") for number in range(3)))
    assert [each["deliveries"] for each in accepted] == [1, 1, 1]

    def failed() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = shell.json("deliveries", "list", "--webhook", id, "--status", "failed", "--all")
        return [row for row in rows if not row["test"]]

    wait_for(lambda: len(failed()) == 3)
    one = failed()[0]["id"]
    shown = shell.run("deliveries", "show", one).stdout
    assert "-- answer from 127.0.0.1:" in shown
    assert shell.json("deliveries", "show", one)["payload"]["number"] == 2
    assert shell.json("events", "show", failed()[0]["event_id"])["deliveries"][0]["id"] == one

    moody.is_well = True
    assert shell.json("deliveries", "retry", one)["id"] == one
    wait_for(lambda: shell.json("deliveries", "show", one)["status"] == "succeeded")
    assert "it is succeeded" in shell.run("deliveries", "cancel", one, code=1).stderr

    replay = ["replay", id, "--since", "1h"]
    assert shell.json(*replay, "--dry-run") == {"count": 2}
    assert len(failed()) == 2
    assert shell.json(*replay, "--yes") == {"count": 2}
    wait_for(lambda: failed() == [])
    wait_for(lambda: len(shell.json("deliveries", "list", "--status", "succeeded", "--all")) == 4)


def test_a_webhook_is_changed_paused_resumed_and_deleted(shell, running, receiver):
    there = receiver()
    id = make(shell, there, "--rate-limit", "10/s", "--header", "x-a: 1", "--metadata", '{"team": "billing"}')["id"]
    changed = shell.json(
        "webhooks", "update", id, "--reset", "rate-limit", "--header", "x-b: 2", "--remove-header", "x-a"
    )
    assert (changed["rate_limit"], changed["headers"]) == (None, {"x-b": "***"})
    assert changed["metadata"] == {"team": "billing"}
    rotated = shell.json("webhooks", "rotate-secret", id, "--overlap", "0s")
    assert rotated["secret"][-4:] == shell.json("webhooks", "show", id)["secret_hint"]

    shell.run("webhooks", "pause", id)
    running[0].submit(line(1), line(2))
    assert shell.json("webhooks", "show", id)["waiting"]["held"] == 2
    assert "2 held deliveries" in shell.run("webhooks", "resume", id, "--discard", code=2).stderr
    shell.run("webhooks", "resume", id, "--discard", "--yes")
    wait_for(lambda: len(shell.json("deliveries", "list", "--status", "cancelled")) == 2)
    assert there.requests == []

    shell.run("webhooks", "delete", id, "--yes")
    assert "hookrelay: " in shell.run("webhooks", "show", id, code=1).stderr
    assert shell.json("webhooks", "list") == []
    wrong = shell.run("webhooks", "create", "--url", "nowhere", "--event", "a b", code=1).stderr
    assert [text.partition(":")[0] for text in wrong.splitlines()[1:]] == ["  url", "  events.0"]


def test_a_key_opens_what_its_role_says_until_it_is_revoked(shell, running):
    _, tcp = running
    made = shell.json("keys", "create", "--tenant", "acme", "--role", "read", "--name", "a reader")
    reader = Shell({"HOOKRELAY_API": tcp, "HOOKRELAY_KEY": made["key"]})
    assert reader.json("webhooks", "list") == []
    refused = reader.run("webhooks", "create", "--url", "https://a.example", "--event", "*", code=77)
    assert refused.stderr.count("\n") == 1
    reader.run("status", code=77)
    listed = {row["id"]: row for row in shell.json("keys", "list", "--all")}
    assert listed[made["id"]]["last_used_at"] is not None
    assert "key" not in listed[made["id"]]
    shell.run("keys", "revoke", made["id"], "--yes")
    reader.run("webhooks", "list", code=77)
    Shell({"HOOKRELAY_API": tcp}).run("webhooks", "list", code=77)


def test_status_and_reload_tell_of_the_files(shell, running, receiver):
    started, _ = running
    assert " ready, up " in shell.run("status").stdout
    assert shell.json("status")["webhooks"] == {"active": 0, "paused": 0, "disabled": 0}
    started.rewrite(hook("one", receiver().port))
    assert shell.run("reload").stdout == "reloaded: 1 webhook\n"
    assert shell.json("status")["webhooks"]["active"] == 1
    (row,) = shell.json("webhooks", "list")
    assert "hooks.toml" in shell.run("webhooks", "delete", row["id"], "--yes", code=1).stderr

    ask = ("check", "--config", str(started.config), "--diff")
    assert shell.run(*ask).stdout.splitlines()[-1] == "a reload would change nothing"
    settings = started.config.read_text()
    started.config.write_text(f"{settings}delivery.timeout = '7s'\nstore.max_size = '1GiB'\n")
    started.rewrite(hook("two", 9001, secret="whsec_" + "A" * 32))
    assert shell.run(*ask).stdout.splitlines()[-4:] == [
        "~ store.max_size: 10GiB -> 1GiB  (needs a restart)",
        "~ delivery.timeout: 30s -> 7s",
        f"- {row['id']} = {row['url']} (file:hooks.toml)",
        f"+ {file_webhook_id('two')} = http://127.0.0.1:9001/two (file:hooks.toml)",
    ]
    started.config.write_text(settings)
    assert shell.json("status")["webhooks"]["active"] == 1  # nothing was changed
    started.rewrite('[[webhook]]\nname = "one"\nurl = "ftp://a"\nevents = []\n')
    shell.run(*ask, code=78)
    told = shell.run("reload", code=78).stderr.splitlines()
    assert all(text.startswith(f"{started.hooks}:") for text in told[:-1])
    assert told[-1] == f"{len(told) - 1} mistakes: nothing was changed"
    assert "was refused: `hookrelay check` says why" in shell.run("status").stdout
    assert [each["id"] for each in shell.json("webhooks", "list")] == [row["id"]]


def test_a_tail_follows_deliveries_over_a_restart(running, receiver):
    started, _ = running
    shell = Shell({"HOOKRELAY_API": f"unix:{started.at}/a.sock"})
    make(shell, receiver())
    command = [sys.executable, "-m", "hookrelay", "deliveries", "tail", "--output", "json"]
    with processes.running(
        command, env=os.environ | shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        # a tail shows what comes after its start: so submit until it has begun
        wait_for(lambda: started.submit(line(1)) and bool(_ready_to_read(tail)))
        assert json.loads(tail.stdout.readline())["status"] == "succeeded"
        assert started.end() == 0
        assert "asking again" in tail.stderr.readline()
        started.start()
        told = iter(tail.stderr.readline, "")
        assert any("connected again" in text for text in told), tail.poll()
        started.submit(line(2, tenant="default"))
        seen = json.loads(tail.stdout.readline())
        while shell.json("deliveries", "show", seen["id"])["payload"]["number"] != 2:
            seen = json.loads(tail.stdout.readline())
        assert interrupt(tail) == 130


def _ready_to_read(process: "subprocess.Popen[str]") -> list[Any]:
    return select.select([process.stdout], [], [], 0.2)[0]
