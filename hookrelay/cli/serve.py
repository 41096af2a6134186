"""`hookrelay serve`"""

import gc
import os
import sys
from pathlib import Path

import click

from hookrelay.cli.shown import echo_error
from hookrelay.model import ConfigError

EX_DAMAGED = 65


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),  # a folder is told as any bad file is: exit code 78
    metavar="FILE",
    default=None,
    help="The configuration file; /etc/hookrelay/hookrelay.toml where there is one.",
)
@click.option("--accept-loss", is_flag=True, help="Start although commits that were on disk are missing.")
def command(config: Path | None, accept_loss: bool) -> None:
    """Run the daemon until SIGTERM.

    \b
    Example:
      hookrelay serve --config /etc/hookrelay/hookrelay.toml

    SIGHUP reads all files again. Exit codes: 65 the store is damaged, 73 another daemon holds the store or a socket,
    74 a file or folder cannot be used, 77 not permitted, 78 a mistake in the configuration.
    """
    gc.disable()  # until the daemon runs: what is made meanwhile stays, and looking at it took a quarter of the start
    from hookrelay.daemon import serve_files

    try:
        serve_files(config, os.environ, accept_loss=accept_loss)
    except Exception as error:
        known = [(code, leaf) for leaf in _leaves(error) if (code := _exit_code(leaf)) is not None]
        if not known:
            raise
        known.sort(key=lambda each: each[0] != EX_DAMAGED)  # what else went wrong came of that
        for text in dict.fromkeys(str(leaf) for _, leaf in known):
            for line in text.splitlines():
                echo_error(f"hookrelay: {line}")
        sys.exit(known[0][0])


def _exit_code(error: BaseException) -> int | None:
    """The code for what keeps a daemon from running (contract §6); None for a surprise, which is a bug of ours."""
    from hookrelay.net.listen import CannotListen
    from hookrelay.store.files import StoreDamaged, StoreTaken, StoreTooNew, StoreUnusable

    if isinstance(error, CannotListen):
        return 73 if error.taken else 77 if error.not_permitted else 74
    codes = {ConfigError: 78, StoreTooNew: 78, StoreTaken: 73, StoreDamaged: EX_DAMAGED, StoreUnusable: 74}
    return codes.get(type(error))


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors in a group of groups, which nurseries make of what went wrong at once."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
