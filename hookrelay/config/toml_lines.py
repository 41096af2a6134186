"""On which line of a TOML text does a key stand? `tomllib` gives values without their places.

One pass over a text that `tomllib` has taken, or the place of what made it refuse. Meanings are not checked here.
"""

import re
import tomllib

Path = tuple[str | int, ...]
"""A key's way from the top, items of arrays by index: `("webhook", 1, "url")`."""

# No possessive quantifiers: the `re` of early Python 3.11 can hang on them. These are unrolled to stay linear instead.
_BASIC = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_LITERAL = r"'[^'\n]*'"
_LONG_BASIC = r'"""[^"\\]*(?:(?:\\.|"{1,2}(?!"))[^"\\]*)*"{3,5}'
_LONG_LITERAL = r"'''[^']*(?:'{1,2}(?!')[^']*)*'{3,5}"
_STRING = f"{_LONG_BASIC}|{_LONG_LITERAL}|{_BASIC}|{_LITERAL}"
_TEXT = re.compile(_STRING, re.DOTALL)
_BLANK = re.compile(r"[ \t\r\n]*(?:#[^\n]*[ \t\r\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(rf"[ \t]*(?:([A-Za-z0-9_-]+)|({_BASIC}|{_LITERAL}))[ \t]*(\.?)")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_AT = re.compile(r"(?P<what>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_MARKS = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>#[^\n]*)|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<end>[\n=,])|(?P<dot>\.)"
    r"|(?P<broken>[\"'])",
    re.DOTALL,
)
_DIGITS = re.compile(rf"{_STRING}|#[^\n]*|(?P<digits>[0-9_]+)", re.DOTALL)

MAX_DEPTH = 64


def line_of(text: str, path: Path) -> int:
    """The line (from 1) that holds the key at `path`, or the nearest table around it that is written down."""
    return Lines(text).line(path)


def refusal(text: str, error: ValueError) -> tuple[int, str]:
    """The line where `tomllib.loads(text)` met `error`, and what is wrong there."""
    if isinstance(error, tomllib.TOMLDecodeError):
        match = _AT.fullmatch(str(error))
        what, line, column = (match["what"], match["line"], match["column"]) if match else (str(error), None, None)
        where = f" at column {column}" if column else " at the end of the file"
        right = "a line reads `key = value`, text stands in double quotes, lists in [ ]"
        return int(line or text.count("\n") + (not text.endswith("\n"))), f"is not TOML: {what}{where}; {right}"
    return _longest_number(text), "holds a number of thousands of digits: whole numbers have at most 19"


def too_deep(text: str) -> int | None:
    """The line where more than `MAX_DEPTH` tables or lists, or parts of a dotted key, stand in each other.

    For any text, TOML or not, and without recursion.
    """
    depth = dots = 0
    for mark in _MARKS.finditer(text):
        kind = mark.lastgroup
        if kind == "broken":
            return None  # an unfinished string: the parser will tell of it
        if kind == "open":
            depth, dots = depth + 1, 0
        elif kind == "close":
            depth -= 1
        elif kind == "dot":
            dots += 1
        elif kind == "end":
            dots = 0
        if depth > MAX_DEPTH or dots > MAX_DEPTH:
            return text.count("\n", 0, mark.start()) + 1
    return None


def _longest_number(text: str) -> int:
    numbers = [mark for mark in _DIGITS.finditer(text) if mark.lastgroup]
    longest = max(numbers, key=lambda mark: mark.end() - mark.start(), default=None)
    return 1 if longest is None else text.count("\n", 0, longest.start()) + 1


class Lines:
    """The lines of every key and array item of a valid TOML text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[Path, int] = {(): 1}
        self._counts: dict[Path, int] = {}
        """How many `[[tables]]` an array of tables has so far: headers below it mean its last one."""
        self._seen = (0, 1)
        self._scan()

    def line(self, path: Path) -> int:
        """The line (from 1) of the key at `path`, or of the nearest table around it that is written down."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def _scan(self) -> None:
        text = self._text
        table: Path = ()
        pos = self._blank(0)
        while pos < len(text):
            if text[pos] == "[":
                is_array = text.startswith("[[", pos)
                line = self._line_at(pos)
                parts, pos = self._key(pos + 1 + is_array)
                table = self._open(parts, line, is_array)
                pos += 1 + is_array
            else:
                pos = self._pair(pos, table)
            pos = self._blank(pos)

    def _open(self, parts: list[str], line: int, is_array: bool) -> Path:
        """The path of the table that a header opens."""
        here: Path = ()
        for part in parts[:-1]:
            here = (*here, part)
            self._lines.setdefault(here, line)
            if here in self._counts:
                here = (*here, self._counts[here] - 1)
        here = (*here, parts[-1])
        if is_array:
            index = self._counts.get(here, 0)
            self._counts[here] = index + 1
            self._lines.setdefault(here, line)
            here = (*here, index)
        self._lines[here] = line
        return here

    def _pair(self, pos: int, here: Path) -> int:
        line = self._line_at(pos)
        parts, pos = self._key(pos)
        for part in parts:
            here = (*here, part)
            self._lines.setdefault(here, line)
        return self._value(_end(_SPACE, self._text, pos + 1), here)  # past the `=`

    def _value(self, pos: int, here: Path) -> int:
        text = self._text
        if text[pos] in "\"'":
            return _end(_TEXT, text, pos)
        if text[pos] == "[":
            index, pos = 0, self._blank(pos + 1)
            while text[pos] != "]":
                self._lines[(*here, index)] = self._line_at(pos)
                pos = self._blank(self._value(pos, (*here, index)))
                if text[pos] == ",":
                    index, pos = index + 1, self._blank(pos + 1)
            return pos + 1
        if text[pos] == "{":
            pos = self._blank(pos + 1)
            while text[pos] != "}":
                pos = self._blank(self._pair(pos, here))
                if text[pos] == ",":
                    pos = self._blank(pos + 1)
            return pos + 1
        return _end(_SCALAR, text, pos)

    def _key(self, pos: int) -> tuple[list[str], int]:
        """The parts of a key, bare, quoted or dotted, and the place after it."""
        parts = []
        while (match := _KEY.match(self._text, pos)) is not None:
            bare, quoted, dot = match.groups()
            parts.append(bare or tomllib.loads(f"key={quoted}")["key"])
            pos = match.end()
            if not dot:
                break
        return parts, pos

    def _blank(self, pos: int) -> int:
        return _end(_BLANK, self._text, pos)

    def _line_at(self, pos: int) -> int:
        """Places come in rising order, so that the whole scan counts each line once."""
        last, line = self._seen
        self._seen = (pos, line + self._text.count("\n", last, pos))
        return self._seen[1]


def _end(pattern: re.Pattern[str], text: str, pos: int) -> int:
    match = pattern.match(text, pos)
    return pos if match is None else match.end()
