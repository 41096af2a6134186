"""`hookrelay deliveries`: the history of deliveries, and the two things that can be done to one."""

from typing import Any

import click

from hookrelay.cli.api import DELIVERY, EVENT, WEBHOOK, Target, options, options_where, paging, show_list
from hookrelay.cli.exchange import show_delivery
from hookrelay.cli.misspelt import Group
from hookrelay.cli.shown import echo_json

_STATUSES = click.Choice(["pending", "held", "succeeded", "failed", "cancelled"])


@click.group(cls=Group, short_help="List deliveries, look at one, try it again, watch them pass.")
def command() -> None:
    """Look at deliveries over the daemon's HTTP API, and have one tried again or cancelled.

    \b
    Examples:
      hookrelay deliveries list --status failed --since 24h
      hookrelay deliveries tail
    """


@command.command("list")
@click.option("--status", type=_STATUSES, help="Only these; `failed` are the dead letters.")
@click.option("--type", "event_type", metavar="TYPE", help="Only of this event type.")
@click.option("--since", metavar="TIME", help="Made then or later: 2026-02-26T10:00:00Z, or 24h back from now.")
@click.option("--until", metavar="TIME", help="Made before then.")
@click.option("--code", type=click.IntRange(100, 599), help="Only where the receiver answered this last.")
@click.option("--webhook", type=WEBHOOK, help="Only for this webhook.")
@click.option("--event", type=EVENT, help="Only of this event.")
@click.option("--tenant", help="Only this tenant's.")
@paging
@options
def list_(target: Target, limit: int | None, event_type: str | None, code: int | None, **filters: str | None) -> None:
    """List deliveries, newest first.

    \b
    Examples:
      hookrelay deliveries list --status failed --since 24h
      hookrelay deliveries list --webhook wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --code 500 --all --output json
    """
    show_list(
        target,
        "/v1/deliveries",
        {**filters, "type": event_type, "response_code": code},
        {
            "id": lambda row: row["id"],
            "status": lambda row: row["status"],
            "type": lambda row: row["event_type"],
            "code": lambda row: row["response_code"],
            "error": lambda row: row["error"] and row["error"]["code"],
            "attempts": lambda row: row["attempt_count"],
            "created": lambda row: row["created_at"],
            "webhook": lambda row: row["webhook_id"],
            "ms": lambda row: row["response_time_ms"] and round(row["response_time_ms"]),
        },
        limit=limit,
        nothing="No deliveries: none match, or none were made yet.",
    )


@command.command("show")
@click.argument("delivery", type=DELIVERY)
@options
def show(target: Target, delivery: str) -> None:
    """Show a delivery: its payload, its attempts, and the last one's request and answer.

    \b
    Examples:
      hookrelay deliveries show dlv_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay deliveries show dlv_01HQ3K5M7N8P9QRSTVWXYZ0123 --output json
    """
    with target.client() as client:
        found = client.call("GET", f"/v1/deliveries/{delivery}")
    if target.is_json:
        echo_json(found)
    else:
        show_delivery(found)


@command.command("retry")
@click.argument("delivery", type=DELIVERY)
@options
def retry(target: Target, delivery: str) -> None:
    """Attempt a delivery now.

    One that has ended gets one attempt; one that waits is not waited for any longer.

    \b
    Example:
      hookrelay deliveries retry dlv_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        changed = client.call("POST", f"/v1/deliveries/{delivery}/retry")
    _say(target, changed, f"`hookrelay deliveries show {delivery}` tells how it went")


@command.command("cancel")
@click.argument("delivery", type=DELIVERY)
@options
def cancel(target: Target, delivery: str) -> None:
    """Attempt a delivery no more.

    \b
    Example:
      hookrelay deliveries cancel dlv_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        changed = client.call("POST", f"/v1/deliveries/{delivery}/cancel")
    _say(target, changed, f"`hookrelay deliveries retry {delivery}` attempts it after all")


@command.command("tail")
@click.option("--status", type=_STATUSES, help="Only these.")
@click.option("--type", "types", metavar="TYPE", multiple=True, help="Only these types, 'booking.*'. May be repeated.")
@click.option("--webhook", type=WEBHOOK, help="Only for this webhook.")
@click.option("--tenant", help="Only this tenant's.")
@options_where("the daemon refuses", "130 Ctrl-C")
def tail(target: Target, status: str | None, types: tuple[str, ...], webhook: str | None, tenant: str | None) -> None:
    """Show deliveries as they are attempted, a line after each attempt, until Ctrl-C.

    With --output json each line is a delivery as JSON. When the connection breaks it is made again.

    \b
    Examples:
      hookrelay deliveries tail
      hookrelay deliveries tail --status failed --type 'payment.*'
      hookrelay deliveries tail --output json | jq -r .error.code
    """
    from hookrelay.cli.follow import follow

    query = {"include": "deliveries", "types": ",".join(types) or None, "webhook": webhook, "tenant": tenant}
    follow(target, query, status)


def _say(target: Target, delivery: dict[str, Any], more: str) -> None:
    if target.is_json:
        echo_json(delivery)
    else:
        click.echo(f"{delivery['id']} is {delivery['status']}: {more}")
