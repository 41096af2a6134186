"""A stored payload in which a bit has flipped: it is found, whatever it makes of the text, and costs itself only."""

import random

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.model import Ids
from hookrelay.store import queue
from hookrelay.store.open import open_memory
from hookrelay.store.sound import is_sound, payload_hash

DATA = '{"name":"Jürgen \\u00e4 \\"x\\"","n":[1,2.50,null],"s":"a b"}'.encode()


def store(count: int = 5, data: bytes = DATA) -> apsw.Connection:
    conn = open_memory(1).writer
    for seq in range(1, count + 1):
        conn.execute(
            "INSERT INTO event (seq, created_ms, tenant, type, timestamp, data, payload_hash)"
            " VALUES (?, 5, 'default', 'a.b', '', ?, ?)",
            (seq, data, payload_hash(data)),
        )
        conn.execute(
            "INSERT INTO delivery (seq, event, webhook, created_ms, due_ms) VALUES (?, ?, 1, 5, 5)", (seq, seq)
        )
    return conn


def flip(conn: apsw.Connection, event: int, bit: int, column: str = "data") -> None:
    (value,) = conn.execute(f"SELECT CAST({column} AS BLOB) FROM event WHERE seq = ?", (event,)).fetchone()  # noqa: S608
    spoiled = bytearray(value)
    spoiled[bit // 8] ^= 1 << bit % 8
    text = "?" if column == "data" else "CAST(? AS TEXT)"
    conn.execute(f"UPDATE event SET {column} = {text} WHERE seq = ?", (bytes(spoiled), event))  # noqa: S608


def page(conn: apsw.Connection) -> tuple[list[int], list[int]]:
    found = queue.due(conn, Ids(7), 1, 10, [], 1000)
    assert {each.event.data for each in found.deliveries} <= {DATA}
    return [each.seq for each in found.deliveries], [each.seq for each in found.damaged]


def test_every_single_flipped_bit_of_a_payload_is_found_and_all_others_are_read():
    conn = store(3)
    for bit in range(8 * len(DATA)):
        flip(conn, 2, bit)
        assert page(conn) == ([1, 3], [2]), f"bit {bit}"
        flip(conn, 2, bit)
    assert page(conn) == ([1, 2, 3], [])


@pytest.mark.parametrize("count", [1, 70, 200])
def test_any_number_of_damaged_payloads_among_others_leaves_the_others_as_they_were(count: int):
    conn, luck = store(200), random.Random(count)  # noqa: S311 -- the same luck every time
    spoiled = sorted(luck.sample(range(1, 201), count))
    for event in spoiled:
        flip(conn, event, luck.randrange(8 * len(DATA)))
    sound, damaged = page(conn)
    assert sound == [seq for seq in range(1, 201) if seq not in spoiled]
    assert sorted(damaged) == spoiled


@pytest.mark.parametrize("column", ["type", "tenant", "timestamp", "ordering_key", "traceparent"])
def test_text_beside_the_payload_that_is_no_text_any_more_costs_its_own_delivery_only(column: str):
    conn = store(3)
    conn.execute(f"UPDATE event SET {column} = 'abc' WHERE seq = 2")  # noqa: S608
    flip(conn, 2, 15, column)
    assert page(conn) == ([1, 3], [2])


def test_payloads_of_before_there_was_a_hash_are_taken_as_they_are():
    conn = store(2)
    conn.execute("UPDATE event SET payload_hash = NULL, data = x'31' WHERE seq = 1")
    found = queue.due(conn, Ids(7), 1, 10, [], 100)
    assert ([each.event.data for each in found.deliveries], found.damaged) == ([b"1", DATA], [])


@given(st.binary(min_size=1, max_size=5000), st.integers(0), st.integers(1, (1 << 32) - 1))
def test_whatever_changes_within_32_bits_in_a_row_is_found(data: bytes, at: int, change: int):
    start = at % (8 * len(data))
    spoiled = int.from_bytes(data, "little") ^ (change << start)
    length = 8 * len(data)
    spoiled &= (1 << length) - 1
    changed = spoiled.to_bytes(len(data), "little")
    assert is_sound(changed, payload_hash(data)) is (changed == data)
