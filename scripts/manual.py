"""The man pages: `docs/man/hookrelay.1` and `docs/man/hookrelay.toml.5`, from the texts of --help and the settings."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping

from commands import ENVIRONMENT, EXIT_CODES, HELP, Command, Paragraph, commands

from hookrelay import __version__
from hookrelay.config import about
from hookrelay.config.compare import NEEDS_RESTART
from hookrelay.config.keys import SECTIONS, Key

_LITERAL = {"\\": "\\e", "|": "|\\:", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_PROSE = {name: _LITERAL[name] for name in "\\`^~"}
_SIGNS = {"…": "...", "→": "\\(->", "—": "\\(em"}
_DESCRIPTION = (
    "hookrelay delivers an app's events to its customers' servers: as signed HTTPS POSTs, with retries, history and"
    " metrics. The app writes one line of JSON to a local Unix socket; hookrelay has the event on disk before it"
    " answers, and delivers it to every webhook that wants it. `hookrelay serve` is the daemon, all else speaks to it.",
    "Commands that ask the daemon find it by `--api`, else by `HOOKRELAY_API`, else by what the configuration file"
    " says. Over the daemon's Unix socket the file mode decides who may; over TCP a key is taken from `HOOKRELAY_KEY`.",
)
_FILES = {
    "/etc/hookrelay/hookrelay.toml": "The configuration, see `hookrelay.toml(5)`.",
    "/etc/hookrelay/webhooks.d/*.toml": "Webhooks.",
    "/run/hookrelay/events.sock": "Takes events, one JSON object a line.",
    "/run/hookrelay/api.sock": "The HTTP API: whoever may open it is an administrator.",
    "/var/lib/hookrelay/hookrelay.db": "The store: for hookrelay alone, as long as it runs.",
}


def command_page() -> str:
    """`hookrelay.1`"""
    top, *rest = commands()
    return _page([*_head("HOOKRELAY", 1, "User Commands"), *_command_page(top, rest)])


def configuration_page() -> str:
    """`hookrelay.toml.5`"""
    return _page([*_head("HOOKRELAY.TOML", 5, "File Formats"), *_configuration_page()])


# --- the command ------------------------------------------------------------------------------------------------


def _command_page(top: Command, rest: list[Command]) -> Iterator[str]:
    yield from (".SH NAME", "hookrelay \\- deliver an app's events as signed webhooks")
    yield from (".SH SYNOPSIS", f"{_bold('hookrelay')} {_prose('COMMAND [OPTIONS] [ARGS]...')}")
    yield ".SH DESCRIPTION"
    yield from _filled(*_DESCRIPTION)
    yield ".SH COMMANDS"
    for name, text in top.members.items():
        yield from _entry(_bold(name), text)
    for command in rest:
        yield from (f".SS {_literal(command.name.removeprefix('hookrelay '))}", *_literal_lines([command.usage]))
        for paragraph in command.paragraphs:
            yield from _paragraph(paragraph)
        for option, text in command.options:
            if option != HELP[0]:
                yield from _entry(_bold(option), text)
    yield ".SH EXIT STATUS"
    for code, text in EXIT_CODES.items():
        yield from _entry(str(code), text)
    yield ".SH ENVIRONMENT"
    yield from _entries(ENVIRONMENT)
    yield ".SH FILES"
    yield from _entries(_FILES)
    yield from (".SH SEE ALSO", ".BR hookrelay.toml (5)")


def _paragraph(paragraph: Paragraph) -> Iterator[str]:
    if paragraph.is_example:
        yield from (".PP", paragraph.lines[0], *_literal_lines([line.strip() for line in paragraph.lines[1:]]))
    else:
        yield from _filled(paragraph.text)


# --- the configuration file -------------------------------------------------------------------------------------


def _configuration_page() -> Iterator[str]:
    yield from (".SH NAME", "hookrelay.toml \\- configuration of hookrelay")
    yield ".SH DESCRIPTION"
    yield from _filled(
        "`hookrelay serve --config FILE` reads `/etc/hookrelay/hookrelay.toml` where nothing is said. The file is TOML,"
        " and everything has a default: an empty file runs. `hookrelay check` reports every mistake with its line;"
        " `hookrelay reload` has the daemon read the files again: all of it applies or, after any mistake, none.",
        "Durations are written `500ms`, `30s`, `5m`, `24h`, `7d`; sizes `256KiB`, `10GiB`. A path that is not absolute"
        " starts beside the file.",
    )
    for section, keys in SECTIONS.items():
        yield f".SH [{section}]"
        for name, key in keys.items():
            yield from _entry(f"{_bold(name)}{_default(key)}", about.KEYS[key.dotted], needs_restart(key))
    yield '.SH [event_types."booking.created"]'
    yield from _filled("The catalogue: a table for each type of event.")
    yield from _entries(about.EVENT_TYPES)
    yield ".SH WEBHOOKS IN FILES"
    yield from _filled(
        "Any number of `[[webhook]]` tables in any number of files `webhooks.d/*.toml` beside the file. Over the API"
        " they are read-only. `name`, `url`, `events` and one of the three kinds of secret are needed."
    )
    yield from _entries(about.WEBHOOK)
    yield ".SH ENVIRONMENT"
    yield from _entries({"HOOKRELAY_SECTION__KEY": ENVIRONMENT["HOOKRELAY_SECTION__KEY"]})
    yield ".SH EXAMPLE"
    yield from _filled("In `hookrelay.toml`, and in `webhooks.d/bookings.toml`:")
    yield from _literal_lines(
        [
            'store.retention = "14d"',
            'events.group = "bookings"',
            'api.listen = ["unix:/run/hookrelay/api.sock", "127.0.0.1:8787"]',
        ]
    )
    yield from _literal_lines(
        [
            "[[webhook]]",
            'name = "bookings"',
            'url = "https://shop.example/webhooks"',
            'events = ["booking.*", "payment.failed"]',
            'secret_file = "bookings.secret"',
        ]
    )
    yield from (".SH SEE ALSO", ".BR hookrelay (1)")


def needs_restart(key: Key) -> str:
    """What is added to the text of a setting that a reload does not change."""
    return " Needs a restart." if key.dotted in NEEDS_RESTART else ""


def _default(key: Key) -> str:
    if key.default is None:
        return " (not set)"
    return f" = {_literal(json.dumps(key.default))}"


# --- roff -------------------------------------------------------------------------------------------------------


def _head(title: str, section: int, manual: str) -> Iterator[str]:
    yield '.\\" Written by `make references`: change the texts that it is made from.'
    yield f'.TH {title} {section} "" "hookrelay {__version__}" "{manual}"'
    yield ".nh"  # a name that is broken by a hyphen is another name


def _page(lines: list[str]) -> str:
    """The whole page. A heading begins a paragraph by itself."""
    return re.sub(r"(?m)^(\.S[HS] .*\n)\.PP\n", r"\1", "\n".join(lines) + "\n")


def _entries(rows: Mapping[str, str]) -> Iterator[str]:
    for name, text in rows.items():
        yield from _entry(_bold(name), text)


def _entry(term: str, text: str, more: str = "") -> Iterator[str]:
    yield from (".TP", term, *_wrapped(text + more))


def _filled(*paragraphs: str) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from (".PP", *_wrapped(paragraph))


def _wrapped(text: str) -> Iterator[str]:
    """Prose in lines of a source's length."""
    for line in textwrap.wrap(_prose(text), 78, break_long_words=False, break_on_hyphens=False) or ["\\&"]:
        yield f"\\&{line}" if line.startswith((".", "'")) else line


def _literal_lines(lines: list[str]) -> Iterator[str]:
    yield from (".PP", ".RS 4", ".nf")
    yield from map(_literal, lines)
    yield from (".fi", ".RE")


def _bold(text: str) -> str:
    return f"\\fB{_literal(text)}\\fR"


def _literal(text: str) -> str:
    """As it is typed."""
    line = _escaped(text, _LITERAL)
    return f"\\&{line}" if line.startswith(".") else line


def _prose(text: str) -> str:
    """To be read; what stands between backticks is typed, and so is what looks like an option."""
    typed = re.compile(r"`([^`]+)`|(?<![\w-])(--?[a-z][a-z-]*)")
    parts, at = [], 0
    text = " ".join(text.split())
    for found in typed.finditer(text):
        parts += [_escaped(text[at : found.start()], _PROSE), _bold(found[1] or found[2])]
        at = found.end()
    return "".join([*parts, _escaped(text[at:], _PROSE)])


def _escaped(text: str, signs: Mapping[str, str]) -> str:
    signs = {**_SIGNS, **signs}
    return "".join(signs.get(letter) or _ascii(letter) for letter in text)


def _ascii(letter: str) -> str:
    return letter if letter.isascii() else f"\\[u{ord(letter):04X}]"
