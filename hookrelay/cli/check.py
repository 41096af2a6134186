"""`hookrelay check`: is the configuration right, and what is it once defaults and environment are in?"""

import os
from pathlib import Path

import click
import tomli_w

from hookrelay.config.load import DEFAULT_PATH, find
from hookrelay.config.show import describe
from hookrelay.model import ConfigError

EX_CONFIG = 78


def check(config: Path | None, print_effective: bool) -> int:
    """Say `ok` or every mistake, one a line; returns the exit code. None means the default file, where it exists."""
    from hookrelay.daemon import load_whole

    try:
        loaded = load_whole(find(config), os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        click.echo(_count(len(error.mistakes), "mistake"), err=True)
        return EX_CONFIG
    if print_effective:
        click.echo(tomli_w.dumps(describe(loaded.config)), nl=False)
    # what --print prints is a file of its own
    said = f"ok: {_count(len(loaded.webhooks), 'webhook')} in {_count(len(loaded.files), 'file')}"
    click.echo(said, err=print_effective)
    return 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@click.command(name="check", short_help="Find every mistake in the configuration.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"The configuration file.  [default: {DEFAULT_PATH}, or built-in settings where that does not exist]",
)
@click.option("--print", "print_effective", is_flag=True, help="Print the settings in force as TOML, without secrets.")
@click.pass_context
def command(context: click.Context, config: Path | None, print_effective: bool) -> None:
    """Read the configuration file, webhooks.d and the environment, and report every mistake.

    \b
    Each mistake is a line FILE:LINE: KEY: what is wrong and what would be right.
    Exit code: 0 where all is right, 78 after any mistake.

    \b
    Examples:
      hookrelay check
      hookrelay check --config ./hookrelay.toml --print
    """
    context.exit(check(config, print_effective))
