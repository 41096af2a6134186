"""What a hostile or broken client may do to the HTTP server, over real sockets and by the real clock."""

import os
import random
import resource
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
import trio
from raw_http import House, Scope, answering, get, problem_in, read_all, read_until, serving

from hookrelay.net.asgi import Receive, Send

pytestmark = pytest.mark.parametrize("door", ["unix", "tcp"])

FAST_S = 1.0
"""Far above what an undisturbed call takes here (about 1 ms), far below what one behind a blocked loop would."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/large` has an endless answer, `/hang` none, `/shielded` a large one behind a shield; all else is quick."""
    await receive()
    if scope["path"] == "/hang":
        await trio.sleep_forever()
    elif scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    elif scope["path"] == "/shielded":
        with trio.CancelScope(shield=True):
            await answering(200, b"x" * (16 << 20))(scope, receive, send)
    else:
        await answering()(scope, receive, send)


async def assert_others_are_served(house: House, calls: int = 20) -> None:
    """Newcomers, each with a connection of its own, are answered quickly."""
    for _ in range(calls):
        began = time.monotonic()
        assert (await house.ask(get("/", "Connection: close"))).endswith(b"ok")
        assert time.monotonic() - began < FAST_S


@asynccontextmanager
async def clients(house: House, count: int, said: bytes = b"") -> AsyncIterator[list[trio.SocketStream]]:
    """`count` connections that have sent `said` and then say and read nothing."""
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            stream = await stack.enter_async_context(await house.connect())
            if said:
                await stream.send_all(said)
            streams.append(stream)
        await trio.testing.wait_all_tasks_blocked(0.005)
        yield streams


async def drip(stream: trio.SocketStream, said: bytes) -> None:
    """Send `said` byte by byte, over 10 s, or until the server has had enough."""
    try:
        for byte in said:
            await stream.send_all(bytes([byte]))
            await trio.sleep(10 / len(said))
    except trio.BrokenResourceError:
        return


async def ended(stream: trio.SocketStream) -> bytes:
    """All that came until the end, be it a close or a reset."""
    got = b""
    try:
        async for part in stream:
            got += part
    except trio.BrokenResourceError:
        pass
    return got


# --- slowness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        pytest.param(b"", get("/", "X: " + "y" * 500), id="header"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", b"x" * 500, id="body"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 99, id="chunks"
        ),
    ],
)
async def test_requests_dripped_byte_by_byte_end_in_time_and_slow_nobody(
    tmp_path: Path, door: str, head: bytes, rest: bytes
) -> None:
    answers = list[bytes]()

    async def dawdle(house: House) -> None:
        async with await house.connect() as stream, trio.open_nursery() as both:
            await stream.send_all(head)
            both.start_soon(drip, stream, rest)
            answers.append(await ended(stream))
            both.cancel_scope.cancel()

    async with serving(app, tmp_path, door, header_s=0.4, body_s=0.4, linger_s=0.05) as house:
        began = time.monotonic()
        async with trio.open_nursery() as dawdlers:
            for _ in range(60):
                dawdlers.start_soon(dawdle, house)
            await assert_others_are_served(house)
        assert time.monotonic() - began < 3
    assert {problem_in(answer)["status"] for answer in answers} == {408}
    assert len(answers) == 60
    assert house.errors == []


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\nHo", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", b"\r\n"],
)
async def test_half_sent_requests_end_in_time(tmp_path: Path, door: str, said: bytes) -> None:
    async with (
        serving(app, tmp_path, door, header_s=0.15, body_s=0.15, linger_s=0.05) as house,
        clients(house, 20, said) as streams,
    ):
        for stream in streams:
            answer = await ended(stream)
            assert answer == b"" if said == b"\r\n" else problem_in(answer)["status"] == 408


async def test_a_connection_that_never_says_anything_ends_in_time(tmp_path: Path, door: str) -> None:
    async with serving(app, tmp_path, door, header_s=0.2) as house, clients(house, 20) as streams:
        assert [await ended(stream) for stream in streams] == [b""] * 20


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        pytest.param(b"", get(), id="nothing sent"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: ", b"a\r\n\r\n", id="half a header block"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nh", b"ello", id="half a body"),
        pytest.param(get(), get(), id="answered before"),
    ],
)
async def test_300_idle_connections_slow_nobody(tmp_path: Path, door: str, said: bytes, rest: bytes) -> None:
    async with serving(app, tmp_path, door) as house, clients(house, 300, said) as streams:
        await assert_others_are_served(house)
        # who came first had to go, who came last is still served
        assert b"HTTP/1.1 4" not in await ended(streams[0])
        await streams[-1].send_all(rest)
        got = b""
        while got.count(b"ok") < 1 + (said == get()):
            got += await read_until(streams[-1], b"ok")
        assert got.count(b"HTTP/1.1 200 ") == got.count(b"ok")
    assert house.errors == []


async def test_who_is_at_work_keeps_its_place_and_a_newcomer_waits_for_the_next(tmp_path: Path, door: str) -> None:
    release, answers = trio.Event(), list[str]()

    async def hold(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/hold":
            await release.wait()
        await answering()(scope, receive, send)

    async def come(house: House) -> None:
        await house.ask(get("/", "Connection: close"))
        answers.append("newcomer")

    async with serving(hold, tmp_path, door, connections=4) as house, clients(house, 4, get("/hold")) as busy:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(come, house)
            await trio.sleep(0.15)
            assert answers == []
            release.set()
        assert [await read_until(stream, b"ok") for stream in busy[1:]]
    assert answers == ["newcomer"]


async def test_who_does_not_read_its_answer_gives_its_place_to_a_newcomer(tmp_path: Path, door: str) -> None:
    async with serving(app, tmp_path, door, connections=4) as house, clients(house, 4, get("/large")):
        await assert_others_are_served(house)


# --- answers that nobody reads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/large", "/shielded"])
async def test_a_client_that_does_not_read_is_given_up_and_slows_nobody(tmp_path: Path, door: str, path: str) -> None:
    async with serving(app, tmp_path, door, write_s=0.3) as house, clients(house, 3, get(path)) as streams:
        await assert_others_are_served(house)
        began = time.monotonic()
        await trio.sleep(0.4)
        for stream in streams:
            got = await ended(stream)
            assert 0 < len(got) < 16 << 20
        assert time.monotonic() - began < 3
    assert house.errors == []


async def test_a_client_that_reads_slowly_but_reads_gets_it_all(tmp_path: Path, door: str) -> None:
    size = 3 << 19

    async with (
        serving(answering(200, b"x" * size), tmp_path, door, write_s=0.4) as house,
        await house.connect() as stream,
    ):
        await stream.send_all(get("/", "Connection: close"))
        got, began = 0, time.monotonic()
        while part := await stream.receive_some(65536):
            got += len(part)
            await trio.sleep(0.025)
        assert got > size
        assert time.monotonic() - began > 0.4  # longer than one piece may take


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo", get("/hang"), get("/large")])
async def test_clients_that_reset_their_connection_are_nobodys_fault(tmp_path: Path, door: str, said: bytes) -> None:
    async with serving(app, tmp_path, door, grace_s=0.1) as house:
        for _ in range(8):
            async with clients(house, 1, said) as (stream,):
                if door == "tcp":
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await assert_others_are_served(house, 3)
        assert house.errors == []


# --- too much, and nonsense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"y" * (1 << 20), 431, id="one header of a megabyte"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, 431, id="100,000 headers"),
        pytest.param(b"GET /" + b"y" * (1 << 20), 431, id="a path of a megabyte"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413, id="100 GB announced"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"10000\r\n%b\r\n" % (b"x" * 65536) * 65,
            413,
            id="over 4 MiB in chunks",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100_000,
            400,
            id="100,000 chunks of a byte",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
            431,
            id="100,000 trailers",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            + get("/hang"),
            400,
            id="Content-Length and Transfer-Encoding",
        ),
    ],
)
async def test_bombs_are_refused_with_an_answer_that_arrives(
    tmp_path: Path, door: str, said: bytes, status: int
) -> None:
    statuses = list[int]()

    async def throw(house: House) -> None:
        async with await house.connect() as stream, trio.open_nursery() as both:
            both.start_soon(drip_whole, stream)
            statuses.append(problem_in(await read_all(stream))["status"])
            both.cancel_scope.cancel()

    async def drip_whole(stream: trio.SocketStream) -> None:
        await stream.send_all(said)
        await stream.send_eof()

    async with serving(app, tmp_path, door) as house, trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(throw, house)
        await assert_others_are_served(house, 5)
    assert statuses == [status] * 8
    assert house.errors == []


async def test_nonsense_never_reaches_the_app_as_a_fault(tmp_path: Path, door: str) -> None:
    luck = random.Random(7)  # noqa: S311  # the same nonsense every time
    good = (
        get("/a?b=c", "X: y") + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    async with serving(app, tmp_path, door, header_s=0.2, body_s=0.2, linger_s=0.2) as house:
        async with trio.open_nursery() as nursery:
            for _ in range(150):
                bad = bytearray(good)
                for _ in range(luck.randrange(1, 6)):
                    bad[luck.randrange(len(bad))] = luck.choice(b"\r\n\0 :;\xff0aZ")
                nursery.start_soon(one_way, house, bytes(bad))
        await assert_others_are_served(house, 3)
        assert house.errors == []


async def one_way(house: House, said: bytes) -> None:
    async with await house.connect() as stream:
        await stream.send_all(said)
        await stream.send_eof()
        answer = await ended(stream)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"HTTP/1.1 500" not in answer


# --- the host's own trouble, and the stop -------------------------------------------------------------------------


async def test_without_descriptors_the_server_waits_without_spinning_and_then_goes_on(
    tmp_path: Path, door: str
) -> None:
    async with serving(app, tmp_path, door) as house:
        with socket.socket(socket.AF_INET if door == "tcp" else socket.AF_UNIX) as sock:
            with no_descriptors_left():
                sock.connect(("127.0.0.1", house.port) if door == "tcp" else str(house.path))
                sock.sendall(get("/", "Connection: close"))
                sock.setblocking(False)
                spent = time.process_time()
                await trio.sleep(0.35)
                spent = time.process_time() - spent
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
            await trio.sleep(0.2)
            assert sock.recv(1000).endswith(b"ok")
        assert spent < 0.1
        assert len(house.troubles) == 1
        await assert_others_are_served(house, 3)
        assert (len(house.troubles), house.errors) == (1, [])


async def test_an_idle_connection_is_given_up_where_its_descriptor_is_needed(tmp_path: Path, door: str) -> None:
    async with serving(app, tmp_path, door) as house, clients(house, 2, get()) as (idle, _):
        with socket.socket(socket.AF_INET if door == "tcp" else socket.AF_UNIX) as sock, no_descriptors_left():
            sock.connect(("127.0.0.1", house.port) if door == "tcp" else str(house.path))
            sock.sendall(get("/", "Connection: close"))
            assert (await ended(idle)).endswith(b"ok")
            await trio.sleep(0.2)
            assert sock.recv(1000).endswith(b"ok")


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spares = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        with suppress(OSError):
            while True:
                spares.append(os.dup(spares[0]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for spare in spares:
            os.close(spare)


@pytest.mark.parametrize("ends", ["stopping", "cancelled"])
async def test_no_client_of_any_kind_keeps_the_server_alive(tmp_path: Path, door: str, ends: str) -> None:
    kinds = [
        b"",
        b"GET / HTTP/1.1\r\nHo",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        get("/") * 50,
        get("/hang"),
        get("/large"),
        get("/large") * 50,
    ]
    if ends == "stopping":
        kinds.append(get("/shielded"))  # a shield stands in the way of being cancelled from outside, by its nature
    async with AsyncExitStack() as stack:
        async with serving(app, tmp_path, door, linger_s=30, grace_s=0.3) as house:
            for kind in kinds:
                await stack.enter_async_context(clients(house, 4, kind))
            dripper = await house.connect()
            async with dripper, trio.open_nursery() as nursery:
                nursery.start_soon(drip, dripper, b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 500)
                await assert_others_are_served(house, 3)
                began = time.monotonic()
                if ends == "stopping":
                    house.stopping.set()
                else:
                    house.scope.cancel()
                await house.stopped.wait()
                took = time.monotonic() - began
                nursery.cancel_scope.cancel()
        assert took < (2 if ends == "stopping" else 1)
        assert not house.path.exists()
        assert house.errors == []
