"""`hookrelay send`: submits events over events.sock."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from hookrelay.model import ConfigError

SHOWN = 20
"""Refused lines that the summary tells in full."""
PASSING = ("unavailable", "store_full")
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
@click.option("--config", type=click.Path(path_type=Path), help="The configuration file that names the socket.")
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", help="json: each answer as it comes, a line each."
)
def command(
    event_type: str | None,
    data: str | None,
    source: str | None,
    socket: Path | None,
    config: Path | None,
    output: str,
    **fields: str | None,
) -> None:
    """Submit an event, or many.

    DATA is JSON; @FILE reads it from a file, - from standard input.

    \b
    Examples:
      hookrelay send booking.created '{"booking": 7}'
      hookrelay send payment.failed @payment.json --idempotency-key payment-19
      hookrelay send --file events.ndjson

    Exit codes: 0 all were accepted (or are duplicates), 1 some were refused, 2 usage, 69 the daemon cannot be reached,
    or cannot take some just now, 74 a file cannot be read, 77 not permitted.
    """
    if (event_type is None) == (source is None):
        raise click.UsageError("give either TYPE and DATA, or --file")
    if source is not None and any(fields.values()):
        raise click.UsageError("with --file every line says for itself what --tenant and the like would say")
    path = socket or _configured_socket(config)
    if source is None:
        lines: Iterable[bytes] = [_event(event_type or "", data, fields)]
        sys.exit(_submit(path, Numbered(lines), output, total=None))
    with _opened(source) as file:
        size = os.fstat(file.fileno()).st_size or None
        sys.exit(_submit(path, Numbered(file), output, total=size))


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


def _submit(path: Path, lines: Numbered, output: str, total: int | None) -> int:
    from hookrelay.net.events_client import submit

    counts = {"accepted": 0, "duplicate": 0, "refused": 0}
    refusals: list[str] = []
    last = for_good = 0
    try:
        with _progress(total) as advance:
            for answer in submit(path, lines):
                last = lines.numbers.pop(0)
                said = json.loads(answer)
                error = said.get("error")
                counts["refused" if error else "duplicate" if said.get("duplicate") else "accepted"] += 1
                for_good += bool(error) and error["code"] not in PASSING
                if error and len(refusals) < SHOWN:
                    refusals.append(f"line {last}: {error['code']}: {error['detail']}")
                if output == "json":
                    click.echo(answer)
                elif total is None and not error and len(lines.numbers) == 0:
                    click.echo(
                        f"{said['id']}: {said['deliveries']} {'delivery' if said['deliveries'] == 1 else 'deliveries'}"
                    )
                advance(lines.read_bytes)
    except PermissionError:
        return _give_up(
            77,
            f"{path}: not permitted: be in the group of that file (ls -l shows it)",
        )
    except (ConnectionError, TimeoutError, FileNotFoundError) as error:
        done = f"; {sum(counts.values())} lines were answered, go on from line {last + 1}" if last else ""
        return _give_up(69, f"{path}: {error.strerror or error}: is the daemon running there?{done}")
    except OSError as error:
        return _give_up(74, f"{error.filename or path}: {error.strerror or error}")
    for text in refusals:
        click.echo(text, err=True)
    if counts["refused"] > len(refusals):
        click.echo(f"and {counts['refused'] - len(refusals)} more", err=True)
    click.echo(", ".join(f"{count} {name}" for name, count in counts.items()), err=True)
    if for_good:
        return 1
    return 69 if counts["refused"] else 0


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


def _event(event_type: str, data: str | None, fields: dict[str, str | None]) -> bytes:
    """The line for one event; the data's own text goes out as it was given."""
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
