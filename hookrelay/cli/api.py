"""What all commands that ask the daemon have in common: where it is, what is given, how errors are told."""

import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from hookrelay.cli.shown import clean, echo_array, table

if TYPE_CHECKING:
    from hookrelay.config.settings import Tcp, Unix
    from hookrelay.net.api_client import ApiClient

EX_NO = 1
EX_USAGE = 2
EX_DAMAGED = 65
EX_UNAVAILABLE = 69
EX_TAKEN = 73
EX_IO = 74
EX_NOT_PERMITTED = 77
EX_CONFIG = 78

TABLE_ROWS = 500
"""Rows that are drawn at once: a list of a million is neither waited for nor kept in memory."""


class Target:
    """Where the daemon is asked: --api, else HOOKRELAY_API, else what the configuration file says."""

    def __init__(self, api: str | None, config: Path | None, output: str) -> None:
        self._api = api
        self._config = config
        self.is_json = output == "json"

    def place(self) -> str:
        """`unix:PATH` or `http://HOST:PORT`."""
        place = _tidied(self._api or os.environ.get("HOOKRELAY_API") or "") or _configured(self._config)
        if place.startswith("unix:") and Path(place).name == "events.sock":
            beside = f"{place.removesuffix('events.sock')}api.sock"
            raise click.UsageError(f"{place} is where events are submitted; the API is asked at {beside}.")
        if not _is_place(place):
            raise click.UsageError(
                f"{place!r} is no place of an API: write unix:/run/hookrelay/api.sock or http://127.0.0.1:8787"
            )
        return place

    @property
    def config(self) -> Path | None:
        """The configuration file that was named; None: none was."""
        return self._config

    @property
    def is_named(self) -> bool:
        """Whether it was said where the daemon is, so that no other place is meant."""
        return bool(self._api or os.environ.get("HOOKRELAY_API"))

    def is_there(self) -> bool:
        """Whether a daemon may be there: False only where nobody listens."""
        from msgspec import DecodeError

        from hookrelay.net.api_client import ApiClient, Problem, Unreachable

        try:
            with ApiClient(self.place()) as client:
                client.call("GET", "/v1/event-types")
        except Unreachable as error:
            return error.is_forbidden or not error.is_absent
        except (Problem, DecodeError):
            return True
        return True

    def bare_client(self) -> "ApiClient":
        """A client of the daemon, for who tells by himself what goes wrong."""
        from hookrelay.net.api_client import ApiClient

        return ApiClient(self.place(), _key())

    @contextmanager
    def client(self) -> Iterator["ApiClient"]:
        """A client of the daemon; what goes wrong ends the command with one sentence and its exit code."""
        from msgspec import DecodeError

        from hookrelay.net.api_client import ApiClient, Problem, Unreachable

        place = self.place()
        try:
            with ApiClient(place, _key()) as client:
                yield client
        except Unreachable as error:
            if error.is_forbidden:
                fail(EX_NOT_PERMITTED, f"{error}: api.mode says who may open it; over TCP a key is needed instead")
            fail(EX_UNAVAILABLE, f"{error}: is the daemon running there? --api or HOOKRELAY_API name another place")
        except Problem as problem:
            hint = "; HOOKRELAY_KEY is the key that is sent" if problem.status in (401, 403) else ""
            tell_problem(problem.detail + hint, problem.errors)
            if problem.code == "store_damaged":
                sys.exit(EX_DAMAGED)
            sys.exit({401: EX_NOT_PERMITTED, 403: EX_NOT_PERMITTED, 503: EX_UNAVAILABLE}.get(problem.status, EX_NO))
        except DecodeError:
            fail(EX_UNAVAILABLE, f"{place}: what answers there is no hookrelay: --api or HOOKRELAY_API name the daemon")


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --api, --config and --output, and hand it a `Target` as its first argument.

    Its help ends with the exit codes, unless it tells them itself.
    """
    return options_where("the daemon refuses")(command)


def options_where(no: str, *codes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `options`, where exit code 1 means `no` and there are `codes` of its own (`"74 a file cannot be read"`)."""

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--api", metavar="PLACE", help="unix:PATH or http://HOST:PORT.  [default: $HOOKRELAY_API]")
        @click.option(
            "--config", type=click.Path(path_type=Path, readable=False), help="The file that names the API's socket."
        )
        @click.option(
            "--output", type=click.Choice(["table", "json"]), default="table", help="json: stable, for scripts."
        )
        @wraps(command)
        def wrapped(*args: Any, api: str | None, config: Path | None, output: str, **kwargs: Any) -> Any:
            return command(Target(api, config, output), *args, **kwargs)

        said = inspect.cleandoc(command.__doc__ or "")
        if "Exit codes" not in said:
            of_all = ["69 the daemon cannot be reached", "77 not permitted", "78 a mistake in the configuration"]
            all_codes = [
                "0 done",
                f"1 {no}",
                "2 usage",
                *sorted([*of_all, *codes], key=lambda code: int(code.split()[0])),
            ]
            wrapped.__doc__ = f"{said}\n\nExit codes: {', '.join(all_codes)}."
        return wrapped

    return give


def paging(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a list's command --limit, and --all, which makes `limit` None."""

    @click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most so many.")
    @click.option("--all", "is_all", is_flag=True, help="Show all there are.")
    @wraps(command)
    def wrapped(*args: Any, limit: int, is_all: bool, **kwargs: Any) -> Any:
        return command(*args, limit=None if is_all else limit, **kwargs)

    return wrapped


class Id(click.types.StringParamType):
    """The id of one kind of object; another kind's is told at once."""

    def __init__(self, prefix: str, noun: str, lister: str) -> None:
        self.name = noun
        self._prefix = prefix
        self._right = f"ids of {noun} start with {prefix}_, and `hookrelay {lister}` shows them"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(rf"{self._prefix}_[0-9A-Za-z]+", value):
            self.fail(f"{value!r} is none: {self._right}.", param, ctx)
        return value


WEBHOOK = Id("wh", "webhooks", "webhooks list")
DELIVERY = Id("dlv", "deliveries", "deliveries list")
EVENT = Id("evt", "events", "events list")
KEY = Id("key", "keys", "keys list")
LINK = Id("lnk", "links", "dashboard-link --list")


# --- where it is ------------------------------------------------------------------------------------------------


def _tidied(place: str) -> str:
    from hookrelay.rules.egress_url import tidied

    return tidied(place)


def _is_place(place: str) -> bool:
    if place.startswith("unix:"):
        return len(place) > len("unix:")
    from urllib.parse import urlsplit

    try:
        url = urlsplit(place)
        return url.scheme in ("http", "https") and bool(url.hostname) and (url.port or 80) > 0
    except ValueError:
        return False


def _key() -> str | None:
    key = os.environ.get("HOOKRELAY_KEY") or None
    if key is not None and not re.fullmatch(r"[!-~]+", key):
        raise click.UsageError("HOOKRELAY_KEY is no key: it holds a space or another character that no key has.")
    return key


def _configured(config: Path | None) -> str:
    from hookrelay.config.settings import Unix
    from hookrelay.model import ConfigError

    try:
        listen = _listen(config)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        sys.exit(EX_CONFIG)
    for place in listen:
        if isinstance(place, Unix):
            return str(place)
    if not listen:
        fail(EX_CONFIG, "api.listen is empty: the daemon serves no API to ask")
    everywhere = {"0.0.0.0:": "127.0.0.1:", "[::]:": "[::1]:"}
    address = str(listen[0])
    for prefix, here in everywhere.items():
        address = here + address.removeprefix(prefix) if address.startswith(prefix) else address
    return f"http://{address}"


def _listen(config: Path | None) -> Sequence["Unix | Tcp"]:
    """`api.listen` alone: a mistake elsewhere in the files keeps nobody from asking the daemon that runs.

    Raises ConfigError.
    """
    import tomllib

    from hookrelay.config.files import read_toml
    from hookrelay.config.keys import KEYS
    from hookrelay.config.load import DEFAULT_PATH, MAX_FILE, find, load
    from hookrelay.model import ConfigError, ConfigMistake

    path = find(config)
    if path is not None and _is_there(path) and not os.access(path, os.R_OK):
        fail(
            EX_NOT_PERMITTED,
            f"{path}: permission denied: be root (sudo), or say by --api or HOOKRELAY_API whom you may ask",
        )
    key, mistakes = KEYS["api.listen"], list[ConfigMistake]()
    raw, said = key.default, os.environ.get("HOOKRELAY_API__LISTEN")
    try:
        if said is not None:
            raw = tomllib.loads(f"value = {said}")["value"]
        elif path is not None:
            document = read_toml(path, MAX_FILE, mistakes.append)
            if document is None:
                raise ConfigError(mistakes)
            raw = document.tree.get("api", {}).get("listen", raw)
        listen: Sequence[Unix | Tcp] = key.read(raw, (path or DEFAULT_PATH).absolute().parent)
    except (ValueError, AttributeError):
        # it knows the line of the mistake
        return load(path, os.environ).config.api.listen
    return listen


def _is_there(path: Path) -> bool:
    """Whether there is such a file, or a folder that does not say so to this user."""
    try:
        return path.exists()
    except PermissionError:
        return True


# --- lists ------------------------------------------------------------------------------------------------------


def show_list(
    target: Target,
    path: str,
    query: Mapping[str, object],
    columns: Mapping[str, Callable[[dict[str, Any]], object]],
    *,
    limit: int | None,
    nothing: str,
) -> None:
    """The rows of an API's list, at most `limit`: as a table, or as an array of the API's objects.

    `columns` are their titles and what stands in them, by importance; `nothing` is said where there is no row.
    """
    with target.client() as client:
        at_once = 250 if limit is None else min(limit + 1, 250)
        rows = client.pages(path, {**query, "limit": at_once})
        wanted = rows if limit is None else islice(rows, limit)
        if target.is_json:
            echo_array(wanted)
        else:
            is_empty = True
            while chunk := list(islice(wanted, TABLE_ROWS)):
                is_empty = False
                table(list(columns), [[cell(row) for cell in columns.values()] for row in chunk], may_drop=True)
            if is_empty:
                click.echo(nothing, err=True)
        if limit is not None and next(rows, None) is not None:
            click.echo("There are more: --all shows them, --limit more of them.", err=True)


# --- what is given ----------------------------------------------------------------------------------------------


def read_text(source: str) -> str:
    """What a file holds; - is standard input."""
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text()
    except OSError as error:
        fail(EX_IO, f"{source}: {error.strerror}: name a file that can be read, or - for standard input")
    except UnicodeDecodeError:
        fail(EX_IO, f"{source}: is not UTF-8: name a text file")


def read_secret(source: str) -> str:
    """A secret in a file, or from standard input: there is no option for it, for other processes see options."""
    if source == "-" and sys.stdin.isatty():
        said: str = click.prompt("Secret", hide_input=True, err=True)
        return said.strip()
    return read_text(source).strip()


def read_json(option: str, given: str) -> Any:
    """The JSON value that is given, or stands in @FILE; - is standard input."""
    text = read_text(given.removeprefix("@")) if given == "-" or given.startswith("@") else given
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(
            f'{option} is not JSON ({error}): write it such as \'{{"team": "billing"}}\', or @FILE.'
        ) from error


# --- errors and questions ---------------------------------------------------------------------------------------


def fail(code: int, sentence: str) -> NoReturn:
    """End the command with one sentence that says what to do next."""
    click.echo(f"hookrelay: {clean(sentence)}", err=True)
    sys.exit(code)


def tell_problem(detail: str, errors: Sequence[tuple[str, str]]) -> None:
    """What the daemon refused, and every field that is to blame."""
    click.echo(f"hookrelay: {clean(detail)}", err=True)
    for field, text in errors:
        click.echo(f"  {clean(field)}: {clean(text)}", err=True)


def confirm(question: str, is_sure: bool) -> None:
    """Ask before something is destroyed, unless --yes said so; where nobody can answer, say what to add."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{clean(question)} Add --yes: nobody is there to ask.")
    click.confirm(clean(question), abort=True, err=True)
