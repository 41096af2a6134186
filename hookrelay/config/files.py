"""Files → TOML tables whose mistakes know their lines. What the tables mean is `load`'s and `webhooks`'s to say."""

import os
import re
import stat
import tomllib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from hookrelay.config import toml_lines, toml_tables
from hookrelay.model import ConfigMistake
from hookrelay.rules.wording import shown

Tell = Callable[[ConfigMistake], None]

_NULL = (1, 3)
"""The device `/dev/null`: an empty file. Others may be without end, or wait."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Document:
    """One TOML file: its tables, and the way to tell of a mistake in them."""

    def __init__(self, file: str, text: str, tree: dict[str, Any], tell: Tell) -> None:
        self.file = file
        self.tree = tree
        self._text = text
        self._tell = tell

    def wrong(self, path: toml_lines.Path, detail: str) -> None:
        """Tell of a mistake at the key `path`."""
        self._tell(ConfigMistake(self.file, self.line(path), dotted(path), detail))

    def line(self, path: toml_lines.Path) -> int:
        """The line of the key at `path`, or of the table that it should stand in."""
        return self._lines.line(path)

    @cached_property
    def _lines(self) -> toml_lines.Lines:
        return toml_lines.Lines(self._text)


def read_toml(path: Path, limit: int, tell: Tell) -> Document | None:
    """The tables of a file, or None where it cannot be read as TOML: then `tell` was told why."""

    def wrong(line: int | None, detail: str) -> None:
        tell(ConfigMistake(str(path), line, "", detail))

    try:
        content = read(path, limit + 1)
    except OSError as error:
        wrong(None, unreadable(error))
        return None
    if len(content) > limit:
        wrong(
            content.count(b"\n") + 1, f"is longer than {limit >> 20} MiB here: split it, or take out what is no setting"
        )
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        at = content.count(b"\n", 0, error.start) + 1
        wrong(at, f"is not UTF-8: byte 0x{content[error.start]:02x} begins no character; save the file as UTF-8")
        return None
    if text.startswith("\ufeff"):
        wrong(1, "begins with a byte-order mark: save the file as UTF-8 without one")
        return None
    if (tree := toml_tables.read(text, "webhook")) is not None:
        return Document(str(path), text, tree, tell)
    # first, for `tomllib` recurses, and takes quadratic time over the parts of a key
    if (line := toml_lines.too_deep(text)) is not None:
        wrong(
            line, f"is nested too deeply: at most {toml_lines.MAX_DEPTH} tables, lists or parts of a key in each other"
        )
        return None
    try:
        return Document(str(path), text, tomllib.loads(text), tell)
    except ValueError as error:
        wrong(*toml_lines.refusal(text, error))
        return None


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of a file. OSError where there is none, or where reading might wait for ever."""
    # a pipe without a writer would block: opened so, it does not, and is refused below
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        is_null = stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(*_NULL)
        if not stat.S_ISREG(found.st_mode) and not is_null:
            raise OSError("not a file")
        return file.read(limit)


def unreadable(error: OSError) -> str:
    """What is wrong with a file that could not be read, and what would be right."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file: create it, or name another"
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied): let the user that the daemon runs as read it"
    return f"cannot be read ({(error.strerror or str(error)).lower()}): name a file"


def dotted(path: toml_lines.Path) -> str:
    """A key as messages write it: `webhook[1].headers.x-source`; quoted where TOML wants quotes."""
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(f".{part}" if _BARE.fullmatch(part) else f".{shown(part)}")
    return "".join(parts).removeprefix(".")
