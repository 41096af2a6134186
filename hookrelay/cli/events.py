"""`hookrelay events`: what was submitted, and getting rid of what it said."""

import json
from typing import Any

import click

from hookrelay.cli.api import EVENT, Target, confirm, options, paging, show_list
from hookrelay.cli.misspelt import Group
from hookrelay.cli.shown import clean, echo_json, facts, table


@click.group(cls=Group, short_help="List events, look at one, expunge payloads.")
def command() -> None:
    """Look at events over the daemon's HTTP API. `hookrelay send` submits them.

    \b
    Examples:
      hookrelay events list --type booking.created --since 1h
      hookrelay events show evt_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay events purge --tenant acme --before 30d
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


@command.command("purge")
@click.argument("event", type=EVENT, required=False)
@click.option("--tenant", help="All events of this tenant, instead of one event.")
@click.option("--before", metavar="TIME", help="Only those accepted before it: 2026-02-26T10:00:00Z, or 30d ago.")
@click.option("--dry-run", is_flag=True, help="Only say how many events it would be.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def purge(target: Target, event: str | None, tenant: str | None, before: str | None, dry_run: bool, yes: bool) -> None:
    """Expunge the payload of an event, or those of a tenant's events, for good.

    Gone are the events' data and keys, what receivers answered to them, and what failed attempts quote of that. What
    waits is cancelled first, and what is in flight is waited for; then nothing of it is in the store's files. The
    history stays and says that the payload was purged.

    Backups and log files are not touched. It takes an administrator.

    \b
    Examples:
      hookrelay events purge evt_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay events purge --tenant acme --before 30d --dry-run
      hookrelay events purge --tenant acme --yes
    """
    from hookrelay.net.api_client import LONG_S

    if (event is None) == (tenant is None):
        raise click.UsageError("Name one EVENT, or --tenant for all of its events.")
    if event is not None and before is not None:
        raise click.UsageError("--before goes with --tenant: an EVENT is purged whenever it was accepted.")
    wish = {name: value for name, value in (("id", event), ("tenant", tenant), ("before", before)) if value}
    with target.client() as client:
        if dry_run or not yes:
            found = client.call("POST", "/v1/events/purge", body={**wish, "dry_run": True})
            if not dry_run:
                confirm(f"Purge the {_payloads(found['events'])} for good?", yes)
        if not dry_run:
            found = client.call("POST", "/v1/events/purge", body=wish, timeout_s=LONG_S)
    if target.is_json:
        echo_json(found)
    elif dry_run:
        click.echo(f"{_payloads(found['events'])} would be purged")
    else:
        cancelled = found["cancelled"]
        click.echo(f"{_payloads(found['events'])} purged; {cancelled:,} waiting deliveries were cancelled for it")


def _payloads(events: int) -> str:
    return "payload of 1 event" if events == 1 else f"payloads of {events:,} events"


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
