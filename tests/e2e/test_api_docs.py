"""docs/api.md tells the truth: its requests are made, in order, and answered as it says."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from documents import ID, Names
from rig import Daemon, Receiver, answer, free_port

from hookrelay.web.app import ROUTES
from hookrelay.web.problems import TITLES

DOCUMENT = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(r"```sh\n(?P<command>.*?)```\n(?:\n```(?P<kind>json|text)\n(?P<answer>.*?)```\n)?", re.DOTALL)
MASKS = [
    (re.compile(r'("(?:secret_hint|hint)": )"[^"]{4}"'), r'\1"HINT"'),
    (re.compile(r'("(?:response_time_ms|duration_ms)": )[0-9.]+'), r"\1MS"),
    (re.compile(r'("next_cursor": )"[^"]+"'), r'\1"CURSOR"'),
    (re.compile(r'("url": )"[^"]*/dashboard/link/[^"]+"'), r'\1"LINK"'),
    (re.compile(r'("webhook-timestamp": )"[0-9]+"'), r'\1"SECONDS"'),
]


class Live:
    """The daemon, and what turns the document's commands into such as reach it."""

    def __init__(self, at):
        self.receiver = Receiver(self.thank)
        self.port = free_port()
        settings = f'api.listen = ["unix:a.sock", "127.0.0.1:{self.port}"]\n[event_types."booking.created"]\n'
        settings += 'description = "A booking was made"\nexample = { booking = 7 }\nschema = "booking.json"\n'
        (at / "booking.json").write_text('{"type": "object", "required": ["booking"]}')
        self.daemon = Daemon(at, settings=settings).start()
        self.env = {"PATH": os.environ["PATH"], "ADMIN": self._key('{"tenant": "*", "role": "admin", "name": "ops"}')}

    def _key(self, wish):
        place = ["--unix-socket", str(self.daemon.at / "a.sock"), "http://localhost/v1/keys"]
        made = subprocess.run(
            ["curl", "-s", *place, "-H", "Content-Type: application/json", "-d", wish], capture_output=True, check=True
        )
        return json.loads(made.stdout)["key"]

    def thank(self, request, number):
        time.sleep(0.2)  # a retry is under way while it is answered
        return answer(200, b"thanks")

    def run(self, command):
        """What a command prints, once all that went before has come to its end."""
        self.daemon.settled()
        command = command.replace("/run/hookrelay/api.sock", str(self.daemon.at / "a.sock"))
        command = command.replace("127.0.0.1:8787", f"127.0.0.1:{self.port}")
        command = command.replace("127.0.0.1:9000", f"127.0.0.1:{self.receiver.port}")
        done = subprocess.run(["bash", "-c", command], env=self.env, capture_output=True, text=True, timeout=30)
        assert done.returncode in (0, 28), done.stderr  # 28: a stream has no end of its own
        if '"role":"manage"' in done.stdout and "KEY" not in self.env:
            self.env["KEY"] = json.loads(done.stdout)["key"]
        return done.stdout

    def close(self):
        self.daemon.end()
        self.receiver.close()


@pytest.fixture
def live(tmp_path):
    made = Live(tmp_path)
    yield made
    made.close()


def shaped(text):
    """An answer as the document shows it: JSON with an indent, all else as it came."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text.strip()


def test_every_request_is_answered_as_the_document_shows(live):
    told, came = Names(MASKS), Names(MASKS)
    blocks = list(BLOCK.finditer(DOCUMENT.read_text()))
    assert len(blocks) > 15
    for block in blocks:
        command = ID.sub(lambda match: came.id(*told.number(match[0])), block["command"])
        said = shaped(live.run(command))
        assert came.masked(said) == told.masked(shaped(block["answer"])), block["command"]


@pytest.mark.parametrize(("path", "method"), [(path, method) for path, methods in ROUTES.items() for method in methods])
def test_every_route_is_in_the_document(path, method):
    text = DOCUMENT.read_text()
    place = re.escape(path).replace(r"\{id\}", "(?:ID|[a-z]+_[0-9A-Z]{26})")
    if path.startswith("/v1/deliveries/{id}/"):
        place = f"(?:{place}|…/{path.rpartition('/')[2]})"
    found = re.search(rf"(?<![\w/]){method} {place}(?![\w/])|127\.0\.0\.1:8787{place}(?![\w/])|localhost{place}", text)
    assert found or (method == "GET" and re.search(rf"`{place}`", text)), f"{method} {path}"


def test_every_code_is_in_the_table():
    rows = [row for row in DOCUMENT.read_text().splitlines() if re.match(r"\| \d{3} \|", row)]
    told = {(int(row.split("|")[1]), code) for row in rows for code in re.findall(r"`([a-z_]+)`", row.split("|")[2])}
    assert told == {(status, code) for code, (status, _) in TITLES.items()}
