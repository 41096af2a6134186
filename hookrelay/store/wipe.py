"""Leaving nothing in the database's file of what is gone from its rows.

SQLite overwrites what it deletes (`secure_delete`), but where it distributes the rows of full pages anew, older copies
of them stay behind in the room that its pages have left between their pointers and their rows: measured, some
payloads of each hundred that were expunged. Nothing reads that room, so it is overwritten here in the file itself,
under SQLite's hands: only bytes that mean nothing are touched, whatever cuts it short.

The file's format: https://www.sqlite.org/fileformat2.html
"""

import struct

import apsw

PENDING_BYTE = 0x4000_0000
"""The page that holds it is never used (§1.3)."""
TREE = (1, 5)
"""Types in the pointer map (§1.8): the root of a tree, and its other pages. All else is overflow, or free."""
HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""Bytes of a tree's page before its pointers, by what kind it is (§1.6)."""
_head = struct.Struct(">BHHH").unpack_from


def wipe(conn: apsw.Connection, path: str, first: int, count: int) -> int | None:
    """Overwrite what is unused in up to `count` pages from page `first` (1-based) on; the next page, None at the end.

    For the writer's connection, in no transaction, with its write-ahead log empty: nobody else changes pages, and what
    stands in the log would take their place again.
    """
    size: int = conn.pragma("page_size")
    last: int = conn.pragma("page_count")
    conn.pragma("shrink_memory")  # pages as they were would be written again with the next change on them
    if not conn.pragma("auto_vacuum"):
        return None  # no map tells what its pages are: it was not made by us
    end = min(first + count, last + 1)
    # by SQLite's own way to files: closing it drops no locks (THREATS §5.3)
    flags = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE
    file = apsw.VFSFile("", path, [flags, 0])
    try:
        content = file.xRead((end - first) * size, (first - 1) * size)
        map_at, pointers = 0, b""
        for number in range(first, end):
            if number > 1 and _map_of(number, size) != map_at:
                map_at = _map_of(number, size)
                pointers = file.xRead(size, (map_at - 1) * size)
            if number == 1 or (number > map_at and pointers[5 * (number - map_at - 1)] in TREE):
                at = (number - first) * size
                low, high = _unused(content, at, 100 if number == 1 else 0, size)
                if content.count(0, at + low, at + high) != high - low:
                    file.xWrite(bytes(high - low), (number - 1) * size + low)
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()
    return None if end > last else end


def _map_of(number: int, size: int) -> int:
    """The page of the pointer map that tells of page `number`; itself, where it is one."""
    reach = size // 5 + 1
    found = (number - 2) // reach * reach + 2
    return found + 1 if found == PENDING_BYTE // size + 1 else found


def _unused(content: bytes, at: int, before: int, size: int) -> tuple[int, int]:
    """Where the room between pointers and rows begins and ends in the tree's page at `at`; empty where it is none."""
    kind, _, rows, start = _head(content, at + before)
    low, high = before + HEADERS.get(kind, size) + 2 * rows, start or 65536
    return (low, high) if low <= high <= size else (0, 0)
