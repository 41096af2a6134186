"""Whatever meets bytes from outside takes time in proportion to their number (THREATS §3, "parsing").

Each row runs at length n and at 4n: at most 6 times the CPU time. Measured is this process's own time, the best of
several, so that other processes on the machine change nothing.
"""

import gc
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from hookrelay import units
from hookrelay.config import toml_lines, toml_tables
from hookrelay.model import Ids, Refused
from hookrelay.net import http1, http_request
from hookrelay.net.lines import Splitter
from hookrelay.rules import (
    egress,
    egress_url,
    payload,
    rate,
    retry,
    timestamp,
    told,
    webhook,
    webhook_texts,
    wording,
)
from hookrelay.telemetry import logs
from hookrelay.web import body, http, query
from hookrelay.web.api import stream, webhooks
from hookrelay.web.auth import network_of
from hookrelay.web.dashboard import curl, door, entrance, text

LONGER = 4
MOST = 6.0
"""Times the time, for `LONGER` times the length."""
TRIES = 5
SLICE_S = 0.002
"""So much work is timed at once: the clock's own steps are nothing beside it."""

Run = Callable[[Any], object]


def cost_s(run: Run, given: Any) -> float:
    """CPU seconds that one run takes: the best of several, each of them many runs where one is short."""
    run(given)
    rounds, best = 1, float("inf")
    tries = 0
    while tries < TRIES:
        began = time.thread_time()
        for _ in range(rounds):
            run(given)
        took = time.thread_time() - began
        if took < SLICE_S:
            rounds = min(rounds * 4, 4096) if rounds < 4096 else rounds
            if rounds < 4096:
                continue
        best, tries = min(best, took / rounds), tries + 1
        if took > 0.5:
            break
    return best


def growth(run: Run, make: Callable[[int], Any], size: int) -> float:
    """How many times longer it takes at 4 times the length; where the machine was disturbed, looked at again."""
    seen = float("inf")
    gc.disable()
    try:
        for _ in range(3):
            seen = min(seen, cost_s(run, make(size * LONGER)) / cost_s(run, make(size)))
            if seen <= MOST:
                break
    finally:
        gc.enable()
    return seen


# --- requests -----------------------------------------------------------------------------------------------------


def read_request(raw: bytes) -> None:
    with suppress(http_request.Refusal):
        head = http_request.take_head(bytearray(raw), 1 << 30, 1 << 30)
        assert head is not None
        request = http_request.read_head(head)
        http_request.path_of(request.target)


def drip_head(raw: bytes) -> None:
    """One byte at a time, as a client may send it."""
    buffer, seen = bytearray(), 0
    with suppress(http_request.Refusal):
        for at in range(len(raw)):
            buffer += raw[at : at + 1]
            http_request.take_head(buffer, 1 << 30, 1 << 30, seen)
            seen = len(buffer)


def field(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n"


def chunked(raw: bytes) -> None:
    taker, buffer = http_request.ChunkedBody(1 << 30), bytearray()
    with suppress(http_request.Refusal):
        for at in range(0, len(raw), 1000):
            buffer += raw[at : at + 1000]
            taker.feed(buffer)


def sized(raw: bytes) -> None:
    taker, buffer = http_request.SizedBody(len(raw), 1 << 30), bytearray()
    for at in range(0, len(raw), 50):
        buffer += raw[at : at + 50]
        taker.feed(buffer)


REQUESTS: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("blanks within a value", read_request, lambda n: field(b"a" + b" " * n + b"b"), 3000),
    ("tabs within a value", read_request, lambda n: field(b"a" + b"\t" * n + b"b"), 3000),
    ("blanks around a value", read_request, lambda n: field(b" " * n + b"b" + b" " * n), 3000),
    ("nothing but blanks", read_request, lambda n: field(b" " * n), 3000),
    ("blanks and words in turns", read_request, lambda n: field(b"a " * n), 3000),
    (
        "blanks before the colon",
        read_request,
        lambda n: b"GET / HTTP/1.1\r\nHost: a\r\nX" + b" " * n + b":\r\n\r\n",
        3000,
    ),
    ("a long name", read_request, lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * n + b"\r\n\r\n", 3000),
    (
        "a long name with a colon",
        read_request,
        lambda n: b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * n + b": y\r\n\r\n",
        3000,
    ),
    ("many fields", read_request, lambda n: field(b"a\r\nY: b" * n), 200),
    ("a long method", read_request, lambda n: b"G" * n + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 3000),
    ("a long target", read_request, lambda n: b"GET /" + b"a" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n", 3000),
    ("a target of escapes", read_request, lambda n: b"GET /" + b"%61%ff" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n", 1000),
    ("a target without an end", read_request, lambda n: b"GET /" + b"a" * n + b"\r\nHost: a\r\n\r\n", 3000),
    ("blanks in the first line", read_request, lambda n: b"GET /" + b" " * n + b"HTTP/1.1\r\nHost: a\r\n\r\n", 3000),
    (
        "a long absolute target",
        read_request,
        lambda n: b"GET http://" + b"a." * n + b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
        3000,
    ),
    (
        "an absolute target of signs",
        read_request,
        lambda n: b"GET http://" + b":@" * n + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        3000,
    ),
    ("a long host", read_request, lambda n: b"GET / HTTP/1.1\r\nHost: " + b"a." * n + b":1x\r\n\r\n", 3000),
    ("a host of digits", read_request, lambda n: b"GET / HTTP/1.1\r\nHost: a:" + b"1" * n + b"x\r\n\r\n", 3000),
    ("a host in brackets", read_request, lambda n: b"GET / HTTP/1.1\r\nHost: [" + b":" * n + b"\r\n\r\n", 3000),
    ("a length of digits", read_request, lambda n: field(b"a\r\nContent-Length: " + b"1" * n), 3000),
    ("options of a connection", read_request, lambda n: field(b"a\r\nConnection: " + b", " * n), 2000),
    ("a header block byte by byte", drip_head, lambda n: field(b"a" * n), 2000),
    ("fields byte by byte", drip_head, lambda n: field(b"a\r\nY: b" * n), 200),
    ("a body in small pieces", sized, lambda n: b"x" * n, 100_000),
    ("a body in small chunks", chunked, lambda n: b"1\r\nx\r\n" * n + b"0\r\n\r\n", 2000),
    ("a body in middling chunks", chunked, lambda n: (b"40\r\n" + b"x" * 64 + b"\r\n") * n + b"0\r\n\r\n", 2000),
    ("a body in one chunk", chunked, lambda n: b"%x\r\n%b\r\n0\r\n\r\n" % (n, b"x" * n), 500_000),
    ("a long chunk line", chunked, lambda n: b"1;" + b"x" * n, 5000),
    ("a long trailer", chunked, lambda n: b"0\r\n" + b"X: y\r\n" * n, 1000),
]


# --- what a request's parts say -----------------------------------------------------------------------------------


def asked(target: bytes = b"", **headers: bytes) -> http.Request:
    named = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]

    async def receive() -> Any:
        raise AssertionError

    return http.Request({"query_string": target, "headers": named}, receive)


def refused(run: Run) -> Run:
    def judged(given: Any) -> None:
        with suppress(Refused, ValueError):
            run(given)

    return judged


def told_of(detail: str) -> None:
    told.detail_for_tenants("protocol_error", detail)


def ask_for(name: str) -> Run:
    def read(value: str) -> None:
        given = query.Query({name: [value]}, (name,))
        {
            "limit": lambda: given.number("limit", 1, 250),
            "status": lambda: given.word("status", ("a", "b")),
            "type": lambda: given.event_type("type"),
            "since": lambda: given.moment("since", 0),
            "cursor": lambda: given.numbered_window("events"),
        }[name]()

    return refused(read)


def cursor(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode()


IDS = Ids(1)

PARTS: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("a query of one parameter", refused(lambda t: asked(t).query()), lambda n: b"a=" + b"+%41" * n, 1000),
    ("a query of many", refused(lambda t: asked(t).query()), lambda n: b"a&" * n, 2000),
    ("a query of signs", refused(lambda t: asked(t).query()), lambda n: b"=%;" * n, 2000),
    ("a cookie of many", lambda v: door.cookie(asked(cookie=v).scope), lambda n: b"a=b; " * n, 1000),
    ("a cookie of blanks", lambda v: door.cookie(asked(cookie=v).scope), lambda n: b" " * n + b";" + b" " * n, 3000),
    (
        "an Origin",
        refused(lambda v: door.check_origin(asked(origin=v, host=b"a"), None, is_change=True)),
        lambda n: b"http://" + b":80" * n,
        2000,
    ),
    ("a media type", lambda v: body.media_type(asked(content_type=v)), lambda n: b"a" * n + b" " * n + b";", 3000),
    ("where to go after signing in", entrance._onward, lambda n: "/dashboard/" + "../" * n, 3000),
    ("a page far down to go to", entrance._onward, lambda n: "/dashboard" + "/a" * n + '"', 3000),
    ("a page with a long name to go to", entrance._onward, lambda n: "/dashboard/" + "a." * n + "/..", 3000),
    ("why an attempt failed", told_of, lambda n: "10.0.0.5:443 " * n, 500),
    ("why an attempt failed, in one word", told_of, lambda n: "1:" * n + "1.", 3000),
    ("a number", ask_for("limit"), lambda n: "1" * n, 2000),
    ("a word", ask_for("status"), lambda n: "a" * n, 2000),
    ("a type", ask_for("type"), lambda n: "a." * n + "!", 2000),
    ("a moment", ask_for("since"), lambda n: "2026-02-26T10:00:00." + "1" * n + "Z", 2000),
    ("a duration", ask_for("since"), lambda n: "1" * n + "s", 2000),
    ("a cursor", ask_for("cursor"), lambda n: cursor("events:" + "1" * n), 2000),
    ("a cursor of colons", ask_for("cursor"), lambda n: cursor(":" * n), 2000),
    ("a cursor of other signs", ask_for("cursor"), lambda n: "!" * n, 2000),
    ("an id", lambda t: IDS.seq("evt", t), lambda n: "evt_" + "0" * n, 2000),
    ("an id of separators", lambda t: IDS.seq("evt", t), lambda n: "_" * n, 2000),
    ("an address", lambda t: network_of((t, 1)), lambda n: ":" * n, 2000),
    ("tags of a version", webhooks._tags, lambda n: 'W/"a" , ' * n, 1000),
    (
        "types of a stream",
        refused(lambda t: [payload.is_event_type(each) for each in t.split(",")]),
        lambda n: "a.b," * n,
        2000,
    ),
]


# --- bodies and lines ---------------------------------------------------------------------------------------------


def event(**fields: str) -> Callable[[int], bytes]:
    """An event with one field of n characters; `…` stands for them."""

    def make(n: int) -> bytes:
        said = {"type": '"a"', "data": "1", **fields}
        return (
            ("{" + ",".join(f'"{name}":{value}' for name, value in said.items()) + "}").replace("…", "x" * n).encode()
        )

    return make


def repeated(head: bytes, part: bytes, tail: bytes = b"") -> Callable[[int], bytes]:
    return lambda n: head + part * n + tail


def split(chunk: int) -> Run:
    def feed(data: bytes) -> None:
        splitter = Splitter(1 << 30)
        for at in range(0, len(data), chunk):
            splitter.feed(data[at : at + chunk])
        splitter.end()

    return feed


parse = refused(lambda line: payload.parse(line, max_size=1 << 30))
decode = refused(body.decode_object)

BODIES: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("a line in small pieces", split(8), lambda n: b"x" * n, 50_000),
    ("many lines in one piece", split(1 << 20), lambda n: b"x\n" * n, 20_000),
    ("blank lines", split(65536), lambda n: b" " * n + b"\n" * n, 50_000),
    ("a long type", parse, event(type='"…"'), 20_000),
    ("a type of dots", parse, repeated(b'{"data":1,"type":"', b"a.", b'!"}'), 20_000),
    ("a long tenant", parse, event(tenant='"…"'), 20_000),
    ("a long key", parse, event(idempotency_key='"…"'), 20_000),
    ("a long ordering key", parse, event(ordering_key='"…"'), 20_000),
    ("a long time", parse, repeated(b'{"data":1,"type":"a","timestamp":"2026-02-26T10:00:00.', b"1", b'Z"}'), 20_000),
    ("a long trace", parse, repeated(b'{"data":1,"type":"a","traceparent":"00-', b"0", b'"}'), 20_000),
    ("a strange field", parse, event(strange='"…"'), 20_000),
    ("many strange fields", parse, repeated(b'{"type":"a","data":1', b',"x":1', b"}"), 10_000),
    ("a name of quotes", parse, repeated(b'{"type":"a","data":1,"', b'\\"', b'":1}'), 20_000),
    ("data of text", parse, event(data='"…"'), 100_000),
    ("data of escapes", parse, repeated(b'{"type":"a","data":"', b"\\u0041\\\\", b'"}'), 20_000),
    ("data of digits", parse, repeated(b'{"type":"a","data":', b"1", b"}"), 20_000),
    ("data of a fraction", parse, repeated(b'{"type":"a","data":0.', b"1", b"}"), 20_000),
    ("data of an exponent", parse, repeated(b'{"type":"a","data":1e', b"1", b"}"), 20_000),
    ("data of lists", parse, repeated(b'{"type":"a","data":[', b"[],", b"1]}"), 20_000),
    ("data of depths", parse, lambda n: b'{"type":"a","data":' + b"[" * n + b"]" * n + b"}", 20_000),
    ("data of open brackets", parse, repeated(b'{"type":"a","data":', b"[{"), 20_000),
    ("data of blanks", parse, repeated(b'{"type":"a","data":', b" ", b"1}"), 50_000),
    ("data that ends in quotes", parse, repeated(b'{"type":"a","data":["', b'","', b'"]}'), 20_000),
    (
        "data in which itself begins",
        parse,
        lambda n: b'{"type":"a","data":"' + b"x" * n + b'","tenant":"' + b"x" * n + b'"}',
        20_000,
    ),
    ("no JSON but blanks", parse, repeated(b"", b" "), 50_000),
    ("no UTF-8", parse, repeated(b'{"type":"', b"x", b'\xff"}'), 50_000),
    ("a body of digits", decode, repeated(b'{"a":', b"1", b"}"), 20_000),
    ("a body of a fraction", decode, repeated(b'{"a":0.', b"1", b"}"), 20_000),
    ("a body of an exponent", decode, repeated(b'{"a":1e', b"1", b"}"), 20_000),
    ("a body of long numbers", decode, repeated(b'{"a":[', b"12345678901234567890123456789.5e300,", b"1]}"), 2000),
    ("a body of names", decode, lambda n: b"{" + b",".join(b'"%d":1' % each for each in range(n)) + b"}", 5000),
    ("a body of depths", decode, lambda n: b'{"a":' + b"[" * n + b"]" * n + b"}", 20_000),
    ("a body of quotes", decode, repeated(b"[" * 100 + b'"', b'\\"'), 20_000),
    ("a body of open quotes", decode, repeated(b"[" * 100, b'"['), 20_000),
    (
        "an event of lines as a stream tells it",
        lambda data: stream._message("event", data),
        repeated(b"", b"\r\n\v"),
        5000,
    ),
]


# --- what customers write into a webhook --------------------------------------------------------------------------


def hook(**fields: Any) -> None:
    webhook.read({"url": "https://example.com/", "events": ["*"], **fields}, policy=POLICY)


POLICY = egress.Policy()


def judge_url(url: str) -> None:
    with suppress(ValueError):
        egress_url.check_url(egress_url.as_stored(url), POLICY)
    with suppress(ValueError):
        egress.target(url)


def various(n: int) -> str:
    """Letters of many kinds: none of them twice, from the highest to the lowest."""
    return "".join(map(chr, range(0x4E00 + n, 0x4E00, -1)))


WEBHOOKS: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("a URL of one label", judge_url, lambda n: "https://" + "a" * n + "/", 480),
    ("a URL of labels", judge_url, lambda n: "https://" + "a." * n + "/", 240),
    ("a URL of hyphens", judge_url, lambda n: "https://" + "a" + "-" * n + "/", 480),
    ("a URL of a path", judge_url, lambda n: "https://example.com/" + "a/" * n, 240),
    ("a URL of colons", judge_url, lambda n: "https://" + ":" * n, 480),
    ("a URL of brackets", judge_url, lambda n: "https://" + "[" * n + "]" * n, 240),
    ("a URL of an IPv6 address", judge_url, lambda n: "https://[" + "1:" * n + "]/", 240),
    ("a URL of a port", judge_url, lambda n: "https://example.com:" + "1" * n + "/", 480),
    ("a URL of a user", judge_url, lambda n: "https://" + "a:" * n + "@example.com/", 240),
    ("a URL of blanks", judge_url, lambda n: "https://example.com/" + " " * n, 480),
    ("a URL of digits", judge_url, lambda n: "https://" + "1" * n + "/", 480),
    ("an international label", judge_url, lambda n: "https://" + various(n) + ".example/", 480),
    ("an international label of one letter", judge_url, lambda n: "https://" + "ü" * n + ".example/", 480),
    ("international labels", judge_url, lambda n: "https://" + "ü." * n + "example/", 240),
    ("marks that combine", judge_url, lambda n: "https://a" + "\u0315\u0300" * n + ".example/", 240),
    ("digits of two kinds", judge_url, lambda n: "https://" + "\u0660\u06f0" * n + ".example/", 240),
    ("joiners", judge_url, lambda n: "https://" + "ب\u200c" * n + ".example/", 240),
    ("event types", lambda v: hook(events=v), lambda n: [f"a.b{each}" for each in range(n)], 200),
    ("event types that are wrong", lambda v: hook(events=v), lambda n: ["!"] * n, 200),
    ("a long event type", lambda v: hook(events=[v]), lambda n: "a." * n, 2000),
    ("an event type of stars", lambda v: hook(events=[v]), lambda n: "*." * n, 2000),
    ("what are no event types", lambda v: hook(events=v), lambda n: [1] * n, 2000),
    ("a long description", lambda v: hook(description=v), lambda n: "x" * n, 20_000),
    ("a long secret", lambda v: hook(secret=v), lambda n: "whsec_" + b64encode(b"x" * n).decode(), 20_000),
    ("a long rate", lambda v: hook(rate_limit=v), lambda n: "1" * n + "/s", 20_000),
    ("a long timeout", lambda v: hook(timeout=v), lambda n: "1" * n + "s", 20_000),
    ("waits", lambda v: hook(retry=v), lambda n: ["5s"] * n, 2000),
    ("a schedule of blanks", lambda v: hook(retry=v), lambda n: "exponential(" + " " * n + "1s" + " " * n, 2000),
    ("a schedule of digits", lambda v: hook(retry=v), lambda n: "exponential(1s, " + "1" * n, 2000),
    ("header names", lambda v: hook(headers=v), lambda n: {f"x-{each}": "y" for each in range(n)}, 2000),
    ("a long header name", lambda v: hook(headers={v: "y"}), lambda n: "x" * n, 20_000),
    ("a header value of blanks", lambda v: hook(headers={"x-y": v}), lambda n: "a" + " " * n + "\x80", 900),
    ("a header value of words", lambda v: hook(headers={"x-y": v}), lambda n: "a " * n + "\x80", 450),
    ("metadata of depths", lambda v: hook(metadata=v), lambda n: {"a": [[[1]] * n]}, 2000),
    ("strange fields", lambda v: hook(**v), lambda n: {f"strange{each}": 1 for each in range(n)}, 2000),
    ("a rate's text", refused(rate.parse_rate), lambda n: "1" * n + "/s burst " + "1" * n, 2000),
    ("a duration's text", refused(units.parse_duration), lambda n: "1" * n + "." + "1" * n + "ms", 2000),
    ("a size's text", refused(units.parse_size), lambda n: "1" * n + "KiB", 2000),
    ("a time's text", timestamp.to_utc, lambda n: "2026-02-26T10:00:00." + "1" * n + "+", 2000),
    ("a secret's text", refused(webhook_texts.decode_secret), lambda n: "whsec_" + "=" * n, 20_000),
    ("what a mistake repeats", wording.shown, lambda n: "\x00\u202e" * n, 20_000),
    (
        "a name that is like a known one",
        lambda t: wording.unknown(t[:64], ("description", "events")),
        lambda n: "descriptio" * n,
        2000,
    ),
]


# --- what receivers answer, and how it is shown -------------------------------------------------------------------


class Silent:
    """A socket of which nothing is read."""

    def fileno(self) -> int:
        return 0


def answer(data: bytes) -> None:
    """A head, taken in pieces as they may come."""
    told = http1.Connection(Silent(), "")  # type: ignore[arg-type]  # only its parser is at work here
    told._head_done = told._message_done = told._keep_alive = False
    told._begun = told._interim = told._body_size = 0
    told._body = []
    with suppress(Exception):
        for at in range(0, len(data), 1000):
            told._feed(data[at : at + 1000])


def wait_of(value: bytes) -> Callable[[int], bytes]:
    return lambda n: b"HTTP/1.1 503 x\r\nRetry-After: " + value.replace(b"@", b" " * n).replace(b"#", b"a  " * n)


def asks(head: bytes) -> None:
    retry.retry_after_s(head, 0.0)


def escaped(value: str) -> None:
    logs._escaped(None, "info", {"event": value})


ANSWERS: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("fields of an answer", answer, repeated(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", b"\r\n"), 3000),
    ("a field of blanks", answer, repeated(b"HTTP/1.1 200 OK\r\nX: a", b" ", b"b\r\n\r\n"), 20_000),
    ("a long reason", answer, repeated(b"HTTP/1.1 200 ", b"x", b"\r\n\r\n"), 20_000),
    (
        "a body in small chunks",
        answer,
        repeated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        3000,
    ),
    ("answers before the answer", answer, repeated(b"", b"HTTP/1.1 103 x\r\n\r\n"), 3000),
    ("Retry-After of blanks", asks, wait_of(b"@1@"), 15_000),
    ("Retry-After of blanks and no end", asks, wait_of(b"a@\x80"), 15_000),
    ("Retry-After of words and no end", asks, wait_of(b"#\x80"), 5000),
    ("Retry-After of words", asks, wait_of(b"#"), 5000),
    ("Retry-After of digits", asks, lambda n: b"HTTP/1.1 503 x\r\nRetry-After: " + b"1" * n, 15_000),
    ("Retry-After of colons", asks, lambda n: b"HTTP/1.1 503 x\r\nRetry-After: " + b"1:" * n, 7000),
    ("Retry-After of commas", asks, lambda n: b"HTTP/1.1 503 x\r\nRetry-After: Sun, 06 Nov " + b"1994," * n, 7000),
    ("Retry-After many times", asks, lambda n: b"HTTP/1.1 503 x" + b"\r\nRetry-After: 1" * n, 3000),
    ("text with what cannot be seen", text.visible, lambda n: "\u202e\x1b[0m" * n, 5000),
    ("text that is cut", lambda t: text.clip(t, len(t)), lambda n: '"' * n + "a" * n, 20_000),
    ("text that is cut at its front", lambda t: text.clip(t, len(t)), lambda n: "a" * n + "\x00" * n, 10_000),
    ("a line of the log", escaped, lambda n: "\u202e\x1b[0m" * n, 5000),
    ("a URL for a shell", lambda t: curl.commands(t, [t], "evt_", t, "file"), lambda n: "'" * n, 5000),
]


# --- what stands in files -----------------------------------------------------------------------------------------


def read_toml(content: str) -> None:
    toml_lines.too_deep(content)
    with suppress(ValueError, IndexError):
        toml_tables.read(content, "webhook")


def place_in_toml(content: str) -> None:
    toml_lines.line_of(content, ("a",))


FILES: list[tuple[str, Run, Callable[[int], Any], int]] = [
    ("a file of blanks", read_toml, lambda n: " " * n + "!", 20_000),
    ("blanks behind a value", read_toml, lambda n: 'a = "b"' + " " * n + "!", 20_000),
    ("blanks in a list", read_toml, lambda n: 'a = ["b"' + " " * n + ", " + " " * n + "!", 20_000),
    ("a list without an end", read_toml, lambda n: "a = [" + '"b", ' * n, 5000),
    ("blanks behind a header", read_toml, lambda n: "[[webhook]]" + " " * n + "!", 20_000),
    ("many headers", read_toml, lambda n: '[[webhook]]\nname = "a"\n' * n, 2000),
    ("quotes", read_toml, lambda n: '"' * n, 5000),
    ("backslashes", read_toml, lambda n: 'a = "' + "\\" * n, 5000),
    ("comments", read_toml, lambda n: "# a #\n" * n, 5000),
    ("dots", read_toml, lambda n: "a" + ".a" * n + " = 1", 5000),
    ("places of keys", place_in_toml, lambda n: "".join(f'b{each} = "c"\n' for each in range(n)), 3000),
]


@pytest.mark.parametrize(
    ("run", "make", "size"),
    [
        pytest.param(*row[1:], id=f"{kind}: {row[0]}")
        for kind, rows in (
            ("request", REQUESTS),
            ("part", PARTS),
            ("body", BODIES),
            ("webhook", WEBHOOKS),
            ("answer", ANSWERS),
            ("file", FILES),
        )
        for row in rows
    ],
)
def test_four_times_the_length_takes_at_most_six_times_as_long(run: Run, make: Callable[[int], Any], size: int) -> None:
    assert growth(run, make, size) <= MOST
