"""The disk's room: how much is left, and a reserve that is given up when there is none (THREATS §4).

On a full disk SQLite can write nothing at all, not even what would free room. So 32 MiB are held in a file without a
name, which no crash leaves behind, and which is closed when they are needed to record what is in flight.
"""

import contextlib
import os
import tempfile

FREE_AT_LEAST = 128 << 20
"""Bytes that must be free for new events to be taken."""
BALLAST = 32 << 20
FULL_UNDER = 8 << 20
"""With so little free, what is in flight could no longer be recorded if more were started."""
ROOMY_FROM = 2 * BALLAST
"""The reserve is made, and attempts start again, only with so much free: what was given up must not count as room."""


class Space:
    """Of the file system that holds `folder`. Not to be used by two threads at once."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._ballast: int | None = None
        self.free_bytes = 0
        """When it was last looked."""
        self.is_low = False
        """Whether too little is left to take more in."""
        self.is_full = False
        """Whether nothing may be begun that would have to be written down."""

    def look(self) -> None:
        """See what is left; hold the reserve, or give it up. Where the folder cannot be asked, all stays as it is."""
        try:
            free = self.free_bytes = free_bytes(self._folder)
        except OSError:
            return
        if free < FULL_UNDER:
            self.is_full = True
            self.close()
        elif free >= ROOMY_FROM:
            self.is_full = False
            if self._ballast is None:
                self._ballast = _take(self._folder, BALLAST)
        self.is_low = free < FREE_AT_LEAST

    def close(self) -> None:
        """Give the reserve up."""
        if self._ballast is not None:
            os.close(self._ballast)
            self._ballast = None


def free_bytes(folder: str) -> int:
    """What this process may still write there."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def _take(folder: str, size: int) -> int | None:
    """The descriptor of a nameless file that really has so many bytes of the disk; None where that cannot be had."""
    with contextlib.suppress(OSError):
        file = _nameless(folder)
        try:
            os.posix_fallocate(file, 0, size)
        except OSError:
            os.close(file)
            raise
        return file
    return None


def _nameless(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        # a file system that cannot do that (NFS, overlayfs of older kernels)
        file, name = tempfile.mkstemp(prefix=".ballast-", dir=folder)
        os.unlink(name)
        return file
