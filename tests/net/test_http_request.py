from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hookrelay.net.http_request import (
    CHUNK_LINE_LIMIT,
    OVERHEAD,
    TRAILER_LIMIT,
    ChunkedBody,
    Refusal,
    SizedBody,
    path_of,
    problem,
    read_head,
    take_head,
)

LIMIT = 16384


def refusal_of(raw: bytes) -> str:
    """The code with which a header block, or the beginning of one, is refused."""
    try:
        head = take_head(bytearray(raw), LIMIT, 100)
        return "waits for more" if head is None else str(read_head(head))
    except Refusal as refusal:
        return refusal.code


def chunked(raw: bytes, limit: int = 1 << 20) -> tuple[bool, bytes, bytes]:
    """Whether a chunked body is whole, what it holds, and what was left over."""
    body, buffer = ChunkedBody(limit), bytearray(raw)
    is_whole = body.feed(buffer)
    return is_whole, bytes(body.body), bytes(buffer)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n",
        b"GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x01c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
        b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http:a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b" GET / HTTP/1.1\r\n",
    ],
)
def test_what_has_two_readings_or_none_is_a_bad_request(raw: bytes) -> None:
    assert refusal_of(raw) == "bad_request"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version_not_supported"),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "version_not_supported"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not_implemented"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "not_implemented"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "not_implemented",
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n", "expectation_failed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * LIMIT + b"\r\n\r\n", "headers_too_large"),
        (b"GET /" + b"y" * LIMIT, "headers_too_large"),
    ],
)
def test_what_this_server_does_not_do_has_a_code_of_its_own(raw: bytes, code: str) -> None:
    assert refusal_of(raw) == code


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: [::1]:8080\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: %2Frun%2Fhookrelay%2Fapi.sock\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET //a/../b;c=d?e=f?g HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer \xc3\xa9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 99 + b"\r\n",
    ],
)
def test_what_is_allowed_is_taken(raw: bytes) -> None:
    buffer = bytearray(raw + b"rest")
    head = take_head(buffer, LIMIT, 100)
    assert head is not None
    assert buffer == b"rest"
    assert read_head(head).target.startswith(b"/")


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://b/x?y=z HTTP/1.1", b"/x?y=z", b"b"),
        (b"GET HTTPS://B:8443/ HTTP/1.1", b"/", b"B:8443"),
        (b"GET http://b HTTP/1.1", b"/", b"b"),
        (b"GET http://b?y=http://c HTTP/1.1", b"/?y=http://c", b"b"),
        (b"GET http://[::1]:80//x HTTP/1.1", b"//x", b"[::1]:80"),
        (b"OPTIONS http://b HTTP/1.1", b"*", b"b"),
        (b"OPTIONS http://b/ HTTP/1.1", b"/", b"b"),
        (b"OPTIONS * HTTP/1.1", b"*", b"a"),
        (b"GET /http://b/ HTTP/1.1", b"/http://b/", b"a"),
    ],
)
def test_the_host_of_an_absolute_target_stands_for_the_header(line: bytes, target: bytes, host: bytes) -> None:
    request = read_head(line + b"\r\nX: y\r\nHost: a\r\n\r\n")
    assert request.target == target
    assert request.headers == [(b"x", b"y"), (b"host", host)]


def test_an_absolute_target_of_http_1_0_gives_a_host_where_there_is_no_header() -> None:
    assert read_head(b"GET http://b/ HTTP/1.0\r\n\r\n").headers == [(b"host", b"b")]


@given(st.integers(0, 80), st.binary(max_size=3))
def test_a_header_block_is_taken_the_same_in_any_pieces(cut: int, rest: bytes) -> None:
    raw = b"\r\nPOST /v1/events HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"
    buffer, seen, head = bytearray(), 0, None
    for piece in (raw[:cut], *(raw[at : at + 1] for at in range(cut, len(raw)))):
        assert head is None
        buffer += piece
        head = take_head(buffer, LIMIT, 100, seen)
        seen = len(buffer)
    assert (head, buffer) == (raw[2:], b"")


@pytest.mark.parametrize("cut", range(1, 50))
def test_a_bad_line_end_is_found_in_whatever_pieces_it_comes(cut: int) -> None:
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n"
    buffer = bytearray(raw[:cut])
    try:
        take_head(buffer, LIMIT, 100)
    except Refusal:
        return
    with pytest.raises(Refusal):
        take_head(buffer + raw[cut:], LIMIT, 100, len(buffer))


def test_every_beginning_of_a_good_header_block_is_waited_with() -> None:
    raw = b"\r\nPOST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    for end in range(len(raw)):
        assert take_head(bytearray(raw[:end]), LIMIT, 100) is None, raw[:end]


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything_but_a_refusal(junk: bytes) -> None:
    for raw in (junk, b"GET / HTTP/1.1\r\nHost: a\r\n" + junk + b"\r\n\r\n", junk + b"\r\n\r\n"):
        try:
            head = take_head(bytearray(raw), LIMIT, 100)
            if head is not None:
                read_head(head)
        except Refusal:
            pass


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_a_chunked_body_comes_out_the_same_however_it_is_cut(chunks: Sequence[bytes], cuts: Sequence[int]) -> None:
    raw = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    wire = raw + b"GET"
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    body, buffer, is_whole = ChunkedBody(1 << 20), bytearray(), False
    for start, end in pairwise(edges):
        buffer += wire[start:end]
        is_whole = is_whole or body.feed(buffer)
    assert is_whole
    assert body.body == b"".join(chunks)
    assert buffer == b"GET"


@pytest.mark.parametrize(
    "raw",
    [
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"1_0\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b" 3\r\nabc\r\n0\r\n\r\n",
        b"-1\r\n",
        b"\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc\r0",
        b"0\r\n\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\nA: b\x00\r\n\r\n",
        b"0\r\nA: b\rc\r\n\r\n",
        b"11111111111111111\r\n",
        b"3;" + b"x" * CHUNK_LINE_LIMIT + b"\r\n",
        b"1" * (CHUNK_LINE_LIMIT + 2),
    ],
)
def test_a_chunked_body_with_another_reading_is_a_bad_request(raw: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        chunked(raw)
    assert caught.value.code == "bad_request"


def test_a_chunk_over_the_limit_is_refused_by_its_size_alone() -> None:
    assert chunked(b"a\r\n0123456789\r\n0\r\n\r\n", limit=10) == (True, b"0123456789", b"")
    with pytest.raises(Refusal) as caught:
        chunked(b"a\r\n0123456789\r\n1\r\n", limit=10)
    assert caught.value.code == "too_large"


def test_chunks_that_are_mostly_framing_are_refused() -> None:
    with pytest.raises(Refusal, match="too small"):
        chunked(b"1\r\nx\r\n" * OVERHEAD)


def test_trailers_are_bounded() -> None:
    with pytest.raises(Refusal) as caught:
        chunked(b"0\r\n" + b"A: b\r\n" * TRAILER_LIMIT)
    assert caught.value.code == "headers_too_large"


def test_a_sized_body_leaves_what_follows_it() -> None:
    body, buffer = SizedBody(5, 5), bytearray(b"abc")
    assert not body.feed(buffer)
    buffer += b"deGET"
    assert body.feed(buffer)
    assert bytes(body.body + b"|" + buffer) == b"abcde|GET"
    with pytest.raises(Refusal, match="may have 4 bytes"):
        SizedBody(5, 4)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%20b?c=%20", "/a b", b"c=%20"),
        (b"/%C3%A9", "/é", b""),
        (b"/%ff", "/\ufffd", b""),
        (b"/%zz%", "/%zz%", b""),
    ],
)
def test_a_path_is_decoded_and_its_query_is_not(target: bytes, path: str, query: bytes) -> None:
    assert path_of(target) == (path, target.partition(b"?")[0], query)


def test_a_problem_for_head_has_the_same_head_and_no_body() -> None:
    whole, head = problem("bad_request", "x"), problem("bad_request", "x", with_body=False)
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert len(whole) - len(head) == int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
