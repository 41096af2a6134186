"""`hookrelay audit`: who changed what."""

from typing import Any

import click

from hookrelay.cli.api import Target, options, paging, show_list


@click.group(short_help="List who changed what, and when.")
def command() -> None:
    """Look at the audit trail over the daemon's HTTP API. Only administrators may; a tenant's see its own records.

    \b
    Examples:
      hookrelay audit list --since 24h
      hookrelay audit list --object wh_01HQ3K5M7N8P9QRSTVWXYZ0123
    """


@command.command("list")
@click.option("--action", metavar="ACTION", help="Only these changes, such as webhook.updated or key.created.")
@click.option("--actor", metavar="WHO", help="Only by this key, link, session, file (file:NAME.toml) or user (uid:0).")
@click.option("--object", "object_", metavar="ID", help="Only of the webhook, delivery, key or link with this id.")
@click.option("--since", metavar="TIME", help="Done then or later: 2026-02-26T10:00:00Z, or 24h back from now.")
@click.option("--until", metavar="TIME", help="Done before then.")
@click.option("--tenant", help="Only this tenant's.")
@paging
@options
def list_(target: Target, limit: int | None, object_: str | None, **filters: str | None) -> None:
    """List who changed what, newest first.

    \b
    Examples:
      hookrelay audit list --since 24h
      hookrelay audit list --actor key_01HQ3K5M7N8P9QRSTVWXYZ0123 --output json
      hookrelay audit list --action webhook.deleted --tenant acme --all
    """
    show_list(
        target,
        "/v1/audit",
        {**filters, "object": object_},
        {
            "at": lambda row: row["created_at"],
            "action": lambda row: row["action"],
            "object": lambda row: row["object"],
            "actor": _actor,
            "from": lambda row: row["address"],
            "what": _what,
            "tenant": lambda row: row["tenant"],
            "session": lambda row: row["session"],
        },
        limit=limit,
        nothing="No records: none match, or nothing was changed yet.",
    )


def _actor(row: dict[str, Any]) -> str:
    return str(row["actor"]) if row["pid"] is None else f"{row['actor']} (pid {row['pid']})"


def _what(row: dict[str, Any]) -> str:
    """The fields, the URLs and what else there is, on one line."""
    said = [", ".join(row["fields"])]
    before, after = row["url_before"], row["url_after"]
    if before is not None and after is not None:
        said.append(f"{before} -> {after}")
    else:
        said.append(before or after or "")
    said += [f"{name}={_text(value)}" for name, value in row["details"].items() if value not in (None, "", [])]
    return "; ".join(filter(None, said))


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
