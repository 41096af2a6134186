"""The daemon as a process: what is acknowledged survives, what is wrong is told by its exit code."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import apsw
import pytest
from standardwebhooks import Webhook

from hookrelay.lane import UNRECORDED

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Receiver:
    """Records every delivery; answers with what `answer(path, number)` says, after that many seconds."""

    def __init__(self, answer=lambda path, number: (200, 0.0)) -> None:
        self.requests: list[tuple[str, dict, bytes]] = []
        self._answer = answer
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                status, seconds = receiver._answer(self.path, len(receiver.requests))
                time.sleep(seconds)
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ids(self) -> Counter[str]:
        return Counter(json.loads(body)["id"] for _, _, body in self.requests)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Daemon:
    """A configuration in a folder, and the daemon that runs on it."""

    def __init__(self, at: Path, webhooks: str, extra: str = "") -> None:
        self.at = at
        self.process: subprocess.Popen | None = None
        (at / "webhooks.d").mkdir(exist_ok=True)
        (at / "webhooks.d" / "hooks.toml").write_text(webhooks)
        (at / "hookrelay.toml").write_text(
            f'store.url = "sqlite://h.db"\nevents.socket = "e.sock"\napi.listen = ["unix:a.sock"]\n'
            f'egress.allow_http = true\negress.allow = ["127.0.0.1/32"]\n{extra}'
        )

    def run(self) -> subprocess.CompletedProcess[str]:
        """Where it is expected to end by itself."""
        return subprocess.run(self._command(), capture_output=True, text=True, timeout=30)

    def start(self) -> "Daemon":
        with (self.at / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        wait_for(lambda: self.get("/-/ready")[0] == 200, told=self.log)
        return self

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "hookrelay", "serve", "--config", str(self.at / "hookrelay.toml")]

    def end(self, number: int = signal.SIGTERM, within_s: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def log(self) -> str:
        return (self.at / "log").read_text()

    def get(self, path: str) -> tuple[int, dict | str]:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(str(self.at / "a.sock"))
            except OSError:
                return 0, ""
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b""
            while data := sock.recv(65536):
                answer += data
        head, _, body = answer.partition(b"\r\n\r\n")
        text = body.decode()
        return int(head.split()[1]), json.loads(text) if b"json" in head else text

    def metric(self, series: str) -> float:
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(series + " ")), 0.0)

    def submit(self, *lines: bytes) -> list[dict]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(20)
            sock.connect(str(self.at / "e.sock"))
            sock.sendall(b"".join(line + b"\n" for line in lines))
            sock.shutdown(socket.SHUT_WR)
            answers = b""
            while data := sock.recv(65536):
                answers += data
        return [json.loads(line) for line in answers.splitlines()]


def hook(name: str, port: int, **fields: object) -> str:
    said = {"name": name, "url": f"http://127.0.0.1:{port}/{name}", "events": ["*"], "secret": SECRET, **fields}
    return "[[webhook]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())


def wait_for(condition, within_s: float = 20, told=lambda: "") -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.01)


@pytest.fixture
def receiver():
    made = []

    def make(*arguments) -> Receiver:
        made.append(Receiver(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def daemon(tmp_path):
    made = []

    def make(webhooks: str, extra: str = "", at: Path = tmp_path) -> Daemon:
        made.append(Daemon(at, webhooks, extra))
        return made[-1]

    yield make
    for each in made:
        if each.process is not None and each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def event(number: int, **fields: object) -> bytes:
    return json.dumps({"type": "booking.created", "data": {"number": number}, **fields}).encode()


def test_ten_times_killed_under_load_it_loses_nothing_that_was_acknowledged(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port) + hook("two", taken.port))
    acknowledged: dict[int, str] = {}
    number = kills = 0
    for _ in range(10):
        running.start()
        stop = threading.Event()

        def kill(running=running, stop=stop) -> None:
            stop.wait(0.25)
            running.end(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
            sock.settimeout(10)
            sock.connect(str(running.at / "e.sock"))
            while True:
                step = list(range(number, number + 20))
                sock.sendall(b"".join(event(each, idempotency_key=str(each)) + b"\n" for each in step))
                answers = b""
                while answers.count(b"\n") < len(step):
                    data = sock.recv(65536)
                    if not data:
                        break
                    answers += data
                for each, line in zip(step, answers.splitlines(), strict=False):
                    with contextlib.suppress(ValueError):  # a line that was cut off acknowledges nothing
                        acknowledged[each] = json.loads(line)["id"]
                if answers.count(b"\n") < len(step):
                    break
                number += 20
        killer.join()
        kills += 1
    running.start()
    # what was asked again gets the answer that it had, or would have had
    for each in range(number, number + 20):
        (answer,) = running.submit(event(each, idempotency_key=str(each)))
        assert acknowledged.setdefault(each, answer["id"]) == answer["id"]
        assert answer["deliveries"] == 2
    wait_for(lambda: running.metric("hookrelay_pending_deliveries") == 0, 60)
    assert running.end() == 0
    assert len(acknowledged) > 200
    by_path = {path: Counter() for path in ("/one", "/two")}
    for path, headers, body in taken.requests:
        Webhook(SECRET).verify(body, {name.lower(): value for name, value in headers.items()})
        by_path[path][json.loads(body)["id"]] += 1
    for counts in by_path.values():
        assert counts.keys() >= set(acknowledged.values())
        assert sum(count - 1 for count in counts.values()) <= kills * 8 * (1 + UNRECORDED)
    conn = apsw.Connection(str(running.at / "h.db"))
    assert conn.execute("PRAGMA integrity_check").get == "ok"
    assert conn.execute("SELECT count(*) * 2 FROM event").get == conn.execute("SELECT count(*) FROM delivery").get
    conn.close()


GOOD = b'{"type":"booking.created","data":1}'


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xef\xbb\xbf" + GOOD, "invalid_json"),
        (b'{"type":"a","data":NaN}', "invalid_json"),
        (b'{"type":"a","data":-Infinity}', "invalid_json"),
        (GOOD + b"x", "invalid_json"),
        (b'{"type":"a","data":"\xff"}', "invalid_json"),
        (b'{"type":"a","data":' + b"[" * 64 + b"]" * 64 + b"}", "invalid_json"),
        (b'{"data":1}', "invalid_event"),
        (b'{"type":"a"}', "invalid_event"),
        (b'{"type":"a","data":1,"colour":"red"}', "invalid_event"),
        (b"[]", "invalid_event"),
        (b'{"type":"other","data":1}', "unknown_event_type"),
        (b'{"type":"booking.created","data":"' + b"x" * 300_000 + b'"}', "too_large"),
        (b'{"type":"booking.created","data":2,"idempotency_key":"used"}', "idempotency_conflict"),
    ],
)
def test_a_bad_line_costs_itself_and_nothing_else(daemon, receiver, line, code):
    taken = receiver()
    catalogue = '[events]\nclosed_catalogue = true\n[event_types."booking.created"]\n'
    running = daemon(hook("one", taken.port), catalogue)
    text = (running.at / "hookrelay.toml").read_text().replace("[events]\n", "").replace("closed_", "events.closed_")
    (running.at / "hookrelay.toml").write_text(text)
    running.start()
    running.submit(b'{"type":"booking.created","data":1,"idempotency_key":"used"}')
    before, refused, after = running.submit(GOOD, line, GOOD)
    assert refused["error"]["code"] == code
    assert before["deliveries"] == after["deliveries"] == 1
    wait_for(lambda: len(taken.requests) == 3)
    assert running.end() == 0


def test_a_full_store_refuses_what_is_new_and_delivers_what_it_has(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port), 'store.max_size = "16MiB"\n').start()
    big = b'{"type":"a","data":"' + b"x" * 200_000 + b'"}'
    answers = running.submit(*[big] * 150)
    accepted = [answer for answer in answers if "id" in answer]
    assert {answer["error"]["code"] for answer in answers if "error" in answer} == {"store_full"}
    assert 40 < len(accepted) < 100
    wait_for(lambda: taken.ids().keys() >= {answer["id"] for answer in accepted}, 30)
    assert running.end() == 0


def test_a_second_daemon_on_the_store_names_the_first(daemon):
    running = daemon("").start()
    second = running.run()
    assert second.returncode == 73
    assert f"process id {running.process.pid}" in second.stderr
    assert running.end() == 0


@pytest.mark.parametrize("kind", ["file", "folder", "symlink", "listener"])
def test_what_stands_where_the_socket_should_be_is_left_alone(daemon, tmp_path, kind):
    place = tmp_path / "e.sock"
    listener = socket.socket(socket.AF_UNIX)
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
    elif kind == "symlink":
        place.symlink_to("elsewhere")
    else:
        listener.bind(str(place))
        listener.listen()
    before = os.lstat(place)
    done = daemon("").run()
    listener.close()
    assert (done.returncode, os.lstat(place).st_ino) == (73, before.st_ino)
    assert str(place) in done.stderr


def test_every_mistake_of_a_bad_configuration_is_listed(daemon):
    bad = daemon(
        '[[webhook]]\nname = "x"\nurl = "ftp://x"\nevents = []\nsecret = "no"\n', 'delivery.timeout = "soon"\n'
    )
    done = bad.run()
    assert done.returncode == 78
    for told in (
        "hookrelay.toml:6: delivery.timeout",
        "hooks.toml:3: webhook",
        "hooks.toml:4: webhook",
        "hooks.toml:5",
    ):
        assert told in done.stderr


def test_a_damaged_or_vanished_store_is_refused_and_left_as_it_is(daemon):
    running = daemon("").start()
    assert running.end() == 0
    store = running.at / "h.db"
    store.write_bytes(b"not a database, but long enough to look like one" * 100)
    done = running.run()
    assert (done.returncode, store.stat().st_size) == (65, 4800)
    store.unlink()
    assert running.run().returncode == 65
    assert not store.exists()


def test_a_folder_that_is_missing_is_named(daemon, tmp_path):
    running = daemon("", 'store.max_size = "1GiB"\n')
    text = (tmp_path / "hookrelay.toml").read_text().replace("sqlite://h.db", "sqlite://nowhere/h.db")
    (tmp_path / "hookrelay.toml").write_text(text)
    done = running.run()
    assert done.returncode == 74
    assert f"{tmp_path}/nowhere" in done.stderr


def test_sigterm_lets_what_is_in_flight_end(daemon, receiver):
    slow = receiver(lambda path, number: (200, 1.0))
    running = daemon(hook("slow", slow.port)).start()
    running.submit(GOOD)
    wait_for(lambda: len(slow.requests) == 1)
    assert running.end() == 0
    running.start()
    webhook = running.get("/v1/webhooks")[1]["data"][0]["id"]
    (delivery,) = running.get(f"/v1/webhooks/{webhook}/deliveries")[1]["data"]
    assert (delivery["status"], delivery["attempt_count"]) == ("succeeded", 1)
    assert running.end() == 0


def test_a_second_sigterm_cuts_what_is_in_flight_and_charges_nobody(daemon, receiver):
    hanging = receiver(lambda path, number: (200, 20.0 if number == 1 else 0.0))
    running = daemon(hook("hang", hanging.port)).start()
    running.submit(GOOD)
    wait_for(lambda: len(hanging.requests) == 1)
    running.process.send_signal(signal.SIGTERM)
    wait_for(lambda: '"stopping"' in running.log())
    assert running.end(within_s=2) == 0
    running.start()
    wait_for(lambda: len(hanging.requests) == 2)
    wait_for(lambda: running.metric("hookrelay_pending_deliveries") == 0)
    webhook = running.get("/v1/webhooks")[1]["data"][0]["id"]
    (row,) = running.get(f"/v1/webhooks/{webhook}/deliveries")[1]["data"]
    attempts = running.get(f"/v1/deliveries/{row['id']}")[1]["attempts"]
    assert [attempt["error"] and attempt["error"]["code"] for attempt in attempts] == ["interrupted", None]
    assert running.end() == 0


def test_a_reload_applies_all_of_the_files_or_nothing(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port)).start()
    hooks = running.at / "webhooks.d" / "hooks.toml"
    good = hooks.read_text()
    hooks.write_text(good + hook("two", taken.port) + 'colour = "red"\n')
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.metric("hookrelay_config_last_reload_successful") == 0)
    assert running.submit(GOOD)[0]["deliveries"] == 1
    assert "colour" in running.log()
    hooks.write_text(good + hook("two", taken.port))
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.metric("hookrelay_config_last_reload_successful") == 1)
    assert running.submit(GOOD)[0]["deliveries"] == 2
    wait_for(lambda: len(taken.requests) == 3)
    assert running.end() == 0


def test_what_waits_for_a_webhook_that_a_reload_removes_is_cancelled(daemon, receiver):
    failing = receiver(lambda path, number: (500, 0.0))
    running = daemon(hook("one", failing.port)).start()
    running.submit(*[GOOD] * 3)
    wait_for(lambda: len(failing.requests) == 3)
    (running.at / "webhooks.d" / "hooks.toml").write_text("")
    running.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.metric('hookrelay_deliveries_total{result="cancelled"}') == 3)
    assert running.metric("hookrelay_pending_deliveries") == running.metric("hookrelay_held_deliveries") == 0
    assert running.end() == 0


HEADERS = {
    "host",
    "content-type",
    "content-length",
    "user-agent",
    "accept-encoding",
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhook-attempt",
}


def test_the_receiver_gets_just_the_headers_and_bytes_of_the_contract(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port, **{"headers.X-Shop": "7"})).start()
    data = b'{ "a" :[1.50,  1e400,"\\u00e4\xc3\xa4"]}'
    (answer,) = running.submit(b'{"type":"a.b","data":' + data + b',"timestamp":"2026-02-26T11:00:00+01:00"}')
    wait_for(lambda: taken.requests)
    _, headers, body = taken.requests[0]
    assert body == b'{"id":"%b","type":"a.b","timestamp":"2026-02-26T10:00:00Z","data":%b}' % (
        answer["id"].encode(),
        data,
    )
    assert set(headers) == HEADERS | {"x-shop"}
    assert (headers["webhook-id"], headers["idempotency-key"], headers["webhook-attempt"]) == (
        answer["id"],
        answer["id"],
        "1",
    )
    log = running.log()
    assert SECRET[6:] not in log
    assert headers["webhook-signature"][3:] not in log
    assert running.end() == 0


def test_retries_are_numbered_and_each_is_in_the_history_with_its_answer(daemon, receiver):
    flaky = receiver(lambda path, number: (503 if number < 3 else 200, 0.0))
    running = daemon(hook("one", flaky.port, retry=["100ms", "200ms"])).start()
    running.submit(GOOD)
    wait_for(lambda: len(flaky.requests) == 3)
    assert [headers["webhook-attempt"] for _, headers, _ in flaky.requests] == ["1", "2", "3"]
    wait_for(lambda: running.metric("hookrelay_pending_deliveries") == 0)
    webhook = running.get("/v1/webhooks")[1]["data"][0]["id"]
    (row,) = running.get(f"/v1/webhooks/{webhook}/deliveries")[1]["data"]
    shown = running.get(f"/v1/deliveries/{row['id']}")[1]
    assert [attempt["response_code"] for attempt in shown["attempts"]] == [503, 503, 200]
    assert (shown["status"], shown["attempt_count"], shown["payload"]) == ("succeeded", 3, 1)
    assert running.end() == 0
