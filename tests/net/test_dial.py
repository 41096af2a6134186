"""Where a connection goes, and where it does not: over real sockets on loopback (THREATS §1 Connecting)."""

import os
import resource
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from stub_dns import StubDns

from hookrelay.model import Trust
from hookrelay.net import dial
from hookrelay.net.dial import Dialer, Origin, Phase, Vet
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.http1 import Connection
from hookrelay.net.resolve import Address, Resolver
from hookrelay.net.trust import Trusts
from hookrelay.rules.egress import Vetted

LOOPBACK = frozenset({"127.0.0.1", "127.0.0.2", "::1"})
REQUEST = b"POST / HTTP/1.1\r\nhost: r1.example\r\ncontent-length: 2\r\n\r\n{}"


def allow(origin: Origin, addresses: Sequence[Address]) -> Vetted:
    """What `egress.allow` says of loopback in these tests."""
    return Vetted(None, LOOPBACK)


def allow_all_but(*blocked: str) -> Vet:
    def vet(origin: Origin, addresses: Sequence[Address]) -> Vetted:
        refused = [each.ip for each in addresses if each.ip in blocked]
        return Vetted(f"{refused[0]} is blocked" if refused else None, LOOPBACK)

    return vet


class Listener:
    """Counts connections; with a context it speaks TLS and answers one request, and keeps what it was shown."""

    def __init__(self, context: ssl.SSLContext | None = None, *, is_mute: bool = False) -> None:
        self.context = context
        self.is_mute = is_mute
        self.port = 0
        self.connections = 0
        self.asked_for: list[str | None] = []
        """Server names (SNI), one for each handshake."""
        self.shown: list[object] = []
        """The client's certificate of each handshake."""
        if context is not None:
            context.sni_callback = lambda sock, name, ctx: self.asked_for.append(name)

    async def run(self, ip: str = "127.0.0.1", *, task_status=trio.TASK_STATUS_IGNORED) -> None:
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        with trio.socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await sock.bind((ip, self.port))
            self.port = sock.getsockname()[1]
            sock.listen()
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(sock)])

    async def _serve(self, plain: trio.SocketStream) -> None:
        self.connections += 1
        if self.context is None or self.is_mute:
            await plain.receive_some()
            if self.is_mute:
                await trio.sleep_forever()
            return
        stream = trio.SSLStream(plain, self.context, server_side=True)
        try:
            await stream.do_handshake()
            self.shown.append(stream.getpeercert())
            if await stream.receive_some():
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except trio.BrokenResourceError:
            pass


@asynccontextmanager
async def listening(listener: Listener | None = None, ip: str = "127.0.0.1") -> AsyncIterator[Listener]:
    async with trio.open_nursery() as nursery:
        listener = listener or Listener()
        await nursery.start(listener.run, ip)
        yield listener
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def naming(**names: list[str]) -> AsyncIterator[tuple[StubDns, Resolver]]:
    """A name server that knows `r1=[…]` as `r1.example`, and a resolver that asks it."""
    async with trio.open_nursery() as nursery:
        stub = StubDns()
        stub.names = {f"{name}.example": found for name, found in names.items()}
        await nursery.start(stub.run)
        yield stub, Resolver(stub.address, within_s=1.0)
        nursery.cancel_scope.cancel()


def to(port: int, *, host: str = "r1.example", scheme: str = "http", trust: Trust | None = None) -> Origin:
    return Origin(scheme, host, port, trust)


async def dialled(dialer: Dialer, origin: Origin) -> Connection:
    return await dialer.connect(origin, lambda phase: None)


async def failure_of(dialer: Dialer, origin: Origin) -> AttemptFailure:
    with pytest.raises(AttemptFailure) as told:
        await dialled(dialer, origin)
    assert dialer.open_connections == 0
    return told.value


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- which address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "fd00::1"]])
async def test_a_name_with_one_blocked_address_among_good_ones_gets_no_packet(found):
    async with listening() as listener, naming(r1=found) as (_, resolver):
        vet = allow_all_but("10.0.0.1", "fd00::1")
        failure = await failure_of(Dialer(vet=vet, resolver=resolver), to(listener.port))
        await trio.testing.wait_all_tasks_blocked(0.01)
    assert (failure.code, "is blocked" in failure.detail) == ("egress_blocked", True)
    assert listener.connections == 0


async def test_a_name_that_later_leads_to_a_blocked_address_gets_no_packet_there():
    inside = Listener()
    async with listening() as outside, naming(r1=["127.0.0.1"]) as (stub, resolver):
        inside.port = outside.port
        async with listening(inside, "127.0.0.2"):
            dialer = Dialer(vet=allow_all_but("127.0.0.2"), resolver=resolver)
            dialer.hang_up(await dialled(dialer, to(outside.port)))
            stub.names["r1.example"] = ["127.0.0.2"]
            failure = await failure_of(dialer, to(outside.port))
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert failure.code == "egress_blocked"
    assert (outside.connections, inside.connections) == (1, 0)


async def test_the_vetted_address_is_dialled_though_the_name_changes_meanwhile():
    inside = Listener()
    async with listening() as outside, naming(r1=["127.0.0.1"]) as (stub, resolver):
        inside.port = outside.port

        def vet(origin: Origin, addresses: Sequence[Address]) -> Vetted:
            if addresses:
                stub.names["r1.example"] = ["127.0.0.2"]
            return Vetted(None, LOOPBACK)

        async with listening(inside, "127.0.0.2"):
            dialer = Dialer(vet=vet, resolver=resolver)
            connection = await dialled(dialer, to(outside.port))
            assert connection.remote == f"127.0.0.1:{outside.port}"
            dialer.hang_up(connection)
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert (outside.connections, inside.connections) == (1, 0)


async def test_every_new_connection_asks_and_vets_anew_with_whatever_parts_the_dialer_has_then():
    async with listening() as listener, naming(r1=["127.0.0.1"]) as (stub, resolver):
        dialer = Dialer(vet=allow, resolver=resolver)
        for _ in range(3):
            dialer.hang_up(await dialled(dialer, to(listener.port)))
        assert stub.asked.count(("udp", "r1.example", "A")) == 3
        dialer.vet = allow_all_but("127.0.0.1")
        assert (await failure_of(dialer, to(listener.port))).code == "egress_blocked"


async def test_what_the_name_alone_forbids_is_not_looked_up():
    async with naming(r1=["127.0.0.1"]) as (stub, resolver):
        dialer = Dialer(vet=lambda origin, addresses: Vetted("no such name"), resolver=resolver)
        assert (await failure_of(dialer, to(8443))).detail == "no such name"
        assert stub.asked == []


async def test_an_address_literal_is_vetted_too():
    async with listening() as listener:
        failure = await failure_of(Dialer(vet=allow_all_but("127.0.0.1")), to(listener.port, host="127.0.0.1"))
    assert (failure.code, listener.connections) == ("egress_blocked", 0)


async def test_the_next_address_is_tried_where_one_refuses():
    async with listening() as listener, naming(r1=["127.0.0.2", "127.0.0.1"]) as (_, resolver):
        dialer = Dialer(vet=allow, resolver=resolver)
        connection = await dialled(dialer, to(listener.port))
        assert connection.remote == f"127.0.0.1:{listener.port}"
        assert dialer.open_connections == 1
        dialer.hang_up(connection)
        assert dialer.open_connections == 0


@asynccontextmanager
async def black_hole(port: int = 0) -> AsyncIterator[int]:
    """A port of 127.0.0.2 that does not answer a connection request: its queue is full."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                fillers.append(filler)
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


async def test_an_address_that_swallows_everything_leaves_the_next_its_part_of_the_time():
    names = naming(r1=["127.0.0.2", "127.0.0.1"])
    async with listening() as listener, names as (_, resolver), black_hole(listener.port):
        dialer = Dialer(vet=allow, resolver=resolver)
        with trio.fail_after(2.4):  # the attempt's deadline
            connection = await dialled(dialer, to(listener.port))
        assert connection.remote == f"127.0.0.1:{listener.port}"
        dialer.hang_up(connection)


async def test_a_connection_that_is_never_answered_ends_as_connect_timeout(monkeypatch):
    monkeypatch.setattr(dial, "CONNECT_S", 0.1)
    async with black_hole() as port:
        failure = await failure_of(Dialer(vet=allow), to(port, host="127.0.0.2"))
    assert (failure.code, "within 0.1 s" in failure.detail) == ("connect_timeout", True)


# --- not to ourselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_an_address_of_this_host_is_refused_unless_the_operator_opened_it(ip):
    async with listening(ip=ip) as listener:
        for opened, error in ((frozenset(), "egress_blocked"), (frozenset({ip}), None)):
            dialer = Dialer(vet=lambda origin, addresses, opened=opened: Vetted(None, opened))
            if error is None:
                dialer.hang_up(await dialled(dialer, to(listener.port, host=ip)))
            else:
                failure = await failure_of(dialer, to(listener.port, host=ip))
                assert (failure.code, "`egress.allow`" in failure.reason) == (error, True)


async def test_a_connection_that_meets_itself_is_refused_even_where_its_address_is_opened(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    class FromThatPort(socket.socket):
        def connect(self, address: object) -> None:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(("127.0.0.1", port))
            super().connect(address)

    monkeypatch.setattr(socket, "socket", FromThatPort)
    failure = await failure_of(Dialer(vet=allow), to(port, host="127.0.0.1"))
    assert (failure.code, "itself" in failure.reason) == ("egress_blocked", True)


async def test_a_connection_that_led_elsewhere_is_refused(monkeypatch):
    async with listening() as elsewhere:

        class Diverted(socket.socket):
            def connect(self, address: object) -> None:
                super().connect(("127.0.0.1", elsewhere.port))

        monkeypatch.setattr(socket, "socket", Diverted)
        failure = await failure_of(Dialer(vet=allow), to(elsewhere.port, host="127.0.0.2"))
    assert (failure.code, "another address" in failure.reason) == ("egress_blocked", True)


# --- TLS --------------------------------------------------------------------------------------------------------

AUTHORITY = trustme.CA()


def server_side(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


@pytest.mark.parametrize("host", ["r1.example", "127.0.0.1"])
async def test_name_or_literal_is_what_the_certificate_must_have_and_the_receiver_is_told(host, ca_file):
    listener = Listener(server_side(AUTHORITY.issue_cert(host)))
    async with listening(listener), naming(r1=["127.0.0.1"]) as (_, resolver):
        dialer = Dialer(vet=allow, resolver=resolver, trusts=Trusts(ca_file))
        phases: list[Phase] = []
        connection = await dialer.connect(to(listener.port, host=host, scheme="https"), phases.append)
        await connection.send(REQUEST)
        assert (await connection.receive_head()).startswith(b"HTTP/1.1 200")
        dialer.hang_up(connection)
    assert listener.asked_for == [host if host == "r1.example" else None]  # a literal is never sent (RFC 6066 §3)
    assert phases == ["look_up", "connect", "tls"]


@pytest.mark.parametrize(
    ("certificate", "told"),
    [
        (AUTHORITY.issue_cert("elsewhere.example"), "Hostname mismatch"),
        (AUTHORITY.issue_cert("127.0.0.1"), "Hostname mismatch"),
        (trustme.CA().issue_cert("r1.example"), "unable to get local issuer certificate"),
        (AUTHORITY.issue_cert("r1.example", not_after=datetime(2020, 1, 1, tzinfo=UTC)), "expired"),
        (AUTHORITY.issue_cert("r1.example", not_before=datetime(2120, 1, 1, tzinfo=UTC)), "not yet valid"),
    ],
)
async def test_a_certificate_that_is_not_the_names_is_a_tls_error_with_what_was_wrong(certificate, told, ca_file):
    async with listening(Listener(server_side(certificate))) as listener, naming(r1=["127.0.0.1"]) as (_, resolver):
        dialer = Dialer(vet=allow, resolver=resolver, trusts=Trusts(ca_file))
        failure = await failure_of(dialer, to(listener.port, scheme="https"))
    assert (failure.code, told in failure.detail) == ("tls_error", True)


def self_signed(path: Path) -> tuple[ssl.SSLContext, str]:
    """A receiver whose certificate is its own authority, and the file with that certificate and its key."""
    own = trustme.CA()
    path.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context, str(path)


async def test_a_self_signed_certificate_is_a_tls_error(tmp_path):
    context, _ = self_signed(tmp_path / "own.pem")
    async with listening(Listener(context)) as listener, naming(r1=["127.0.0.1"]) as (_, resolver):
        failure = await failure_of(Dialer(vet=allow, resolver=resolver), to(listener.port, scheme="https"))
    assert (failure.code, "self-signed certificate" in failure.detail) == ("tls_error", True)


async def test_a_receiver_that_only_speaks_tls_1_1_is_a_tls_error(ca_file):
    context = server_side(AUTHORITY.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with listening(Listener(context)) as listener:
        dialer = Dialer(vet=allow, trusts=Trusts(ca_file))
        failure = await failure_of(dialer, to(listener.port, host="127.0.0.1", scheme="https"))
    assert failure.code == "tls_error"


async def test_a_webhooks_authority_is_trusted_for_that_webhook_only(ca_file):
    receiver = Listener(server_side(AUTHORITY.issue_cert("r1.example")))
    async with listening(receiver), naming(r1=["127.0.0.1"]) as (_, resolver):
        dialer = Dialer(vet=allow, resolver=resolver)
        trusting = to(receiver.port, scheme="https", trust=Trust(ca_file))
        for _ in range(2):
            dialer.hang_up(await dialled(dialer, trusting))
            assert (await failure_of(dialer, to(receiver.port, scheme="https"))).code == "tls_error"


async def test_the_client_certificate_of_a_webhook_is_shown_and_no_other_webhooks(ca_file, tmp_path):
    own = AUTHORITY.issue_cert("hookrelay.example")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    context = server_side(AUTHORITY.issue_cert("127.0.0.1"))
    context.verify_mode = ssl.CERT_OPTIONAL
    AUTHORITY.configure_trust(context)
    async with listening(Listener(context)) as listener:
        dialer = Dialer(vet=allow, trusts=Trusts(ca_file))
        for trust in (Trust(cert_file=str(tmp_path / "own.pem")), None):
            connection = await dialled(dialer, to(listener.port, host="127.0.0.1", scheme="https", trust=trust))
            await connection.send(REQUEST)
            await connection.receive_head()
            dialer.hang_up(connection)
    shown, nothing = listener.shown
    assert shown["subjectAltName"] == (("DNS", "hookrelay.example"),)
    assert not nothing


async def test_a_trust_file_that_has_gone_is_a_local_fault_and_nobody_is_dialled(tmp_path):
    async with listening() as listener:
        origin = to(listener.port, host="127.0.0.1", scheme="https", trust=Trust(str(tmp_path / "gone.pem")))
        failure = await failure_of(Dialer(vet=allow), origin)
    assert (failure.code, "gone.pem: No such file" in failure.detail) == ("local_fault", True)
    assert listener.connections == 0


# --- whatever happens, nothing stays open -----------------------------------------------------------------------


async def test_without_descriptors_connecting_is_a_local_fault():
    async with listening() as listener:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            failure = await failure_of(Dialer(vet=allow), to(listener.port, host="127.0.0.1"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert failure.code == "local_fault"


async def test_a_connection_cancelled_in_any_phase_ends_at_once_and_is_closed():
    async with naming(r1=["127.0.0.1"]) as (stub, resolver), listening(Listener(is_mute=True)) as mute:
        stub.faults["silent.example"] = "silent"
        dialer = Dialer(vet=allow, resolver=resolver)
        await dialer.trusts.context(None)
        async with black_hole() as hole:
            before = open_descriptors()
            for origin, phase in (
                (to(1, host="silent.example"), "look_up"),
                (to(hole, host="127.0.0.2"), "connect"),
                (to(mute.port, scheme="https"), "tls"),
            ):
                phases: list[Phase] = []
                with trio.move_on_after(0.1) as scope:
                    await dialer.connect(origin, phases.append)
                assert scope.cancelled_caught
                assert phases[-1] == phase
            assert open_descriptors() == before + mute.connections  # the listener's ends, none of ours
        assert dialer.open_connections == 0


async def test_no_descriptors_are_left_by_connections_that_fail(ca_file):
    bad = Listener(server_side(AUTHORITY.issue_cert("elsewhere.example")))
    async with listening(bad), listening() as plain, naming(r1=["127.0.0.1"]) as (stub, resolver):
        stub.faults["none.example"] = "SERVFAIL"
        dialer = Dialer(vet=allow, resolver=resolver, trusts=Trusts(ca_file))
        not_opened = Dialer(vet=lambda origin, addresses: Vetted(None, frozenset()), resolver=resolver)
        tries = [
            (dialer, to(bad.port, scheme="https"), "tls_error"),
            (dialer, to(plain.port, scheme="https"), "tls_error"),
            (dialer, to(plain.port, host="none.example"), "dns_error"),
            (dialer, to(1), "connect_refused"),
            (not_opened, to(plain.port), "egress_blocked"),
        ]
        await failure_of(*tries[0][:2])
        before = open_descriptors()
        for _ in range(10):
            for by, origin, code in tries:
                assert (await failure_of(by, origin)).code == code
        with trio.fail_after(2):
            while open_descriptors() > before:  # noqa: ASYNC110 - the listeners' ends close when they notice
                await trio.sleep(0.01)
