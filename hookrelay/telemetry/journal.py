"""Whether what is written goes to systemd's journal, where `<N>` before a line is its priority (sd-daemon(3))."""

import os
from typing import TextIO

ERROR = "<3>"


def goes_to_journal(out: TextIO) -> bool:
    """Whether `out` is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        stat = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
