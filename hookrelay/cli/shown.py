"""How commands show what the daemon answers: tables, facts and JSON, with nothing that a terminal obeys."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

import click

from hookrelay.telemetry import journal

GAP = 2
"""Between the columns of a table."""


def echo_json(value: object) -> None:
    """One JSON value, indented, as scripts read it."""
    click.echo(_json(value))


def echo_error(line: str) -> None:
    """A line of standard error; an error also for the journal, where a unit's command writes there."""
    click.echo(f"{journal.ERROR if journal.goes_to_journal(sys.stderr) else ''}{line}", err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, may_drop: bool = False) -> None:
    """Rows below their columns' names; colours only on a terminal.

    With `may_drop` a terminal that is too narrow gets the first columns only, which can be read then, and is told so.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    is_terminal = sys.stdout.isatty()
    # a pipe has no width: nothing is cut or folded there
    console = Console(force_terminal=is_terminal, width=None if is_terminal else 10_000)
    shown = len(columns)
    if may_drop:
        shown = _fitting(
            [[column, *(_cell(row[at]) for row in rows)] for at, column in enumerate(columns)], console.width
        )
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for at, column in enumerate(columns[:shown]):
        is_number = {type(row[at]) for row in rows} - {type(None)} in ({int}, {float}, {int, float})
        # an id that is cut in two cannot be copied
        drawn.add_column(column, overflow="fold", no_wrap=column == "id", justify="right" if is_number else "left")
    for row in rows:
        drawn.add_row(*(Text(_cell(each), style=_colour(each) or "") for each in row[:shown]))
    with console.capture() as capture:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))
    if shown < len(columns):
        left_out = ", ".join(columns[shown:])
        click.echo(f"Left out here: {left_out}. A wider terminal or --output json shows them.", err=True)


def _fitting(columns: Sequence[Sequence[str]], width: int) -> int:
    """How many columns of texts stand side by side in `width`, two at least."""
    needed = 0
    for index, texts in enumerate(columns):
        # longer ones may be folded
        needed += min(max(map(len, texts)), 32) + (GAP if index else 0)
        if needed > width and index >= 2:
            return index
    return len(columns)


def facts(pairs: Mapping[str, object]) -> None:
    """One object: a name and a value a line; colours only on a terminal."""
    width = max(map(len, pairs))
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {coloured(value)}")


def coloured(value: object, width: int = 0) -> str:
    """A value on one line, padded to `width`, in its colour: those of states."""
    text, colour = f"{_cell(value):<{width}}", _colour(value)
    return text if colour is None else click.style(text, fg=colour)


def clean(value: object) -> str:
    """Text for a terminal: control and invisible characters as escapes (a customer wrote it), None as a dash."""
    if value is None or value == "":
        return "-"
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(value))


_COLOURS = {
    "active": "green",
    "succeeded": "green",
    "failed": "red",
    "disabled": "red",
    "paused": "yellow",
    "held": "yellow",
    "pending": "cyan",
    "cancelled": "bright_black",
}


def _colour(value: object) -> str | None:
    return _COLOURS.get(value) if isinstance(value, str) else None


def _cell(value: object) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or None
    elif isinstance(value, dict):
        value = json.dumps(value, ensure_ascii=False) if value else None
    return clean(value).replace("\n", "\\n")


def _json(value: object) -> str:
    # what no terminal shows, or obeys, stands there as an escape: in JSON it can only be inside of strings
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def echo_array(rows: Iterable[object]) -> None:
    """An array, each row as it comes; the same bytes as `echo_json` of the whole."""
    before = "["
    for row in rows:
        indented = _json(row).replace("\n", "\n  ")
        click.echo(f"{before}\n  {indented}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")
