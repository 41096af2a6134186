"""A delivery in full: what was sent, what came back, attempt by attempt."""

import json
from typing import Any

import click

from hookrelay.cli.shown import clean, facts, table


def show_delivery(delivery: dict[str, Any]) -> None:
    """Everything about a delivery; of its attempts the last one's exchange in full."""
    _show_facts(delivery)
    if not delivery["attempts"]:
        _section("payload")
        click.echo(_payload(delivery))
        return
    click.echo()
    table(
        ["attempt", "started", "ms", "code", "error"],
        [
            [
                each["number"],
                each["started_at"],
                round(each["duration_ms"]),
                each["response_code"],
                error_text(each["error"]),
            ]
            for each in delivery["attempts"]
        ],
    )
    _show_attempt(delivery)


def show_exchange(delivery: dict[str, Any]) -> None:
    """A delivery of one attempt: the whole exchange."""
    _show_facts(delivery)
    _show_attempt(delivery)


def error_text(error: dict[str, Any] | None) -> str | None:
    """`timeout: no answer within 30 s`"""
    if error is None:
        return None
    return f"{error['code']}: {error['detail']}" if error["detail"] else str(error["code"])


def _show_facts(delivery: dict[str, Any]) -> None:
    facts(
        {
            "id": delivery["id"],
            "status": delivery["status"],
            "event": f"{delivery['event_id']} ({delivery['event_type']}{', a test' if delivery['test'] else ''})",
            "webhook": delivery["webhook_id"],
            "tenant": delivery["tenant"],
            "created": delivery["created_at"],
            **({"next attempt": delivery["next_attempt_at"]} if delivery["next_attempt_at"] else {}),
            **({"completed": delivery["completed_at"]} if delivery["completed_at"] else {}),
            "response": _response(delivery["response_code"], delivery["response_time_ms"]),
            "error": error_text(delivery["error"]),
        }
    )


def _show_attempt(delivery: dict[str, Any]) -> None:
    """What the last attempt sent and got."""
    attempt = delivery["attempts"][-1]
    _section(f"request of attempt {attempt['number']}, {attempt['started_at']}")
    _show_headers(attempt["request_headers"])
    click.echo()
    click.echo(_payload(delivery))
    came_from = f" from {attempt['remote_address']}" if attempt["remote_address"] else ""
    _section(f"answer{came_from}: {_response(attempt['response_code'], attempt['duration_ms'])}")
    _show_headers(attempt["response_headers"])
    if attempt["response_body"]:
        click.echo()
        click.echo(clean(attempt["response_body"].replace("\r\n", "\n").rstrip("\n")))
    if attempt["error"] is not None:
        _section("error")
        click.echo(clean(error_text(attempt["error"])))


def _show_headers(headers: dict[str, str] | None) -> None:
    for name, value in (headers or {}).items():
        click.echo(f"{clean(name)}: {clean(value)}")


def _payload(delivery: dict[str, Any]) -> str:
    return clean(json.dumps(delivery["payload"], indent=2, ensure_ascii=False))


def _response(code: int | None, ms: float | None) -> str:
    took = "" if ms is None else f" after {ms:.0f} ms"
    return f"{'none' if code is None else code}{took}"


def _section(title: str) -> None:
    click.echo()
    click.secho(f"-- {clean(title)}", bold=True)
