import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from raw_http import Scope, answering, echo, get, problem_in, read_all, read_until, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hookrelay.net.asgi import Receive, Send
from hookrelay.net.listen import open_tcp, open_unix
from hookrelay.net.serve import serve

# --- requests -----------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_with_status_date_and_body(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(answering(202, b"taken"), tmp_path) as house:
        answer = await house.ask(get("/", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 202 Accepted\r\n")
    assert b"\r\ndate: " in answer
    assert b" GMT\r\n" in answer
    assert answer.endswith(b"\r\n\r\ntaken")


async def test_the_scope_says_what_was_asked_and_where(autojump_clock: object, tmp_path: Path) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await answering()(scope, receive, send)

    async with serving(app, tmp_path) as house:
        await house.ask(get("/a%20b?c=%20d", "X-Y:  z ", "Connection: close"))
    scope = seen[0]
    assert scope["type"] == "http"
    assert (scope["method"], scope["http_version"], scope["scheme"]) == ("GET", "1.1", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%20d")
    assert scope["headers"] == [(b"host", b"a"), (b"x-y", b"z"), (b"connection", b"close")]
    assert (scope["server"], scope["client"]) == ((str(house.path), None), None)
    assert scope["state"]["stopping"] is house.stopping


async def test_over_tcp_the_scope_has_both_addresses() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await answering()(scope, receive, send)

    stopping, errors = trio.Event(), list[BaseException]()
    listeners = await open_tcp("127.0.0.1", 0)
    port = listeners[0].port
    assert port is not None
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, app, listeners, stopping=stopping, on_error=errors.append))
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                client = stream.socket.getsockname()
                await stream.send_all(get("/", "Connection: close"))
                assert (await read_all(stream)).endswith(b"ok")
            stopping.set()
    assert (seen[0]["server"], seen[0]["client"]) == (("127.0.0.1", port), client)
    assert errors == []


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"Content-Length: 0\r\n\r\n", b""),
        (b"\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nTrailer: x\r\n\r\n", b"hello"),
        (b"transfer-encoding: Chunked\r\n\r\n0\r\n\r\n", b""),
    ],
)
async def test_the_app_gets_the_whole_body_at_once(
    autojump_clock: object, tmp_path: Path, raw: bytes, body: bytes
) -> None:
    async with serving(echo, tmp_path) as house, await house.connect() as stream:
        for byte in b"POST /x HTTP/1.1\r\nHost: a\r\n" + raw:
            await stream.send_all(bytes([byte]))
        assert (await read_until(stream, b"POST /x " + body)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_as_large_as_allowed_comes_through(autojump_clock: object, tmp_path: Path) -> None:
    body = bytes(range(256)) * 16384
    async with serving(echo, tmp_path) as house, await house.connect() as stream, trio.open_nursery() as nursery:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        nursery.start_soon(stream.send_all, head + body)
        answer = await read_all(stream)
    assert answer.endswith(b"\r\n\r\nPOST / " + body)


async def test_requests_sent_at_once_are_answered_in_order(autojump_clock: object, tmp_path: Path) -> None:
    post = b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    chunked = b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with serving(echo, tmp_path) as house:
        answer = await house.ask(get("/1") + post + chunked + b"\r\n" + get("/4", "Connection: close") + get("/5"))
    assert [part[part.find(b"\r\n\r\n") + 4 :] for part in answer.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [
        b"GET /1 ",
        b"POST /2 abc",
        b"POST /3 abc",
        b"GET /4 ",
    ]


async def test_head_gets_the_headers_of_get_and_no_body(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(answering(200, b"0123456789"), tmp_path) as house:
        answer = await house.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get("/", "Connection: close"))
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: 10" in first
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_is_asked_for_where_the_client_waits_to_be(autojump_clock: object, tmp_path: Path) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
    async with serving(echo, tmp_path) as house, await house.connect() as stream:
        await stream.send_all(head)
        assert await read_until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"abc")
        assert (await read_until(stream, b"POST / abc")).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_body_that_is_too_large_is_not_asked_for(autojump_clock: object, tmp_path: Path) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    async with serving(echo, tmp_path, body_bytes=3) as house:
        assert problem_in(await house.ask(head))["status"] == 413


async def test_an_offer_to_upgrade_is_not_taken_up(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path) as house:
        answer = await house.ask(get("/1", "Connection: Upgrade", "Upgrade: h2c") + get("/2", "Connection: close"))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2


async def test_http_1_0_gets_its_answer_and_the_end(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path) as house:
        answer = await house.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"GET / ")


async def test_a_connection_is_kept_until_it_has_been_idle_too_long(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path) as house, await house.connect() as stream:
        for number in range(3):
            await stream.send_all(get(f"/{number}"))
            await read_until(stream, b"GET /%d " % number)
            await trio.sleep(74)
        began = trio.current_time()
        assert await read_all(stream) == b""
        assert trio.current_time() - began == pytest.approx(1, abs=0.1)


async def test_a_server_without_clients_sleeps_and_ends_the_next_dawdler_in_time(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with serving(echo, tmp_path) as house:
        await house.ask(get("/", "Connection: close"))
        await trio.sleep(1)
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline > 60  # the one of `serving`
        began = trio.current_time()
        async with await house.connect() as stream:
            await stream.send_all(b"GET / ")
            assert (await read_all(stream)).startswith(b"HTTP/1.1 408")
        assert trio.current_time() - began == pytest.approx(10, abs=0.3)


async def test_an_app_may_take_its_time(autojump_clock: object, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(300)
        await answering()(scope, receive, send)

    async with serving(app, tmp_path) as house:
        assert (await house.ask(get("/", "Connection: close"))).endswith(b"ok")


async def test_the_place_that_a_client_leaves_is_taken_at_once(autojump_clock: object, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(7.03 if scope["path"] == "/busy" else 0)
        await answering()(scope, receive, send)

    async with serving(app, tmp_path, connections=1) as house, await house.connect() as busy:
        await busy.send_all(get("/busy", "Connection: close"))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        assert (await house.ask(get("/", "Connection: close"))).endswith(b"ok")
        assert trio.current_time() - began == pytest.approx(7.03, abs=0.01)


async def test_who_has_just_come_stays_and_who_dawdles_goes(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path, connections=2) as house, await house.connect() as dawdler:
        await dawdler.send_all(b"GET ")
        await trio.sleep(2)
        async with await house.connect() as fresh, await house.connect():
            await trio.testing.wait_all_tasks_blocked()
            await fresh.send_all(get("/", "Connection: close"))
            assert (await read_all(fresh)).endswith(b"GET / ")


async def test_a_client_that_must_go_goes_before_its_request_is_begun_or_not_at_all(tmp_path: Path) -> None:
    begun, ended = list[str](), list[str]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await trio.lowlevel.checkpoint()
        ended.append(scope["path"])
        await answering()(scope, receive, send)

    for _ in range(20):
        async with serving(app, tmp_path, connections=1) as house:
            with socket.socket(socket.AF_UNIX) as idle, socket.socket(socket.AF_UNIX) as newcomer:
                idle.connect(str(house.path))
                await trio.testing.wait_all_tasks_blocked()
                # both in one turn of the loop: which of the two the server sees first is luck
                newcomer.connect(str(house.path))
                idle.sendall(get("/idle"))
                await trio.testing.wait_all_tasks_blocked()
    assert begun == ended


async def test_each_listener_has_connections_of_its_own(autojump_clock: object, tmp_path: Path) -> None:
    met, release = list[str](), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/hold":
            await release.wait()
        await answering()(scope, receive, send)

    async with serving(app, tmp_path, on_limit=met.append, connections=4) as house, AsyncExitStack() as stack:
        for _ in range(4):
            over_tcp = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", house.port))
            await over_tcp.send_all(get("/hold"))
        await trio.testing.wait_all_tasks_blocked()
        assert (await house.ask(get("/", "Connection: close"))).endswith(b"ok")  # over the Unix socket
        assert met == []
        newcomer = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", house.port))
        await newcomer.send_all(get())
        await trio.sleep(1)
        assert met == ["http_connections"]
        release.set()
        await read_until(newcomer, b"ok")


async def test_a_newcomer_takes_no_place_from_another_listener(autojump_clock: object, tmp_path: Path) -> None:
    async with (
        serving(echo, tmp_path, connections=2) as house,
        await house.connect() as operator,
        AsyncExitStack() as rest,
    ):
        over_tcp = []
        for _ in range(3):
            await trio.sleep(1)
            over_tcp.append(await rest.enter_async_context(await trio.open_tcp_stream("127.0.0.1", house.port)))
        assert await read_all(over_tcp[0]) == b""
        for stream in (operator, *over_tcp[1:]):  # who has been idle longest of all is here still
            await stream.send_all(get())
            await read_until(stream, b"GET / ")


# --- refusals -----------------------------------------------------------------------------------------------------

NOT_CALLED: list[Scope] = []


async def must_not_be_called(scope: Scope, receive: Receive, send: Send) -> None:
    NOT_CALLED.append(scope)


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "bad_request"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad_request",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417, "expectation_failed"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20000, 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431, "headers_too_large"),
    ],
)
async def test_a_bad_request_costs_its_own_connection_and_reaches_no_app(
    autojump_clock: object, tmp_path: Path, raw: bytes, status: int, code: str
) -> None:
    NOT_CALLED.clear()
    async with serving(must_not_be_called, tmp_path) as house:
        answer = await house.ask(raw + get("/smuggled"))
        problem = problem_in(answer)
        assert (problem["status"], problem["code"]) == (status, code)
        assert problem["type"] == f"urn:hookrelay:problem:{code}"
        assert problem["title"]
        assert problem["detail"]
        assert answer.count(b"\r\nConnection: close\r\n") == 1
        assert answer.count(b"\r\nx-content-type-options: nosniff\r\n") == 1
        assert NOT_CALLED == []
        # another client finds the server as it was
        assert b"HTTP/1.1 417 " in await house.ask(get("/", "Expect: anything"))
    assert house.errors == []


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\n0\r\n\n", 400, "bad_request"),
        (b"Content-Length: 4194305\r\n\r\n", 413, "too_large"),
        (b"Transfer-Encoding: chunked\r\n\r\n400001\r\n", 413, "too_large"),
        (b"Content-Length: 1001\r\nX: small\r\n\r\n", 413, "too_large"),
        (b"Transfer-Encoding: chunked\r\nX: small\r\n\r\n3e9\r\n", 413, "too_large"),
    ],
)
async def test_a_bad_body_is_refused_as_the_app_asks_for_it(
    autojump_clock: object, tmp_path: Path, raw: bytes, status: int, code: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (b"x", b"small") in scope["headers"]:
            scope["state"]["body_most"] = 1000
        await echo(scope, receive, send)

    async with serving(app, tmp_path) as house:
        answer = await house.ask(b"POST / HTTP/1.1\r\nHost: a\r\n" + raw + get("/smuggled"))
        problem = problem_in(answer)
        assert (problem["status"], problem["code"]) == (status, code)
        assert b"smuggled" not in answer
    assert house.errors == []


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 4000000\r\n\r\n",
        b"Content-Length: 99999999\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    ],
)
async def test_a_body_that_the_app_does_not_ask_for_is_not_waited_for(
    autojump_clock: object, tmp_path: Path, head: bytes
) -> None:
    async with serving(answering(401, b"no"), tmp_path) as house, await house.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n" + head)
        answer = await read_all(stream)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert trio.current_time() < 0.1
    assert house.errors == []


async def test_a_small_body_that_the_app_does_not_ask_for_costs_no_connection(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with serving(answering(401, b"no"), tmp_path) as house, await house.connect() as stream:
        for parts in ((b"GET /1",), (b"GET /1", b" HTTP/1.1"), (b"", b"GET /1")):
            for part in (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % sum(map(len, parts)), *parts):
                if part:
                    await stream.send_all(part)
                await trio.testing.wait_all_tasks_blocked()
            assert b"connection: close" not in await read_until(stream, b"no")
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        await read_until(stream, b"no")
        began = trio.current_time()
        assert await read_all(stream) == b""  # it never comes
        assert trio.current_time() - began == pytest.approx(30, abs=0.3)


async def test_the_answer_to_an_upload_that_nobody_wanted_arrives(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(answering(401, b"no"), tmp_path) as house, await house.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
        await stream.send_all(b"x" * 4_000_000)
        assert (await read_all(stream)).endswith(b"no")


async def test_a_body_that_comes_too_slowly_after_the_answer_began_gets_no_second_answer(
    autojump_clock: object, tmp_path: Path
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        await receive()

    async with serving(app, tmp_path) as house:
        answer = await house.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert house.errors == []


async def test_a_refused_upload_is_read_on_so_that_its_client_gets_the_answer(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with serving(echo, tmp_path) as house, await house.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
        for _ in range(100):
            await stream.send_all(b"x" * 65536)
        await stream.send_eof()
        assert problem_in(await read_all(stream))["code"] == "too_large"


async def test_a_refused_client_sees_the_end_at_once_and_may_not_talk_on_for_ever(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with serving(echo, tmp_path, linger_s=5) as house, await house.connect() as stream:
        began = trio.current_time()
        await stream.send_all(b"nonsense\r\n\r\n")
        problem_in(await read_all(stream))
        assert trio.current_time() - began < 0.1
        with suppress(trio.BrokenResourceError):
            while trio.current_time() - began < 60:
                await stream.send_all(b"and another thing")
                await trio.sleep(0.5)
        assert trio.current_time() - began == pytest.approx(5, abs=1)


async def test_refusing_head_sends_no_body(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path) as house:
        answer = await house.ask(b"HEAD / HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_request_that_ends_in_the_middle_is_refused(autojump_clock: object, tmp_path: Path) -> None:
    async with serving(echo, tmp_path) as house:
        for raw in (b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab"):
            async with await house.connect() as stream:
                await stream.send_all(raw)
                await stream.send_eof()
                assert problem_in(await read_all(stream))["code"] == "bad_request"


async def test_a_client_that_ends_its_side_after_the_request_is_answered(
    autojump_clock: object, tmp_path: Path
) -> None:
    async with serving(echo, tmp_path) as house, await house.connect() as stream:
        await stream.send_all(get("/x"))
        await stream.send_eof()
        assert (await read_all(stream)).endswith(b"GET /x ")


POST = b"POST / HTTP/1.1\r\nHost: a\r\nX-Owner: %b\r\nContent-Length: %d\r\n\r\n"


async def echo_to_owner(scope: Scope, receive: Receive, send: Send) -> None:
    """The echo, for requests that say whose they are."""
    scope["state"]["owner"] = dict(scope["headers"])[b"x-owner"]
    await echo(scope, receive, send)


async def begin(stream: trio.SocketStream, owner: bytes, size: int) -> None:
    """All of a body but its last byte."""
    await stream.send_all(POST % (owner, size) + b"x" * (size - 1))
    await trio.testing.wait_all_tasks_blocked()


async def test_bodies_that_are_not_whole_keep_nobody_else_from_sending_one(
    autojump_clock: object, tmp_path: Path
) -> None:
    met = list[str]()
    async with (
        serving(echo_to_owner, tmp_path, on_limit=met.append, all_bodies_bytes=8000, small_body_bytes=100) as house,
        await house.connect() as first,
        await house.connect() as second,
        await house.connect() as other,
    ):
        await begin(first, b"a", 2000)
        await begin(second, b"a", 1500)
        assert met == []
        await begin(other, b"b", 3000)
        assert met == []
        # more than half of all for one owner: its largest has to go
        async with await house.connect() as third:
            await begin(third, b"a", 1000)
            assert problem_in(await read_all(first))["code"] == "unavailable"
            assert met == ["http_bodies"]
            await third.send_all(b"x")
            await read_until(third, b"x" * 1000)
        # more than there is room for: the largest of who holds most has to go, and a newcomer is served
        async with await house.connect() as fourth:
            await begin(fourth, b"c", 3900)
            assert problem_in(await read_all(fourth))["code"] == "unavailable"
        await other.send_all(b"x")
        await read_until(other, b"x" * 3000)
        await second.send_all(b"x")
        await read_until(second, b"x" * 1500)
    assert house.errors == []


async def test_small_bodies_always_find_room(autojump_clock: object, tmp_path: Path) -> None:
    async with (
        serving(echo_to_owner, tmp_path, all_bodies_bytes=4000, small_body_bytes=1000) as house,
        AsyncExitStack() as stack,
    ):
        small = [await stack.enter_async_context(await house.connect()) for _ in range(20)]
        for stream in small:
            await begin(stream, b"a", 1000)
        for stream in small:
            await stream.send_all(b"x")
            await read_until(stream, b"x" * 1000)


# --- the stop -----------------------------------------------------------------------------------------------------


async def test_at_the_stop_idle_connections_close_at_once_and_answers_say_so(
    autojump_clock: object, tmp_path: Path
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(1)
        await answering()(scope, receive, send)

    async with serving(app, tmp_path) as house:
        idle, busy, late = [await house.connect() for _ in range(3)]
        async with idle, busy, late:
            await busy.send_all(get("/1") + get("/2"))
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            await late.send_all(get())
            house.stopping.set()
            assert await read_all(idle) == b""
            assert trio.current_time() - began < 0.1
            assert not house.path.exists()
            with pytest.raises(OSError, match="No such file"):
                await house.connect()
            for stream in (busy, late):
                answer = await read_all(stream)
                assert answer.count(b"HTTP/1.1 200 OK") == 1
                assert b"\r\nconnection: close\r\n" in answer
            await house.stopped.wait()
            assert trio.current_time() - began == pytest.approx(1, abs=0.1)


async def test_a_request_that_comes_in_as_the_server_stops_is_still_answered(tmp_path: Path) -> None:
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        async with serving(answering(), tmp_path) as house:
            for sock in socks:
                sock.connect(str(house.path))
            await trio.testing.wait_all_tasks_blocked()
            for sock in socks:
                sock.sendall(get())
            house.stopping.set()
            await house.stopped.wait()
        assert [sock.recv(1000)[-2:] for sock in socks] == [b"ok"] * 10


async def test_a_request_that_outlives_the_grace_is_cut(autojump_clock: object, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(app, tmp_path, grace_s=7) as house, await house.connect() as stream:
        await stream.send_all(get())
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        house.stopping.set()
        await house.stopped.wait()
        assert trio.current_time() - began == pytest.approx(7, abs=0.1)
        assert await read_all(stream) == b""


async def test_a_stream_that_watches_the_stop_ends_whole(autojump_clock: object, tmp_path: Path) -> None:
    async def ticks(stopping: trio.Event) -> AsyncIterator[str]:
        yield "data: x\n\n"
        await stopping.wait()
        yield "data: bye\n\n"

    async def stream_events(request: Request) -> Response:
        return StreamingResponse(ticks(request.state.stopping), media_type="text/event-stream")

    app = Starlette(routes=[Route("/", stream_events)])
    async with serving(app, tmp_path) as house, await house.connect() as stream:
        await stream.send_all(get())
        await read_until(stream, b"data: x\n\n\r\n")
        began = trio.current_time()
        house.stopping.set()
        assert (await read_all(stream)).endswith(b"data: bye\n\n\r\n0\r\n\r\n")
        await house.stopped.wait()
        assert trio.current_time() - began < 0.1


async def test_cancelled_the_server_ends_at_once_and_removes_its_socket(autojump_clock: object, tmp_path: Path) -> None:
    cleaned: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append("up")

    path = tmp_path / "api.sock"
    errors: list[BaseException] = []
    async with trio.open_nursery() as nursery:
        listener = open_unix(path, 0o600)
        await nursery.start(partial(serve, app, [listener], stopping=trio.Event(), on_error=errors.append))
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(get())
            await trio.testing.wait_all_tasks_blocked()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
    assert trio.current_time() == began
    assert (cleaned, errors) == (["up"], [])
    assert not path.exists()
