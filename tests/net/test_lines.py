"""events.sock's side that knows no events: lines in, answers out, in order and within bounds."""

import socket
from contextlib import AsyncExitStack
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.net import lines
from hookrelay.net.lines import Limits, Splitter
from hookrelay.net.listen import open_unix


def naive(data: bytes, limit: int) -> list[bytes | None]:
    found = [None if len(line) > limit else line for line in data.split(b"\n")]
    return [line for line in found if line is None or line.strip()]


@given(st.lists(st.binary(max_size=30).map(lambda each: each.replace(b"\r", b"\n")), max_size=20), st.integers(1, 12))
def test_any_chunks_give_the_same_lines_and_keep_no_more_than_the_limit(chunks, limit):
    splitter = Splitter(limit)
    found = []
    for chunk in chunks:
        found += splitter.feed(chunk)
        assert len(splitter._kept) <= limit
    found += splitter.end()
    assert found == naive(b"".join(chunks), limit)


class Ingest:
    """Echoes lines as answers when it is told to."""

    def __init__(self, *, holds: bool = False) -> None:
        self.taken: list[bytes | None] = []
        self.waiting = []
        self._holds = holds

    def submit(self, said, answered) -> None:
        self.taken += said
        answer = b"".join((line or b"too long") + b"!\n" for line in said)
        if self._holds:
            self.waiting.append(partial(answered, answer))
        else:
            answered(answer)

    def release(self) -> None:
        self._holds = False
        while self.waiting:
            self.waiting.pop()()


@pytest.fixture
async def door(tmp_path, nursery):
    async def open_door(ingest: Ingest, on_limit=lambda limit: None, **limits) -> tuple[trio.Event, str]:
        stopping = trio.Event()
        path = tmp_path / "e.sock"
        listener = open_unix(path, 0o600)
        serve = partial(lines.serve, room=trio.lowlevel.checkpoint, stopping=stopping, limits=lambda: Limits(**limits))
        await nursery.start(partial(serve, on_limit=on_limit), listener, ingest.submit)
        return stopping, str(path)

    return open_door


async def answers_of(stream: trio.SocketStream) -> list[bytes]:
    data = b""
    async for chunk in stream:
        data += chunk
    return data.splitlines()


async def test_answers_come_in_order_also_after_the_client_has_closed_its_side(door):
    ingest = Ingest(holds=True)
    _, path = await door(ingest)
    async with await trio.open_unix_socket(path) as client:
        for number in range(5):
            await client.send_all(b"line %d\n\n" % number)
            await trio.testing.wait_all_tasks_blocked(0.01)
        await client.send_all(b"unfinished")
        await client.send_eof()
        await trio.testing.wait_all_tasks_blocked(0.01)
        ingest.release()  # the last slot first: order is the door's business
        assert await answers_of(client) == [b"line %d!" % number for number in range(5)] + [b"unfinished!"]


async def test_a_line_that_is_too_long_costs_itself(door):
    _, path = await door(Ingest(), line=10)
    async with await trio.open_unix_socket(path) as client:
        await client.send_all(b"short\n" + b"x" * 5000)
        await client.send_all(b"x" * 5000 + b"\nagain\n")
        await client.send_eof()
        assert await answers_of(client) == [b"short!", b"too long!", b"again!"]


async def test_a_client_that_reads_no_answers_is_read_no_more_and_loses_nothing(door):
    ingest = Ingest(holds=True)
    _, path = await door(ingest, unanswered=100_000)
    sent = 0
    async with await trio.open_unix_socket(path) as client:
        with trio.move_on_after(0.3):
            while True:
                await client.send_all(b"%099d\n" % sent)
                sent += 1
        taken = len(ingest.taken)
        assert taken * 100 < 100_000 + 2 * 65536
        ingest.release()
        await client.send_eof()
        got = await answers_of(client)
    assert len(got) >= sent  # the one that was cut by the time limit may have arrived in part
    assert [int(answer[:-1]) for answer in got[:sent]] == list(range(sent))


async def test_at_the_stop_what_was_taken_is_answered_and_nothing_more_is_read(door):
    ingest = Ingest(holds=True)
    stopping, path = await door(ingest)
    async with await trio.open_unix_socket(path) as client:
        await client.send_all(b"before\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        stopping.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(OSError, match=r"No such file|refused"):
            await trio.open_unix_socket(path)
        ingest.release()
        assert await answers_of(client) == [b"before!"]
    assert ingest.taken == [b"before"]


async def test_a_client_that_vanishes_takes_nobody_with_it(door):
    ingest = Ingest(holds=True)
    _, path = await door(ingest)
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(path)
        gone.sendall(b"stored all the same\n")
        await trio.sleep(0.05)
    ingest.release()
    async with await trio.open_unix_socket(path) as client:
        await client.send_all(b"next\n")
        await client.send_eof()
        assert await answers_of(client) == [b"next!"]
    assert ingest.taken == [b"stored all the same", b"next"]


async def test_the_client_that_was_idle_longest_goes_for_a_newcomer(door, autojump_clock):
    met = list[str]()
    _, path = await door(Ingest(), on_limit=met.append, connections=3)
    async with (
        await trio.open_unix_socket(path) as first,
        await trio.open_unix_socket(path) as second,
        await trio.open_unix_socket(path) as third,
        AsyncExitStack() as newcomers,
    ):
        await trio.sleep(1)
        await first.send_all(b"still here\n")
        assert await first.receive_some() == b"still here!\n"
        await trio.sleep(1)
        await third.send_all(b"half a li")  # a line that is never ended keeps nobody's place
        await trio.sleep(1)
        assert met == []
        for number, idlest in enumerate((second, first, third)):
            newcomer = await newcomers.enter_async_context(await trio.open_unix_socket(path))
            await newcomer.send_all(b"new %d\n" % number)
            assert await newcomer.receive_some() == b"new %d!\n" % number
            assert await idlest.receive_some() == b""
        assert met == ["events_clients"] * 3


async def test_a_client_to_whom_answers_are_owed_keeps_its_place(door, autojump_clock):
    ingest = Ingest(holds=True)
    _, path = await door(ingest, connections=2)
    async with await trio.open_unix_socket(path) as first, await trio.open_unix_socket(path) as second:
        for stream in (first, second):
            await stream.send_all(b"owed\n")
        await trio.sleep(5)
        async with await trio.open_unix_socket(path) as newcomer:
            await newcomer.send_all(b"new\n")
            await trio.sleep(5)
            assert ingest.taken == [b"owed", b"owed"]
            ingest.release()
            assert await first.receive_some() == await second.receive_some() == b"owed!\n"
            assert await newcomer.receive_some() == b"new!\n"
