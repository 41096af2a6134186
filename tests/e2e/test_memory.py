"""Who may read the daemon's memory, in which secrets are."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rig import Daemon

READS = """
import sys
try:
    with open(f"/proc/{sys.argv[1]}/mem", "rb") as memory:
        memory.seek(int(sys.argv[2], 16))
        memory.read(1)
except PermissionError:
    sys.exit(13)
"""


def start_of_heap(pid: int) -> str:
    """The address of memory that can be read, as root sees it."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "[heap]" in line:
            return line.partition("-")[0]
    raise AssertionError("there is no heap")


UNARMED = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Root in name only: what a user is to another process of the same user."""


class Unarmed(Daemon):
    """A daemon without capabilities, as the service has it."""

    def _command(self) -> list[str]:
        return [*UNARMED, *super()._command()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into it, and have others look")
def test_whoever_runs_as_the_daemons_user_reads_none_of_its_memory_and_root_does(tmp_path):
    with contextlib.closing(Unarmed(tmp_path)) as running:
        running.start()
        pid = running.process.pid
        look = [sys.executable, "-c", READS, str(pid), start_of_heap(pid)]
        assert subprocess.run(look, check=False).returncode == 0
        assert subprocess.run([*UNARMED, *look], check=False).returncode == 13
        # what the daemon reads of itself, and what anybody may know
        assert running.metric("process_resident_memory_bytes") > 1 << 20
        assert running.metric("process_open_fds") > 3
        assert "VmRSS" in Path(f"/proc/{pid}/status").read_text()
        assert "memory_readable" not in running.log()
        assert running.end() == 0
