"""`hookrelay doctor`: is anything wrong with the daemon, its store or this host, and what is to be done?"""

import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hookrelay import __version__
from hookrelay.cli import findings
from hookrelay.cli.api import EX_NO, Target, options
from hookrelay.cli.findings import OK, PROBLEM, WARNING, Finding
from hookrelay.cli.own_store import hold
from hookrelay.cli.shown import clean, echo_json

if TYPE_CHECKING:
    from hookrelay.model import ConfigError

NAMES = 3
"""Names of receivers that are looked up."""
_START = (
    "`systemctl reset-failed hookrelay.service hookrelay.socket; systemctl restart hookrelay`,"
    " or --api and HOOKRELAY_API say where it is"
)
"""Also where systemd has given up after too many starts, for then `start` alone is refused."""
_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}


@click.command(name="doctor", short_help="Look for anything wrong, and say what to do.")
@click.option("--skip-integrity", is_flag=True, help="Do not read all of the store.")
@options
def command(target: Target, skip_integrity: bool) -> None:
    """Look at the daemon, its store and this host, and say of each thing that is wrong what to do about it.

    All of the store is read: by the running daemon, a little at a time, else by this command, which keeps daemons away
    meanwhile. To be run as the daemon's user or root, on its host.

    \b
    Exit codes: 0 nothing is wrong (there may be warnings), 1 there is a problem, 2 usage.

    \b
    Examples:
      hookrelay doctor
      hookrelay doctor --config /etc/hookrelay/hookrelay.toml
      hookrelay doctor --output json | jq '.[] | select(.level != "ok")'
    """
    found = list(_examine(target, skip_integrity=skip_integrity))
    if target.is_json:
        echo_json([each._asdict() for each in found])
    else:
        for each in found:
            _show(each)
        counts = {level: sum(each.level == level for each in found) for level in (OK, WARNING, PROBLEM)}
        click.echo(f"\n{counts[OK]} ok, {counts[WARNING]} to look at, {counts[PROBLEM]} wrong")
    if any(each.level == PROBLEM for each in found):
        sys.exit(EX_NO)


def _show(found: Finding) -> None:
    click.echo(f"{click.style(f'{found.level:<8}', fg=_COLOURS[found.level])} {found.check:<12} {clean(found.said)}")
    if found.remedy:
        click.echo(f"{'':<21} {clean(found.remedy)}")


def _examine(target: Target, *, skip_integrity: bool) -> Iterator[Finding]:
    from hookrelay.config.load import find
    from hookrelay.model import ConfigError
    from hookrelay.outfit import load_whole

    file = find(target.config)
    loaded, of_daemon = None, list(_of_daemon(target))
    is_unknown = file is None and target.is_named  # the daemon that was named has a file elsewhere
    try:
        loaded = load_whole(file, os.environ)
    except ConfigError as error:
        is_down = any(isinstance(each, Finding) and each.remedy == _START for each in of_daemon)
        yield _mistaken(error, is_down=is_down)
    else:
        said = f"{file or 'built-in settings'}, {len(loaded.webhooks)} webhooks in files"
        if is_unknown:
            said = "built-in settings: pass --config FILE to have its files looked at too"
        yield Finding("configuration", OK, said)
    status = None
    for each in of_daemon:
        if isinstance(each, Finding):
            yield each
        else:
            status = each
    if loaded is None and status is None:
        return
    yield from _of_versions(status)
    if loaded is not None:
        if not is_unknown:
            yield from findings.of_permissions(loaded, file)
            yield from findings.of_disk(loaded.config)
        yield findings.of_clock(loaded.config)
        yield from findings.of_dns(loaded, _names(target, status))
        yield findings.of_trust(loaded.config)
        yield from findings.of_egress(loaded.config)
        if status is not None and not is_unknown:
            yield _of_events(loaded.config.events.socket)
    if status is not None and "runtime" in status:  # an older daemon does not tell
        runtime = status["runtime"]
        yield findings.of_descriptors(runtime["open_files_limit"], runtime["max_connections"], "the daemon")
    elif status is None and loaded is not None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        yield findings.of_descriptors(limit, loaded.config.delivery.max_connections, "a daemon started from here")
    if not skip_integrity:
        if status is not None:
            yield _integrity_by_daemon(target)
        elif loaded is not None and not is_unknown:
            yield _integrity_by_oneself(loaded.config.store.path)


def _mistaken(error: "ConfigError", *, is_down: bool) -> Finding:
    more = len(error.mistakes) - 1
    said = f"{error.mistakes[0]}{f' (and {more} more)' if more else ''}"
    then = "start it" if is_down else "`hookrelay reload`"
    return Finding("configuration", PROBLEM, said, f"`hookrelay check` lists every mistake; then {then}")


def _of_daemon(target: Target) -> Iterator[Finding | dict[str, Any]]:
    """Whether there is one, what ails it, and what it says of itself."""
    from msgspec import DecodeError

    from hookrelay.net.api_client import Problem, Unreachable

    try:
        with target.bare_client() as client:
            status = client.call("GET", "/v1/status")
    except Unreachable as error:
        if error.is_forbidden:
            yield Finding("daemon", PROBLEM, str(error), "run this as root or as the daemon's user (api.mode)")
        elif error.is_absent and not target.is_named:
            yield Finding("daemon", PROBLEM, f"none answers at {target.place()}", _START)
        else:
            yield Finding("daemon", PROBLEM, str(error), _START)
        return
    except Problem as problem:
        yield Finding("daemon", PROBLEM, problem.detail, "HOOKRELAY_KEY takes an administrator's key, of all tenants")
        return
    except DecodeError:
        said = f"what answers at {target.place()} is no hookrelay"
        yield Finding("daemon", PROBLEM, said, "--api or HOOKRELAY_API say where it is")
        return
    trouble, reload = status["trouble"], status["reload"]
    if trouble is not None:
        yield Finding("daemon", PROBLEM, f"it cannot write its store: {trouble}", "see below, and its journal")
    elif not status["ready"]:
        yield Finding("daemon", PROBLEM, "it is not ready: starting, or stopping", "look again in a moment")
    else:
        yield Finding("daemon", OK, f"ready at {target.place()}, since {status['started_at']}")
    if not reload["successful"]:
        remedy = "`hookrelay check` says what is wrong in the files; the old configuration stays in force"
        yield Finding("reload", PROBLEM, f"the one at {reload['at']} was refused", remedy)
    else:
        yield Finding("reload", OK, f"applied, {reload['at']}")
    yield status


def _of_versions(status: dict[str, Any] | None) -> Iterator[Finding]:
    from hookrelay.store.open import OLDEST_SQLITE, sqlite_version

    sqlite = sqlite_version()
    here = f"hookrelay {__version__}, Python {platform.python_version()}, SQLite {sqlite}"
    if tuple(int(part) for part in sqlite.split(".")) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        yield Finding("versions", PROBLEM, here, f"SQLite {oldest} or later is needed: install apsw from PyPI")
    elif status is not None and status["version"] != __version__:
        said = f"the daemon is {status['version']}, this command {__version__}"
        yield Finding("versions", WARNING, said, "restart the daemon after an upgrade: `systemctl restart hookrelay`")
    else:
        there = "" if status is None else "; the daemon too"
        yield Finding("versions", OK, f"{here}{there}")


def _names(target: Target, status: dict[str, Any] | None) -> list[str]:
    """Names of some receivers, where the daemon tells of them."""
    from itertools import islice
    from urllib.parse import urlsplit

    from hookrelay.net.api_client import Problem, Unreachable
    from hookrelay.rules.egress import is_literal

    if status is None:
        return []
    try:
        with target.bare_client() as client:
            urls = [row["url"] for row in islice(client.pages("/v1/webhooks", {"status": "active"}), 250)]
    except (Problem, Unreachable):
        return []
    hosts = dict.fromkeys(urlsplit(url).hostname or "" for url in urls)
    return [host for host in hosts if host and not is_literal(host)][:NAMES]


def _of_events(socket: Path) -> Finding:
    from hookrelay.net.events_client import is_answered

    try:
        if is_answered(socket):
            return Finding("events", OK, f"{socket} takes events")
    except PermissionError:
        return Finding(
            "events", WARNING, f"{socket} does not let this user in", "add your app's user to the group of events.group"
        )
    except OSError as error:
        said = f"{socket}: {error.strerror or 'no answer in time'}"
        return Finding("events", PROBLEM, said, "restart the daemon; no other program may remove its socket")
    return Finding("events", PROBLEM, f"{socket}: whoever answers there is no hookrelay", "see `ss -xlp`")


def _integrity_by_daemon(target: Target) -> Finding:
    from hookrelay.net.api_client import LONG_S, Problem, Unreachable

    try:
        with target.bare_client() as client:
            found = client.call("POST", "/v1/check", timeout_s=LONG_S)
    except (Problem, Unreachable) as error:
        return Finding("integrity", PROBLEM, f"the daemon could not look: {error}", "try again; see its journal")
    if found["faults"]:
        return _damaged("; ".join(found["faults"]))
    said = f"{found['rows']:,} rows of {found['tables']} tables were read, and every index has them"
    return Finding("integrity", OK, said)


def _integrity_by_oneself(path: Path) -> Finding:
    from hookrelay.store import backup
    from hookrelay.store.files import StoreDamaged, StoreTaken, StoreUnusable

    try:
        if not path.exists():
            if path.with_name(f"{path.name}.id").exists():
                return _damaged(f"{path} is gone, and its .id file says that it was there")
            return Finding("integrity", OK, f"{path} is not there yet: the daemon makes it")
        with hold(path):
            facts = backup.check_store(path)
    except StoreTaken as error:
        remedy = "it holds the store and does not answer: see its journal, and --api"
        return Finding("integrity", PROBLEM, str(error).partition(": stop it")[0], remedy)
    except (StoreUnusable, OSError) as error:
        return Finding("integrity", PROBLEM, str(error), "run this as root or as the daemon's user")
    except StoreDamaged as error:
        return _damaged(str(error))
    return Finding("integrity", OK, f"{path}: {facts.size:,} bytes, {facts.commits:,} commits, sound")


def _damaged(said: str) -> Finding:
    remedy = "stop the daemon, keep the store's files, restore a backup (docs/backup.md), and look at the disk"
    return Finding("integrity", PROBLEM, said, remedy)
