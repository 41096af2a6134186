"""A disk that loses its power: what was not synced is lost, or is there in part and in any order."""

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

DEFAULT = apsw.vfs_names()[0]
PAGE = 512
"""What a disk writes whole."""


class Disk:
    """What is on the platter, file by file, and what was written since and not synced."""

    def __init__(self) -> None:
        self.synced: dict[str, bytearray] = {}
        self.pending: dict[str, list[Callable[[bytearray], None]]] = {}
        self.syncs = 0
        self.on_sync: Callable[[], None] = lambda: None
        """Told before anything of a sync is on the platter; no other sync ends meanwhile."""
        self._syncing = threading.Lock()

    def write(self, name: str, data: bytes, offset: int) -> None:
        for start in range(0, len(data), PAGE):
            part = bytes(data[start : start + PAGE])
            self.pending.setdefault(name, []).append(lambda file, at=offset + start, part=part: _put(file, part, at))

    def truncate(self, name: str, size: int) -> None:
        def cut(file: bytearray) -> None:
            del file[size:]

        self.pending.setdefault(name, []).append(cut)

    def sync(self, name: str) -> None:
        with self._syncing:
            self.syncs += 1
            self.on_sync()
            self.synced[name] = self.after(name)
            self.pending[name] = []

    def after(self, name: str, share: float = 1.0, luck: random.Random | None = None) -> bytearray:
        """The file as it is found when that share of what was not synced has come to the platter all the same."""
        file = bytearray(self.synced.get(name, b""))
        for change in self.pending.get(name, []):
            if luck is None or luck.random() < share:
                change(file)
        return file

    def leave(self, folder: Path, share: float, luck: random.Random) -> None:
        """What the next start finds."""
        folder.mkdir()
        for name in {*self.synced, *self.pending}:
            (folder / name).write_bytes(self.after(name, share, luck))


def _put(file: bytearray, data: bytes, at: int) -> None:
    file.extend(bytes(max(0, at - len(file))))
    file[at : at + len(data)] = data


def attach(disk: Disk) -> apsw.VFS:
    """Have SQLite write to `disk` as well as to the real one, until the VFS is unregistered."""

    class File(apsw.VFSFile):
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__(DEFAULT, name, flags)
            path = name.filename() if isinstance(name, apsw.URIFilename) else name
            self._name = Path(path).name if path else ""

        def xWrite(self, data: bytes, offset: int) -> None:
            super().xWrite(data, offset)
            disk.write(self._name, data, offset)

        def xTruncate(self, size: int) -> None:
            super().xTruncate(size)
            disk.truncate(self._name, size)

        def xSync(self, flags: int) -> None:
            super().xSync(flags)
            disk.sync(self._name)

    class Vfs(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("cut", DEFAULT, makedefault=True)

        def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
            return File(name, flags)

        def xDelete(self, name: str, sync_dir: bool) -> None:
            super().xDelete(name, sync_dir)
            disk.synced.pop(Path(name).name, None)
            disk.pending.pop(Path(name).name, None)

    return Vfs()
