"""`hookrelay backup`: the store as one file, verified, while the daemon runs or without one."""

import errno
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hookrelay.cli.api import EX_DAMAGED, EX_IO, EX_NO, EX_TAKEN, Target, fail, options
from hookrelay.cli.own_store import locked_store
from hookrelay.cli.shown import echo_json

if TYPE_CHECKING:
    from hookrelay.store.backup import Facts

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


@click.command(name="backup", short_help="Write the store into one file, verified.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace FILE where there is one.")
@click.option("--verify", "only_verify", is_flag=True, help="Only verify FILE, which is a backup already.")
@options
def command(target: Target, file: Path, force: bool, only_verify: bool) -> None:
    """Write all that the store holds into FILE, and verify it there. The daemon goes on delivering.

    FILE (mode 0600) is a whole store: docs/backup.md tells how it is put back. It is there when it is whole, or not at
    all. Where no daemon runs, the store is read by this command itself, which keeps daemons away meanwhile.

    Over TCP it takes the key of an administrator of all tenants.

    \b
    Exit codes: 0 written and verified, 1 FILE is there already, or the daemon refuses, 2 usage, 65 the store or FILE
    is damaged, 69 the daemon cannot be reached, or has no room for a copy, 73 a daemon holds the store and does not
    answer, 74 FILE cannot be written, 77 not permitted, 78 a mistake in the configuration.

    \b
    Examples:
      hookrelay backup /var/backups/hookrelay.db --force
      hookrelay backup "/mnt/backups/hookrelay-$(date +%F).db"
      hookrelay backup /var/backups/hookrelay.db --verify
      hookrelay backup copy.db --output json | jq .commits
    """
    if only_verify:
        _say(target, file, _verified(file))
        return
    if not force and file.is_symlink() | file.exists():
        fail(EX_NO, f"{file} is there already: name another file, or add --force to replace it")
    with _part_beside(file) as part:
        facts = _from_daemon(target, part) if target.is_named or target.is_there() else _by_oneself(target, part)
        _put_in_place(part, file, force=force)
    _say(target, file, facts)


def _say(target: Target, file: Path, facts: "Facts") -> None:
    if target.is_json:
        echo_json({"file": str(file), "size_bytes": facts.size, "commits": facts.commits, "schema": facts.schema})
    else:
        click.echo(f"{file}: {facts.size:,} bytes, verified; {facts.commits:,} commits, schema {facts.schema}")


def _verified(file: Path) -> "Facts":
    from hookrelay.store.backup import verify
    from hookrelay.store.files import StoreDamaged, StoreUnusable

    try:
        return verify(file)
    except StoreUnusable as error:
        fail(EX_IO, str(error))
    except StoreDamaged as error:
        fail(EX_DAMAGED, f"{error}: keep it out of the way, and take another backup")


@contextmanager
def _part_beside(file: Path) -> Iterator[Path]:
    """A name beside FILE for what is not whole yet; nothing is left of it, whatever ends the command but SIGKILL."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                part.with_name(part.name + suffix).unlink(missing_ok=True)


def _from_daemon(target: Target, part: Path) -> "Facts":
    from hookrelay.store.backup import verify
    from hookrelay.store.files import StoreDamaged, StoreUnusable

    with target.client() as client, client.download("POST", "/v1/backup") as (head, parts):
        try:
            fd = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with open(fd, "wb", buffering=0) as out:
                out.writelines(parts)
                os.fsync(fd)
        except OSError as error:
            fail(EX_IO, f"{part.parent}: {error.strerror}: name a file on a disk with room that can be written")
        commits = head.get("hookrelay-commits")
    try:
        facts = verify(part)
    except StoreUnusable as error:
        fail(EX_IO, str(error))
    except StoreDamaged as error:
        fail(EX_DAMAGED, f"what came from the daemon is damaged, and is thrown away: {error}: `hookrelay doctor`")
    if str(facts.commits) != commits:
        fail(EX_DAMAGED, f"what came holds {facts.commits} commits, and the daemon said {commits}: it is thrown away")
    return facts


def _by_oneself(target: Target, part: Path) -> "Facts":
    from hookrelay.store.backup import copy, verify
    from hookrelay.store.files import StoreDamaged, StoreTaken, StoreUnusable

    try:
        with locked_store(target.config) as store:
            copy(store, part)
        return verify(part)
    except StoreTaken as error:
        fail(EX_TAKEN, f"{error.args[0]}, and does not answer at {target.place()}: --api names its place")
    except StoreUnusable as error:
        fail(EX_IO, str(error))
    except StoreDamaged as error:
        fail(EX_DAMAGED, f"{error}: restore an earlier backup")


def _put_in_place(part: Path, file: Path, *, force: bool) -> None:
    """Let the whole file be FILE, in one step, and on disk."""
    from hookrelay.store.backup import sync
    from hookrelay.store.files import StoreUnusable

    try:
        if not force:
            try:
                os.link(part, file)  # refuses where somebody else has been faster
            except FileExistsError:
                fail(EX_NO, f"{file} is there by now: name another file, or add --force to replace it")
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                part.rename(file)
        else:
            part.replace(file)
        sync(file)
    except (OSError, StoreUnusable) as error:
        fail(EX_IO, f"{file}: {getattr(error, 'strerror', None) or error}")
