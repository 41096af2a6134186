"""What a POST comes to, whatever the receiver does: over real sockets, each inside its deadline (THREATS §2)."""

import os
import socket
import ssl
import struct
import time
from functools import partial

import pytest
import trio
import trustme

from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.post import Poster

REQUEST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DEADLINE_S = 0.4


class Faulty:
    """A receiver that says the given bytes to every request, then does `after`: keep, close, reset, drip or flood."""

    def __init__(self, says: bytes = OK, after: str = "keep", context: ssl.SSLContext | None = None) -> None:
        self.says = says
        self.after = after
        self.context = context
        self.connections = 0
        self.port = 0

    async def run(self, *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()

    async def _serve(self, plain: trio.SocketStream) -> None:
        self.connections += 1
        stream = plain if self.context is None else trio.SSLStream(plain, self.context, server_side=True)
        try:
            while data := await stream.receive_some(65536):
                if not data.endswith(b"{}"):
                    continue
                await stream.send_all(self.says)
                if self.after == "reset":
                    plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if self.after in ("reset", "close"):
                    plain.socket.close()
                    return
                while self.after in ("drip", "flood"):
                    await stream.send_all(b"x" if self.after == "drip" else self.says)
                    await trio.sleep(0.02 if self.after == "drip" else 0)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def post(receiver: Faulty, times: int = 1, *, scheme: str = "http", dialer: Dialer | None = None):
    """Run the receiver, post to it `times` times, and return the outcomes."""
    outcomes = []
    async with trio.open_nursery() as nursery:
        await nursery.start(receiver.run)
        poster = Poster(
            dialer or Dialer(vet=lambda origin, addresses: None), Origin(scheme, "localhost", receiver.port)
        )
        for _ in range(times):
            with trio.CancelScope(deadline=trio.current_time() + DEADLINE_S) as scope:
                outcome = await poster.post(REQUEST, 0, scope)
            outcomes.append(poster.timed_out() if scope.cancelled_caught else outcome)
        poster.hang_up()
        nursery.cancel_scope.cancel()
    return outcomes


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("says", "after", "error"),
    [
        (b"", "keep", "timeout"),
        (b"", "close", "reset"),
        (b"", "reset", "reset"),
        (HEAD, "close", "reset"),
        (HEAD + b"X-Drip: ", "drip", "timeout"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", "flood", "timeout"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "keep", "protocol_error"),
        (b"<html>hello</html>", "close", "protocol_error"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "close", "protocol_error"),
        (b"HTTP/0.9 200 OK\r\n\r\n", "close", "protocol_error"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "keep", "protocol_error"),
        (b"HTTP/1.1 099 X\r\n\r\n", "close", "protocol_error"),
        (b"HTTP/1.1 700 X\r\n\r\n", "close", "protocol_error"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"Content-Length: -2\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"X: a\x00b\r\n\r\n", "keep", "protocol_error"),
        (HEAD + b"X: a\rb\r\n\r\n", "keep", "protocol_error"),
        (b"HTTP/1.1 200 OK\nX: a\n\n", "keep", "protocol_error"),
        (HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n", "keep", "protocol_error"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "keep", "http_status"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops", "keep", "http_status"),
    ],
)
async def test_what_is_no_acceptance_ends_as_its_error_inside_the_deadline(says, after, error):
    started = time.monotonic()
    (outcome,) = await post(Faulty(says, after))
    assert outcome.error == error
    assert outcome.detail
    assert time.monotonic() - started < DEADLINE_S + 0.3


@pytest.mark.parametrize(
    ("says", "after"),
    [
        (OK, "keep"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 16 + OK, "keep"),
        (HEAD + b"Content-Length: 9\r\n\r\nshort", "close"),
        (HEAD + b"Content-Length: 9\r\n\r\nshort", "reset"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense", "keep"),
        (HEAD + b"\r\n", "drip"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n" + b"\x1f\x8b" * 100_000, "keep"),
        (b"HTTP/1.0 204 No Content\r\n\r\n", "close"),
    ],
)
async def test_a_whole_head_with_2xx_is_a_success_whatever_the_body_does(says, after):
    (outcome,) = await post(Faulty(says, after))
    assert (outcome.error, outcome.response_code) in [(None, 200), (None, 204)]
    assert len(outcome.response_body) <= 4096
    assert outcome.response_head.startswith(b"HTTP/1.")
    assert b"103" not in outcome.response_head


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


async def test_a_receiver_that_closes_without_a_word_costs_no_attempt():
    receiver = Faulty(OK, "close")
    outcomes = await post(receiver, 5)
    assert [outcome.error for outcome in outcomes] == [None] * 5


async def test_nothing_listening_is_refused_and_a_blocked_address_gets_no_packet():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.setblocking(False)
        poster = Poster(Dialer(vet=lambda origin, addresses: "not there"), Origin("http", "localhost", port))
        blocked = await poster.post(REQUEST, 0, trio.CancelScope())
        with pytest.raises(BlockingIOError):
            listener.accept()
    poster = Poster(Dialer(vet=lambda origin, addresses: None), Origin("http", "127.0.0.1", port))
    refused = await poster.post(REQUEST, 0, trio.CancelScope())
    assert (blocked.error, refused.error) == ("egress_blocked", "connect_refused")


async def test_a_name_that_is_not_known_is_a_dns_error():
    poster = Poster(Dialer(vet=lambda origin, addresses: None), Origin("http", "nobody.invalid", 80))
    with trio.move_on_after(6):
        outcome = await poster.post(REQUEST, 0, trio.CancelScope())
    assert outcome.error == "dns_error"


async def test_no_descriptors_are_leaked_by_attempts_that_fail():
    before = len(os.listdir("/proc/self/fd"))
    await post(Faulty(b"", "reset"), 20)
    await post(Faulty(b"junk", "keep"), 20)
    assert len(os.listdir("/proc/self/fd")) <= before


def context_for(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


async def test_tls_is_spoken_kept_and_verified(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    dialer = Dialer(vet=lambda origin, addresses: None, ca_file=str(tmp_path / "ca.pem"))
    good = Faulty(context=context_for(authority.issue_cert("localhost")))
    outcomes = await post(good, 5, scheme="https", dialer=dialer)
    assert [outcome.error for outcome in outcomes] == [None] * 5
    assert good.connections == 1
    for wrong, told in (
        (authority.issue_cert("elsewhere.example"), "Hostname mismatch"),
        (trustme.CA().issue_cert("localhost"), "unable to get local issuer certificate"),
    ):
        (outcome,) = await post(Faulty(context=context_for(wrong)), scheme="https", dialer=dialer)
        assert outcome.error == "tls_error"
        assert told in outcome.detail
    (outcome,) = await post(Faulty(), scheme="https", dialer=dialer)
    assert outcome.error in ("tls_error", "timeout")
