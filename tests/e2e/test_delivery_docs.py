"""docs/delivery.md: its examples are run as they stand on the page."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import processes
import pytest
from rig import SECRET, Daemon, free_port, hook, line, wait_for

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/delivery.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("is_busy", [False, True])
def test_the_receiver_on_the_page_takes_each_event_once_and_can_ask_for_time(
    daemon: Callable[..., Daemon], tmp_path: Path, is_busy: bool
):
    whole, maintenance = blocks("python")
    if is_busy:
        whole = whole.replace("self.answer(204)", maintenance.strip())
    (tmp_path / "receiver.py").write_text(whole)
    port = free_port()
    with (tmp_path / "came").open("wb") as came:
        receiver = processes.start(
            [sys.executable, "receiver.py"],
            cwd=tmp_path,
            env={**os.environ, "PORT": str(port), "WEBHOOK_SECRET": SECRET},
            stdout=came,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_for(lambda: _listens(port))
        made = daemon(hook("page", port, retry=["100ms"])).start()
        made.submit(line(1), line(2))
        if is_busy:
            wait_for(lambda: made.deliveries("page")[0]["response_code"] == 503, told=made.log)
            first, _ = made.deliveries("page")
            waits = datetime.fromisoformat(first["next_attempt_at"]) - datetime.fromisoformat(first["created_at"])
            assert timedelta(hours=1) <= waits < timedelta(hours=1, minutes=1)
        else:
            made.settled()
            wait_for(lambda: (tmp_path / "came").read_text().count("\n") == 2)
            # two threads print: a line of one may stand within one of the other
            assert "{'number': 1}" in (tmp_path / "came").read_text()
    finally:
        receiver.terminate()
        receiver.wait()


@pytest.mark.parametrize("text", [text for text in blocks("toml") if "[[webhook]]" in text])
def test_each_webhook_on_the_page_is_one_that_check_accepts(text: str, tmp_path: Path):
    (tmp_path / "webhooks.d").mkdir()
    (tmp_path / "webhooks.d/page.toml").write_text(text)
    (tmp_path / "hookrelay.toml").write_text("")
    _check(tmp_path)


@pytest.mark.parametrize("text", [text for text in blocks("toml") if "[[webhook]]" not in text])
def test_each_setting_on_the_page_is_one_that_check_accepts(text: str, tmp_path: Path):
    (tmp_path / "hookrelay.toml").write_text(text)
    _check(tmp_path)


def _check(at: Path) -> None:
    command = [sys.executable, "-m", "hookrelay", "check", "--config", str(at / "hookrelay.toml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_on_the_page_do_what_it_says(daemon: Callable[..., Daemon], tmp_path: Path):
    submit, explain = blocks("sh")
    daemon(settings='events.socket = "events.sock"\n').start()
    done = subprocess.run(["bash", "-c", submit.replace("nc -N", "nc -N -w 5")], cwd=tmp_path, capture_output=True)
    assert b'"deliveries":0' in done.stdout
    command = explain.replace("hookrelay ", f"{sys.executable} -m hookrelay ", 1).strip()
    told = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 1
    assert "127.1" in told.stdout


def test_the_page_names_every_code_that_an_attempt_can_end_with():
    from hookrelay.model import AttemptError

    assert [code for code in AttemptError.__args__ if f"`{code}`" not in PAGE] == []
