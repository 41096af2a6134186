"""Objects as the API shows them, and two ways to run a command against a stub of it."""

import os
import pty
import sys
from pathlib import Path

import processes
from click.testing import CliRunner, Result
from stub_api import StubApi

from hookrelay.cli.main import main

HOOKRELAY = [sys.executable, "-m", "hookrelay"]
WH, DLV, EVT, KEY = "wh_01HQ3K5M7N", "dlv_01HQ3K5M7N", "evt_01HQ3K5M7N", "key_01HQ3K5M7N"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEBHOOK = {
    "id": WH,
    "tenant": "acme",
    "url": "https://hooks.example/in",
    "events": ["booking.*"],
    "description": "",
    "status": "active",
    "disabled_reason": None,
    "rate_limit": None,
    "max_in_flight": 8,
    "timeout": "30s",
    "retry": ["5s", "5m"],
    "headers": {"x-source": "***"},
    "ordered": False,
    "metadata": {},
    "secret_hint": "LaSw",
    "source": "api",
    "created_at": "2026-02-26T10:00:00.000Z",
    "updated_at": "2026-02-26T10:00:00.000Z",
}
WAITING = {"waiting": {"pending": 3, "held": 12, "why": "rate_limit", "until": "2026-02-26T10:00:01.000Z"}}
DELIVERY = {
    "id": DLV,
    "event_id": EVT,
    "event_type": "booking.created",
    "webhook_id": WH,
    "tenant": "acme",
    "status": "succeeded",
    "attempt_count": 1,
    "response_code": 200,
    "response_time_ms": 12.5,
    "error": None,
    "next_attempt_at": None,
    "created_at": "2026-02-26T10:00:00.000Z",
    "completed_at": "2026-02-26T10:00:00.013Z",
    "test": False,
}
FAILED = {
    **DELIVERY,
    "status": "failed",
    "response_code": 500,
    "error": {"code": "http_status", "detail": "the receiver answered 500"},
}
ATTEMPT = {
    "id": "att_01HQ3K5M7N",
    "number": 1,
    "started_at": "2026-02-26T10:00:00.000Z",
    "duration_ms": 12.5,
    "response_code": 200,
    "response_headers": {"content-type": "text/plain"},
    "response_body": "thank you\r\nvery much",
    "request_headers": {"webhook-id": EVT, "x-source": "***"},
    "remote_address": "203.0.113.7:443",
    "error": None,
}
WHOLE = {**DELIVERY, "payload": {"booking": 7}, "attempts": [ATTEMPT]}
WHOLE_FAILED = {**FAILED, "payload": 1, "attempts": [{**ATTEMPT, "response_code": 500, "error": FAILED["error"]}]}
STATUS = {
    "version": "0.1.0",
    "started_at": "2026-02-26T10:00:00.000Z",
    "ready": True,
    "trouble": None,
    "webhooks": {"active": 12, "paused": 1, "disabled": 2},
    "pending": 1204,
    "held": 30,
    "in_flight": 8,
    "oldest_due_seconds": 190.2,
    "open_connections": 5,
    "store": {"size_bytes": 1_500_000_000, "is_low": False},
    "events": {"accepted": 10, "duplicate": 1, "refused": 0},
    "deliveries": {"succeeded": 9, "failed": 1, "cancelled": 0},
    "attempts": {"success": 9, "timeout": 4},
    "reload": {"successful": True, "at": "2026-02-26T10:00:00.000Z"},
    "disabled": [
        {"id": WH, "tenant": "acme", "url": "https://a.example", "disabled_reason": "gone", "updated_at": "2026-02-26"}
    ],
    "behind": [
        {
            "id": WH,
            "tenant": "acme",
            "url": "https://b.example",
            "pending": 7,
            "overdue_seconds": 190.2,
            "why": "slowed",
        }
    ],
}


KEY_ROW = {
    "id": KEY,
    "tenant": "*",
    "role": "admin",
    "name": "ops",
    "hint": "x9Qz",
    "created_at": "2026-02-26T10:00:00.000Z",
    "last_used_at": None,
}


def run(stub: StubApi | None, *arguments: str | Path, code: int = 0, stdin: str = "", **env: str) -> Result:
    """The command in this process; its exit code is as expected, and nothing was raised but that."""
    env = {"HOOKRELAY_API": stub.place if stub else None, "HOOKRELAY_KEY": None, **env}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin, env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert result.exit_code == code, result.output
    return result


def on_a_terminal(stub: StubApi, *arguments: str, typed: str = "", **env: str) -> tuple[int, str]:
    """The command in a terminal of its own: its exit code, and what was seen there."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": "200", **env}
    os.write(master, typed.encode())
    with processes.running(
        [*HOOKRELAY, *arguments, "--api", stub.place], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        seen = b""
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:
            pass  # EIO: the other end is closed
        code = process.wait(30)
    os.close(master)
    return code, seen.decode()
