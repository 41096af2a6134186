"""The files beside a SQLite store: its lock, and the marker that tells what the store must at least hold.

The database file itself is opened by SQLite alone: closing any other descriptor of it drops SQLite's locks
(THREATS §5.3).
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple

APPLICATION_ID = 0x686B_726C
"""`hkrl`, in the database's header: what kind of file it is."""


class StoreTaken(Exception):
    """Another daemon holds the store."""


class StoreDamaged(Exception):
    """The store's files are not what they should be. They are left untouched."""


class StoreUnusable(Exception):
    """The store's place cannot be read or written."""


class StoreTooNew(Exception):
    """The store was made by a later hookrelay, or SQLite here is too old to be trusted with it."""


class Lock:
    """The right to be the one daemon of a store: `flock` on a file of its own, freed by the kernel at any death."""

    def __init__(self, path: Path) -> None:
        """Take the lock. StoreTaken names the holder; StoreUnusable names the path."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnusable(f"{path}: {error.strerror}: the store's folder must exist and be writable") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 64, 0).decode("ascii", "replace").strip() or "an unknown process"
            os.close(self._fd)
            raise StoreTaken(
                f"{path}: {holder} is already serving this store: stop it, or give this one a store.url of its own"
            ) from error
        # on a full disk nobody is named: what that means for the store is told by whoever opens it
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"hookrelay with process id {os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the lock back. The file stays: removing it would let two daemons lock two files of one name."""
        os.close(self._fd)


class Mark(NamedTuple):
    """What the marker says: whose store it is, and how many commits it had at least."""

    store_id: str
    commits: int


class Marker:
    """A small file beside the store that remembers what SQLite's own checks cannot tell (THREATS §5.5).

    It is written after the commits that it names are on disk, so that it is never ahead of a sound store.
    """

    _TEXT = re.compile(rb"hookrelay store ([0-9a-f]{32})\ncommits +([0-9]{1,19})\n")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def read(self) -> Mark | None:
        """What it says; None where it is missing or unreadable as a whole (a torn write)."""
        with contextlib.suppress(OSError):
            match = self._TEXT.match(self.path.read_bytes())
            if match:
                return Mark(match[1].decode(), int(match[2]))
        return None

    def exists(self) -> bool:
        """Whether there was a store here before."""
        return self.path.exists()

    def write(self, mark: Mark) -> None:
        """Say it anew. One small write in place: it is torn by a power cut at worst, and then not believed."""
        if self._fd is None:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, f"hookrelay store {mark.store_id}\ncommits {mark.commits:>20}\n".encode(), 0)

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
