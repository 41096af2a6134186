"""A file of many `[[tables]]` → what `tomllib.loads` makes of it, in a fifth of the time where lines are plain.

Ten thousand webhooks take `tomllib` a third of a second in which a running daemon delivers less. Nothing is refused
here: what is not plain goes to `tomllib`, table by table or the file as a whole.
"""

import re
import tomllib
from typing import Any

from hookrelay.config.toml_lines import too_deep

_COMMENT = r"(?:#[^\x00-\x08\n-\x1f\x7f]*)?"
_TEXT = r'"[^"\\\x00-\x1f\x7f]*"'
# no two runs of blanks side by side: a long one would be tried at every way to share it between them
_TEXTS = rf"\[[ \t]*(?:{_TEXT}(?:[ \t]*,[ \t]*{_TEXT})*[ \t]*(?:,[ \t]*)?)?\]"
_WORD = r"true|false|0|[1-9][0-9]{0,17}"
_LINE = re.compile(
    rf"[ \t]*(?:(?P<key>[A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:(?P<text>{_TEXT})|(?P<texts>{_TEXTS})|(?P<word>{_WORD}))[ \t]*)?"
    rf"{_COMMENT}(?:\n|\Z)"
)
_WORDS = {"true": True, "false": False}


def read(text: str, name: str) -> dict[str, Any] | None:
    """What a text says that is mostly `[[name]]` tables; None where that takes a look at the whole of it.

    A header inside of a longer text or list leaves what stands before it unfinished, which no reader takes.
    """
    text = text.replace("\r\n", "\n")
    head, *bodies = re.split(rf"^\[\[{name}\]\][ \t]*{_COMMENT}\n", text, flags=re.MULTILINE)
    tree = _plain(head)
    if tree is None or name in tree or "\r" in text:
        return None
    tables = []
    for body in bodies:
        table = _plain(body)
        if table is None and (table := _other(body, name)) is None:
            return None
        tables.append(table)
    return {**tree, name: tables} if tables else tree


def _plain(text: str) -> dict[str, Any] | None:
    """The pairs of a text, each on a line of its own with a value of a common kind; None where there is more to it."""
    table: dict[str, Any] = {}
    at = 0
    while at < len(text):
        line = _LINE.match(text, at)
        if line is None:
            return None
        at = line.end()
        kind = line.lastgroup
        if kind is None:
            continue  # blank, or a comment
        key, value = line["key"], line[kind]
        if key in table:
            return None
        if kind == "text":
            table[key] = value[1:-1]
        elif kind == "texts":
            table[key] = value.split('"')[1::2]
        else:
            table[key] = _WORDS[value] if value in _WORDS else int(value)
    return table


def _other(body: str, name: str) -> dict[str, Any] | None:
    """One table with all that TOML knows; None where it is no TOML, or more than that one table."""
    if too_deep(body) is not None:
        return None
    try:
        tree = tomllib.loads(f"[[{name}]]\n{body}")
    except ValueError:
        return None
    table: dict[str, Any] = tree[name][0]
    return table if len(tree) == len(tree[name]) == 1 else None
