"""Raw bytes to a real server and back: what the tests of the HTTP server share."""

import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from hookrelay.net.asgi import App, Receive, Send
from hookrelay.net.listen import open_tcp, open_unix
from hookrelay.net.serve import Limits, serve

Scope = MutableMapping[str, Any]


class House:
    """A server with a Unix and a TCP socket, and what became of it."""

    def __init__(self, path: Path, door: str) -> None:
        self.path = path
        self.door = door
        self.port = 0
        self.stopping = trio.Event()
        self.stopped = trio.Event()
        self.scope = trio.CancelScope()
        self.errors: list[BaseException] = []
        self.troubles: list[None] = []
        """One for each row of clients that could not be accepted."""

    async def connect(self) -> trio.SocketStream:
        if self.door == "tcp":
            return await trio.open_tcp_stream("127.0.0.1", self.port)
        return await trio.open_unix_socket(str(self.path))

    async def ask(self, raw: bytes) -> bytes:
        """All that comes back for `raw` until the server closes."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return await read_all(stream)


@asynccontextmanager
async def serving(
    app: App,
    tmp_path: Path,
    door: str = "unix",
    *,
    on_limit: Callable[[str], None] = lambda limit: None,
    **limits: float,
) -> AsyncIterator[House]:
    house = House(tmp_path / "api.sock", door)

    async def run(task_status: trio.TaskStatus[None]) -> None:
        listeners = [open_unix(house.path, 0o600), *await open_tcp("127.0.0.1", 0)]
        house.port = listeners[-1].port or 0
        with house.scope:
            await serve(
                app,
                listeners,
                stopping=house.stopping,
                limits=Limits(**limits),  # type: ignore[arg-type]  # whole numbers where the field has them
                on_error=house.errors.append,
                on_trouble=lambda: house.troubles.append(None),
                on_limit=on_limit,
                task_status=task_status,
            )
        house.stopped.set()

    with trio.fail_after(500):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield house
            house.stopping.set()


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([part async for part in stream])


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        part = await stream.receive_some()
        assert part, f"ended after {got!r}"
        got += part
    return got


def get(path: str = "/", *fields: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: a", *fields, "")).encode()


def problem_in(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/problem+json" in head
    assert b"\r\nConnection: close" in head
    problem: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % problem["status"])
    return problem


def answering(status: int = 200, body: bytes = b"ok", *fields: tuple[bytes, bytes]) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"%d" % len(body)), *fields]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the request's method, path and body."""
    body = (await receive())["body"]
    said = f"{scope['method']} {scope['path']} ".encode() + body
    await answering(200, said)(scope, receive, send)
