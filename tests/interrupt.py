"""Ctrl-C for processes under test."""

import contextlib
import signal
import subprocess
import time
from typing import Any


def interrupt(process: "subprocess.Popen[Any]", within_s: float = 60) -> int:
    """Press Ctrl-C until the process ends; its exit code.

    One press may come in the instant between Python's last look for signals and a read that waits: it is seen after
    that read only. A person presses again.
    """
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(5)
    raise AssertionError("Ctrl-C does not end it")
