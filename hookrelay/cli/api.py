"""What all commands that ask the daemon have in common: where it is, how answers are shown, how errors are told."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from hookrelay.net.api_client import ApiClient

EX_NO = 1
EX_USAGE = 2
EX_UNAVAILABLE = 69
EX_IO = 74
EX_NOT_PERMITTED = 77
EX_CONFIG = 78


class Target:
    """Where the daemon is asked: --api, else HOOKRELAY_API, else what the configuration file says."""

    def __init__(self, api: str | None, config: Path | None, output: str) -> None:
        self._api = api
        self._config = config
        self.is_json = output == "json"

    def place(self) -> str:
        """`unix:PATH` or `http://HOST:PORT`."""
        place = self._api or os.environ.get("HOOKRELAY_API") or _configured(self._config)
        if not place.startswith(("unix:", "http://", "https://")):
            raise click.UsageError(
                f"{place!r} is no place of an API: write unix:/run/hookrelay/api.sock or http://127.0.0.1:8787"
            )
        return place

    @contextmanager
    def client(self) -> Iterator["ApiClient"]:
        """A client of the daemon; what goes wrong ends the command with one sentence and its exit code."""
        from hookrelay.net.api_client import ApiClient, Problem, Unreachable

        try:
            with ApiClient(self.place(), os.environ.get("HOOKRELAY_KEY") or None) as client:
                yield client
        except Unreachable as error:
            if error.is_forbidden:
                fail(EX_NOT_PERMITTED, f"{error}: api.mode says who may open it; over TCP a key is needed instead")
            fail(EX_UNAVAILABLE, f"{error}: is the daemon running there? --api or HOOKRELAY_API name another place")
        except Problem as problem:
            tell_problem(problem.detail, problem.errors)
            sys.exit({401: EX_NOT_PERMITTED, 403: EX_NOT_PERMITTED, 503: EX_UNAVAILABLE}.get(problem.status, EX_NO))


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --api, --config and --output, and hand it a `Target` as its first argument."""

    @click.option(
        "--api", metavar="PLACE", help="unix:PATH or http://HOST:PORT.  [default: $HOOKRELAY_API]"
    )
    @click.option(
        "--config", type=click.Path(path_type=Path), help="The file that names the API's socket."
    )
    @click.option(
        "--output", type=click.Choice(["table", "json"]), default="table", help="json: stable, for scripts."
    )
    @wraps(command)
    def wrapped(*args: Any, api: str | None, config: Path | None, output: str, **kwargs: Any) -> Any:
        return command(Target(api, config, output), *args, **kwargs)

    return wrapped


def _configured(config: Path | None) -> str:
    from hookrelay.config.load import find, load
    from hookrelay.config.settings import Unix
    from hookrelay.model import ConfigError

    try:
        listen = load(find(config), os.environ).config.api.listen
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        sys.exit(EX_CONFIG)
    for place in listen:
        if isinstance(place, Unix):
            return str(place)
    if not listen:
        fail(EX_CONFIG, "api.listen is empty: the daemon serves no API to ask")
    return f"http://{listen[0]}"


# --- what is shown ----------------------------------------------------------------------------------------------


def echo_json(value: object) -> None:
    """One JSON value, indented, as scripts read it."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Rows below their columns' names; colours only on a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(clean(each), style=_style(each)) for each in row))
    console = Console()
    # a pipe has no width: nothing is cut or folded there
    console = console if console.is_terminal else Console(width=10_000)
    with console.capture() as capture:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


_STYLES = {
    "active": "green",
    "succeeded": "green",
    "failed": "red",
    "disabled": "red",
    "paused": "yellow",
    "held": "yellow",
    "pending": "cyan",
    "cancelled": "dim",
}


def _style(value: object) -> str:
    return _STYLES.get(value, "") if isinstance(value, str) else ""


def clean(value: object) -> str:
    """Text for a terminal: control and invisible characters as escapes (a customer wrote it), None as a dash."""
    if value is None or value == "":
        return "-"
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(value))


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
        raise click.UsageError(f"{question} Add --yes: nobody is there to ask.")
    click.confirm(question, abort=True, err=True)
