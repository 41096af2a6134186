"""`hookrelay status`: how the daemon does, on one screen."""

import sys
from datetime import UTC, datetime
from typing import Any

import click

from hookrelay.cli.api import EX_NO, Target, options_where
from hookrelay.cli.shown import clean, echo_json, facts, table
from hookrelay.units import format_duration


@click.command(short_help="Say how the running daemon does, on one screen.")
@options_where("it is not ready, or there is trouble")
def command(target: Target) -> None:
    """Say how the daemon does: what it delivers, what waits, which webhooks are in trouble.

    Counts are since its start. Over TCP it takes the key of an administrator of all tenants.

    \b
    Examples:
      hookrelay status
      hookrelay status --output json | jq .pending
      hookrelay status > /dev/null || echo "have a look at hookrelay"
    """
    with target.client() as client:
        status = client.call("GET", "/v1/status")
    if target.is_json:
        echo_json(status)
    else:
        _show(status)
    if not status["ready"] or status["trouble"] is not None:
        sys.exit(EX_NO)


def _show(status: dict[str, Any]) -> None:
    state = click.style("ready", fg="green") if status["ready"] else click.style("not ready", fg="red")
    click.echo(f"hookrelay {clean(status['version'])}, {state}, up {_age(status['started_at'])}")
    if status["trouble"] is not None:
        click.secho(f"trouble: {clean(status['trouble'])}", fg="red")
    reload = status["reload"]
    if not reload["successful"]:
        click.secho(
            f"trouble: the reload at {reload['at']} was refused: `hookrelay check` says why, and the old configuration "
            "stays in force",
            fg="red",
        )
    click.echo()
    events, deliveries, store = status["events"], status["deliveries"], status["store"]
    low = ", and the disk is nearly full" if store["is_low"] else ""
    facts(
        {
            "webhooks": _counts(status["webhooks"]),
            "waiting": f"{status['pending']:,} pending, {status['held']:,} held, {status['in_flight']:,} in flight",
            **_missing(status.get("missing_from_files")),
            "overdue": _overdue(status["oldest_due_seconds"]),
            "events": _counts(events),
            "deliveries": _counts(deliveries),
            "attempts": _counts(status["attempts"]) or None,
            "connections": f"{status['open_connections']:,} open",
            "store": f"{_size(store['size_bytes'])}{low}",
            "last reload": f"{'applied' if reload['successful'] else 'refused'}, {reload['at']}",
        }
    )
    _show_webhooks(status)


def _show_webhooks(status: dict[str, Any]) -> None:
    if status["disabled"]:
        click.echo()
        click.secho("Disabled: `hookrelay webhooks resume` makes them active again", bold=True)
        rows = [
            [row["id"], row["tenant"], row["disabled_reason"], row["updated_at"], row["url"]]
            for row in status["disabled"]
        ]
        table(["id", "tenant", "why", "since", "url"], rows)
    if status["behind"]:
        click.echo()
        click.secho("Behind: `hookrelay webhooks show` says what holds them up", bold=True)
        rows = [
            [row["id"], row["tenant"], row["pending"], _overdue(row["overdue_seconds"]), row["why"], row["url"]]
            for row in status["behind"]
        ]
        table(["id", "tenant", "pending", "overdue", "why", "url"], rows)


def _missing(missing: dict[str, Any] | None) -> dict[str, str]:
    if missing is None or not missing["webhooks"]:  # an older daemon tells of none
        return {}
    held = f"{missing['held']:,} deliveries are held for them"
    left = missing.get("removal_in_seconds")
    when = "" if left is None else f"; the first is removed in {_rounded(left)}"
    return {"missing": f"{missing['webhooks']:,} webhooks are in no file any more, {held}{when}"}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _age(since: str) -> str:
    started = datetime.fromisoformat(since)
    return f"{_rounded((datetime.now(UTC) - started).total_seconds())} (since {since})"


def _overdue(seconds: float | None) -> str:
    return "no" if not seconds or seconds < 1 else _rounded(seconds)


def _rounded(seconds: float) -> str:
    """About how long: whole days, hours, minutes or seconds."""
    unit = next((size for size in (86_400, 3600, 60) if seconds >= 2 * size), 1)
    return format_duration(max(0, int(seconds / unit)) * unit)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
