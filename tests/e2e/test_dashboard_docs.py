"""docs/dashboard.md tells the truth: its configuration loads, its commands work, its links open."""

import base64
import os
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pytest
from rig import free_port
from standardwebhooks import Webhook as Standard

from hookrelay.web.dashboard.snippets import SNIPPETS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
(CONFIGURATION,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)


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
def test_the_snippets_verify_what_is_signed(language, code, tmp_path):
    """Those whose runtime and library the tests have; of the others, that they say what matters."""
    secret, body, now = (
        "whsec_" + base64.b64encode(bytes(range(32))).decode(),
        '{"type":"booking.created","data":{}}',
        datetime.now(UTC),
    )
    signature = Standard(secret).sign("evt_1", now, body)
    headers = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    if language == "Python":
        program = f"import os\nclass request: headers = {headers!r}\nbody = {body!r}\n{code}\n"
        command = [sys.executable, "-c", program]
    elif language == "Node":
        (tmp_path / "node_modules").symlink_to(Path(__file__).parents[1] / "node" / "node_modules")
        imports, _, rest = code.partition("\n\n")
        given = f"const request = {{headers: {headers!r}}};\nconst body = {body!r};"
        (tmp_path / "receive.mjs").write_text(f"{imports}\n{given}\n{rest}\n")
        command = ["node", str(tmp_path / "receive.mjs")]
    else:
        assert "WEBHOOK_SECRET" in code
        assert "erify(" in code
        return
    env = {**os.environ, "WEBHOOK_SECRET": secret}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, "booking.created" in done.stdout) == (0, True), done.stderr
