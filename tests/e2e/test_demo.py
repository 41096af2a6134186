"""`hookrelay demo` as a newcomer runs it: a real daemon and receiver, in a process of its own."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import processes

DEMO = [sys.executable, "-m", "hookrelay", "demo"]


def test_the_demo_delivers_everything_verified_and_leaves_nothing_behind():
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = re.search(r"temporary store in (\S+),", done.stdout)[1]
    assert not Path(folder).exists()
    assert "/healthy  20 of 20 delivered in 20 attempts" in done.stdout
    assert "/flaky    20 of 20 delivered in 60 attempts" in done.stdout
    assert re.search(r"/limited  20 of 20 delivered in \d+ attempts", done.stdout)
    counts = re.search(r"(\d+) of (\d+) signatures verified", done.stdout)
    assert counts[1] == counts[2]
    assert "/flaky    booking.created    attempt 3: 200  signature ok" in done.stdout


def test_on_a_terminal_the_demo_draws_a_table():
    master, slave = pty.openpty()
    with processes.running(DEMO, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"}) as demo:
        os.close(slave)
        seen = read_until_closed(master, 60)
        assert demo.wait(10) == 0
    assert "what its receiver does" in seen
    assert "20/20" in seen


def test_with_keep_it_stays_until_told_and_then_removes_everything():
    with processes.running([*DEMO, "--keep"], stdout=subprocess.PIPE, text=True) as demo:
        said = ""
        for line in demo.stdout:
            said += line
            if line.startswith("Ctrl-C ends it"):
                break
        folder = Path(re.search(r"temporary store in (\S+),", said)[1])
        send = [sys.executable, "-m", "hookrelay", "send", "--socket", str(folder / "events.sock"), "a.b", "7"]
        sent = subprocess.run(send, capture_output=True, text=True, timeout=20)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    assert re.fullmatch(r"evt_[0-9A-Z]{26}: 0 deliveries\n", sent.stdout)
    assert not folder.exists()


def read_until_closed(master: int, within_s: float) -> str:
    end, seen = time.monotonic() + within_s, b""
    while time.monotonic() < end:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:  # the other side has closed
            break
        if not data:
            break
        seen += data
    return seen.decode()
