"""docs/getting-started.md, as a newcomer would type it: its blocks in order, against receivers on this machine."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import processes
import trustme
from rig import Receiver, answer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/getting-started.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(RECEIVER,) = re.findall(r"## Python\n.*?```python\n(.*?)```", (ROOT / "docs/receiving.md").read_text(), re.DOTALL)
ATTEMPTED = """until ! hookrelay deliveries list --output json | grep -q '"attempt_count": 0'; do sleep 0.2; done"""
LISTENING = "until nc -z 127.0.0.1 9000; do sleep 0.2; done"
DONE = """until ! hookrelay deliveries list --output json | grep -q '"pending"'; do sleep 0.2; done"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _of_session(leader: int) -> list[int]:
    """What the script has left behind: with job control each of its jobs is a process group of its own."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(ValueError, ProcessLookupError):
            if os.getsid(int(name)) == leader:
                found.append(int(name))
    return found


def test_the_page_leads_to_a_verified_delivery_and_to_an_https_endpoint(tmp_path, receiver):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    shop: Receiver = receiver(lambda request, number: answer(204), tls=context)
    port, api = free_port(), free_port()
    install, *rest = BLOCKS
    for file in re.findall(r"-r (\S+)", install):
        assert (ROOT / file).is_file()
    (tmp_path / "bin").mkdir()
    for name, module in {"hookrelay": "-m hookrelay ", "python3": ""}.items():
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        script.chmod(0o755)
    (tmp_path / "first").mkdir()
    (tmp_path / "first/receiver.py").write_text(RECEIVER)
    text = "\n".join(rest).replace("mkdir first\n", "")
    # what the page waits for by the clock is waited for by what it is; a receiver that starts must be there first
    waits = iter([ATTEMPTED, ATTEMPTED, LISTENING, DONE])
    text = re.sub(r"^sleep 2$", lambda _: next(waits), text, flags=re.MULTILINE)
    assert next(waits, None) is None
    text = text.replace("receiver.log &\n", f"receiver.log &\n{LISTENING}\n", 1)
    text = text.replace("shop.example", f"127.0.0.1:{shop.port}").replace("9000", str(port)).replace("8787", str(api))
    allowed = json.dumps([f"127.0.0.1/32:{each}" for each in (port, shop.port)])
    env = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOOKRELAY_EGRESS__ALLOW": allowed,
        "HOOKRELAY_EGRESS__CA_FILE": str(tmp_path / "ca.pem"),
    }
    done = processes.start(
        ["bash", "-c", f"set -em\n{text}\nkill %1\nwait %1\n"],
        cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = done.communicate(timeout=120)
    finally:
        for pid in _of_session(done.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert done.returncode == 0, out + err
    said = tmp_path / "first"
    assert (said / "received.txt").read_text() == "booking.created {'booking': 7}\nbooking.moved {'booking': 7}\n"
    assert "connect_refused" in out
    assert re.search(r"egress\.allow_http.*true.*false", out)
    assert "verdict: yes" in out
    assert [request.path for request in shop.requests] == ["/webhooks"]
    assert "-- answer from 127.0.0.1:" in out
