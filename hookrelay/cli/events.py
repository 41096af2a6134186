"""`hookrelay events`: what was submitted."""

import json
from typing import Any

import click

from hookrelay.cli.api import EVENT, Target, clean, echo_json, facts, options, paging, show_list, table


@click.group(short_help="List events, look at one.")
def command() -> None:
    """Look at events over the daemon's HTTP API. `hookrelay send` submits them.

    \b
    Examples:
      hookrelay events list --type booking.created --since 1h
      hookrelay events show evt_01HQ3K5M7N8P9QRSTVWXYZ0123
    """


@command.command("list")
@click.option("--type", "event_type", metavar="TYPE", help="Only of this type.")
@click.option("--since", metavar="TIME", help="Accepted then or later: 2026-02-26T10:00:00Z, or 24h back from now.")
@click.option("--until", metavar="TIME", help="Accepted before then.")
@click.option("--tenant", help="Only this tenant's.")
@paging
@options
def list_(target: Target, limit: int | None, event_type: str | None, **filters: str | None) -> None:
    """List events, newest first.

    \b
    Examples:
      hookrelay events list --type booking.created --since 1h
      hookrelay events list --all --output json
    """
    show_list(
        target,
        "/v1/events",
        {**filters, "type": event_type},
        {
            "id": lambda row: row["id"],
            "type": lambda row: row["type"],
            "tenant": lambda row: row["tenant"],
            "created": lambda row: row["created_at"],
            "test": lambda row: row["test"],
            "idempotency key": lambda row: row["idempotency_key"],
            "timestamp": lambda row: row["timestamp"],
        },
        limit=limit,
        nothing="No events: none match, or none were submitted yet (`hookrelay send` submits one).",
    )


@command.command("show")
@click.argument("event", type=EVENT)
@options
def show(target: Target, event: str) -> None:
    """Show an event, its data and its deliveries.

    \b
    Example:
      hookrelay events show evt_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        found = client.call("GET", f"/v1/events/{event}")
    if target.is_json:
        echo_json(found)
        return
    rest = ("data", "deliveries", "delivery_count")
    facts({name.replace("_", " "): value for name, value in found.items() if name not in rest})
    click.echo()
    click.secho("-- data", bold=True)
    click.echo(clean(json.dumps(found["data"], indent=2, ensure_ascii=False)))
    click.echo()
    _show_deliveries(event, found)


def _show_deliveries(event: str, found: dict[str, Any]) -> None:
    shown = found["deliveries"]
    click.secho(f"-- deliveries: {found['delivery_count']}", bold=True)
    if shown:
        rows = [
            [row["id"], row["status"], row["webhook_id"], row["attempt_count"], row["response_code"]] for row in shown
        ]
        table(["id", "status", "webhook", "attempts", "code"], rows)
    if len(shown) < found["delivery_count"]:
        click.echo(f"There are more: `hookrelay deliveries list --event {event} --all` shows them.", err=True)
