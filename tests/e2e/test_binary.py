"""The one-file build where there is no Python: in a root that holds libc and zlib, and nothing else."""

import json
import os
import pkgutil
import pty
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from PyInstaller.archive.readers import CArchiveReader, ZlibArchiveReader
from rig import GOOD, Daemon, Receiver, hook, is_listened_to, wait_for
from test_demo import read_until_closed

import hookrelay

ROOT = Path(__file__).parents[2]
IN_ROOT = 'mount -t proc proc proc && exec chroot . /hookrelay "$@"'


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("binary")
    done = subprocess.run([ROOT / "scripts" / "binary", out], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = r"hookrelay: \d+ MiB; a command starts in [\d.]+ s, a daemon is ready after [\d.]+ s\n$"
    assert re.search(said, done.stdout), done.stdout
    return out / "hookrelay"


@pytest.fixture
def root(binary: Path, tmp_path: Path) -> Path:
    """A file system of libc, zlib, a device and the program."""
    at = tmp_path / "r"
    listed = subprocess.run(
        ["dpkg", "-L", "libc6", "zlib1g"], capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        path = Path(name)
        if ".so" in path.name and path.is_file() and not path.is_dir():
            (at / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, at / name[1:])
    for name in ("proc", "dev", "tmp", "lib64"):
        (at / name).mkdir(exist_ok=True)
    loader = next(at.glob("lib/*/ld-linux-*"), None)
    if loader is not None:
        shutil.copy(loader, at / "lib64")
    os.mknod(at / "dev" / "null", 0o020666, os.makedev(1, 3))
    shutil.copy(binary, at / "hookrelay")
    assert not list(at.rglob("*python*"))
    return at


class InRoot(Daemon):
    """The daemon and commands of the one-file build, in the root."""

    def command(self, *arguments: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", IN_ROOT, "sh", *arguments]

    def said(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments), cwd=self.at, capture_output=True, text=True, timeout=60, env=self._env()
        )

    def launch(self, *options: str) -> "Daemon":
        with (self.at / "log").open("ab") as log:
            self.process = processes.start(
                self.command("serve", "--config", "/hookrelay.toml", *options),
                cwd=self.at, env=self._env(), stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def _env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **self.environment}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="roots are changed by root")
def test_where_there_is_no_python_it_serves_delivers_traces_reloads_and_ends(root, receiver):
    collector = Receiver()
    endpoint = f'telemetry.otlp_endpoint = "http://127.0.0.1:{collector.port}"\n'
    running = InRoot(root, hook("one", receiver.port), endpoint)
    assert running.said("version").stdout.startswith(f"hookrelay {hookrelay.__version__} (Python 3.")
    assert running.said("check", "--config", "/hookrelay.toml").returncode == 0
    running.start()
    try:
        said = running.said("send", "--config", "/hookrelay.toml", "booking.created", '{"booking": 7}')
        assert (said.returncode, said.stdout[-13:]) == (0, ": 1 delivery\n"), said.stderr
        receiver.wait(1)
        assert json.loads(receiver.requests[0].body)["data"] == {"booking": 7}
        assert b"<html" in running.get("/dashboard/sign-in").body  # its templates are there
        assert running.get("/docs").status == 200
        running.tell(signal.SIGHUP)
        running.logged("reloaded")
        assert running.end() == 0
    finally:
        running.close()
        collector.close()
    assert {request.path for request in collector.requests} == {"/v1/traces"}
    assert list((root / "tmp").iterdir()) == []  # what was unpacked is gone
    running.config.write_text("nonsense = 1\n")
    refused = running.said("serve", "--config", "/hookrelay.toml")
    assert (refused.returncode, "hookrelay.toml:1: nonsense" in refused.stderr) == (78, True)


def test_a_program_that_starts_itself_again_finds_itself(binary):
    done = subprocess.run([binary, "demo"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_manager_says_to_the_bootloader_is_for_the_daemon(binary, tmp_path):
    running = Daemon(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "n"))
        notified.settimeout(60)
        script = 'WATCHDOG_USEC=300000 WATCHDOG_PID=$$ exec "$0" serve --config "$1"'
        process = processes.start(
            ["systemd-socket-activate", "-l", str(tmp_path / "e.sock"), "--fdname=events",
             f"--setenv=NOTIFY_SOCKET={tmp_path}/n", "sh", "-c", script, str(binary), str(running.config)],
            cwd=tmp_path,
        )  # fmt: skip
        wait_for(lambda: is_listened_to(tmp_path / "e.sock"))
        try:
            assert "id" in running.submit(GOOD)[0]
            while b"WATCHDOG=1" not in notified.recv(65536):
                pass
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert (tmp_path / "e.sock").is_socket()  # it is the manager's


def test_a_daemon_whose_bootloader_is_killed_ends_and_frees_the_store(binary, tmp_path):
    running = Daemon(tmp_path)
    running._command = lambda: [str(binary), "serve", "--config", str(running.config)]  # type: ignore[method-assign] # another program, the same rig
    running.start()
    running.end(signal.SIGKILL)
    wait_for(lambda: '"event": "stopped"' in running.log(), told=running.log)
    assert running.run_briefly() == 0


def test_a_key_on_the_terminal_stops_a_daemon_once_and_not_at_once(binary, tmp_path):
    running = Daemon(tmp_path, settings='log.format = "json"\n')
    terminal, other = pty.openpty()
    process = processes.start(
        ["setsid", "--ctty", binary, "serve", "--config", running.config], stdin=other, stdout=other, stderr=other
    )
    os.close(other)
    wait_for(lambda: running.get("/-/ready").status == 200)
    os.write(terminal, b"\x03")
    said = read_until_closed(terminal, 60)
    assert process.wait(60) == 0
    assert (said.count('"event": "stopping"'), "stopping_at_once" in said) == (1, False), said


def entries(binary: Path, tmp_path: Path) -> tuple[CArchiveReader, ZlibArchiveReader]:
    archive = CArchiveReader(str(binary))
    (tmp_path / "modules").write_bytes(archive.extract("PYZ.pyz"))
    return archive, ZlibArchiveReader(str(tmp_path / "modules"))


def test_it_holds_every_module_with_its_data_and_the_licences(binary, tmp_path):
    archive, modules = entries(binary, tmp_path)
    ours = {found.name for found in pkgutil.walk_packages(hookrelay.__path__, "hookrelay.")} - {"hookrelay.__main__"}
    assert len(ours) > 100
    assert ours <= set(modules.toc)
    data = {
        str(path.relative_to(ROOT))
        for path in Path(hookrelay.__file__).parent.rglob("*")
        if path.suffix in (".sql", ".html", ".css", ".js", ".svg", ".txt")
    }
    assert data <= set(archive.toc)
    licences = archive.extract("hookrelay/licenses.txt").decode()
    for library in ("trio", "apsw", "cryptography", "opentelemetry-sdk", "msgspec"):
        assert re.search(rf"^{library} [\d.]+", licences, re.MULTILINE), library


def test_it_names_no_place_where_it_was_built(binary, tmp_path):
    archive, modules = entries(binary, tmp_path)
    place = str(ROOT).encode()
    assert [name for name in archive.toc if name != "PYZ.pyz" and place in archive.extract(name)] == []
    assert [name for name in modules.toc if place in (modules.extract(name, raw=True) or b"")] == []
