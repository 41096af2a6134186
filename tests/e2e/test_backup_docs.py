"""docs/backup.md: its commands are run in order, as they stand on the page, on a daemon with a past."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rig import SECRET, Receiver, answer, wait_for

PAGE = (Path(__file__).parents[2] / "docs/backup.md").read_text()
SYSTEMCTL = """#!/bin/sh
set -e
case "$1" in
stop)
  kill -TERM "$(cat {at}/pid)"
  until flock --nonblock {at}/lib/hookrelay.db.lock true; do sleep 0.05; done ;;
start)
  {at}/bin/hookrelay serve --config {at}/etc/hookrelay/hookrelay.toml >>{at}/log 2>&1 &
  echo $! >{at}/pid
  for _ in $(seq 600); do
    kill -0 "$(cat {at}/pid)" 2>/dev/null || exit 1
    curl -sf --unix-socket {at}/run/api.sock http://localhost/-/ready >/dev/null && exit 0
    sleep 0.05
  done
  exit 1 ;;
esac
"""


def blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


class Machine:
    """A folder that stands for a machine, whose service manager is a script."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.receiver = Receiver(lambda request, number: answer(204))
        for name in ("bin", "etc/hookrelay/webhooks.d", "lib", "run", "backups/hookrelay"):
            (at / name).mkdir(parents=True)
        settings = ['store.url = "sqlite:///{at}/lib/hookrelay.db"', 'events.socket = "{at}/run/events.sock"']
        settings += ['api.listen = ["unix:{at}/run/api.sock"]', "egress.allow_http = true"]
        settings += ['egress.allow = ["127.0.0.1/32"]']
        text = "\n".join(settings).format(at=at).replace("sqlite:////", "sqlite:///")
        (at / "etc/hookrelay/hookrelay.toml").write_text(text + "\n")
        (at / "etc/hookrelay/webhooks.d/a.toml").write_text(
            f'[[webhook]]\nname = "a"\nurl = "http://127.0.0.1:{self.receiver.port}/"\nevents = ["*"]\n'
            f'secret = "{SECRET}"\n'
        )
        self._script("hookrelay", f'#!/bin/sh\nexec "{sys.executable}" -m hookrelay "$@"\n')
        self._script("systemctl", SYSTEMCTL.format(at=at))

    def _script(self, name: str, text: str) -> None:
        (self.at / "bin" / name).write_text(text)
        (self.at / "bin" / name).chmod(0o755)

    def run(self, command: str, code: int = 0) -> str:
        """What a block of the page prints here."""
        at = self.at
        places = {"/var/lib/hookrelay": at / "lib", "/var/backups": at / "backups", "-C /etc": f"-C {at}/etc"}
        for place, here in places.items():
            command = command.replace(place, str(here))
        # the page's machine has its configuration where hookrelay looks for it
        config = f"--config {at}/etc/hookrelay/hookrelay.toml"
        command = re.sub(r"hookrelay (backup|doctor|status|check)\b", rf"hookrelay \1 {config}", command)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HOOKRELAY_")}
        done = subprocess.run(
            ["bash", "-ec", command], cwd=at, env=kept | {"PATH": f"{at}/bin:{kept['PATH']}"}, timeout=120, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + (at / "log").read_text()
        return done.stdout

    def submit(self, numbers: range) -> None:
        events = [{"type": "a.b", "data": number, "idempotency_key": str(number)} for number in numbers]
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (self.at / "lines").write_text(lines)
        self.run(f"HOOKRELAY_EVENTS__SOCKET={self.at}/run/events.sock hookrelay send --file lines")

    def delivered(self) -> list[int]:
        return sorted({json.loads(request.body)["data"] for request in list(self.receiver.requests)})

    def close(self) -> None:
        self.receiver.close()
        if (self.at / "pid").exists():
            with open(self.at / "pid") as file:
                pid = int(file.read())
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.close()


def test_the_commands_of_the_page_take_verify_restore_and_move_a_backup(machine):
    take, nightly, verify, stop, put, look, accept, pack, unpack = blocks()
    machine.run("systemctl start hookrelay.service")
    machine.submit(range(5))
    wait_for(lambda: machine.delivered() == list(range(5)))
    assert "verified" in machine.run(take)
    machine.run(nightly)
    assert "verified" in machine.run(verify)

    machine.submit(range(5, 8))
    wait_for(lambda: machine.delivered() == list(range(8)))
    machine.run(stop)
    machine.run(put)
    assert "0 wrong" in (said := machine.run(look))
    assert "1 active" in said
    machine.submit(range(8))  # what the backup has is a duplicate, what came after it is new
    wait_for(lambda: len(machine.receiver.requests) >= 11)
    assert machine.delivered() == list(range(8))

    # an older file in place of the store, while its marker stays
    machine.run("systemctl stop hookrelay.service")
    machine.run(put.partition("systemctl")[0])
    machine.run("systemctl start hookrelay.service", code=1)
    assert "commits that were on disk are missing" in (machine.at / "log").read_text()
    machine.run(accept)
    machine.run(pack)
    assert ": 1 webhook in 1 file" in machine.run(unpack)
