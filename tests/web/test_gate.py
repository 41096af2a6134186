"""The door of the API over TCP: who is turned away before anything of a body is read, and who always gets in."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from builders import wall
from doubles import listening_log, new_store
from raw_http import House, Scope, answering, echo, get, problem_in, read_all, read_until, serving

from hookrelay.model import Refused
from hookrelay.net.asgi import Receive, Send
from hookrelay.web.auth import Gate
from hookrelay.web.call import Call
from hookrelay.web.calls import MOST, SHARE, Calls
from hookrelay.web.dashboard.door import session_of
from hookrelay.web.http import Request
from hookrelay.web.keyring import LOCAL, Caller, Keyring
from hookrelay.web.sessions import Sessions


class Behind:
    """What is behind the gate: `/hang` waits until it is let go, all else echoes."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.seen: list[str] = []
        self.hangs = trio.Event()
        self.came, self.hung = trio.open_memory_channel[None](100)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope["path"])
        if scope["path"].endswith("/hang"):
            self.hangs.set()
            self.came.send_nowait(None)
            await self.go_on.wait()
        await echo(scope, receive, send)


class Guarded:
    """A server with a gate, and keys of two tenants."""

    def __init__(self, house: House, behind: Behind, gate: Gate, keys: dict[str, bytes], met: list[str]) -> None:
        self.house, self.behind, self.gate, self.keys, self.met = house, behind, gate, keys, met
        self.sessions: Sessions

    def head(self, tenant: str, line: str = "POST /", *fields: str, host: str = "a") -> bytes:
        auth = [f"Authorization: Bearer {self.keys[tenant].decode()}"] if tenant else []
        return "".join(f"{each}\r\n" for each in (f"{line} HTTP/1.1", f"Host: {host}", *auth, *fields, "")).encode()

    async def status(self, raw: bytes, door: str = "tcp") -> int:
        self.house.door = door
        answer = await self.house.ask(raw)
        return int(answer.split(b" ")[1])


@asynccontextmanager
async def guarded(tmp_path: Path, **limits: float) -> AsyncIterator[Guarded]:
    store, behind, met = new_store(), Behind(), list[str]()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        keyring = Keyring(store, listening_log()[0], wall)
        keys = {tenant: (await keyring.make("p_", tenant, "admin", ""))[1].encode() for tenant in ("acme", "bits")}
        sessions = Sessions(store, keyring, wall)
        gate = Gate(behind, lambda: ("a",), keyring, met.append, lambda scope: session_of(scope, sessions))
        async with serving(gate, tmp_path, "tcp", on_limit=met.append, **limits) as house:
            guarded = Guarded(house, behind, gate, keys, met)
            guarded.sessions = sessions
            yield guarded
            behind.go_on.set()
        store.close()


UNFINISHED = "Content-Length: 4000000"


async def test_of_who_is_turned_away_no_body_is_read(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        for tenant, host, status in (("", "a", 401), ("acme", "b", 421), ("", "b", 421)):
            head = door.head(tenant, "POST /v1/events", UNFINISHED, host=host)
            assert await door.status(head + b"x" * 1000) == status
        assert door.behind.seen == []


async def test_unfinished_bodies_without_a_key_take_no_room_from_those_with_one(tmp_path: Path) -> None:
    async with guarded(tmp_path, all_bodies_bytes=4 << 20) as door, AsyncExitStack() as stack:
        for _ in range(100):
            stream = await stack.enter_async_context(await door.house.connect())
            await stream.send_all(door.head("", "POST /v1/events", UNFINISHED) + b"x" * 60_000)
        size = 2 << 20
        async with await door.house.connect() as stream, trio.open_nursery() as nursery:
            raw = door.head("acme", "POST /", f"Content-Length: {size}", "Connection: close") + b"y" * size
            nursery.start_soon(stream.send_all, raw)
            assert (await read_all(stream)).endswith(b"POST / " + b"y" * size)
        assert door.met == []


async def test_one_tenant_s_unfinished_bodies_leave_room_for_another_s(tmp_path: Path) -> None:
    async with guarded(tmp_path, all_bodies_bytes=4 << 20) as door, AsyncExitStack() as stack:
        greedy = []
        for _ in range(5):
            stream = await stack.enter_async_context(await door.house.connect())
            await stream.send_all(door.head("acme", "POST /v1/events", UNFINISHED) + b"x" * 1_000_000)
            greedy.append(stream)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert door.met
        assert set(door.met) == {"http_bodies"}
        for stream in greedy[:3]:  # half of all is for one tenant
            assert problem_in(await read_all(stream))["status"] == 503
        size = 1 << 20
        async with await door.house.connect() as stream, trio.open_nursery() as nursery:
            raw = door.head("bits", "POST /", f"Content-Length: {size}", "Connection: close") + b"y" * size
            nursery.start_soon(stream.send_all, raw)
            assert (await read_all(stream)).endswith(b"POST / " + b"y" * size)


async def test_health_and_others_are_answered_when_a_tenant_or_all_have_used_up_their_calls(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door, AsyncExitStack() as stack:
        door.gate._remote = Calls(most=3, share=2)

        async def hang(tenant: str) -> None:
            door.behind.hangs = trio.Event()
            stream = await stack.enter_async_context(await door.house.connect())
            held.append(stream)
            await stream.send_all(door.head(tenant, "GET /hang"))
            await door.behind.hangs.wait()

        held = list[trio.SocketStream]()
        for _ in range(2):
            await hang("acme")
        call = ("GET /v1/webhooks", "Connection: close")
        assert await door.status(door.head("acme", *call)) == 429
        assert await door.status(door.head("bits", *call)) == 200
        await hang("bits")
        assert await door.status(door.head("bits", *call)) == 503
        for path in ("/-/healthy", "/-/ready", "/metrics"):
            assert await door.status(get(path, "Connection: close")) == 200
        # over the Unix socket an operator gets in whatever happens elsewhere
        assert await door.status(get("/v1/webhooks", "Connection: close"), "unix") == 200
        assert door.met == ["http_calls"] * 2
        door.behind.go_on.set()
        for stream in held:
            await read_until(stream, b"GET /hang ")
        assert await door.status(door.head("acme", *call)) == 200


async def test_who_has_signed_in_to_the_dashboard_has_its_tenants_share_of_calls_and_none_of_others(
    tmp_path: Path,
) -> None:
    async with guarded(tmp_path) as door, AsyncExitStack() as stack:
        door.gate._remote = Calls(most=6, share=2)
        cookies = {
            tenant: f"hookrelay_session={await door.sessions.sign_in(Caller(tenant, 'read'))}" for tenant in door.keys
        }

        def page(path: str, cookie: str = "a=b") -> bytes:
            return door.head("", f"GET {path}", f"Cookie: {cookie}", "Connection: close")

        # strangers, and one tenant's people, hold all that they can
        door.house.door = "tcp"
        for cookie in ("a=b", cookies["acme"]):
            for _ in range(2):
                stream = await stack.enter_async_context(await door.house.connect())
                await stream.send_all(page("/dashboard/hang", cookie))
        with trio.fail_after(20):
            for _ in range(4):
                await door.behind.hung.receive()
        assert await door.status(page("/dashboard/sign-in")) == 429
        assert await door.status(page("/dashboard", cookies["acme"])) == 429
        assert await door.status(page("/dashboard", cookies["bits"])) == 200
        door.behind.go_on.set()


def test_there_are_always_connections_beyond_the_calls() -> None:
    from hookrelay.net.serve import DEFAULTS

    assert DEFAULTS.connections - MOST >= 32
    assert SHARE * 2 <= MOST


async def test_the_host_of_an_absolute_target_is_the_one_that_is_judged(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        for line, host, status in (
            ("GET http://a/v1/events", "b", 200),
            ("GET http://b/v1/events", "a", 421),
            ("GET https://a:8443/v1/events", "b", 200),
        ):
            assert await door.status(door.head("acme", line, "Connection: close", host=host)) == status
        # over a Unix socket no host decides anything
        for line in ("GET http://b/v1/events", "GET /v1/events"):
            assert await door.status(door.head("", line, "Connection: close", host="b"), "unix") == 200


# --- callers who hang up ------------------------------------------------------------------------------------------


class Waiting:
    """An answer that waits for somebody else."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.begun = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        call = Call(request, None, LOCAL)  # type: ignore[arg-type]  # nothing of the house is asked for here
        await request.body()
        try:
            said = await call.unless_gone(self.wait(scope["path"]))
        except Refused as refused:
            said = refused.detail.encode()
        await answering(200, said)(scope, receive, send)

    async def wait(self, path: str) -> bytes:
        try:
            if path == "/refused":
                raise Refused("conflict", "not now")
            if path == "/hang":
                self.begun.set()
                await trio.sleep_forever()
            return b"done"
        finally:
            self.ended.set()


@pytest.mark.parametrize("door", ["unix", "tcp"])
async def test_what_waits_for_a_caller_who_hangs_up_is_given_up(tmp_path: Path, door: str) -> None:
    app = Waiting()
    async with serving(app, tmp_path, door) as house:
        async with await house.connect() as stream:
            await stream.send_all(b"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
            await app.begun.wait()
            assert not app.ended.is_set()
        with trio.fail_after(10):
            await app.ended.wait()
    assert house.errors == []


async def test_who_stays_gets_the_answer_or_the_refusal_and_the_next_on_the_same_connection(tmp_path: Path) -> None:
    async with serving(Waiting(), tmp_path) as house, await house.connect() as stream:
        for path, said in (("/", b"done"), ("/refused", b"not now"), ("/", b"done")):
            await stream.send_all(get(path))
            assert (await read_until(stream, said)).startswith(b"HTTP/1.1 200 ")
        with suppress(trio.BrokenResourceError):
            await stream.send_all(get("/") + get("/refused"))
        await read_until(stream, b"not now")
    assert house.errors == []
