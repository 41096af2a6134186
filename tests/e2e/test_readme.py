"""README's five minutes, as a newcomer would type them: the blocks are taken from the page itself."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import processes
from rig import free_port

ROOT = Path(__file__).parents[2]


def blocks() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## Five minutes")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_the_five_minute_path_ends_with_a_verified_delivery(tmp_path):
    install, *rest = blocks()
    assert install == "make venv\n"  # what runs this test has done it
    (tmp_path / ".venv/bin").mkdir(parents=True)
    command = tmp_path / ".venv/bin/hookrelay"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hookrelay "$@"\n')
    command.chmod(0o755)
    script = "set -e\n" + "\n".join(rest) + "\nkill %1 %2\nwait %2\n"
    script = script.replace("9000", str(free_port()))
    done = processes.start(
        ["bash", "-c", "set -m\n" + script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = done.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGTERM)
    assert done.returncode == 0, out + err
    assert re.search(r"^ok: \S+: 1 webhook in 1 file$", out, re.MULTILINE)
    assert re.search(r"^evt_[0-9A-Z]{26}: 1 delivery$", out, re.MULTILINE)
    assert re.search(r'^verified \{"id":"evt_.*"data":\{"booking":7\}\}$', out, re.MULTILINE)
    assert re.search(r"^dlv_[0-9A-Z]{26} .*succeeded", out, re.MULTILINE), out


def test_the_page_calls_nothing_that_a_fresh_debian_lacks():
    words = set(re.findall(r"^(?:for .*; do )?([a-z./][\w./-]*)", "\n".join(blocks()), re.MULTILINE))
    assert words.isdisjoint({"curl", "nc", "wget", "jq", "sudo"})
