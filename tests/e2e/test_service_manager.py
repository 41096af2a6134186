"""What a service manager sees and holds: notifications, the watchdog, the socket that outlives a daemon, the units."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from api_rig import over_unix
from rig import GOOD, Client, hook, is_listened_to, line, wait_for

SYSTEMD = Path(__file__).parent.parent.parent / "systemd"
RESTARTS = 3


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "notify"))
    sock.settimeout(20)
    yield sock
    sock.close()


def until(notified: socket.socket, field: str) -> list[str]:
    """The next message with this field."""
    while True:
        message = notified.recv(65536).decode().split("\n")
        if any(each.startswith(f"{field}=") for each in message):
            return message


def test_the_manager_is_told_of_the_start_each_reload_and_the_stop(daemon, receiver, notified, tmp_path):
    running = daemon(hook("one", receiver().port), NOTIFY_SOCKET=str(tmp_path / "notify")).launch()
    assert until(notified, "READY") == [
        "READY=1",
        "STATUS=webhooks: 1 active; deliveries: 0 pending, 0 held, 0 in flight",
    ]
    assert running.get("/-/ready").status == 200  # told after it was true
    running.tell(signal.SIGHUP)
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", until(notified, "RELOADING")[1])
    assert until(notified, "READY")[1].startswith("STATUS=webhooks: 1 active")
    running.config.write_text("nonsense = 1\n")
    running.tell(signal.SIGHUP)
    until(notified, "RELOADING")
    assert until(notified, "READY")[1].startswith("STATUS=the last reload was refused (see the journal); webhooks: 1")
    running.tell(signal.SIGTERM)
    assert until(notified, "STOPPING")[1].startswith("STATUS=stopping")
    assert running.wait(10) == 0


def test_the_watchdog_is_fed_until_the_daemon_stands_still(daemon, notified, tmp_path):
    running = daemon(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000").start()
    for _ in range(3):
        assert "STATUS=webhooks: none; deliveries: 0 pending, 0 held, 0 in flight" in until(notified, "WATCHDOG")
    running.tell(signal.SIGSTOP)
    time.sleep(0.1)
    notified.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            notified.recv(65536)
    notified.settimeout(0.5)
    with pytest.raises(TimeoutError):
        notified.recv(65536)
    running.tell(signal.SIGCONT)
    notified.settimeout(20)
    until(notified, "WATCHDOG")
    assert running.end() == 0


class Held:
    """events.sock, held by the real systemd-socket-activate, and a daemon behind it that is started again and again."""

    def __init__(self, at: Path, config: Path, environment: dict[str, str]) -> None:
        self.socket = at / "e.sock"
        self._lock = at / "h.db.lock"
        self._stop = at / "stop"
        script = at / "again.sh"
        script.write_text(
            f'while ! [ -e "{self._stop}" ]; do\n'
            f'  sh -c \'LISTEN_PID=$$ exec "{sys.executable}" -m hookrelay serve --config "{config}"\'\n'
            "done\n"
        )
        with (at / "log").open("ab") as log:
            self._process = processes.start(
                ["systemd-socket-activate", "-l", str(self.socket), "--fdname=events", "sh", str(script)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: is_listened_to(self.socket))

    def pid(self) -> int | None:
        """Of the daemon that serves at the moment; None while the next one is about to write it down."""
        found = re.search(r"process id (\d+)\n", self._lock.read_text())
        return None if found is None else int(found[1])

    def end(self) -> int:
        self._stop.touch()
        pid = self.pid()
        with contextlib.suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGTERM)
        return self._process.wait(30)


class Submitter(threading.Thread):
    """Submits one event after another, each with its key, and sends again what was not answered."""

    def __init__(self, path: Path, name: int, over: threading.Event) -> None:
        super().__init__()
        self.acknowledged: list[int] = []
        self.refused: list[object] = []
        self._path, self._name, self._over = path, name, over

    def run(self) -> None:
        client: Client | None = None
        number = self._name * 1_000_000
        while not self._over.is_set():
            try:
                client = client or Client(self._path)
            except OSError as error:
                self.refused.append(error)
                return
            try:
                said = client.ask(line(number, idempotency_key=str(number)))
            except (OSError, StopIteration, RuntimeError):
                client.close()
                client = None
                continue
            if "error" in said:
                self.refused.append(said)
                return
            self.acknowledged.append(number)
            number += 1
        if client is not None:
            client.close()


def test_a_restart_under_load_refuses_loses_and_doubles_no_submission(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port))
    held = Held(running.at, running.config, running._env())
    over = threading.Event()
    submitters = [Submitter(held.socket, name, over) for name in range(4)]
    try:
        for each in submitters:
            each.start()
        for _ in range(RESTARTS):
            so_far = [len(each.acknowledged) for each in submitters]
            wait_for(
                lambda before=so_far: all(
                    len(each.acknowledged) > count + 20 or each.refused
                    for each, count in zip(submitters, before, strict=True)
                ),
                told=running.log,
            )
            pid = held.pid()
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda before=pid: held.pid() not in (None, before), told=running.log)
            wait_for(lambda: running.get("/-/ready").status == 200, told=running.log)
    finally:
        over.set()
        for each in submitters:
            each.join(20)
        settled = running.get("/-/ready").status == 200
        if settled:
            running.settled()
        held.end()
    acknowledged = [number for each in submitters for number in each.acknowledged]
    came = Counter(json.loads(request.body)["data"]["number"] for request in taken.requests)
    assert [each.refused for each in submitters] == [[], [], [], []]
    assert len(acknowledged) > 4 * 20 * RESTARTS
    assert set(acknowledged) <= set(came)
    assert set(came.values()) == {1}


def test_a_socket_that_was_handed_in_keeps_its_file_and_the_api_can_be_handed_in_too(daemon):
    running = daemon()
    environment = running._env()
    command = [
        "systemd-socket-activate",
        "-l",
        str(running.at / "a.sock"),
        "-l",
        str(running.at / "e.sock"),
        "--fdname=api:events",
    ]
    process = processes.start(
        [*command, sys.executable, "-m", "hookrelay", "serve", "--config", str(running.config)],
        cwd=running.at,
        env=environment,
    )
    try:
        wait_for(lambda: running.get("/-/ready").status == 200)
        assert "id" in running.submit(GOOD)[0]
        admin = over_unix(running.at / "a.sock")
        admin.key_for("acme", "read")
        (record,) = admin.data("/v1/audit")
        assert (record["actor"], record["pid"]) == (f"uid:{os.getuid()}", os.getpid())
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert (running.at / "e.sock").is_socket()
    assert (running.at / "a.sock").is_socket()


def test_a_socket_for_another_path_ends_the_start_with_what_to_do(daemon):
    running = daemon()
    process = processes.start(
        [
            "systemd-socket-activate",
            "-l",
            str(running.at / "x.sock"),
            sys.executable,
            "-m",
            "hookrelay",
            "serve",
            "--config",
            "hookrelay.toml",
        ],
        cwd=running.at,
        env=running._env(),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: is_listened_to(running.at / "x.sock"))  # which starts the daemon
    _, said = process.communicate(timeout=60)
    assert process.returncode == 74
    assert "make ListenStream= the same path, or set FileDescriptorName=events or api" in said


# --- the units ----------------------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, for a hookrelay that is where this test found it."""
    command = tmp_path / "hookrelay"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    for name in ("hookrelay.service", "hookrelay.socket"):
        text = (SYSTEMD / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/hookrelay", str(command)))
    return tmp_path


def verify(units: Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "hookrelay.service", "hookrelay.socket"],
        cwd=units,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def with_drop_in(units: Path, name: str) -> None:
    folder = units / "hookrelay.service.d"
    folder.mkdir(exist_ok=True)
    text = (SYSTEMD / "drop-ins" / name).read_text()
    (folder / name).write_text(text.replace("/usr/bin/hookrelay", str(units / "hookrelay")))


def test_systemd_finds_nothing_wrong_with_the_units(units):
    assert verify(units) == ""


@pytest.mark.parametrize("name", ["credentials.conf", "egress.conf", "one-file.conf"])
def test_systemd_finds_nothing_wrong_with_a_drop_in(name, units):
    with_drop_in(units, name)
    assert verify(units) == ""


def test_the_drop_in_for_later_versions_is_right_there_and_named_as_such_before(units):
    version = int(subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout.split()[1])
    with_drop_in(units, "notify-reload.conf")
    said = verify(units)
    if version >= 253:
        assert said == ""
    else:
        assert set(re.findall(r"conf:\d+: (.*)", said)) == {"Failed to parse service type, ignoring: notify-reload"}


def test_the_service_is_well_fenced_in(units):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(units / "hookrelay.service")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    level = re.search(r"Overall exposure level for hookrelay.service: ([\d.]+)", done.stdout)
    assert level is not None
    assert float(level[1]) <= 1.2


def test_the_user_and_the_sockets_folder_are_made_as_the_units_need_them(tmp_path):
    (tmp_path / "etc").mkdir()
    for tool, name in (("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles", "tmpfiles.conf")):
        assert shutil.which(tool), f"{tool} is part of systemd"
        options = ["--create"] if tool == "systemd-tmpfiles" else []
        done = subprocess.run(
            [tool, *options, f"--root={tmp_path}", str(SYSTEMD / name)], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stderr) == (0, "") or tool == "systemd-sysusers", done.stderr
    passwd = (tmp_path / "etc" / "passwd").read_text()
    (user,) = [each.split(":") for each in passwd.splitlines() if each.startswith("hookrelay:")]
    folder = (tmp_path / "run" / "hookrelay").stat()
    assert user[6].endswith("nologin")
    assert (folder.st_uid, folder.st_mode & 0o777) == (int(user[2]), 0o755)
