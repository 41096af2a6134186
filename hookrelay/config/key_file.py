"""The file of keys that `store.key_file` names: there, to be read by nobody else, and right in every line."""

import stat
from pathlib import Path

from hookrelay.config.files import read, unreadable
from hookrelay.rules.key_text import read_keys
from hookrelay.rules.wording import shown

MOST = 1 << 16


def check(file: Path) -> None:
    """ValueError says what is wrong with the file and what would be right, and nothing of its keys."""
    try:
        mode = file.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{shown(str(file))} is not a file: name one that holds a key")
        content = read(file, MOST)
    except OSError as error:
        raise ValueError(f"{shown(str(file))}: {unreadable(error)}") from None
    if mode & 0o077:
        raise ValueError(f"{shown(str(file))} is open to others (mode {mode & 0o777:04o}): run chmod 600 on it")
    try:
        read_keys(content)
    except ValueError as error:
        raise ValueError(f"{shown(str(file))} {error}") from None
