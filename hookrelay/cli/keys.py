"""`hookrelay keys`: who may use the HTTP API over TCP."""

import click

from hookrelay.cli.api import KEY, Target, confirm, options, paging, show_list
from hookrelay.cli.misspelt import Group
from hookrelay.cli.shown import echo_json, facts


@click.group(cls=Group, short_help="Make, list and revoke keys of the HTTP API.")
def command() -> None:
    """Manage the keys of the HTTP API. Only administrators may.

    \b
    Examples:
      hookrelay keys create --tenant acme --role manage --name 'billing service'
      hookrelay keys list
    """


@command.command("create")
@click.option("--tenant", help="Whose objects it opens; '*' for everybody's.  [default: that of the key that asks]")
@click.option(
    "--role",
    type=click.Choice(["admin", "manage", "submit", "read"]),
    required=True,
    help="admin: everything; manage: webhooks and deliveries; submit: events only; read: looking only.",
)
@click.option("--name", help="A note for people: who has it.")
@options
def create(target: Target, tenant: str | None, role: str, name: str | None) -> None:
    """Make a key, and print it: this once only.

    \b
    Examples:
      hookrelay keys create --tenant acme --role manage --name 'billing service'
      hookrelay keys create --tenant '*' --role admin --output json | jq -r .key
    """
    given = {"tenant": tenant, "role": role, "name": name}
    body = {field: value for field, value in given.items() if value is not None}
    with target.client() as client:
        made = client.call("POST", "/v1/keys", body=body)
    if target.is_json:
        echo_json(made)
        return
    facts({field: made[field] for field in ("id", "name", "tenant", "role", "key")})
    click.echo("The key is shown this once: it goes into HOOKRELAY_KEY, or after `Authorization: Bearer`.", err=True)


@command.command("list")
@click.option("--tenant", help="Only this tenant's.")
@paging
@options
def list_(target: Target, tenant: str | None, limit: int | None) -> None:
    """List keys: never the keys themselves, but their last characters.

    \b
    Example:
      hookrelay keys list --tenant acme
    """
    show_list(
        target,
        "/v1/keys",
        {"tenant": tenant},
        {
            "id": lambda row: row["id"],
            "role": lambda row: row["role"],
            "tenant": lambda row: row["tenant"],
            "ends in": lambda row: row["hint"],
            "name": lambda row: row["name"],
            "last used": lambda row: row["last_used_at"] or "never",
            "created": lambda row: row["created_at"],
        },
        limit=limit,
        nothing="No keys: `hookrelay keys create --help` says how one is made.",
    )


@command.command("revoke")
@click.argument("key", type=KEY)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def revoke(target: Target, key: str, yes: bool) -> None:
    """Revoke a key for good: calls with it are refused from now on.

    \b
    Example:
      hookrelay keys revoke key_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        if not yes:
            found = next((row for row in client.pages("/v1/keys") if row["id"] == key), None)
            whose = f" ({found['name'] or 'without a name'}, {found['role']} of {found['tenant']})" if found else ""
            confirm(f"Revoke {key}{whose}?", yes)
        client.call("DELETE", f"/v1/keys/{key}")
    if not target.is_json:
        click.echo(f"{key} is revoked")
