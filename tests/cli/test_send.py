"""`hookrelay send` against a socket that answers like the daemon's."""

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hookrelay.net import events_client

SEND = [sys.executable, "-m", "hookrelay", "send"]


class Daemon:
    """Answers each line by what it holds: types `bad` and `full` are refused, a key of `again` is a duplicate."""

    def __init__(self, folder: Path, *, hang_up_after: int | None = None) -> None:
        self.path = folder / "events.sock"
        self.lines: list[bytes] = []
        self._left = hang_up_after
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, client.makefile("rb") as lines:
            for line in lines:
                if self._left == 0:
                    return
                self._left = None if self._left is None else self._left - 1
                self.lines.append(line.rstrip(b"\n"))
                client.sendall(json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, event: dict) -> dict:
        if event["type"] == "bad":
            return {"error": {"code": "invalid_event", "detail": "no such thing", "field": "type"}}
        if event["type"] == "full":
            return {"error": {"code": "store_full", "detail": "no room"}}
        duplicate = {"duplicate": True} if event.get("idempotency_key") == "again" else {}
        return {"id": f"evt_{len(self.lines)}", "deliveries": 2, **duplicate}

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def daemon(tmp_path):
    running = Daemon(tmp_path)
    yield running
    running.close()


def send(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*SEND, *map(str, arguments)], input=stdin, capture_output=True, timeout=30)


def test_one_event_goes_out_as_its_line_and_its_answer_is_shown(daemon):
    done = send("--socket", daemon.path, "a.b", '{"n":  1.50}', "--tenant", "acme", "--idempotency-key", "k")
    assert (done.returncode, done.stdout) == (0, b"evt_1: 2 deliveries\n")
    assert done.stderr == b"1 accepted, 0 duplicate, 0 refused\n"
    assert b'{"n":  1.50}' in daemon.lines[0]
    assert json.loads(daemon.lines[0]) == {"type": "a.b", "tenant": "acme", "idempotency_key": "k", "data": {"n": 1.5}}


@pytest.mark.parametrize("data", ["@{file}", "-"])
def test_data_may_come_from_a_file_or_standard_input_over_many_lines(daemon, tmp_path, data):
    (tmp_path / "data.json").write_text('{\n  "n": 1\n}\n')
    done = send("--socket", daemon.path, "a.b", data.format(file=tmp_path / "data.json"), stdin=b'{\n  "n": 1\n}\n')
    assert done.returncode == 0
    assert json.loads(daemon.lines[0])["data"] == {"n": 1}


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_file_of_events_is_summed_up_with_the_number_of_every_refused_line(daemon, tmp_path, source):
    events = b'{"type":"a","data":1}\n\n{"type":"bad","data":1}\n{"type":"a","data":1,"idempotency_key":"again"}\n'
    (tmp_path / "events.ndjson").write_bytes(events)
    done = send(
        "--socket", daemon.path, "--file", tmp_path / "events.ndjson" if source == "file" else "-", stdin=events
    )
    assert done.returncode == 1
    assert done.stderr == b"line 3: invalid_event: no such thing\n1 accepted, 1 duplicate, 1 refused\n"


@pytest.mark.parametrize(("types", "code"), [(["full", "a"], 69), (["full", "bad"], 1)])
def test_what_would_be_taken_later_exits_as_if_nobody_was_there(daemon, types, code):
    events = b"".join(b'{"type":"%b"}\n' % each.encode() for each in types)
    done = send("--socket", daemon.path, "--file", "-", stdin=events)
    assert done.returncode == code
    assert b"line 1: store_full: no room" in done.stderr


def test_with_json_every_answer_is_a_line_of_its_own(daemon):
    done = send("--socket", daemon.path, "--file", "-", "--output", "json", stdin=b'{"type":"a"}\n' * 1500)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [f"evt_{number}" for number in range(1, 1501)]


def test_only_twenty_refusals_are_told_in_full(daemon):
    done = send("--socket", daemon.path, "--file", "-", stdin=b'{"type":"bad"}\n' * 23)
    assert done.stderr.count(b"invalid_event") == 20
    assert done.stderr.endswith(b"and 3 more\n0 accepted, 0 duplicate, 23 refused\n")


def test_a_daemon_that_goes_away_midway_is_told_with_the_line_to_go_on_from(tmp_path):
    daemon = Daemon(tmp_path, hang_up_after=3)
    done = send("--socket", daemon.path, "--file", "-", stdin=b'{"type":"a"}\n' * 5)
    daemon.close()
    assert done.returncode == 69
    assert b"3 lines were answered, go on from line 4" in done.stderr


def test_no_daemon_is_told_with_the_path(tmp_path):
    done = send("--socket", tmp_path / "none.sock", "a.b", "1")
    assert done.returncode == 69
    assert f"{tmp_path}/none.sock: No such file or directory: is the daemon running there?".encode() in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], b"give either TYPE and DATA, or --file"),
        (["a.b"], b"DATA is missing"),
        (["a.b", "{x}"], b"DATA is not JSON"),
        (["--file", "-", "--tenant", "acme"], b"with --file every line says for itself"),
    ],
)
def test_wrong_usage_is_told_and_exits_with_2(tmp_path, arguments, told):
    done = send("--socket", tmp_path / "none.sock", *arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_file_that_cannot_be_read_exits_with_74(tmp_path):
    done = send("--socket", tmp_path / "none.sock", "--file", tmp_path / "none.ndjson")
    assert done.returncode == 74
    assert b"none.ndjson: No such file or directory" in done.stderr


def test_a_mistake_in_the_configuration_exits_with_78(tmp_path):
    (tmp_path / "hookrelay.toml").write_text("events.sockt = 'x'\n")
    done = send("--config", tmp_path / "hookrelay.toml", "a.b", "1")
    assert done.returncode == 78
    assert b"hookrelay.toml:1: events.sockt" in done.stderr


def test_a_terminal_shows_a_progress_bar(daemon, tmp_path):
    (tmp_path / "events.ndjson").write_bytes(b'{"type":"a"}\n' * 100)
    master, slave = pty.openpty()
    command = [*SEND, "--socket", str(daemon.path), "--file", str(tmp_path / "events.ndjson")]
    done = subprocess.run(
        command, stderr=slave, stdout=subprocess.PIPE, timeout=30, env={**os.environ, "TERM": "xterm"}
    )
    os.close(slave)
    seen = os.read(master, 65536).decode()
    os.close(master)
    assert done.returncode == 0
    assert "submitting" in seen
    assert "100 accepted" in seen


def test_lines_are_sent_ahead_of_their_answers_but_not_without_bound(tmp_path):
    daemon = Daemon(tmp_path)
    taken = []

    def lines():
        for number in range(5000):
            taken.append(number)
            yield b'{"type":"a"}'

    answers = events_client.submit(daemon.path, lines())
    next(answers)
    assert events_client.AHEAD_LINES < len(taken) <= 3 * events_client.AHEAD_LINES
    assert sum(1 for _ in answers) == 4999
    daemon.close()


def test_a_mistake_elsewhere_in_the_files_keeps_nobody_from_submitting(daemon, tmp_path):
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "webhooks.d" / "bad.toml").write_text("nonsense")
    (tmp_path / "hookrelay.toml").write_text('events.socket = "events.sock"\negress.allow = 7\n')
    done = send("--config", tmp_path / "hookrelay.toml", "a.b", "1")
    assert (done.returncode, done.stdout) == (0, b"evt_1: 2 deliveries\n")
