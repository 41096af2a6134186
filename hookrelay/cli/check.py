"""`hookrelay check`: is the configuration right, and what is it once defaults and environment are in?"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import tomli_w

from hookrelay.cli.api import EX_CONFIG, Target
from hookrelay.cli.reload import INVALID
from hookrelay.cli.shown import clean, echo_error
from hookrelay.config import load
from hookrelay.config.load import DEFAULT_PATH, find
from hookrelay.config.show import describe
from hookrelay.model import ConfigError, ConfigMistake

if TYPE_CHECKING:
    from hookrelay.config.settings import Loaded


def check(config: Path | None, print_effective: bool) -> int:
    """Say `ok` or every mistake, one a line; returns the exit code. None means the default file, where it exists."""
    from hookrelay.outfit import load_whole

    file = find(config)
    try:
        loaded = load_whole(file, os.environ)
    except ConfigError as error:
        return _refuse(error.mistakes)
    if mistakes := _unreadable(loaded, file):
        return _refuse(mistakes)
    if print_effective:
        click.echo(tomli_w.dumps(describe(loaded.config)), nl=False)
    # what --print prints is a file of its own
    where = f"no configuration at {load.DEFAULT_PATH}: every default holds;" if file is None else f"{file}:"
    said = f"{where} {_count(len(loaded.webhooks), 'webhook')} in {_count(len(loaded.files), 'file')}"
    click.echo(f"ok: {clean(said)}", err=print_effective)
    return 0


def _refuse(mistakes: Sequence[ConfigMistake]) -> int:
    for mistake in mistakes:
        echo_error(str(mistake))
    click.echo(_count(len(mistakes), "mistake"), err=True)
    return EX_CONFIG


def _unreadable(loaded: "Loaded", file: Path | None) -> list[ConfigMistake]:
    """What root may read here, and the daemon may not: with these files it would not start."""
    if os.geteuid() != 0:
        return []
    from hookrelay.cli import permissions

    shut = permissions.unreadable(loaded, file)
    return [ConfigMistake(str(each.path), None, "", f"{each.said}: {each.remedy}") for each in shut]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def diff(target: Target) -> int:
    """Ask the running daemon what a reload would change, and say it."""
    from hookrelay.net.api_client import Problem

    with target.client() as client:
        try:
            changes = client.call("POST", "/-/reload", query={"dry_run": "true"})["changes"]
        except Problem as problem:
            if problem.code != INVALID:
                raise
            for key, detail in problem.errors:
                click.echo(clean(f"{key}: {detail}" if key else detail), err=True)
            click.echo("the daemon would refuse these files", err=True)
            return EX_CONFIG
    if not changes:
        click.echo("a reload would change nothing")
    for change in changes:
        note = "  (needs a restart)" if change["needs_restart"] else ""
        if change["before"] is None:
            click.echo(clean(f"+ {change['what']} = {_shown(change['after'])}{note}"))
        elif change["after"] is None:
            held = "" if not change.get("waiting") else f"  ({change['waiting']} deliveries wait: held, then cancelled)"
            click.echo(clean(f"- {change['what']} = {_shown(change['before'])}{note}{held}"))
        elif change["before"] == change["after"]:
            click.echo(clean(f"~ {change['what']}: another value, not shown{note}"))
        else:
            click.echo(clean(f"~ {change['what']}: {_shown(change['before'])} -> {_shown(change['after'])}{note}"))
    return 0


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@click.command(name="check", short_help="Find every mistake in the configuration.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"The configuration file.  [default: {DEFAULT_PATH}, or built-in settings where that does not exist]",
)
@click.option("--print", "print_effective", is_flag=True, help="Print the settings in force as TOML, without secrets.")
@click.option("--diff", "is_diff", is_flag=True, help="Ask the running daemon what a reload would change.")
@click.option(
    "--api", metavar="PLACE", help="Where to ask it: unix:PATH or http://HOST:PORT.  [default: $HOOKRELAY_API]"
)
@click.pass_context
def command(context: click.Context, config: Path | None, print_effective: bool, is_diff: bool, api: str | None) -> None:
    """Read the configuration file, webhooks.d and the environment, and report every mistake.

    \b
    Each mistake is a line FILE:LINE: KEY: what is wrong and what would be right.
    With --diff the running daemon reads its own files and environment, and says what a reload would change.
    Exit codes: 0 where all is right, 69 the daemon cannot be reached, 77 not permitted, 78 after any mistake.

    \b
    Examples:
      hookrelay check
      hookrelay check --config ./hookrelay.toml --print
      hookrelay check --diff && hookrelay reload
    """
    code = check(config, print_effective)
    if code == 0 and is_diff:
        code = diff(Target(api, config, "table"))
    context.exit(code)
