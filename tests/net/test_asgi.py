from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from raw_http import Scope, answering, get, problem_in, read_until, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from hookrelay.net.asgi import App, Receive, Send


async def breaks_before(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("a fault")


async def breaks_between(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    raise ValueError("a fault")


async def breaks_in_a_group(scope: Scope, receive: Receive, send: Send) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise ValueError("a fault")


async def returns_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def splits_the_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await answering(200, b"", (b"x", b"y\r\nInjected: z"))(scope, receive, send)


async def sends_the_body_first(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"x"})


async def starts_twice(scope: Scope, receive: Receive, send: Send) -> None:
    for _ in range(2):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})


async def sends_what_is_not_http(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


@pytest.mark.parametrize(
    "app",
    [
        breaks_before,
        breaks_between,
        breaks_in_a_group,
        returns_nothing,
        splits_the_answer,
        sends_the_body_first,
        starts_twice,
        sends_what_is_not_http,
    ],
)
async def test_an_app_that_fails_before_its_answer_is_a_500_and_is_told(
    autojump_clock: object, tmp_path: Path, app: App
) -> None:
    async with serving(app, tmp_path) as house:
        for count in (1, 2):
            answer = await house.ask(get())
            assert problem_in(answer)["code"] == "internal_error"
            assert b"fault of the server" in answer
            assert b"a fault'" not in answer
            assert len(house.errors) == count


async def breaks_after_a_part(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    raise ValueError("a fault")


async def says_too_little(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def breaks_after_the_whole(scope: Scope, receive: Receive, send: Send) -> None:
    await answering()(scope, receive, send)
    raise ValueError("a fault")


async def goes_on_after_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    await answering()(scope, receive, send)
    await send({"type": "http.response.body", "body": b"more"})


@pytest.mark.parametrize("app", [breaks_after_a_part, says_too_little, breaks_after_the_whole, goes_on_after_the_end])
async def test_an_app_that_fails_within_its_answer_ends_the_connection(
    autojump_clock: object, tmp_path: Path, app: App
) -> None:
    async with serving(app, tmp_path) as house:
        answer = await house.ask(get() + get())
        assert answer.count(b"HTTP/1.1") == 1
        assert not answer.endswith(b"0\r\n\r\n")
        assert len(house.errors) == 1


async def test_an_answer_of_unknown_length_is_chunked_and_begins_at_once(
    autojump_clock: object, tmp_path: Path
) -> None:
    go_on = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": memoryview(b"two"), "more_body": True})
        await send({"type": "http.response.body"})

    async with serving(app, tmp_path) as house, await house.connect() as stream:
        await stream.send_all(get())
        assert b"\r\nTransfer-Encoding: chunked\r\n" in await read_until(stream, b"\r\n\r\n")
        go_on.set()
        assert await read_until(stream, b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        await stream.send_all(get())
        await read_until(stream, b"0\r\n\r\n")


async def test_every_part_of_a_stream_gives_others_a_turn(autojump_clock: object, tmp_path: Path) -> None:
    turns = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_turns)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(50):
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            nursery.cancel_scope.cancel()
        await send({"type": "http.response.body"})

    async with serving(app, tmp_path) as house:
        await house.ask(get("/", "Connection: close"))
    assert turns >= 40


async def test_two_tasks_cannot_mix_their_parts_of_one_answer(autojump_clock: object, tmp_path: Path) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(send, {"type": "http.response.body", "body": b"x" * (8 << 20), "more_body": True})

    async with serving(app, tmp_path) as house:
        await house.ask(get())
    assert [type(error) for error in house.errors] == [RuntimeError]
    assert "two tasks" in str(house.errors[0])


async def test_while_an_app_watches_its_client_no_more_than_a_little_is_read_ahead(
    autojump_clock: object, tmp_path: Path
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    async with serving(app, tmp_path, grace_s=1) as house, await house.connect() as stream:
        await stream.send_all(get())
        sent = 0
        with trio.move_on_after(5):
            while sent < 64 << 20:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        assert sent < 4 << 20  # what the kernel holds


async def test_receive_tells_when_the_client_is_gone_or_has_its_answer(autojump_clock: object, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            told.append(((await receive())["type"], trio.current_time()))

        await receive()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            nursery.start_soon(watch)
            if scope["path"] == "/short":
                await trio.sleep(5)
                await answering()(scope, receive, send)

    async with serving(app, tmp_path) as house:
        async with await house.connect() as stream:
            # what is sent ahead is not taken for the end
            await stream.send_all(get("/short") + get("/long"))
            began = trio.current_time()
            await read_until(stream, b"ok")
            await trio.sleep(3)
        await trio.testing.wait_all_tasks_blocked()
        assert [(kind, round(when - began)) for kind, when in told] == [("http.disconnect", n) for n in (5, 5, 8, 8)]
    assert house.errors == []


async def test_a_stream_ends_when_its_client_leaves(autojump_clock: object, tmp_path: Path) -> None:
    ended: list[float] = []

    async def ticks() -> AsyncIterator[str]:
        try:
            while True:
                yield "data: x\n\n"
                await trio.sleep(1000)
        finally:
            ended.append(trio.current_time())

    async def stream_events(request: Request) -> Response:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    async with serving(Starlette(routes=[Route("/", stream_events)]), tmp_path) as house:
        async with await house.connect() as stream:
            await stream.send_all(get())
            await read_until(stream, b"data: x\n\n\r\n")
            await trio.sleep(3)
            left = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [pytest.approx(left, abs=0.1)]
    assert house.errors == []


async def test_an_app_may_ask_in_passing_whether_its_client_is_gone(autojump_clock: object, tmp_path: Path) -> None:
    seen: list[bool] = []
    closed = trio.Event()

    async def look(request: Request) -> Response:
        seen.append(await request.is_disconnected())
        await closed.wait()
        seen.append(await request.is_disconnected())
        return PlainTextResponse("nobody hears this")

    async with serving(Starlette(routes=[Route("/", look)]), tmp_path) as house:
        async with await house.connect() as stream:
            await stream.send_all(get())
            await trio.testing.wait_all_tasks_blocked()
        closed.set()
        await trio.testing.wait_all_tasks_blocked()
        assert seen == [False, True]
    assert house.errors == []


async def test_a_fault_in_starlette_is_told_once_with_its_own_type(autojump_clock: object, tmp_path: Path) -> None:
    async def fail(request: Request) -> Response:
        raise KeyError("a fault")

    async with serving(Starlette(routes=[Route("/", fail)]), tmp_path) as house:
        assert b" 500 " in await house.ask(get("/", "Connection: close"))
    assert [type(error) for error in house.errors] == [KeyError]


async def test_many_requests_sent_at_once_do_not_keep_others_waiting(autojump_clock: object, tmp_path: Path) -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append(scope["path"])
        await answering()(scope, receive, send)

    async with serving(app, tmp_path) as house, await house.connect() as many, await house.connect() as one:
        await many.send_all(get("/many") * 300)
        await one.send_all(get("/one"))
        await read_until(one, b"ok")
        assert order.index("/one") < 20
