"""The store of a daemon that does not run, for commands that read it then: its lock keeps daemons away meanwhile."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hookrelay.cli.api import EX_CONFIG, EX_IO, EX_NOT_PERMITTED, fail


def store_path(config: Path | None) -> Path:
    """`store.url`'s file, as the files and the environment say; a mistake in them ends the command."""
    from hookrelay.config.load import find, load
    from hookrelay.model import ConfigError

    try:
        return load(find(config), os.environ).config.store.path
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        sys.exit(EX_CONFIG)


@contextmanager
def locked_store(config: Path | None) -> Iterator[Path]:
    """The store's file while its lock is held here. Raises StoreTaken where a daemon has it, and StoreUnusable."""
    path = store_path(config)
    try:
        is_there = path.exists()
    except OSError as error:
        fail(EX_NOT_PERMITTED, f"{path}: {error.strerror}: run this as root or as the daemon's user")
    if not is_there:
        fail(EX_IO, f"{path}: there is no store: is this the configuration of the daemon? --config names another")
    with hold(path):
        yield path


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """The lock of the store at `path`. A lock's file that root makes here is the store's owner's, like all others."""
    from hookrelay.store.files import Lock

    place = path.with_name(path.name + ".lock")
    is_new = not place.exists()
    lock = Lock(place)
    try:
        if is_new and os.geteuid() == 0:
            owner = path.stat()
            os.chown(place, owner.st_uid, owner.st_gid)
        yield
    finally:
        lock.close()
