"""docs/dashboard.md tells the truth: its configuration loads, its commands work, its links open."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.request import urlopen

import pytest
from api_rig import Told, serve
from rig import free_port

from hookrelay.web.dashboard.snippets import SNIPPETS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
(CONFIGURATION,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """The secret of an endpoint, and a request that came to it."""
    told = Told()
    house = serve(tmp_path_factory.mktemp("house"))
    try:
        secret = house.admin.make(told.url("/hooks"))["secret"]
        house.admin.post("/v1/events", {"type": "booking.created", "data": {"booking": "b_1"}})
        (request,) = told.wait_at("/hooks", 1)
    finally:
        house.running.close()
        told.close()
    return secret, request


def run(command, at):
    script = at / "bin" / "hookrelay"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hookrelay "$@"\n')
    script.chmod(0o755)
    env = {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOOKRELAY_API": f"unix:{at}/a.sock"}
    done = subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_configuration_and_its_commands_lead_to_the_dashboard(daemon, tmp_path):
    port = free_port()
    settings = CONFIGURATION.replace("/run/hookrelay/api.sock", "a.sock").replace("8787", str(port))
    settings = settings.replace("https://hooks.example.com", f"http://127.0.0.1:{port}")
    assert tomllib.loads(settings)["api"].keys() == {"listen", "public_url"}
    daemon(settings=settings).start()
    assert len(COMMANDS) == 2
    assert "hookrelay_live_sk_" in run(COMMANDS[0], tmp_path)
    url = run(COMMANDS[1], tmp_path).strip()
    assert url.startswith(f"http://127.0.0.1:{port}/dashboard/link/")
    with urlopen(url) as answer:  # noqa: S310 -- our own link; without a cookie it ends where one signs in
        assert (answer.status, answer.url) == (200, f"http://127.0.0.1:{port}/dashboard/sign-in")


@pytest.mark.parametrize(("language", "code"), [(name, code) for name, _, code in SNIPPETS])
def test_the_snippets_verify_a_delivery_and_refuse_a_forged_one(language, code, delivered, tmp_path):
    """Those whose runtime and library the tests have; of the others, that they say what matters."""
    secret, request = delivered
    if language not in ("Python", "Node"):
        assert "WEBHOOK_SECRET" in code
        assert "erify(" in code
        return
    env = {**os.environ, "WEBHOOK_SECRET": secret}
    for body, is_forged in ((request.body.decode(), False), (request.body.decode().replace("b_1", "b_2"), True)):
        if language == "Python":
            program = f"class request: headers = {request.headers!r}\nbody = {body.encode()!r}\n{code}\n"
            command = [sys.executable, "-c", program]
        else:
            with contextlib.suppress(FileExistsError):
                (tmp_path / "node_modules").symlink_to(Path(__file__).parents[1] / "node" / "node_modules")
            imports, _, rest = code.partition("\n\n")
            given = f"const request = {{headers: {json.dumps(request.headers)}}};\nconst body = {json.dumps(body)};"
            (tmp_path / "receive.mjs").write_text(f"{imports}\n{given}\n{rest}\n")
            command = ["node", str(tmp_path / "receive.mjs")]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert (done.returncode == 0, "booking.created" in done.stdout) == (not is_forged, not is_forged), done.stderr
