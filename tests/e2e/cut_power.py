"""`cut_power.py FOLDER SYNC SHARE serve …` runs `hookrelay serve …` over a disk that loses its power in the middle of
that sync. FOLDER is what the next start finds.
"""

import os
import random
import sys
from pathlib import Path

import apsw
from disk import Disk, attach

from hookrelay.cli.main import main

DEAD = 137


def cut(left: Path, sync: int, share: float) -> apsw.VFS:
    """The disk as SQLite sees it, to be kept: it is there for as long as somebody knows it."""
    disk, luck = Disk(), random.Random(sync)  # noqa: S311 -- the same luck every time

    def die() -> None:
        if disk.syncs == sync:
            disk.leave(left, share, luck)
            os._exit(DEAD)

    disk.on_sync = die
    return attach(disk)


if __name__ == "__main__":
    kept = cut(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    main(sys.argv[4:])
