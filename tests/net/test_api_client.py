"""The caller's side of the API, over real sockets, against servers that do what daemons and others may do."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookrelay.net.api_client import ApiClient, Message, Problem, Unreachable

Answer = Callable[[bytes], list[bytes]]


@contextlib.contextmanager
def serving(path: Path, answer: Answer) -> Iterator[list[bytes]]:
    """A server on a Unix socket: `answer(request)` gives the pieces it sends, then it hangs up. What it was asked."""
    asked: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                client, _ = listener.accept()
                with client:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        part = client.recv(65536)
                        if not part:
                            break
                        request += part
                    if not request:
                        return
                    head, _, body = request.partition(b"\r\n\r\n")
                    length = next(
                        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
                        0,
                    )
                    while len(body) < length:
                        body += client.recv(65536)
                    asked.append(head + b"\r\n\r\n" + body)
                    for piece in answer(asked[-1]):
                        client.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
            thread.join()


def http(status: int, body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


def test_a_call_sends_its_query_body_and_key_and_returns_what_is_answered(tmp_path: Path):
    place = tmp_path / "a.sock"
    with serving(place, lambda request: [http(200, b'{"a":1}')]) as asked, ApiClient(f"unix:{place}", "k1") as client:
        assert client.call("POST", "/x", query={"a": "ä b", "b": None, "c": 5}, body={"n": None}) == {"a": 1}
    (request,) = asked
    assert request.startswith(b"POST /x?a=%C3%A4+b&c=5 HTTP/1.1\r\n")
    assert b"\r\nauthorization: Bearer k1\r\n" in request.lower().replace(b"bearer", b"Bearer")
    assert request.endswith(b'\r\n\r\n{"n":null}')


def test_pages_are_followed_to_their_end_though_some_are_empty(tmp_path: Path):
    def answer(request: bytes) -> list[bytes]:
        cursor = request.split(b" ")[1].partition(b"cursor=")[2]
        pages = {b"": ([1, 2], "c1"), b"c1": ([], "c2"), b"c2": ([3], None)}
        rows, following = pages[cursor]
        return [http(200, json.dumps({"data": rows, "next_cursor": following}).encode())]

    place = tmp_path / "a.sock"
    with serving(place, answer), ApiClient(f"unix:{place}") as client:
        assert list(client.pages("/x")) == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "code", "errors"),
    [
        (
            b'{"code":"invalid_field","detail":"d","errors":[{"field":"url","detail":"e"}]}',
            "invalid_field",
            (("url", "e"),),
        ),
        (b"<html>502</html>", "unknown", ()),
        (b"[]", "unknown", ()),
        (b"", "unknown", ()),
    ],
)
def test_a_refusal_is_a_problem_whoever_speaks(tmp_path: Path, body: bytes, code: str, errors: object):
    place = tmp_path / "a.sock"
    with serving(place, lambda request: [http(422, body)]), ApiClient(f"unix:{place}") as client:
        with pytest.raises(Problem) as caught:
            client.call("GET", "/x")
        assert (caught.value.status, caught.value.code, caught.value.errors) == (422, code, errors)


def test_messages_of_a_stream_come_whole_however_they_are_cut(tmp_path: Path):
    text = b': hi\n\nretry: 1000\n\nid: evt_1\nevent: event\ndata: {"a":\ndata: 1}\n\n'
    text += b"event: delivery\ndata: {}\n\nid: x\ndata: cut"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    place = tmp_path / "a.sock"
    pieces = [head, *(text[at : at + 3] for at in range(0, len(text), 3))]
    with (
        serving(place, lambda request: pieces) as asked,
        ApiClient(f"unix:{place}") as client,
        client.stream("/s", last_id="evt_0") as messages,
    ):
        assert list(messages) == [Message("event", "evt_1", b'{"a":\n1}'), Message("delivery", "evt_1", b"{}")]
    assert b"\r\nlast-event-id: evt_0\r\n" in asked[0].lower()


def test_a_refused_stream_is_a_problem_before_the_first_message(tmp_path: Path):
    place = tmp_path / "a.sock"
    body = b'{"code":"rate_limited","detail":"d","errors":[]}'
    with serving(place, lambda request: [http(429, body)]), ApiClient(f"unix:{place}") as client:
        with pytest.raises(Problem) as caught, client.stream("/s"):
            pass
        assert caught.value.code == "rate_limited"


def test_an_answer_that_breaks_off_is_unreachable(tmp_path: Path):
    place = tmp_path / "a.sock"
    broken = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"
    with serving(place, lambda request: [broken]), ApiClient(f"unix:{place}") as client:
        with pytest.raises(Unreachable) as caught:
            client.call("GET", "/x")
        assert str(place) in str(caught.value)


def test_a_file_comes_in_parts_and_one_that_ends_too_early_is_none(tmp_path):
    whole = [b"HTTP/1.1 200 x\r\ncontent-length: 9\r\nhookrelay-commits: 7\r\n\r\nfirst", b"last"]
    with serving(tmp_path / "a.sock", lambda request: whole) as asked, ApiClient(f"unix:{tmp_path}/a.sock") as client:
        with client.download("POST", "/v1/backup") as (head, parts):
            assert (head["hookrelay-commits"], b"".join(parts)) == ("7", b"firstlast")
        assert asked[0].startswith(b"POST /v1/backup ")
        whole.pop()
        with pytest.raises(Unreachable), client.download("POST", "/v1/backup") as (_, parts):
            list(parts)
        whole[:] = [http(409, b'{"code":"conflict","detail":"one at a time"}')]
        with pytest.raises(Problem, match="one at a time"), client.download("POST", "/v1/backup"):
            pass


def test_a_socket_that_is_not_there_is_told_from_one_that_does_not_answer(tmp_path):
    with ApiClient(f"unix:{tmp_path}/none.sock") as client, pytest.raises(Unreachable) as absent:
        client.call("GET", "/v1/status")
    (tmp_path / "file").touch()
    with ApiClient(f"unix:{tmp_path}/file/a.sock") as client, pytest.raises(Unreachable) as odd:
        client.call("GET", "/v1/status")
    assert (absent.value.is_absent, odd.value.is_absent) == (True, False)
