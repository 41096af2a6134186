"""`hookrelay dashboard-link`: one-time links that open the dashboard."""

import click

from hookrelay.cli.api import LINK, Target, options, show_list
from hookrelay.cli.shown import echo_json


@click.command(short_help="Make a one-time link to the dashboard.")
@click.option("--tenant", help="Whose webhooks it shows; '*' for everybody's.  [default: that of the key that asks]")
@click.option(
    "--role",
    type=click.Choice(["manage", "read", "admin"]),
    default="manage",
    show_default=True,
    help="manage: webhooks and deliveries; read: looking only; admin: with '*', the overview too.",
)
@click.option(
    "--for",
    "lasts",
    default="1h",
    show_default=True,
    metavar="DURATION",
    help="How long it can be opened, and then how long its session lasts (12 hours at most).",
)
@click.option("--list", "is_list", is_flag=True, help="List the links that live, and the sessions that came of links.")
@click.option("--revoke", type=LINK, metavar="ID", help="End this link instead, or the session that came of it.")
@options
def command(target: Target, tenant: str | None, role: str, lasts: str, is_list: bool, revoke: str | None) -> None:
    """Print a link that opens the dashboard, once, for whoever has it. Only administrators may.

    \b
    Examples:
      hookrelay dashboard-link --tenant acme
      hookrelay dashboard-link --tenant acme --role read --for 7d
      hookrelay dashboard-link --tenant '*' --role admin
    """
    if is_list:
        _list(target, tenant)
        return
    if revoke is not None:
        with target.client() as client:
            client.call("DELETE", f"/v1/portal-links/{revoke}")
        if not target.is_json:
            click.echo(f"{revoke} opens nothing any more")
        return
    body = {"role": role, "for": lasts} | ({} if tenant is None else {"tenant": tenant})
    with target.client() as client:
        made = client.call("POST", "/v1/portal-links", body=body)
    if target.is_json:
        echo_json(made)
        return
    click.echo(made["url"])
    click.echo(f"It opens once, until {made['expires_at']}. To end it: --revoke {made['id']}", err=True)


def _list(target: Target, tenant: str | None) -> None:
    show_list(
        target,
        "/v1/portal-links",
        {"tenant": tenant},
        {
            "id": lambda row: row["id"],
            "status": lambda row: row["status"],
            "role": lambda row: row["role"],
            "tenant": lambda row: row["tenant"],
            "until": lambda row: row["expires_at"],
        },
        limit=None,
        nothing="No link lives, nor a session that came of one.",
    )
