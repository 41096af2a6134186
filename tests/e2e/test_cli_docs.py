"""docs/cli.md tells the truth: its commands are run, in order, and print what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ID, Names
from rig import Daemon, Receiver, answer, free_port

from hookrelay.cli.main import main

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
MASKS = [
    (re.compile(r'("(?:secret_hint|hint)": )"[^"]{4}"|((?:secret )?hint +)\S{4}'), "HINT"),
    (re.compile(r"(webhook-timestamp: )[0-9]+"), r"\1SECONDS"),
    (re.compile(r"\b[0-9.]+ ?(?:ms|KiB|MiB|s)\b"), "SIZE"),
    (re.compile(r"\b[0-9,]+ (bytes|commits|rows)\b"), r"N \1"),
    # a retry may be over before its answer is made
    (re.compile(r" is (?:pending|succeeded): `hookrelay deliveries show"), " is STATE: `hookrelay deliveries show"),
    (re.compile(r"http://\S+/dashboard/link/\S+"), "LINK"),
    (re.compile(r"uid:\d+ \(pid \d+\)"), "PROCESS"),
    (re.compile(r" +"), " "),  # columns are as wide as what stands in them
    (re.compile(r"[─━]+"), "-"),
    (re.compile(r"(key#\d+ \S+ \S+) \S{4} "), r"\1 HINT "),
    (re.compile(r"TIME (wh#\d+ )?\d+(?=\s)"), r"TIME \1MS"),
]


def steps(text):
    """Commands and what the document says that each prints."""
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, said = part.partition("\n")
            yield command, said


class Live:
    """A daemon, and a folder to run commands in."""

    def __init__(self, at):
        self.receiver = Receiver(lambda request, number: answer(200, b"thanks"))
        port = free_port()
        self.daemon = Daemon(at, settings=f'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n').start()
        script = at / "bin" / "hookrelay"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hookrelay "$@"\n')
        script.chmod(0o755)
        self._env = {
            "PATH": f"{script.parent}:{os.environ['PATH']}",
            "HOOKRELAY_API": f"unix:{at}/a.sock",
            "HOOKRELAY_EVENTS__SOCKET": f"{at}/e.sock",
            "NO_COLOR": "1",
        }

    def run(self, command):
        """What it prints, once all that went before has come to its end."""
        self.daemon.settled()
        command = command.replace("127.0.0.1:9000", f"127.0.0.1:{self.receiver.port}")
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.daemon.at, env=self._env, timeout=30, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.stdout

    def close(self):
        self.daemon.end()
        self.receiver.close()


@pytest.fixture
def live(tmp_path):
    made = Live(tmp_path)
    yield made
    made.close()


def test_every_command_prints_what_the_document_shows(live):
    told, came = Names(MASKS), Names(MASKS)
    found = list(steps(DOCUMENT.read_text()))
    assert len(found) > 25
    for command, said in found:
        actual = live.run(ID.sub(lambda match: came.id(*told.number(match[0])), command))
        assert came.masked(actual) == told.masked(said), command


@pytest.mark.parametrize("name", main.list_commands(None))
def test_every_command_is_in_the_document(name):
    assert re.search(rf"(?:hookrelay|`){' ' if name else ''}?{name}\b", DOCUMENT.read_text())
