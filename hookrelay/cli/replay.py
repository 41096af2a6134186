"""`hookrelay replay`: deliver again what a webhook missed."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from hookrelay.cli.api import WEBHOOK, Target, confirm, options
from hookrelay.cli.shown import echo_json
from hookrelay.units import format_time, parse_duration

if TYPE_CHECKING:
    from hookrelay.net.api_client import ApiClient

PER_SLICE = 1000
"""Deliveries that one call is meant to replay: it is answered when all of them are on their way."""
MOST_SLICES = 200


@click.command(short_help="Deliver again what a webhook missed.")
@click.argument("webhook", type=WEBHOOK)
@click.option("--since", required=True, metavar="TIME", help="Made then or later: 2026-02-26T10:00:00Z, or 24h ago.")
@click.option("--until", metavar="TIME", help="Made before then.  [default: now]")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(["failed", "cancelled", "succeeded"]),
    multiple=True,
    help="Only these. May be repeated.  [default: failed]",
)
@click.option("--type", "event_type", metavar="TYPE", help="Only of this event type.")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def command(
    target: Target,
    webhook: str,
    since: str,
    until: str | None,
    statuses: tuple[str, ...],
    event_type: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Deliver again what failed for WEBHOOK, each with a fresh schedule.

    Says how many deliveries that are, and asks before it starts. Receivers know by the `webhook-id` what they have
    had already.

    \b
    Examples:
      hookrelay replay wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --since 24h --dry-run
      hookrelay replay wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --since 24h
      hookrelay replay wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --since 2026-02-26T10:00:00Z --until 2026-02-26T12:00:00Z \\
        --status failed --status cancelled --type payment.failed --yes
    """
    now_ms = int(time.time() * 1000)
    # durations are counted from here once, not anew by each call
    first_ms = _moment("--since", since, now_ms)
    last_ms = None if until is None else _moment("--until", until, now_ms)
    what = {"status": list(statuses) or ["failed"]} | ({} if event_type is None else {"type": event_type})
    with target.client() as client:
        replay = _Replay(client, webhook, what)
        count = replay.call(first_ms, last_ms, dry_run=True)
        if not target.is_json:
            click.echo(
                f"{_deliveries(count)} of {webhook}, {' or '.join(what['status'])}, made since {format_time(first_ms)}"
            )
        if not dry_run and count > 0:
            confirm(f"Deliver {_them(count)} again?", yes)
            count = replay.all(first_ms, last_ms, last_ms or now_ms, count)
    if target.is_json:
        echo_json({"count": count})
    elif not dry_run and count > 0:
        click.echo(
            f"{_deliveries(count)} on their way: `hookrelay deliveries list --webhook {webhook}` tells how they go"
        )


class _Replay:
    """One webhook's deliveries that are to go out again."""

    def __init__(self, client: "ApiClient", webhook: str, what: dict[str, Any]) -> None:
        self._client = client
        self._webhook = webhook
        self._what = what

    def call(self, since_ms: int, until_ms: int | None, *, dry_run: bool) -> int:
        """How many the daemon found, and replayed unless it was a `dry_run`. Without `until_ms` until now."""
        body = {**self._what, "since": format_time(since_ms), "dry_run": dry_run}
        if until_ms is not None:
            body["until"] = format_time(until_ms)
        answer = self._client.call("POST", f"/v1/webhooks/{self._webhook}/replay", body=body)
        count: int = answer["count"]
        return count

    def all(self, since_ms: int, until_ms: int | None, now_ms: int, count: int) -> int:
        """Replay slice after slice of the time, oldest first; returns how many were replayed."""
        slices = min(math.ceil(count / PER_SLICE), MOST_SLICES)
        bounds = [since_ms + (now_ms - since_ms) * index // slices for index in range(1, slices)]
        done, reached = 0, since_ms
        with _progress(count if slices > 1 else None) as advance:
            try:
                for bound in [*bounds, until_ms]:
                    done += self.call(reached, bound, dry_run=False)
                    advance(done)
                    reached = bound or reached
            except BaseException:
                # Ctrl-C too: what is done is done
                if done:
                    click.echo(
                        f"hookrelay: {_deliveries(done)} on their way; go on with --since {format_time(reached)}",
                        err=True,
                    )
                raise
        return done


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar where somebody watches and there is something to watch; nothing elsewhere."""
    import sys

    if total is None or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda done: bar.update(task, completed=done)


def _moment(option: str, text: str, now_ms: int) -> int:
    """Unix milliseconds of a time, or of a duration back from now."""
    try:
        return now_ms - round(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise click.UsageError(
            f"{option}: {text!r} is no time: write one such as 2026-02-26T10:00:00Z, or 24h ago as 24h."
        )
    return round(moment.timestamp() * 1000)


def _deliveries(count: int) -> str:
    return f"{count} {'delivery' if count == 1 else 'deliveries'}"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
