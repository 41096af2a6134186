"""What a POST through `egress.proxy` comes to, and whose fault it is: over real sockets, real proxies on loopback."""

import base64
import gc
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme
from proxies import GATEWAY, OK, PASSWORD, Double, HttpProxy, Proxy, Receiver, SocksProxy

from hookrelay.model import Outcome
from hookrelay.net import proxy as tested
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.proxy import ProxyPoster
from hookrelay.net.resolve import Address, Resolver
from hookrelay.net.trust import Trusts
from hookrelay.net.tunnel import Way
from hookrelay.rules.egress import Vetted

IP = "127.0.0.2"
USERINFO = "relay:s3cr%40t"
HEAD = b"HTTP/1.1 200 OK\r\n"
AUTHORITY = trustme.CA()


class Names(Resolver):
    """Knows every name, by the same addresses; without any it looks up for ever."""

    def __init__(self, *ips: str) -> None:
        super().__init__()
        self.ips = ips
        self.looked_up = 0

    async def look_up(self, host: str, port: int) -> list[Address]:
        self.looked_up += 1
        await trio.lowlevel.checkpoint()
        if not self.ips:
            await trio.sleep_forever()
        return [Address(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip, port) for ip in self.ips]


def allow(origin: Origin, addresses: Sequence[Address]) -> Vetted:
    return Vetted(None, frozenset({IP}))


def request(host: str = "r1.example", target: bytes = b"/hook?a=%7E|b&c=d") -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\nuser-agent: hookrelay/1\r\n"
        b"accept-encoding: identity\r\nX-Own: a  b\r\nwebhook-id: evt_1\r\ncontent-length: 2\r\n\r\n{}"
    ) % (target, host.encode())


class Setting:
    """A receiver, a proxy, and a poster that goes to the one through the other."""

    def __init__(self, receiver: Receiver, proxy: Proxy, trusts: Trusts, ips: Sequence[str], userinfo: str) -> None:
        self.receiver = receiver
        self.proxy = proxy
        self.names = Names(*ips)
        self.dialer = Dialer(vet=allow, resolver=self.names, trusts=trusts)
        scheme = "http" if receiver.context is None else "https"
        origin = Origin(scheme, "r1.example", receiver.port)
        self.poster = ProxyPoster(self.dialer, origin, f"{proxy.scheme}://{userinfo}127.0.0.1:{proxy.port}")

    async def post(self, within_s: float = 5.0) -> Outcome:
        with trio.CancelScope(deadline=trio.current_time() + within_s) as scope:
            outcome = await self.poster.post(request(), 7, scope)
        if scope.cancelled_caught:
            outcome = self.poster.timed_out()
        assert PASSWORD not in outcome.detail
        assert USERINFO not in outcome.detail
        assert outcome.started_ms == 7
        return outcome


@pytest.fixture(scope="module")
def trusts(tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return Trusts(str(path))


@pytest.fixture
def setting(trusts):
    """Makes one: the nursery of its doubles ends with the block, and then nothing may be left open."""

    @asynccontextmanager
    async def made(
        receiver: Receiver, proxy: Proxy, *, ips: Sequence[str] = (IP,), receiver_ip: str = IP, userinfo=f"{USERINFO}@"
    ) -> AsyncIterator[Setting]:
        before = descriptors()
        async with trio.open_nursery() as nursery:
            await nursery.start(receiver.run, receiver_ip)
            await nursery.start(proxy.run)
            has = Setting(receiver, proxy, trusts, ips, userinfo)
            yield has
            has.poster.hang_up()
            assert has.dialer.open_connections == 0
            nursery.cancel_scope.cancel()
        del has
        assert descriptors() == before
        gc.collect()  # what is complained of when it is collected fails this test

    return made


def descriptors() -> set[str]:
    """Sockets that are open, by their inode."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
    return {each for each in found if each.startswith("socket:")}


def secure(says: bytes = OK, after: str = "keep") -> Receiver:
    return Receiver(says, after, AUTHORITY.issue_cert("r1.example"))


PROXIES = pytest.mark.parametrize("proxy", [HttpProxy, SocksProxy])
RECEIVERS = pytest.mark.parametrize("receiver", [Receiver, secure])


# --- through ------------------------------------------------------------------------------------------------------


@PROXIES
@RECEIVERS
async def test_a_post_arrives_byte_for_byte_at_the_vetted_address_that_the_proxy_is_asked_for(setting, proxy, receiver):
    async with setting(receiver(), proxy()) as has:
        outcome = await has.post()
    assert (outcome.error, outcome.detail, outcome.response_code, outcome.response_body) == (None, "", 200, b"ok")
    assert outcome.response_head == b"HTTP/1.1 200 OK\r\nContent-Length: 2"
    assert outcome.remote_address == f"{IP}:{has.receiver.port}"
    assert has.proxy.asked == [f"{IP}:{has.receiver.port}"]
    assert has.receiver.asked_for == (["r1.example"] if has.receiver.context else [])
    if proxy is SocksProxy or has.receiver.context:
        assert has.receiver.requests == [request()]


async def test_plain_http_is_asked_for_in_absolute_form_with_the_address_and_has_the_name_as_host(setting):
    async with setting(Receiver(), HttpProxy()) as has:
        await has.post()
    absolute = request(target=b"http://%b:%d/hook?a=%%7E|b&c=d" % (IP.encode(), has.receiver.port))
    credentials = b"Proxy-Authorization: Basic " + base64.b64encode(f"relay:{PASSWORD}".encode()) + b"\r\n"
    (head,) = has.proxy.heads
    assert head.replace(credentials, b"").removesuffix(b"{}") == absolute.removesuffix(b"{}")


async def test_a_socks_proxy_without_a_password_is_asked_for_none(setting):
    async with setting(secure(), SocksProxy(password=None), userinfo="") as has:
        outcome = await has.post()
    assert outcome.error is None


@RECEIVERS
@pytest.mark.parametrize(("proxy", "shown"), [(HttpProxy, "[::1]"), (SocksProxy, "::1")])
async def test_ipv6_addresses_are_asked_for_as_each_kind_of_proxy_writes_them(setting, proxy, shown, receiver):
    async with setting(receiver(), proxy(), ips=["::1"], receiver_ip="::1") as has:
        outcome = await has.post()
    assert (outcome.error, outcome.remote_address) == (None, f"[::1]:{has.receiver.port}")
    assert has.proxy.asked == [f"{shown}:{has.receiver.port}"]


@PROXIES
async def test_a_blocked_address_reaches_no_proxy(setting, proxy):
    async with setting(Receiver(), proxy()) as has:
        has.dialer.vet = lambda origin, addresses: Vetted("it is blocked" if addresses else None)
        outcome = await has.post()
    assert (outcome.error, outcome.detail, outcome.remote_address) == ("egress_blocked", "it is blocked", None)
    assert has.proxy.connections == 0


async def test_the_environment_and_netrc_change_nothing(setting, monkeypatch, tmp_path):
    trap = Double()
    async with trio.open_nursery() as nursery:
        await nursery.start(trap.run)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
        (tmp_path / ".netrc").write_text(
            f"machine {IP} login me password mine\nmachine 127.0.0.1 login me password x\n"
        )
        monkeypatch.setenv("NO_PROXY", "*")
        monkeypatch.setenv("no_proxy", f"{IP},r1.example")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
        for kind in (HttpProxy, SocksProxy):
            async with setting(Receiver(), kind()) as has:
                assert (await has.post()).error is None
            assert has.proxy.connections == 1
            assert b"\r\nauthorization" not in has.receiver.requests[0].lower()
        nursery.cancel_scope.cancel()
    assert trap.connections == 0


# --- kept connections ---------------------------------------------------------------------------------------------


@PROXIES
@RECEIVERS
async def test_a_connection_is_kept_and_its_name_looked_up_once(setting, proxy, receiver):
    async with setting(receiver(), proxy()) as has:
        outcomes = [await has.post() for _ in range(5)]
        assert has.dialer.open_connections == 1
    assert [outcome.error for outcome in outcomes] == [None] * 5
    assert (has.proxy.connections, has.receiver.connections, has.names.looked_up) == (1, 1, 1)


@PROXIES
@RECEIVERS
@pytest.mark.parametrize(
    "says", [OK + OK.replace(b"200 OK", b"500 No"), OK + b"x", HEAD + b"Connection: close\r\n\r\n"]
)
async def test_an_answer_unasked_is_never_taken_for_the_next_request(setting, proxy, receiver, says):
    after = "close" if b"close" in says else "keep"
    async with setting(receiver(says, after), proxy()) as has:
        outcomes = [await has.post() for _ in range(3)]
        assert has.dialer.open_connections == 0
    assert [outcome.response_code for outcome in outcomes] == [200] * 3
    assert (has.receiver.connections, has.names.looked_up) == (3, 3)


class Chatty(Receiver):
    """Sends a second answer, as a TLS record of its own, in the same packet."""

    async def serve(self, plain: trio.SocketStream) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            incoming.write(await plain.receive_some())
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await plain.send_all(outgoing.read())
        got = b""
        while not got.endswith(b"{}"):
            try:
                got += tls.read()
            except ssl.SSLWantReadError:
                incoming.write(await plain.receive_some())
        tls.write(OK)
        tls.write(OK.replace(b"200 OK", b"500 No"))
        await plain.send_all(outgoing.read())
        await plain.receive_some()


async def test_an_unasked_answer_in_a_tls_record_of_its_own_is_not_taken_either(setting):
    async with setting(Chatty(certificate=AUTHORITY.issue_cert("r1.example")), HttpProxy()) as has:
        outcomes = [await has.post() for _ in range(2)]
    assert [outcome.response_code for outcome in outcomes] == [200, 200]
    assert has.receiver.connections == 2


@PROXIES
@RECEIVERS
async def test_a_receiver_that_closes_without_a_word_costs_no_attempt(setting, proxy, receiver):
    async with setting(receiver(OK, "close"), proxy()) as has:
        outcomes = [await has.post() for _ in range(5)]
    assert [outcome.error for outcome in outcomes] == [None] * 5


async def test_a_connection_that_httpx_thinks_gone_is_never_replaced_without_a_look_up(setting, monkeypatch):
    async with setting(secure(OK, "close"), HttpProxy()) as has:
        await has.post()
        with trio.fail_after(1):
            await trio.lowlevel.wait_readable(has.poster._way._sock)
        assert not has.poster._way.is_clean()
        monkeypatch.setattr(Way, "is_clean", lambda way: True)
        assert (await has.post()).error is None
    assert has.names.looked_up == 2


# --- answers ------------------------------------------------------------------------------------------------------


@PROXIES
@RECEIVERS
@pytest.mark.parametrize(
    ("says", "after"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3 + OK, "keep"),
        (HEAD + b"Content-Length: 9\r\n\r\nshort", "close"),
        (HEAD + b"Content-Length: 9\r\n\r\nshort", "reset"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense", "keep"),
        (HEAD + b"\r\n", "drip"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n" + b"\x1f\x8b" * 100_000, "keep"),
        (b"HTTP/1.0 204 No Content\r\n\r\n", "close"),
    ],
)
async def test_a_whole_head_with_2xx_is_a_success_whatever_the_body_does(setting, proxy, receiver, says, after):
    async with setting(receiver(says, after), proxy()) as has:
        started = time.monotonic()
        outcome = await has.post(0.5)
    assert (outcome.error, outcome.response_code) in [(None, 200), (None, 204)]
    assert len(outcome.response_body) <= 4096
    assert outcome.response_body in says[-200_000:] or after == "drip"
    assert b"103" not in outcome.response_head
    assert outcome.remote_address == f"{IP}:{has.receiver.port}"
    assert time.monotonic() - started < 3


async def test_a_body_is_waited_for_no_longer_than_its_own_time(setting, monkeypatch):
    monkeypatch.setattr(tested, "BODY_S", 0.2)
    async with setting(secure(HEAD + b"\r\n", "drip"), HttpProxy()) as has:
        with trio.fail_after(1):
            outcome = await has.post(30)
    assert (outcome.error, outcome.response_body[:2]) == (None, b"xx")


async def test_a_redirect_is_not_followed_and_a_cookie_not_kept(setting):
    says = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with setting(secure(says), HttpProxy()) as has:
        outcomes = [await has.post() for _ in range(2)]
    assert [(outcome.error, outcome.response_code) for outcome in outcomes] == [("http_status", 302)] * 2
    assert has.receiver.requests == [request()] * 2


# --- whose fault: the receiver's ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("proxy", "receiver"), [(HttpProxy, secure), (SocksProxy, secure), (SocksProxy, Receiver)])
@pytest.mark.parametrize(
    ("says", "after", "error"),
    [
        (b"", "close", "reset"),
        (b"", "reset", "reset"),
        (HEAD, "close", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "close", "reset"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "close", "protocol_error"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "keep", "protocol_error"),
        (b"HTTP/1.1 099 X\r\n\r\n", "close", "protocol_error"),
        (b"HTTP/1.1 700 X\r\n\r\n", "close", "protocol_error"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"Content-Length: -2\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", "keep", "protocol_error"),
        (HEAD + b"X: a\x00b\r\n\r\n", "keep", "protocol_error"),
        (HEAD + b"X: a\rb\r\n\r\n", "keep", "protocol_error"),
        (HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n", "keep", "protocol_error"),
        (HEAD + b"X: " + b"a" * 200_000, "keep", "protocol_error"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "keep", "http_status"),
    ],
)
async def test_what_breaks_behind_a_tunnel_is_the_receivers_fault(setting, proxy, receiver, says, after, error):
    async with setting(receiver(says, after), proxy()) as has:
        outcome = await has.post()
    assert outcome.error == error
    assert outcome.detail
    assert outcome.remote_address == f"{IP}:{has.receiver.port}"


@PROXIES
async def test_a_certificate_that_is_not_the_names_is_refused_and_told(setting, proxy):
    for wrong, told in (
        (AUTHORITY.issue_cert("elsewhere.example", IP), "Hostname mismatch"),
        (trustme.CA().issue_cert("r1.example"), "unable to get local issuer certificate"),
    ):
        async with setting(Receiver(certificate=wrong), proxy()) as has:
            outcome = await has.post()
        assert outcome.error == "tls_error"
        assert told in outcome.detail
        assert has.receiver.requests == []


SECURE_FAULTS = {
    b"502": "connect_error",
    b"503": "connect_error",
    b"504": "connect_timeout",
    b"403": "local_fault",
    b"407": "local_fault",
    b"500": "local_fault",
    b"302": "local_fault",
}


@pytest.mark.parametrize(("code", "error"), SECURE_FAULTS.items())
async def test_what_a_proxy_answers_to_connect_tells_whose_fault_it_is(setting, code, error):
    async with setting(secure(), HttpProxy(GATEWAY % code)) as has:
        outcome = await has.post()
    assert (outcome.error, outcome.response_code, outcome.remote_address) == (error, None, None)
    assert "the proxy" in outcome.detail


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (1, "local_fault"),
        (2, "local_fault"),
        (3, "connect_error"),
        (4, "connect_error"),
        (5, "connect_refused"),
        (6, "connect_timeout"),
        (7, "local_fault"),
        (8, "local_fault"),
        (99, "local_fault"),
    ],
)
async def test_what_a_socks_proxy_replies_tells_whose_fault_it_is(setting, reply, error):
    async with setting(secure(), SocksProxy(reply)) as has:
        outcome = await has.post()
    assert (outcome.error, outcome.remote_address) == (error, None)
    assert "the proxy" in outcome.detail


@pytest.mark.parametrize(
    ("code", "error"),
    [(b"403", "http_status"), (b"502", "http_status"), (b"504", "http_status"), (b"407", "local_fault")],
)
async def test_in_absolute_form_a_proxy_s_answer_is_the_receiver_s_but_for_407(setting, code, error):
    async with setting(Receiver(), HttpProxy(GATEWAY % code)) as has:
        outcome = await has.post()
    assert outcome.error == error


@PROXIES
async def test_where_the_proxy_cannot_reach_the_first_address_the_next_is_asked_for(setting, proxy, monkeypatch):
    class Partial(proxy):
        async def relay(self, stream):
            self.says = None
            await (super().relay(stream) if self.connections > 1 else self.refuse(stream))

        async def refuse(self, stream):
            if self.scheme == "http":
                self.asked.append((await stream.receive_some()).split()[1].decode())
                await stream.send_all(GATEWAY % b"502")
            else:
                self.reply = 4
                await super().relay(stream)
                self.reply = 0

    async with setting(secure(), Partial(), ips=["127.0.0.3", IP]) as has:
        outcome = await has.post()
    assert (outcome.error, outcome.remote_address) == (None, f"{IP}:{has.receiver.port}")
    assert has.proxy.asked == [f"127.0.0.3:{has.receiver.port}", f"{IP}:{has.receiver.port}"]


@PROXIES
async def test_an_address_that_swallows_everything_leaves_the_next_its_part_of_the_time(setting, proxy, monkeypatch):
    monkeypatch.setattr(tested, "CONNECT_LEAST_S", 0.1)

    class Slow(proxy):
        async def relay(self, stream):
            if self.connections == 1:
                await trio.sleep_forever()
            await super().relay(stream)

    async with setting(secure(), Slow(), ips=["127.0.0.3", IP]) as has:
        outcome = await has.post(1)
    assert (outcome.error, outcome.remote_address) == (None, f"{IP}:{has.receiver.port}")


@PROXIES
async def test_a_receiver_that_is_slow_to_answer_is_not_given_up_for_its_next_address(setting, proxy, monkeypatch):
    monkeypatch.setattr(tested, "CONNECT_S", 0.1)

    class Slow(Receiver):
        async def serve(self, plain):
            await trio.sleep(0.15)
            await super().serve(plain)

    async with setting(Slow(certificate=AUTHORITY.issue_cert("r1.example")), proxy(), ips=[IP, "127.0.0.3"]) as has:
        outcome = await has.post()
    assert (outcome.error, has.receiver.connections) == (None, 1)


# --- whose fault: the proxy's -------------------------------------------------------------------------------------


@PROXIES
@RECEIVERS
async def test_a_proxy_that_cannot_be_reached_is_a_local_fault(setting, proxy, receiver):
    async with setting(receiver(), proxy()) as has:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        origin = has.poster._origin
        has.poster = ProxyPoster(has.dialer, origin, f"{proxy.scheme}://{USERINFO}@127.0.0.1:{port}")
        refused = await has.post()
        has.poster = ProxyPoster(has.dialer, origin, f"{proxy.scheme}://{USERINFO}@nobody.invalid:{port}")
        unknown = await has.post()
    assert (refused.error, refused.detail) == ("local_fault", "the proxy cannot be reached: Connection refused")
    assert unknown.error == "local_fault"
    assert "nobody.invalid" not in unknown.detail
    assert unknown.detail.startswith("the proxy cannot be reached: ")


async def test_no_descriptor_left_is_this_hosts_fault(setting):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with setting(Receiver(), HttpProxy()) as has:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            outcome = await has.post()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert outcome.error == "local_fault"
    assert "this host's limit" in outcome.detail


@PROXIES
@RECEIVERS
@pytest.mark.parametrize(
    "says", [b"", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"\x05", b"HTTP/1.1 2", b"\x15\x03\x01\x00\x02\x02\x50"]
)
async def test_a_proxy_that_closes_or_talks_garbage_is_a_local_fault(setting, proxy, receiver, says):
    async with setting(receiver(), proxy(says=says)) as has:
        outcome = await has.post()
    assert (outcome.error, outcome.response_code) == ("local_fault", None)
    told = ("did not answer in ", "does not answer in ", "closed the connection")
    assert outcome.detail.startswith(tuple(f"the proxy {each}" for each in told))


@pytest.mark.parametrize("userinfo", ["", "relay:wrong@", "other:s3cr%40t@"])
@pytest.mark.parametrize(("proxy", "receiver"), [(HttpProxy, Receiver), (HttpProxy, secure), (SocksProxy, secure)])
async def test_a_proxy_that_refuses_our_name_or_password_is_a_local_fault(setting, proxy, receiver, userinfo):
    async with setting(receiver(), proxy(), userinfo=userinfo) as has:
        outcome = await has.post()
    assert outcome.error == "local_fault"
    assert "user name" in outcome.detail
    assert "wrong" not in outcome.detail
    assert has.receiver.connections == 0


# --- the deadline -------------------------------------------------------------------------------------------------


class Mute(Receiver):
    """Takes connections, and says nothing, not even in TLS."""

    async def serve(self, plain: trio.SocketStream) -> None:
        await trio.sleep_forever()


def mute() -> Mute:
    return Mute(certificate=AUTHORITY.issue_cert("r1.example"))


@PROXIES
@pytest.mark.parametrize(
    ("receiver", "is_mute", "ips", "error"),
    [
        (secure, False, [], "dns_error"),
        (secure, True, [IP], "connect_timeout"),
        (mute, False, [IP], "timeout"),
        (partial(secure, b""), False, [IP], "timeout"),
        (partial(secure, HEAD + b"X: ", "drip"), False, [IP], "timeout"),
        (partial(secure, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50), False, [IP], "timeout"),
        (partial(Receiver, b""), False, [IP], "timeout"),
        (partial(secure, HEAD + b"\r\n", "drip"), False, [IP], None),
    ],
)
async def test_the_deadline_ends_each_phase_at_once_and_leaves_nothing_open(
    setting, proxy, receiver, is_mute, ips, error
):
    async with setting(receiver(), proxy(is_mute=is_mute), ips=ips) as has:
        await has.dialer.trusts.context(None)
        before, started = descriptors(), time.monotonic()
        outcome = await has.post(0.3)
        took_s = time.monotonic() - started
        assert has.dialer.open_connections == 0
        assert len(descriptors() - before) <= 3  # the doubles' own: they close when they see ours closed
    assert outcome.error == error
    assert 0.3 <= took_s < 0.4


async def test_a_proxy_that_takes_no_connection_is_a_local_fault_at_the_deadline(setting):
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for each in fillers:
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    async with setting(Receiver(), HttpProxy()) as has:
        port = full.getsockname()[1]
        has.poster = ProxyPoster(has.dialer, has.poster._origin, f"http://127.0.0.1:{port}")
        started = time.monotonic()
        outcome = await has.post(0.3)
        took_s = time.monotonic() - started
    for each in (full, *fillers):
        each.close()
    assert (outcome.error, outcome.detail.startswith("the proxy ")) == ("local_fault", True)
    assert 0.3 <= took_s < 0.4


@pytest.mark.parametrize(("says", "after", "error"), [(b"", "keep", "interrupted"), (HEAD + b"\r\n", "drip", None)])
async def test_cut_short_an_attempt_is_interrupted_unless_the_answer_counts_already(setting, says, after, error):
    async with setting(secure(says, after), HttpProxy()) as has:
        with trio.move_on_after(0.3):
            await has.poster.post(request(), 0, trio.CancelScope())
        outcome = has.poster.cut_short()
        assert has.dialer.open_connections == 0
    assert outcome.error == error


@PROXIES
async def test_after_a_failure_or_a_cancellation_the_next_post_gets_a_new_connection(setting, proxy):
    async with setting(secure(b""), proxy()) as has:
        assert (await has.post(0.2)).error == "timeout"
        has.receiver.says = b"junk\r\n\r\n"
        assert (await has.post()).error == "protocol_error"
        has.receiver.says = OK
        assert (await has.post()).error is None
    assert has.receiver.connections == 3
