"""`docs/cli-reference.md`: every command with its options, examples and exit codes."""

import inspect
import re
from collections.abc import Iterator

from commands import ENVIRONMENT, EXIT_CODES, Command, Paragraph, commands

_HEAD = """# Command line reference

Every command as its `--help` tells of it, written by `make references`. [cli.md](cli.md) shows them at work, by task.

Commands that ask the daemon find it by `--api`, else by `HOOKRELAY_API`, else by what the configuration file says."""


def cli_reference() -> str:
    """The page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    top, *rest = commands()
    yield _HEAD
    yield from ("", "| command | |", "|---|---|")
    for name, text in top.members.items():
        yield f"| [{name}](#hookrelay-{name}) | {_cell(text)} |"
    yield from ("", "| exit code | |", "|---|---|")
    for code, text in EXIT_CODES.items():
        yield f"| {code} | {text} |"
    yield from ("", "| environment | |", "|---|---|")
    for name, text in ENVIRONMENT.items():
        yield f"| `{name}` | {text} |"
    for command in rest:
        yield from _command(command)


def _command(command: Command) -> Iterator[str]:
    level = "##" if command.name.count(" ") == 1 else "###"
    yield from ("", f"{level} {command.name}", "", "```text", command.usage, "```")
    for paragraph in command.paragraphs:
        yield ""
        yield from _paragraph(paragraph)
    if command.members:
        yield from ("", "| command | |", "|---|---|")
        for name, text in command.members.items():
            yield f"| [{name}](#{command.name.replace(' ', '-')}-{name}) | {_cell(text)} |"
    yield from ("", "| option | |", "|---|---|")
    for option, text in command.options:
        yield f"| `{_cell(option)}` | {_cell(text)} |"


def _paragraph(paragraph: Paragraph) -> Iterator[str]:
    if paragraph.is_example:
        yield from (
            "```console",
            *_prompted(inspect.cleandoc("\n" + "\n".join(paragraph.lines[1:])).split("\n")),
            "```",
        )
    elif paragraph.is_verbatim:
        for number, line in enumerate(_sentences(paragraph.lines)):
            if number:
                yield ""
            yield _prose(line)
    else:
        yield _prose(paragraph.text)


def _prompted(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield line if line.startswith(" ") else f"$ {line}"


def _sentences(lines: list[str]) -> Iterator[str]:
    """Lines that were set by hand: each is its own but for those that go on from an unfinished one."""
    kept = ""
    for line in lines:
        kept = f"{kept} {line.strip()}".strip()
        if kept.endswith((".", ":")):
            yield kept
            kept = ""
    if kept:
        yield kept


def _prose(text: str) -> str:
    """Text of a terminal as Markdown: what would be read as mark-up is not."""
    return text if "`" in text else re.sub(r"([*<])", r"\\\1", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("  [", " [")
