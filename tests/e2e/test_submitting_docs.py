"""docs/submitting.md: its programs submit, send again what was lost, and say what is refused."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rig import Daemon

PAGE = (Path(__file__).parents[2] / "docs/submitting.md").read_text()


def code(heading: str, number: int = 0) -> str:
    """The how many-th program under a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(?:python|js|go|php|sh|sql)\n(.*?)```", section, re.DOTALL)[number]


PROGRAMS: dict[str, tuple[dict[str, str], list[str]]] = {
    "python": ({"events.py": code("Python")}, [sys.executable]),
    "node": ({"events.mjs": code("Node"), "book.mjs": code("Node", 1)}, ["node"]),
    "go": ({"events.go": code("Go")}, ["go", "run"]),
    "php": ({"events.php": code("PHP"), "book.php": code("PHP", 1)}, ["php"]),
    "send": ({"send.sh": code("The shell")}, ["sh"]),
    "nc": ({"nc.sh": code("The shell", 1)}, ["sh"]),
}
"""The files of each, what is run last, and by what."""
HERE = [name for name, (_, command) in PROGRAMS.items() if shutil.which(command[0])]
"""Programs whose runtime is on this machine; `make test` sees to all but Go."""


class Front:
    """A socket before the daemon's that plays each connection by its script, then lets all pass."""

    def __init__(self, at: Path, behind: Path, *script: str) -> None:
        self.connections = 0
        self._behind = behind
        self._script = script
        self._held: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(at))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._held:
            sock.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                step = self._script[self.connections - 1] if self.connections <= len(self._script) else "pass"
                with contextlib.suppress(OSError):
                    self._play(step, sock)

    def _play(self, step: str, sock: socket.socket) -> None:
        line = b""
        while not line.endswith(b"\n"):
            line += sock.recv(65536)
        if step == "hang":
            self._held.append(sock)
            return
        with sock:
            if step == "unavailable":
                sock.sendall(b'{"error":{"code":"unavailable","detail":"the daemon is stopping"}}\n')
            elif step in ("lose", "pass"):
                self._relay(sock, line, is_lost=step == "lose")
                sock.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the pump

    def _relay(self, sock: socket.socket, line: bytes, *, is_lost: bool) -> None:
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(str(self._behind))
            behind.sendall(line)
            threading.Thread(target=self._pump, args=(sock, behind), daemon=True).start()
            while answer := behind.recv(65536):
                sock.sendall(answer[: len(answer) // 2] if is_lost else answer)
                if is_lost:
                    return

    @staticmethod
    def _pump(sock: socket.socket, behind: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(65536):
                behind.sendall(data)
            behind.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all of them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Daemon(tmp_path_factory.mktemp("d"), settings=f'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n').start()
    yield made
    made.close()


@pytest.fixture
def front(tmp_path: Path, running: Daemon) -> Iterator[Callable[..., Front]]:
    made: list[Front] = []

    def make(*script: str) -> Front:
        made.append(Front(tmp_path / "front.sock", running.at / "e.sock", *script))
        return made[-1]

    yield make
    for each in made:
        each.close()


def events(running: Daemon, key: str) -> list[dict[str, Any]]:
    """What is on disk by an idempotency key."""
    rows = running.get("/v1/events?limit=250&type=booking.created").json["data"]
    return [row for row in rows if row["idempotency_key"] == key]


def run(name: str, at: Path, **other: str) -> "subprocess.CompletedProcess[str]":
    """The program as it stands on the page, but for how long it waits, and for other words."""
    files, command = PROGRAMS[name]
    for file, text in files.items():
        (at / file).write_text(_hastened(text, {**other, "key": f"{name}-7-created"}))
    path = at / "front.sock"
    (at / "bin").mkdir(exist_ok=True)
    script = at / "bin/hookrelay"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hookrelay "$@"\n')
    script.chmod(0o755)
    env = {**os.environ, "HOOKRELAY_SOCKET": str(path), "HOOKRELAY_EVENTS__SOCKET": str(path)}
    env |= {"PATH": f"{at / 'bin'}:{os.environ['PATH']}", "GOFLAGS": "", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    return subprocess.run([*command, list(files)[-1]], cwd=at, env=env, capture_output=True, text=True, timeout=600)


def _hastened(text: str, other: Mapping[str, str]) -> str:
    text = text.replace("for wait in 0 1 2 5 10", "for wait in 0 0 0 0 0")
    for patient in ("TIMEOUT_S = 5", "TIMEOUT_MS = 5000", "timeout = 5 * time.Second", "nc -N -w 5"):
        hasty = patient.replace("5000", "1000").replace("= 5", "= 1").replace("-w 5", "-w 1")
        text = text.replace(patient, hasty)
    for word, instead in other.items():
        text = text.replace({"key": "booking-7-created", "type": "booking.created"}[word], instead)
    return text


IMPORTS = {
    "python": ("events.py", [sys.executable, "-c", "import events; print(callable(events.submit))"], "True"),
    "node": (
        "events.mjs",
        ["node", "--input-type=module", "-e", "import { submit } from './events.mjs'; console.log(typeof submit);"],
        "function",
    ),
    "php": ("events.php", ["php", "-r", "require 'events.php'; echo is_callable('submit') ? 'yes' : 'no';"], "yes"),
}


@pytest.mark.parametrize("name", [name for name in IMPORTS if name in HERE])
def test_an_app_that_imports_a_library_submits_nothing(name, front, tmp_path):
    file, command, said = IMPORTS[name]
    (tmp_path / file).write_text(PROGRAMS[name][0][file])
    before = front()
    env = {**os.environ, "HOOKRELAY_SOCKET": str(tmp_path / "front.sock")}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), before.connections) == (0, said, 0), done.stderr


@pytest.mark.parametrize("name", [name for name in HERE if name != "send"])
def test_a_program_that_finds_no_daemon_names_its_socket_and_what_to_start(name, tmp_path, monkeypatch):
    files, _ = PROGRAMS[name]
    for patience in ("patience_s=30", "patienceMs = 30_000", "30*time.Second", "$patience = 30"):
        hasty = patience.replace("30_000", "1").replace("30*time", "1*time").replace("30", "0")
        monkeypatch.setitem(PROGRAMS, name, ({file: text.replace(patience, hasty) for file, text in files.items()}, _))
        files, _ = PROGRAMS[name]
    done = run(name, tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "systemctl start hookrelay.socket hookrelay.service" in said
    assert f"{tmp_path}/front.sock" in said or name == "nc"


@pytest.mark.parametrize("name", HERE)
def test_a_program_sends_again_until_its_event_is_on_disk_once(name, running, front, tmp_path):
    script = ["drop", "hang", "unavailable", "lose"]
    if name == "send":
        script.remove("hang")  # it waits a minute for an answer
    before = front(*script)
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (event,) = events(running, f"{name}-7-created")
    assert event["id"] in done.stdout
    if name != "send":
        assert json.loads(done.stdout) == {"id": event["id"], "deliveries": 0, "duplicate": True}
    assert before.connections == len(script) + 1


@pytest.mark.parametrize("name", HERE)
def test_a_program_does_not_send_again_what_is_refused(name, front, tmp_path):
    before = front()
    done = run(name, tmp_path, type="no,type")
    assert (done.returncode != 0, before.connections) == (True, 1)
    assert "invalid_event" in done.stdout + done.stderr


def test_over_http_an_event_is_taken_once_and_a_refusal_is_shown(running, tmp_path):
    wish = json.dumps({"tenant": "default", "role": "submit"})
    place = ["--unix-socket", str(running.at / "a.sock"), "http://localhost/v1/keys"]
    asked = ["curl", "-s", *place, "-H", "Content-Type: application/json", "-d", wish]
    key = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["key"]
    (tmp_path / "submit.header").write_text(f"Authorization: Bearer {key}\n")
    port = re.findall(r'127\.0\.0\.1:(\d+)"', running.config.read_text())[0]
    text = code("Over HTTP").replace("8787", port)

    def post(text: str) -> tuple[int, Any]:
        done = subprocess.run(["sh", "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads(done.stdout)

    (status, first), (again, second) = post(text), post(text)
    assert (status, again, second) == (0, 0, {**first, "duplicate": True})
    status, refused = post(text.replace("booking.created", "no type"))
    assert (status, refused["code"]) == (1, "invalid_event")


def load(name: str, text: str, at: Path) -> Any:
    (at / f"{name}.py").write_text(text)
    spec = importlib.util.spec_from_file_location(name, at / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_outbox_is_carried_over_once_whatever_breaks_in_between(running, front, tmp_path, monkeypatch):
    monkeypatch.setenv("HOOKRELAY_SOCKET", str(tmp_path / "front.sock"))
    monkeypatch.setitem(sys.modules, "many", load("many", code("Many at once"), tmp_path))
    outbox = load("outbox", code("Inside a transaction"), tmp_path)
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(code("Inside a transaction", 1))
        rows = [("booking.carried", json.dumps({"booking": number})) for number in range(600)]
        db.executemany("INSERT INTO outbox (type, data) VALUES (?, ?)", [*rows, ("no type", "1")])
        db.commit()
        with pytest.raises(OSError, match="No such file"):
            outbox.carry(db)
        assert db.execute("SELECT count(*) FROM outbox").fetchone() == (601,)
        before = front("lose")
        with pytest.raises(OSError, match=r"answered|[Rr]eset|[Bb]roken"):
            outbox.carry(db)
        outbox.carry(db)
        assert before.connections == 3
        ((kept, refused),) = db.execute("SELECT type, refused FROM outbox").fetchall()
        assert (kept, json.loads(refused)["error"]["code"]) == ("no type", "invalid_event")
    pages = [running.get("/v1/events?type=booking.carried&limit=250").json]
    while pages[-1]["next_cursor"]:
        cursor = pages[-1]["next_cursor"]
        pages.append(running.get(f"/v1/events?type=booking.carried&limit=250&cursor={cursor}").json)
    keys = [row["idempotency_key"] for page in pages for row in page["data"]]
    assert (len(keys), set(keys)) == (600, {f"outbox-{number}" for number in range(1, 601)})
