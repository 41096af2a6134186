"""One POST after the other to a collector: what it gets, and what is made of what it says."""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from hookrelay.net import otlp
from hookrelay.net.otlp import Collector

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
Say = Callable[[trio.abc.Stream], Awaitable[None]]


class Server:
    """Takes whole requests, and has `say` answer each."""

    def __init__(self, say: bytes | Say) -> None:
        self.say = say
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def converse(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        kept = b""
        try:
            while data := await stream.receive_some(65536):
                kept += data
                if kept.endswith(b"whole"):
                    self.requests.append(kept)
                    kept = b""
                    if isinstance(self.say, bytes):
                        await stream.send_all(self.say)
                    else:
                        await self.say(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await stream.aclose()


@asynccontextmanager
async def server(say: bytes | Say = OK, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server(say)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        made.port = listeners[0].socket.getsockname()[1]
        whole = listeners if tls is None else [trio.SSLListener(each, tls) for each in listeners]
        nursery.start_soon(trio.serve_listeners, made.converse, whole)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def collector(url: str, *headers: tuple[str, str], ca_file: Path | None = None) -> AsyncIterator[Collector]:
    own = None if ca_file is None else str(ca_file)
    made = Collector(url, headers, ca_file=None, own_ca_file=own)
    try:
        yield made
    finally:
        await made.close()


async def test_what_the_collector_gets_is_otlp_over_one_connection():
    async with server() as told, collector(f"http://127.0.0.1:{told.port}/v1/traces", ("api-key", "k")) as way:
        for encoding in (None, "gzip"):
            answer = await way.post(b"whole", encoding)
            assert (answer.status, answer.body, answer.detail) == (200, b"ab", "")
        assert told.connections == 1
        plain, zipped = (set(request.lower().split(b"\r\n")) for request in told.requests)
        assert plain == {
            b"post /v1/traces http/1.1",
            b"host: 127.0.0.1:%d" % told.port,
            b"api-key: k",
            b"content-type: application/x-protobuf",
            b"content-length: 5",
            b"accept-encoding: identity",
            b"",
            b"whole",
        }
        assert zipped - plain == {b"content-encoding: gzip"}


async def test_neither_redirects_nor_proxies_of_the_environment_are_gone_by(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    moved = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
    async with server(moved) as told, collector(f"http://127.0.0.1:{told.port}/") as way:
        answer = await way.post(b"whole", None)
        assert answer.status == 307
        assert b"\r\nRetry-After: 5" in answer.head
        assert len(told.requests) == 1


async def test_of_an_endless_answer_a_little_is_kept_until_its_time_is_over(monkeypatch):
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.5)
    sent = 0

    async def flood(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 65536)
            sent += 65536

    async with server(flood) as told, collector(f"http://127.0.0.1:{told.port}/") as way:
        answer = await way.post(b"whole", None)
        assert (answer.status, answer.detail) == (0, "no answer within 0.5 s")
        assert sent > otlp.BODY_KEPT


async def test_after_one_that_hangs_the_next_request_is_answered(monkeypatch):
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.3)

    async def hang(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with server(hang) as told, collector(f"http://127.0.0.1:{told.port}/") as way:
        assert (await way.post(b"whole", None)).detail == "no answer within 0.3 s"
        told.say = OK
        monkeypatch.setattr(otlp, "TIMEOUT_S", 20)
        assert (await way.post(b"whole", None)).status == 200


async def test_of_a_long_answer_a_little_is_kept_and_the_connection_goes_on():
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    async with server(long) as told, collector(f"http://127.0.0.1:{told.port}/") as way:
        for _ in range(2):
            assert len((await way.post(b"whole", None)).body) == otlp.BODY_KEPT
        assert told.connections == 1


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"garbage\r\n\r\n"])
async def test_an_answer_that_is_none_is_told_without_what_was_sent(said: bytes):
    async def close(stream: trio.abc.Stream) -> None:
        await stream.send_all(said)
        await stream.aclose()

    async with server(close) as told, collector(f"http://127.0.0.1:{told.port}/", ("api-key", "secret")) as way:
        answer = await way.post(b"whole", None)
        assert (answer.status, answer.detail) == (0, "the connection broke off before the answer was whole")
        told.say = OK
        assert (await way.post(b"whole", None)).status == 200  # over a new connection


async def test_nobody_there_is_told():
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        async with collector(f"http://127.0.0.1:{unused.getsockname()[1]}/") as way:
            assert (await way.post(b"whole", None)).detail == "Connection refused"
    async with collector("http://nowhere.invalid:4318/") as way:
        answer = await way.post(b"whole", None)
        assert answer.status == 0
        assert answer.detail


async def test_tls_is_verified_against_the_authorities_and_the_file_that_is_named(tmp_path):
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with server(OK, context) as told:
        url = f"https://127.0.0.1:{told.port}/"
        async with collector(url, ca_file=tmp_path / "ca.pem") as way:
            assert (await way.post(b"whole", None)).status == 200
        async with collector(url) as way:
            assert "certificate was refused" in (await way.post(b"whole", None)).detail
        async with collector(url, ca_file=tmp_path / "gone.pem") as way:
            assert "gone.pem: No such file" in (await way.post(b"whole", None)).detail
        assert len(told.requests) == 1
