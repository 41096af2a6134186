"""An independent judge: schemathesis holds a live daemon against its own OpenAPI document."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rig import Daemon, free_port

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.fixture
def served(tmp_path):
    """A daemon on TCP, with a webhook and a past to be asked about: its address, and a key that opens all of it."""
    port = free_port()
    daemon = Daemon(tmp_path, settings=f'api.listen = ["unix:a.sock", "127.0.0.1:{port}"]\n').start()

    def ask(path, body):
        place = ["--unix-socket", str(tmp_path / "a.sock"), f"http://localhost{path}"]
        said = ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return json.loads(subprocess.run(["curl", "-s", *place, *said], capture_output=True, check=True).stdout)

    made = ask("/v1/webhooks", {"url": "http://127.0.0.1:9/", "events": ["*"], "retry": [], "tenant": "acme"})
    assert made["code"] == "invalid_field"  # port 9 is not opened: nothing is sent anywhere by this test
    made = ask("/v1/webhooks", {"url": "http://127.0.0.1:9999/", "events": ["*"], "retry": [], "tenant": "acme"})
    for number in range(3):
        ask("/v1/events", {"type": "booking.created", "tenant": "acme", "data": number})
    key = ask("/v1/keys", {"tenant": "*", "role": "admin"})["key"]
    yield f"http://127.0.0.1:{port}", key, made["id"], tmp_path
    assert daemon.end() == 0
    log = daemon.log()
    assert "request_failed" not in log
    assert key not in log


# a precondition that fails is told before what is wrong with the body (RFC 9110 §13.2.2)
REJECTED = ["400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "429"]


def test_schemathesis_finds_no_fault_and_every_answer_is_as_documented(served):
    place, key, _, folder = served
    (folder / "schemathesis.toml").write_text(f"[checks]\nnegative_data_rejection.expected-statuses = {REJECTED}\n")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{place}/openapi.json",
            "--header", f"Authorization: Bearer {key}",
            "--exclude-path", "/v1/events/stream",  # has no end
            "--checks", ",".join(CHECKS),
            "--phases", "examples,coverage,fuzzing",
            "--max-examples", "40", "--seed", "1", "--workers", "1", "--no-color", "--generation-database", "none",
        ],
        capture_output=True, text=True, timeout=240, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 32" in done.stdout
