"""`hookrelay send`: submits events over events.sock, or over the API of a daemon that is named."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from hookrelay.cli.api import EX_NO, EX_UNAVAILABLE, Target, fail
from hookrelay.cli.shown import clean
from hookrelay.model import ConfigError

SHOWN = 20
"""Refused lines that the summary tells in full."""
PASSING = ("unavailable", "store_full", "rate_limited")
"""Refusals that say nothing against the event: sent again later it is taken."""


@click.command()
@click.argument("event_type", metavar="[TYPE]", required=False)
@click.argument("data", metavar="[DATA]", required=False)
@click.option(
    "--file", "source", type=click.Path(allow_dash=True), help="Events as NDJSON, one a line; - is standard input."
)
@click.option("--tenant", help="Whose webhooks are meant.  [default: default]")
@click.option("--idempotency-key", help="Submitting the same event again with the same key changes nothing.")
@click.option("--timestamp", help="When it happened (RFC 3339).  [default: now]")
@click.option("--ordering-key", help="Events with the same key do not overtake each other.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path, readable=False),
    help="The daemon's events.sock.  [default: the configuration's]",
)
@click.option(
    "--api", metavar="PLACE", help="Submit over this API instead.  [default: $HOOKRELAY_API, where it is set]"
)
@click.option("--config", type=click.Path(path_type=Path), help="The configuration file that names the socket.")
@click.option("--example", "is_example", is_flag=True, help="Send the example that the catalogue has of TYPE.")
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", help="json: each answer as it comes, a line each."
)
def command(
    event_type: str | None,
    data: str | None,
    source: str | None,
    socket: Path | None,
    api: str | None,
    config: Path | None,
    is_example: bool,
    output: str,
    **fields: str | None,
) -> None:
    """Submit an event, or many.

    DATA is JSON; @FILE reads it from a file, - from standard input. Events go to the daemon's events.sock, unless --api
    or HOOKRELAY_API names a daemon: then they go over its API, where it is http with the key in HOOKRELAY_KEY.

    \b
    Examples:
      hookrelay send booking.created '{"booking": 7}'
      hookrelay send payment.failed @payment.json --idempotency-key payment-19
      hookrelay send booking.created --example
      hookrelay send --file events.ndjson
      HOOKRELAY_API=https://hooks.example.com hookrelay send booking.created '{"booking": 7}'

    Exit codes: 0 all were accepted (or are duplicates), 1 some were refused, 2 usage, 69 the daemon cannot be reached,
    or cannot take some just now, 74 a file cannot be read, 77 not permitted, 78 a mistake in the
    configuration.
    """
    if (event_type is None) == (source is None):
        raise click.UsageError("give either TYPE and DATA, or --file")
    if source is not None and any(fields.values()):
        raise click.UsageError("with --file every line says for itself what --tenant and the like would say")
    if is_example and (source is not None or data is not None):
        raise click.UsageError("--example stands in the place of DATA: give one of them, and TYPE")
    target = Target(api, config, output)
    place = _place(target, socket, config, is_api_named=api is not None)
    if source is None:
        text = _example(target, event_type or "") if is_example else _data(data)
        lines: Iterable[bytes] = [_event(event_type or "", text, fields)]
        sys.exit(_submit(place, Numbered(lines), output, total=None))
    with _opened(source) as file:
        size = os.fstat(file.fileno()).st_size or None
        sys.exit(_submit(place, Numbered(file), output, total=size))


def _place(target: Target, socket: Path | None, config: Path | None, *, is_api_named: bool) -> Path | Target:
    """Where events go: what an option names before what the environment does, and the configured socket at last."""
    if socket is not None and is_api_named:
        raise click.UsageError("--socket and --api name two ways: keep one of them")
    if socket is not None:
        return socket
    if is_api_named or (target.is_named and config is None):
        return target
    return _configured_socket(config)


class Numbered:
    """Lines to send, blank ones left out; remembers which line of the file each was."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines = lines
        self.numbers: list[int] = []
        """Of the lines that are not answered yet, oldest first."""
        self.read_bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for number, line in enumerate(self._lines, 1):
            self.read_bytes += len(line)
            if line.strip():
                self.numbers.append(number)
                yield line.rstrip(b"\r\n")


class _Outcome:
    """What came of the lines so far."""

    def __init__(self, lines: Numbered, output: str, *, is_file: bool) -> None:
        self._lines = lines
        self._is_json = output == "json"
        self._is_file = is_file
        self._counts = {"accepted": 0, "duplicate": 0, "refused": 0}
        self._refusals: list[str] = []
        self._for_good = 0
        self._last = 0

    def take(self, answer: bytes) -> None:
        """The answer to the next line."""
        self._last = self._lines.numbers.pop(0)
        said = json.loads(answer)
        error = said.get("error")
        self._counts["refused" if error else "duplicate" if said.get("duplicate") else "accepted"] += 1
        self._for_good += bool(error) and error["code"] not in PASSING
        if error and len(self._refusals) < SHOWN:
            self._refusals.append(f"line {self._last}: {error['code']}: {error['detail']}")
        if self._is_json:
            click.echo(answer)
        elif not self._is_file and not error and len(self._lines.numbers) == 0:
            noun = "delivery" if said["deliveries"] == 1 else "deliveries"
            click.echo(f"{said['id']}: {said['deliveries']} {noun}")

    def left(self) -> str:
        """From where to go on after a break; empty where nothing was answered yet."""
        done = sum(self._counts.values())
        return f"; {done} lines were answered, go on from line {self._last + 1}" if self._last else ""

    def tell(self) -> int:
        """Sum it up; the exit code."""
        for text in self._refusals:
            click.echo(clean(text), err=True)
        if self._counts["refused"] > len(self._refusals):
            click.echo(f"and {self._counts['refused'] - len(self._refusals)} more", err=True)
        click.echo(", ".join(f"{count} {name}" for name, count in self._counts.items()), err=True)
        return 1 if self._for_good else EX_UNAVAILABLE if self._counts["refused"] else 0


def _submit(place: Path | Target, lines: Numbered, output: str, total: int | None) -> int:
    outcome = _Outcome(lines, output, is_file=total is not None)
    with _progress(total) as advance:

        def take(answers: Iterable[bytes]) -> None:
            for answer in answers:
                outcome.take(answer)
                advance(lines.read_bytes)

        if isinstance(place, Target):
            _over_api(place, lines, outcome, take)
        elif code := _over_socket(place, lines, outcome, take):
            return code
    return outcome.tell()


def _over_api(target: Target, lines: Numbered, outcome: _Outcome, take: Callable[[Iterable[bytes]], None]) -> None:
    from hookrelay.net.api_client import Problem, Unreachable

    with target.client() as client:
        try:
            take(client.submit(lines))
        except (Problem, Unreachable):
            if left := outcome.left():
                click.echo(f"hookrelay: {left.removeprefix('; ')}", err=True)
            raise


def _over_socket(path: Path, lines: Numbered, outcome: _Outcome, take: Callable[[Iterable[bytes]], None]) -> int:
    """The exit code where it came to an end before all was answered; else 0."""
    from hookrelay.net.events_client import submit

    try:
        take(submit(path, lines))
    except PermissionError:
        return _give_up(
            77,
            f"{path}: not permitted: be in the group of that file (ls -l shows it)",
        )
    except (ConnectionError, TimeoutError, FileNotFoundError) as error:
        return _give_up(69, f"{path}: {error.strerror or error}: is the daemon running there?{outcome.left()}")
    except OSError as error:
        return _give_up(74, f"{error.filename or path}: {error.strerror or error}")
    return 0


class _progress:
    """A progress bar over the file's bytes where somebody watches; nothing elsewhere."""

    def __init__(self, total: int | None) -> None:
        self._bar: Any = None
        if total is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

            self._bar = Progress(
                "[progress.description]{task.description}",
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("submitting", total=total)

    def __enter__(self) -> Any:
        if self._bar is None:
            return lambda done: None
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _example(target: Target, event_type: str) -> str:
    """The example that the daemon's catalogue has of a type, as it stands there."""
    from hookrelay.rules.wording import nearest

    with target.client() as client:
        catalogue = {each["name"]: each for each in client.call("GET", "/v1/event-types")}
    if event_type not in catalogue:
        near = nearest(event_type, list(catalogue))
        hint = f"did you mean {near}?" if near else "event_types in the configuration makes it"
        fail(EX_NO, f"the catalogue has no event type {event_type}: {hint}")
    if "example" not in catalogue[event_type]:
        fail(EX_NO, f"the catalogue has no example of {event_type}: add one to event_types, or give DATA")
    return json.dumps(catalogue[event_type]["example"], ensure_ascii=False)


def _data(data: str | None) -> str:
    """DATA's own text."""
    if data is None:
        raise click.UsageError("DATA is missing: any JSON value, such as '{\"booking\": 7}'")
    if data == "-":
        text = sys.stdin.read()
    elif data.startswith("@"):
        with _opened(data[1:]) as file:
            text = file.read().decode("utf-8", "surrogateescape")
    else:
        text = data
    try:
        json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"DATA is not JSON ({error}): quote strings, such as '\"text\"'") from error
    return text


def _event(event_type: str, text: str, fields: dict[str, str | None]) -> bytes:
    """The line for one event; the data's own text goes out as it was given."""
    said = {"type": event_type, **{name: value for name, value in fields.items() if value is not None}}
    # a line holds no newline, and JSON has none inside its strings: between its tokens a space does as well
    flat = text.strip().replace("\r", " ").replace("\n", " ")
    return f'{json.dumps(said)[:-1]}, "data": {flat}}}'.encode()


def _opened(source: str) -> IO[bytes]:
    if source == "-":
        return sys.stdin.buffer
    try:
        return Path(source).open("rb")
    except OSError as error:
        sys.exit(_give_up(74, f"{source}: {error.strerror}"))


def _configured_socket(config: Path | None) -> Path:
    from hookrelay.config.load import find, load_one

    path = find(config)
    if config is None and path is not None and not os.access(path, os.R_OK):
        path = None  # who may submit need not be one who may read the settings
    try:
        socket: Path = load_one(path, "events.socket", os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        sys.exit(78)
    return socket


def _give_up(code: int, text: str) -> int:
    click.echo(f"hookrelay: {text}", err=True)
    return code
