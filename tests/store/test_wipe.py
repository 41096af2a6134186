"""Overwriting what a store's pages do not use: everything that can be read stays, all else is gone."""

import random
import struct

import apsw
import pytest

from hookrelay.store import open as opening
from hookrelay.store.db import Store
from hookrelay.store.house import cut_log
from hookrelay.store.wipe import wipe

PAGE = 4096


def everything(conn: apsw.Connection) -> list[object]:
    names = [str(name) for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()]
    return [conn.execute(f"SELECT * FROM {name}").fetchall() for name in names]  # noqa: S608 -- our own names


def gaps(content: bytes) -> int:
    """Bytes between pointers and rows that are not zero, in what looks like a page of a tree."""
    count = 0
    for at in range(PAGE, len(content), PAGE):
        page = content[at : at + PAGE]
        kind, _, rows, start = struct.unpack_from(">BHHH", page)
        if kind in (2, 5, 10, 13) and rows:
            low = (12 if kind < 10 else 8) + 2 * rows
            count += sum(byte != 0 for byte in page[low:start])
    return count


@pytest.mark.parametrize("pages", [7, 1000])
def test_a_store_that_was_stirred_keeps_every_row_and_loses_what_lies_between(tmp_path, pages):
    made = opening.open_file(tmp_path / "h.db", max_size=1 << 30, now_ms=1)
    conn = made.writer
    dice = random.Random(3)  # noqa: S311 -- sample data
    for turn in range(40):
        with conn:
            for _ in range(60):
                where = (dice.randrange(3000), dice.randrange(3))
                conn.execute(
                    "INSERT OR REPLACE INTO attempt (delivery, number, started_ms, duration_us, response_body)"
                    " VALUES (?, ?, 1, 1, ?)",
                    (*where, dice.randbytes(dice.choice((5, 80, 700, 3000, 9000)))),
                )
            if turn % 4 == 3:
                low = dice.randrange(2500)
                conn.execute("DELETE FROM attempt WHERE delivery BETWEEN ? AND ?", (low, low + 300))
    before = everything(conn)
    assert cut_log(conn)
    assert gaps((tmp_path / "h.db").read_bytes()) > 0
    at, steps = 1, 0
    while at is not None:
        at, steps = wipe(conn, made.path, at, pages), steps + 1
    assert steps == -(-(tmp_path / "h.db").stat().st_size // PAGE // pages)
    assert gaps((tmp_path / "h.db").read_bytes()) == 0
    assert everything(conn) == before
    assert conn.pragma("integrity_check") == "ok"
    # what is written next does not bring anything back
    conn.execute("UPDATE attempt SET duration_us = 2")
    assert cut_log(conn)
    Store(made)._close()
    again = opening.open_file(tmp_path / "h.db", max_size=1 << 30, now_ms=1)
    assert again.writer.pragma("integrity_check") == "ok"
    Store(again)._close()
