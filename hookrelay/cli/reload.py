"""`hookrelay reload`: the daemon reads its files again."""

import sys

import click

from hookrelay.cli.api import EX_CONFIG, Target, options
from hookrelay.cli.shown import clean, echo_json

INVALID = "invalid_configuration"


@click.command(short_help="Have the daemon read its files again.")
@click.option("--remove", "removes", is_flag=True, help="Remove at once what no file names any more.")
@options
def command(target: Target, removes: bool) -> None:
    """Have the daemon read its configuration and webhooks.d again, and say every mistake in them.

    All of it applies or, after any mistake, none. What is in flight goes on. Webhooks that no file names any more are
    held for delivery.removal_grace, as are events that match them, and removed then; with --remove at once.

    \b
    Each mistake is a line FILE:LINE: KEY: what is wrong and what would be right.
    Exit codes: 0 it is in force, 1 the daemon refuses, 2 usage, 69 the daemon cannot be reached, 77 not permitted,
    78 a mistake in the configuration.

    \b
    Example:
      hookrelay check && hookrelay reload
    """
    from hookrelay.net.api_client import Problem

    with target.client() as client:
        try:
            done = client.call("POST", "/-/reload", query={"remove": "true"} if removes else {})
        except Problem as problem:
            if problem.code != INVALID:
                raise
            for key, detail in problem.errors:
                click.echo(clean(f"{key}: {detail}" if key else detail), err=True)
            count = len(problem.errors)
            click.echo(f"{count} {'mistake' if count == 1 else 'mistakes'}: nothing was changed", err=True)
            sys.exit(EX_CONFIG)
    if target.is_json:
        echo_json(done)
    else:
        count = done["webhooks"]
        click.echo(f"reloaded: {count} {'webhook' if count == 1 else 'webhooks'}")
        removed = done.get("removed")
        if removed and removed["webhooks"]:
            click.echo(f"removed: {removed['webhooks']}, with {removed['cancelled']} deliveries that are cancelled")
        missing = done.get("missing_from_files")
        if missing and missing["webhooks"]:
            click.echo(
                f"in no file any more: {missing['webhooks']}, with {missing['held']} deliveries held; removed after "
                f"{missing['removal_grace']} unless a file names them again, or now by `hookrelay reload --remove`"
            )
