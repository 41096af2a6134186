"""What a POST comes to, whatever the receiver does: over real sockets, each inside its deadline (THREATS §2)."""

import contextlib
import gzip
import resource
import socket
import ssl
import subprocess
import sys

import pytest
import trio
import trustme
from faulty import (
    BODY,
    DEADLINE_S,
    GONE_WITHIN_S,
    HALF_A_SERVER_HELLO,
    OK,
    REQUEST,
    TLS_1_1_SERVER_HELLO,
    Faulty,
    allow,
    attempt,
    descriptors,
    post,
    posting,
)

from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.post import Poster
from hookrelay.net.trust import Trusts
from hookrelay.rules.egress import Vetted

HEAD = b"HTTP/1.1 200 OK\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

# --- what is no answer ------------------------------------------------------------------------------------------

FAULTS = {
    "hangs": (b"", "keep", "timeout", "no answer within"),
    "ends without a word": (b"", "close", "reset", "without an answer"),
    "resets without a word": (b"", "reset", "reset", "reset the connection"),
    "ends in the status line": (b"HTTP/1.1 2", "close", "reset", "in the middle"),
    "ends in the head": (HEAD, "close", "reset", "in the middle"),
    "resets in the head": (HEAD, "reset", "reset", "reset the connection"),
    "stalls in the head": (HEAD, "keep", "timeout", "no answer within"),
    "drips its head": (HEAD + b"X-Drip: ", "drip", "timeout", "no answer within"),
    "floods 1xx": (HINT, "flood", "timeout", "more than 16 interim"),
    "says 17 times 103 and then 200": (HINT * 17 + OK, "keep", "timeout", "more than 16 interim"),
    "is an SSH server": (b"SSH-2.0-OpenSSH_9.2\r\n", "keep", "protocol_error", "not HTTP/1.1"),
    "speaks HTTP/0.9": (b"<html>hello</html>", "close", "protocol_error", "not HTTP/1.1"),
    "claims HTTP/0.9": (b"HTTP/0.9 200 OK\r\n\r\n", "close", "protocol_error", "HTTP"),
    "claims HTTP/2.0": (b"HTTP/2.0 200 OK\r\n\r\n", "close", "protocol_error", "HTTP"),
    "speaks HTTP/2": (b"\0\0\x12\x04\0\0\0\0\0" + bytes(18), "keep", "protocol_error", "not HTTP/1.1"),
    "writes http in lower case": (b"http/1.1 200 OK\r\n\r\n", "close", "protocol_error", "not HTTP/1.1"),
    "speaks RTSP": (b"RTSP/1.0 200 OK\r\n\r\n", "close", "protocol_error", "HTTP"),
    "switches protocols": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "keep",
        "protocol_error",
        "101",
    ),
    "has the status 099": (b"HTTP/1.1 099 X\r\n\r\n", "close", "protocol_error", "99"),
    "has the status 42": (b"HTTP/1.1 42 X\r\n\r\n", "close", "protocol_error", "not HTTP/1.1"),
    "has the status 600": (b"HTTP/1.1 600 X\r\n\r\n", "close", "protocol_error", "600"),
    "has the status 2000": (b"HTTP/1.1 2000 X\r\n\r\n", "close", "protocol_error", "not HTTP/1.1"),
    "has no status": (b"HTTP/1.1 OK\r\n\r\n", "close", "protocol_error", "not HTTP/1.1"),
    "has two lengths": (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "keep", "protocol_error", "Length"),
    "has a negative length": (HEAD + b"Content-Length: -2\r\n\r\nok", "keep", "protocol_error", "Length"),
    "has a length in words": (HEAD + b"Content-Length: two\r\n\r\nok", "keep", "protocol_error", "Length"),
    "has a length beyond all": (
        HEAD + b"Content-Length: 9" + b"9" * 30 + b"\r\n\r\n",
        "keep",
        "protocol_error",
        "Length",
    ),
    "has a length and chunks": (
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        "keep",
        "protocol_error",
        "Length",
    ),
    "has NUL in a header": (HEAD + b"X: a\x00b\r\n\r\n", "keep", "protocol_error", "header"),
    "has a bare CR in a header": (HEAD + b"X: a\rb\r\n\r\n", "keep", "protocol_error", "header"),
    "ends its lines with LF alone": (b"HTTP/1.1 200 OK\nX: a\n\n", "keep", "protocol_error", "CR"),
    "has a header without a name": (HEAD + b": a\r\n\r\n", "keep", "protocol_error", "header"),
    "has a header of 70 KB": (HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n", "keep", "protocol_error", "64 KiB"),
    "has 10,000 headers": (HEAD + b"X: aaaa\r\n" * 10_000 + b"\r\n", "keep", "protocol_error", "64 KiB"),
    "never ends its head": (HEAD + b"X: aaaa\r\n" * 10_000, "keep", "protocol_error", "64 KiB"),
    "redirects": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "keep", "http_status", "302"),
    "is not changed": (b"HTTP/1.1 304 Not Modified\r\n\r\n", "keep", "http_status", "304"),
    "is gone": (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", "keep", "http_status", "410"),
    "fails": (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "keep", "http_status", "500"),
    "fails without an end": (b"HTTP/1.1 503 Busy\r\n\r\n", "drip", "http_status", "503"),
}


@pytest.mark.parametrize(("says", "after", "error", "told"), FAULTS.values(), ids=FAULTS)
async def test_what_is_no_acceptance_ends_as_its_error_inside_the_deadline(says, after, error, told):
    (outcome,) = await post(Faulty(says, after))
    assert outcome.error == error
    assert told in outcome.detail
    assert outcome.detail.isprintable()
    assert outcome.remote_address is not None


@pytest.mark.parametrize("error", ["hangs", "drips its head", "fails without an end"])
async def test_the_task_is_gone_within_100_ms_of_its_deadline(error):
    says, after, _, _ = FAULTS[error]
    async with posting(Faulty(says, after)) as poster:
        late = []
        for _ in range(5):
            started = trio.current_time()
            await attempt(poster)
            late.append(trio.current_time() - started - DEADLINE_S)
    assert sorted(late)[2] < GONE_WITHIN_S  # the machine's own pauses aside


async def test_a_connection_that_never_comes_about_ends_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as filler:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        with socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(full.getsockname())
            outcome = await attempt(Poster(Dialer(vet=allow), Origin("http", "127.0.0.1", full.getsockname()[1])))
    assert outcome.error == "connect_timeout"


async def test_a_receiver_that_reads_nothing_of_a_large_event_times_out():
    head, _, _ = REQUEST.partition(b"\r\n\r\n")
    large = head.replace(b"%d" % len(BODY), b"8000000") + b"\r\n\r\n" + b"x" * 8_000_000
    async with posting(Faulty(b"", "stall", when="connected")) as poster:
        outcome = await attempt(poster, large)
    assert (outcome.error, "did not take the request" in outcome.detail) == ("timeout", True)


@pytest.mark.parametrize("after", ["keep", "close"])
async def test_an_answer_before_the_whole_request_was_read_is_the_answer(after):
    async with posting(Faulty(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", after, when="head")) as poster:
        outcome = await attempt(poster)
    assert (outcome.error, outcome.response_code) == ("http_status", 413)


async def test_a_redirect_is_never_followed():
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        where = b"http://127.0.0.1:%d/" % elsewhere.getsockname()[1]
        for code in (301, 302, 303, 307, 308):
            says = b"HTTP/1.1 %d Go\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (code, where)
            (outcome,) = await post(Faulty(says))
            assert (outcome.error, outcome.response_code) == ("http_status", code)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


# --- what is one, whatever follows ------------------------------------------------------------------------------

BOMB = gzip.compress(bytes(20_000_000))
SUCCESSES = {
    "all in order": (OK, "keep"),
    "after 16 hints": (HINT * 16 + OK, "keep"),
    "without a body": (b"HTTP/1.1 204 No Content\r\n\r\n", "keep"),
    "with a body where there is none": (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "keep"),
    "with the status 299": (b"HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n", "keep"),
    "a body cut short": (HEAD + b"Content-Length: 9\r\n\r\nshort", "close"),
    "a body cut by a reset": (HEAD + b"Content-Length: 9\r\n\r\nshort", "reset"),
    "chunks that are none": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense", "keep"),
    "a body that drips": (HEAD + b"\r\n", "drip"),
    "a body without end": (HEAD + b"\r\n" + b"x" * 1000, "flood"),
    "a body that never comes": (HEAD + b"Content-Length: 9\r\n\r\n", "keep"),
    "a compressed bomb": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB, "keep"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", "close"),
}


@pytest.mark.parametrize(("says", "after"), SUCCESSES.values(), ids=SUCCESSES)
async def test_a_whole_head_with_2xx_is_a_success_whatever_the_body_does(says, after):
    (outcome,) = await post(Faulty(says, after))
    assert outcome.error is None
    assert 200 <= (outcome.response_code or 0) <= 299
    assert len(outcome.response_body) <= 4096
    assert outcome.response_head.startswith(b"HTTP/1.")
    assert b"103" not in outcome.response_head


IN_ORDER = ("all in order", "after 16 hints", "without a body", "with the status 299", "a compressed bomb")


@pytest.mark.parametrize("name", [name for name in SUCCESSES if name not in IN_ORDER])
async def test_after_a_body_that_is_not_in_order_the_connection_is_not_used_again(name):
    receiver = Faulty(*SUCCESSES[name])
    outcomes = await post(receiver, 2)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert receiver.connections == 2


async def test_a_bomb_is_never_inflated_and_at_most_64_kib_of_it_are_read():
    (outcome,) = await post(Faulty(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB * 500, "keep"))
    assert outcome.response_body == BOMB[:4096]
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await post(Faulty(HEAD + b"Content-Encoding: gzip\r\n\r\n" + BOMB * 500, "flood"), 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib < 64 * 1024


# --- connections ------------------------------------------------------------------------------------------------


async def test_connections_are_kept_and_reused():
    receiver = Faulty()
    outcomes = await post(receiver, 20)
    assert [outcome.error for outcome in outcomes] == [None] * 20
    assert receiver.connections == 1


@pytest.mark.parametrize("says", [OK + OK.replace(b"200 OK", b"500 No"), OK + b"x"])
async def test_an_answer_unasked_is_never_taken_for_the_next_request(says):
    receiver = Faulty(says)
    outcomes = await post(receiver, 5)
    assert [outcome.response_code for outcome in outcomes] == [200] * 5
    assert receiver.connections == 5


@pytest.mark.parametrize("after", ["close", "reset"])
async def test_a_receiver_that_closes_a_kept_connection_without_a_word_costs_no_attempt(after):
    receiver = Faulty(OK, after)
    outcomes = await post(receiver, 5)
    assert [outcome.error for outcome in outcomes] == [None] * 5


async def test_nothing_listening_is_refused_and_a_blocked_address_gets_no_packet():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.setblocking(False)
        poster = Poster(Dialer(vet=lambda origin, addresses: Vetted("not there")), Origin("http", "localhost", port))
        blocked = await poster.post(REQUEST, 0, trio.CancelScope())
        with pytest.raises(BlockingIOError):
            listener.accept()
    poster = Poster(Dialer(vet=allow), Origin("http", "127.0.0.1", port))
    refused = await poster.post(REQUEST, 0, trio.CancelScope())
    assert (blocked.error, blocked.detail, refused.error) == ("egress_blocked", "not there", "connect_refused")


async def test_no_descriptors_are_left_by_any_fault():
    await post(Faulty(), 1)
    before = descriptors()
    for name in ("ends without a word", "resets in the head", "is an SSH server", "switches protocols", "hangs"):
        says, after, _, _ = FAULTS[name]
        await post(Faulty(says, after), 2)
    assert descriptors() <= before


def test_without_descriptors_an_attempt_is_a_local_fault_and_goes_well_when_there_are_some():
    script = """
import resource, trio
from faulty import Faulty, attempt, posting

async def main():
    async with posting(Faulty(), host="127.0.0.1") as poster:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        try:
            while True:
                taken.append(open("/dev/null"))
        except OSError:
            pass
        first = await attempt(poster)
        for each in taken:
            each.close()
        second = await attempt(poster)
        print(first.error, second.error)

trio.run(main)
"""
    at = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, "-c", script], cwd=at, capture_output=True, text=True, timeout=30)
    assert done.stdout == "local_fault None\n", done.stderr


# --- TLS --------------------------------------------------------------------------------------------------------

TLS_FAULTS = {
    "accepts and says nothing": (b"", "stall", "timeout", "TLS handshake"),
    "says half a ServerHello": (HALF_A_SERVER_HELLO, "stall", "timeout", "TLS handshake"),
    "drips": (HALF_A_SERVER_HELLO, "drip", "timeout", "TLS handshake"),
    "closes without reading": (b"", "close", "reset", "TLS"),
    "resets": (b"", "reset", "reset", "TLS"),
    "speaks plain HTTP": (OK, "close", "tls_error", "TLS"),
    "speaks TLS 1.1": (TLS_1_1_SERVER_HELLO, "keep", "tls_error", "TLS"),
    "sends an alert": (bytes.fromhex("15 0301 0002 02 46"), "close", "tls_error", "protocol version"),
}


@pytest.mark.parametrize(("says", "after", "error", "told"), TLS_FAULTS.values(), ids=TLS_FAULTS)
async def test_what_is_no_handshake_ends_as_its_error_inside_the_deadline(says, after, error, told):
    (outcome,) = await post(Faulty(says, after, when="connected"), scheme="https")
    assert outcome.error == error
    assert told in outcome.detail
    assert outcome.detail.isprintable()


async def test_a_receiver_that_wants_a_certificate_of_ours_and_gets_none_is_a_tls_error(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    dialer = Dialer(vet=allow, trusts=Trusts(str(tmp_path / "ca.pem")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        poster = Poster(dialer, Origin("https", "localhost", listener.getsockname()[1]))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, _shake_hands, listener, context)
            outcome = await attempt(poster, deadline_s=5)
    assert (outcome.error, "certificate required" in outcome.detail) == ("tls_error", True)


def _shake_hands(listener: socket.socket, context: ssl.SSLContext) -> None:
    plain, _ = listener.accept()
    secure = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    with secure:
        with pytest.raises(ssl.SSLError):
            secure.do_handshake()
        secure.settimeout(5)
        with contextlib.suppress(OSError):
            socket.socket.recv(secure, 65536)  # read what came, or closing would reset the connection


async def test_tls_connections_are_kept_and_an_answer_unasked_ends_them(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    dialer = Dialer(vet=allow, trusts=Trusts(str(tmp_path / "ca.pem")))
    for says, connections in ((OK, 1), (OK + OK.replace(b"200 OK", b"500 No"), 5)):
        receiver = Faulty(says, context=context)
        async with posting(receiver, scheme="https", dialer=dialer) as poster:
            outcomes = [await attempt(poster, deadline_s=5) for _ in range(5)]
        assert [outcome.response_code for outcome in outcomes] == [200] * 5
        assert receiver.connections == connections
