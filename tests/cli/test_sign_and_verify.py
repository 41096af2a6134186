"""`hookrelay sign` and `verify`: alone, and against the reference library."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook

from hookrelay.cli import sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()
BODY = b'{"id":"evt_1","data":{"a": 1}}'


def run(command: object, *args: str, secret: str | None = SECRET, stdin: bytes = BODY) -> Result:
    env = {"HOOKRELAY_SECRET": secret}
    return CliRunner().invoke(command, list(args), input=stdin, env=env)  # type: ignore[arg-type] # click's own object


def headers(*args: str) -> dict[str, str]:
    done = run(sign.command, "--id", "evt_1", "--output", "json", *args)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def checked(said: dict[str, str], *args: str, secret: str = SECRET, stdin: bytes = BODY) -> Result:
    given = [part for name, value in said.items() for part in (f"--{name.removeprefix('webhook-')}", value)]
    return run(verify.command, *given, *args, secret=secret, stdin=stdin)


def test_the_reference_library_accepts_what_is_signed():
    said = headers()
    assert Webhook(SECRET).verify(BODY.decode(), said) == json.loads(BODY)


def test_what_the_reference_library_signs_is_verified():
    now = datetime.now(UTC)
    signature = Webhook(SECRET).sign("evt_1", now, BODY.decode())
    said = {"webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    done = checked(said)
    assert (done.exit_code, done.output) == (0, "verified\n")


def test_headers_are_read_from_a_file_as_they_came_and_others_are_passed_over(tmp_path: Path):
    lines = "".join(f"{name.title()}: {value}\r\n" for name, value in headers().items())
    (tmp_path / "headers").write_text(f"POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n", newline="")
    (tmp_path / "body").write_bytes(BODY)
    done = run(verify.command, "--headers", str(tmp_path / "headers"), "--body", str(tmp_path / "body"))
    assert (done.exit_code, done.output) == (0, "verified\n")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-id": "evt_2"}, "of another secret, id, time or payload"),
        ({"webhook-signature": "v1,AAAA"}, "of another secret, id, time or payload"),
        ({"webhook-signature": "v2,AAAA"}, "holds no v1 signature"),
        ({"webhook-timestamp": "yesterday"}, "not a number of unix seconds"),
        ({"webhook-id": ""}, "webhook-id is missing"),
    ],
)
def test_what_is_wrong_is_told_and_exits_1(change: dict[str, str], why: str):
    done = checked(headers() | change)
    assert done.exit_code == 1
    assert done.output.startswith("not verified: ")
    assert why in done.output


def test_another_payload_or_secret_is_not_verified():
    said = headers()
    assert checked(said, stdin=BODY + b" ").exit_code == 1
    assert checked(said, secret=OTHER).exit_code == 1


@pytest.mark.parametrize(("timestamp", "why"), [("1000000000", "s old"), ("99999999999", "s ahead of our clock")])
def test_a_right_signature_of_another_time_says_how_far_off_it_is(timestamp: str, why: str):
    said = headers("--timestamp", timestamp)
    done = checked(said)
    assert done.exit_code == 1
    assert "the signature is right, but" in done.output
    assert why in done.output
    assert checked(said, "--tolerance", "999999999999").exit_code == 0


def test_json_says_whether_and_why():
    done = checked(headers() | {"webhook-id": "x"}, "--output", "json")
    assert json.loads(done.output)["verified"] is False
    assert json.loads(checked(headers(), "--output", "json").output) == {"verified": True, "reason": None}


def test_a_secret_is_read_from_a_file_and_never_repeated(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    done = run(sign.command, "--id", "x", "--secret-file", str(file), secret=None)
    assert done.exit_code == 0
    file.write_text("whsec_hunter2")
    done = run(sign.command, "--id", "x", "--secret-file", str(file), secret=None)
    assert (done.exit_code, "hunter2" in done.output) == (2, False)


def test_without_a_secret_or_a_file_it_says_what_to_give():
    done = run(sign.command, "--id", "x", secret=None)
    assert (done.exit_code, "HOOKRELAY_SECRET" in done.output) == (2, True)
    assert run(sign.command, "--id", "x", "--body", "/nowhere").exit_code == 74
    assert run(sign.command, "--id", "x", "--secret-file", "-", "--body", "-").exit_code == 2
