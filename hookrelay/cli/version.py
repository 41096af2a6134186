"""`hookrelay version`"""

import platform

import click

from hookrelay import __version__


@click.command()
def command() -> None:
    """Say which version this is, and what it runs on.

    \b
    Example:
      hookrelay version
    """
    from hookrelay.store.open import sqlite_version

    click.echo(f"hookrelay {__version__} (Python {platform.python_version()}, SQLite {sqlite_version()})")
