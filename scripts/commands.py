"""What the command line says of itself, read from click's definitions: the source of its reference and man page."""

import inspect
import re
from collections.abc import Iterator
from typing import NamedTuple

import click

from hookrelay.cli.main import main

EXIT_CODES = {
    0: "done",
    1: "the answer is no: refused, not found, not verified, not delivered",
    2: "usage",
    65: "the store is damaged",
    69: "the daemon cannot be reached",
    73: "another daemon holds the store or a socket",
    74: "a file cannot be read or written",
    77: "not permitted",
    78: "a mistake in the configuration",
    130: "ended by Ctrl-C",
}
ENVIRONMENT = {
    "HOOKRELAY_API": "Where commands find the daemon: `unix:PATH` or `http://HOST:PORT`.",
    "HOOKRELAY_KEY": "The key of the HTTP API that is sent over TCP.",
    "HOOKRELAY_SECRET": "The secret that `sign` and `verify` use.",
    "HOOKRELAY_SECTION__KEY": "Overrides a setting of the file, such as `HOOKRELAY_DELIVERY__TIMEOUT=10s`.",
    "NO_COLOR": "Where it is set, nothing is coloured.",
}

HELP = ("-h, --help", "Show this message and exit.")
"""The option that every command has. Click makes it once, with the names that whoever asked first would have it by."""


class Paragraph(NamedTuple):
    """Of a command's help: prose that may be filled, or lines that stay as they are."""

    lines: list[str]
    is_verbatim: bool

    @property
    def is_example(self) -> bool:
        return self.is_verbatim and re.fullmatch(r"Examples?:", self.lines[0]) is not None

    @property
    def text(self) -> str:
        return " ".join(line.strip() for line in self.lines)


class Command(NamedTuple):
    """One command, or group of commands, as `--help` tells of it."""

    name: str
    """All of it: `hookrelay webhooks list`."""
    usage: str
    paragraphs: list[Paragraph]
    options: list[tuple[str, str]]
    """Each as it is written, and what it does."""
    members: dict[str, str]
    """Of a group: the commands in it, each with its line."""


def commands() -> Iterator[Command]:
    """Every command, groups before what is in them, in the order of `hookrelay --help`."""
    yield from _walk(main, click.Context(main, info_name="hookrelay", help_option_names=["-h", "--help"]))


def _walk(command: click.Command, context: click.Context) -> Iterator[Command]:
    members: dict[str, tuple[click.Command, click.Context]] = {}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            if not member.hidden:
                members[name] = (member, click.Context(member, info_name=name, parent=context))
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    yield Command(
        context.command_path.replace("import_", "import"),
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        [*_paragraphs(command.help or "")],
        [*(record for record in records if record is not None), HELP],
        {name: member.get_short_help_str(200) for name, (member, _) in members.items()},
    )
    for member, its_context in members.values():
        yield from _walk(member, its_context)


def _paragraphs(help: str) -> Iterator[Paragraph]:
    for block in re.split(r"\n\s*\n", inspect.cleandoc(help.partition("\f")[0])):
        lines = [line for line in block.split("\n") if line.strip()]
        is_verbatim = lines[:1] == ["\b"]
        if len(lines) > is_verbatim:
            yield Paragraph(lines[is_verbatim:], is_verbatim)
