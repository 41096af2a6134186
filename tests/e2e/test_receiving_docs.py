"""docs/receiving.md: its receivers take real deliveries, each event once, and turn forged ones away."""

import base64
import contextlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes
import pytest
from rig import SECRET, Daemon, Receiver, Request, hook, line, wait_for

from hookrelay.rules.sign import Signer

PAGE = (Path(__file__).parents[2] / "docs/receiving.md").read_text()
NODE_MODULES = Path(__file__).parents[1] / "node/node_modules"
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))
MODULE = "github.com/standard-webhooks/standard-webhooks/libraries"


def code(heading: str, number: int = 0) -> str:
    """The how many-th program under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(?:python|js|go|php|sh)\n(.*?)```", section, re.DOTALL)[number]


def go_library() -> Path | None:
    """Where Go keeps the library: what downloads no module itself can only use it if it is there."""
    if shutil.which("go") is None:
        return None
    asked = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True)
    return next(Path(asked.stdout.strip()).glob(f"{MODULE}@*"), None)


LIBRARY = go_library()
# the sources of the PHP library are in the same module
HERE = ["python", "node", *(["go", "php"] if LIBRARY is not None else [])]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def record() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, record: Receiver) -> Iterator[Daemon]:
    """One daemon that delivers to all of them, each its own type of event."""
    made = Daemon(tmp_path_factory.mktemp("d"), hook("record", record.port, events=["page.record"])).start()
    yield made
    made.close()


def point(running: Daemon, name: str, port: int) -> None:
    """Have the daemon deliver `page.NAME` there: a port is taken only when its receiver is about to listen on it."""
    running.rewrite(running.hooks.read_text() + hook(name, port, events=[f"page.{name}"], retry=["100ms"]))
    running.tell(signal.SIGHUP)
    wait_for(lambda: any(row["url"].endswith(f"/{name}") for row in running.get("/v1/webhooks").json["data"]))


def write(name: str, at: Path, port: int) -> list[str]:
    """The program as it stands on the page; the command that runs it."""
    if name == "python":
        (at / "receiver.py").write_text(code("Python"))
        return [sys.executable, "receiver.py"]
    if name == "node":
        (at / "node_modules").symlink_to(NODE_MODULES)
        (at / "receiver.mjs").write_text(code("Node"))
        return ["node", "receiver.mjs"]
    assert LIBRARY is not None
    if name == "go":
        (at / "receiver.go").write_text(code("Go"))
        version = LIBRARY.name.rpartition("@")[2]
        (at / "go.mod").write_text(f"module receiver\ngo 1.22\nrequire {MODULE} {version}\n")
        built = subprocess.run(
            ["go", "build", "-mod=mod", "-o", "receiver", "."], cwd=at, capture_output=True, text=True, timeout=600,
            env={**os.environ, "GOPROXY": "off", "GOFLAGS": "", "GONOSUMDB": "*", "GOTOOLCHAIN": "local"},
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        return ["./receiver"]
    (at / "vendor").mkdir()
    sources = sorted((LIBRARY / "php/src").rglob("*.php"), reverse=True)
    (at / "vendor/autoload.php").write_text("<?php\n" + "".join(f"require '{path}';\n" for path in sources))
    (at / "receive.php").write_text(code("PHP"))
    return ["php", "-S", f"127.0.0.1:{port}", "receive.php"]


@contextlib.contextmanager
def receiver(name: str, at: Path, port: int) -> Iterator[Path]:
    """The program while it runs; yields the file of what it says."""
    command = write(name, at, port)
    said = at / "said"
    with said.open("wb") as out:
        env = {**os.environ, "PORT": str(port), "WEBHOOK_SECRET": SECRET}
        process = processes.start(command, cwd=at, env=env, stdout=out, stderr=out)
    try:
        wait_for(lambda: listens(port), told=said.read_text)
        yield said
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def post(port: int, headers: dict[str, str], body: bytes) -> int:
    conn = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(conn):
        conn.request("POST", "/webhooks", body, headers)
        return conn.getresponse().status


def signed(body: bytes, id: str, timestamp: int, *secrets: bytes) -> dict[str, str]:
    signature = Signer(secrets).signature(id, timestamp, body).decode()
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


@pytest.mark.parametrize("name", HERE)
def test_a_receiver_takes_each_event_once_and_turns_forged_ones_away(name, running, tmp_path):
    port = free_port()
    with receiver(name, tmp_path, port) as said:
        point(running, name, port)
        running.submit(line(7, type=f"page.{name}"))
        wait_for(lambda: running.deliveries(name)[0]["status"] == "succeeded", told=said.read_text)
        (delivery,) = running.deliveries(name)
        assert delivery["response_code"] == 204
        assert running.get(f"/v1/deliveries/{delivery['id']}/retry", "POST").status == 202
        wait_for(lambda: running.deliveries(name)[0]["attempt_count"] == 2)
        wait_for(lambda: running.deliveries(name)[0]["status"] == "succeeded", told=said.read_text)
        body, now = b'{"id":"evt_x","type":"page.forged","data":1}', int(time.time())
        forged = [
            signed(body, "evt_x", now, b"x" * 24),  # by another secret
            {**signed(body, "evt_y", now, KEY), "webhook-id": "evt_x"},  # of another event
            signed(body, "evt_x", now - 3600, KEY),  # an hour old
            {},
        ]
        assert [post(port, headers, body) for headers in forged] == [401] * 4
        assert post(port, signed(body, "evt_x", now, b"x" * 24, KEY), body) == 204  # two secrets sign: one is ours
        text = said.read_text()
    assert text.count(f"page.{name}") == 1
    assert text.count("page.forged") == 1


def test_without_a_library_what_is_sent_is_verified_and_nothing_else(running, record, tmp_path):
    (tmp_path / "plain.py").write_text(code("Without a library"))
    spec = importlib.util.spec_from_file_location("plain", tmp_path / "plain.py")
    assert spec is not None
    assert spec.loader is not None
    plain: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    running.submit(line(7, type="page.record", data="ü"))
    record.wait(1)
    came: Request = record.requests[0]
    now = int(time.time())
    right, body = came.headers, came.body
    cases: list[tuple[bool, dict[str, str], bytes]] = [
        (True, right, body),
        (False, right, body + b" "),
        (False, {**right, "webhook-id": "evt_x"}, body),
        (False, {**right, "webhook-timestamp": str(now - 1)}, body),
        (False, {**right, "webhook-timestamp": "soon"}, body),
        (False, {**right, "webhook-signature": ""}, body),
        (False, {**right, "webhook-signature": "v1,ü"}, body),
        (False, {}, body),
        (False, signed(body, "evt_x", now - 400, KEY), body),
        (False, signed(body, "evt_x", now + 400, KEY), body),
        (False, signed(body, "evt_x", now, b"x" * 24), body),
        (True, signed(body, "evt_x", now, b"x" * 24, KEY), body),
    ]
    expected = [verdict for verdict, _, _ in cases]
    assert [plain.verify(SECRET, headers, body) for _, headers, body in cases] == expected

    (tmp_path / "plain.mjs").write_text(code("Without a library", 1))
    asked = json.dumps([[headers, body.decode()] for _, headers, body in cases])
    script = f'import {{verify}} from "./plain.mjs"; const cases = {asked};'
    script += f'console.log(JSON.stringify(cases.map(([h, b]) => verify("{SECRET}", h, Buffer.from(b)))))'
    (tmp_path / "ask.mjs").write_text(script)
    done = subprocess.run(["node", "ask.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout or "null") == expected, done.stderr


def test_events_are_posted_to_a_developers_machine_and_verified_by_hand(running, record, tmp_path):
    (tmp_path / "secret.txt").write_text(SECRET)
    listen, verify = code("Trying it out"), code("Trying it out", 1)
    listen = listen.replace("localhost:3000", f"127.0.0.1:{record.port}").replace("hookrelay", "-m hookrelay", 1)
    env = {**os.environ, "HOOKRELAY_API": f"unix:{running.at}/a.sock"}
    with (tmp_path / "said").open("wb") as out:
        command = [sys.executable, *listen.split()]
        process = processes.start(command, cwd=tmp_path, env=env, stdout=out, stderr=out)
    try:
        wait_for(lambda: "posting new events" in (tmp_path / "said").read_text())

        def has_come() -> bool:
            running.submit(line(7, type="page.nobody"))  # again and again: the stream may not have begun yet
            return any(b"page.nobody" in request.body for request in record.requests)

        wait_for(has_come, told=(tmp_path / "said").read_text)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
    (came, *_) = [request for request in record.requests if b"page.nobody" in request.body]
    (tmp_path / "headers.txt").write_text("".join(f"{name}: {value}\n" for name, value in came.headers.items()))

    def verified(body: bytes) -> str:
        (tmp_path / "body.json").write_bytes(body)
        command = [sys.executable, "-m", *verify.split()]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    assert "verified" in verified(came.body)
    assert "verified" not in verified(came.body + b" ").replace("not verified", "")


def test_the_program_in_php_is_well_formed(tmp_path):
    (tmp_path / "receive.php").write_text(code("PHP"))
    done = subprocess.run(["php", "-l", "receive.php"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
