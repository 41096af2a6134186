"""`hookrelay version`"""

import platform

import click

from hookrelay import __version__


@click.command()
@click.option("--licenses", is_flag=True, help="Show the licences of the libraries that come with it instead.")
def command(licenses: bool) -> None:
    """Say which version this is, and what it runs on.

    \b
    Examples:
      hookrelay version
      hookrelay version --licenses
    """
    if licenses:
        click.echo_via_pager(_licenses())
        return
    from hookrelay.store.open import sqlite_version

    click.echo(f"hookrelay {__version__} (Python {platform.python_version()}, SQLite {sqlite_version()})")


def _licenses() -> str:
    """What the builds that bring their libraries have collected; elsewhere each library brings its own."""
    from importlib import resources

    package = resources.files("hookrelay")
    collected = package / "licenses.txt"
    if collected.is_file():
        return collected.read_text()
    return (
        "hookrelay: Apache-2.0. Its libraries were installed each by itself, and have their licences with them, in the"
        f" .dist-info folders beside {package}\n"
    )
