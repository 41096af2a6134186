"""What looking a name up comes to, whatever the name server or the threads do (THREATS §1 Connecting, §2 last row)."""

import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import dns.message
import dns.name
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from stub_dns import MANY, StubDns

from hookrelay.net import resolve
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.resolve import KNOWN_AT_ONCE, UNKNOWN_AT_ONCE, Address, Resolver

WITHIN_S = 0.6


@asynccontextmanager
async def answering(within_s: float = WITHIN_S) -> AsyncIterator[tuple[StubDns, Resolver]]:
    """A name server at work, and a resolver that asks it."""
    async with trio.open_nursery() as nursery:
        stub = StubDns()
        await nursery.start(stub.run)
        yield stub, Resolver(stub.address, within_s=within_s)
        nursery.cancel_scope.cancel()


async def failure_of(resolver: Resolver, host: str) -> AttemptFailure:
    with pytest.raises(AttemptFailure) as told:
        await resolver.look_up(host, 443)
    return told.value


@contextmanager
def no_descriptors() -> Iterator[None]:
    """None can be opened inside; those that are open go on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def becomes_true(condition: Callable[[], bool]) -> None:
    with trio.fail_after(0.9):
        while not condition():  # noqa: ASYNC110 - what the kernel or a thread does sets no event
            await trio.sleep(0.01)


# --- a name server of the operator's ----------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
async def test_an_address_is_its_own_answer_and_nobody_is_asked(host):
    async with answering() as (stub, resolver):
        found = await resolver.look_up(host, 8443)
        assert found == [Address(socket.AF_INET6 if ":" in host else socket.AF_INET, host, 8443)]
        assert stub.asked == []


async def test_a_name_has_its_addresses_of_both_kinds_asked_at_once():
    async with answering() as (stub, resolver):
        stub.names["r1.example"] = ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
        found = await resolver.look_up("r1.example", 443)
        assert [str(each) for each in found] == ["192.0.2.1:443", "192.0.2.2:443", "[2001:db8::1]:443"]
        assert sorted(stub.asked) == [("udp", "r1.example", "A"), ("udp", "r1.example", "AAAA")]


@pytest.mark.parametrize("fault", ["", "bare alias", "lost once", "wrong id first", "truncated"])
async def test_an_address_is_found_through_aliases_losses_forgeries_and_truncation(fault):
    async with answering(2.0) as (stub, resolver):
        stub.names |= {"a.example": ["b.example"], "b.example": ["c.example"], "c.example": ["192.0.2.1"]}
        stub.faults["a.example"] = fault
        if fault == "bare alias":
            stub.faults["b.example"] = fault
        assert [each.ip for each in await resolver.look_up("a.example", 443)] == ["192.0.2.1"]


async def test_a_server_that_is_silent_about_one_kind_costs_only_a_moment(monkeypatch):
    monkeypatch.setattr(resolve, "OTHER_KIND_S", 0.1)
    async with answering(5.0) as (stub, resolver):
        stub.names["r1.example"] = ["192.0.2.1"]
        stub.faults["r1.example"] = "silent AAAA"
        with trio.fail_after(1):
            assert [each.ip for each in await resolver.look_up("r1.example", 443)] == ["192.0.2.1"]


async def test_an_answer_that_does_not_fit_is_fetched_over_tcp():
    async with answering() as (stub, resolver):
        stub.names["r1.example"] = MANY[:64]
        assert [each.ip for each in await resolver.look_up("r1.example", 443)] == MANY[:64]
        assert ("tcp", "r1.example", "A") in stub.asked


async def test_a_slow_answer_to_the_first_question_counts_after_the_second():
    with trio.socket.socket(type=socket.SOCK_DGRAM) as server:
        await server.bind(("127.0.0.1", 0))
        resolver = Resolver(server.getsockname(), within_s=1.0)
        async with trio.open_nursery() as nursery:
            found = []

            async def look_up() -> None:
                found.extend(await resolver.look_up("r1.example", 443))
                nursery.cancel_scope.cancel()

            nursery.start_soon(look_up)
            first: dict[tuple[str, int], bytes] = {}
            while True:
                data, peer = await server.recvfrom(512)
                if peer not in first:
                    first[peer] = data
                    continue
                assert data == first[peer]
                answer = dns.message.make_response(dns.message.from_wire(data))
                if answer.question[0].rdtype.name == "A":
                    answer.answer.append(dns.rrset.from_text("r1.example.", 0, "IN", "A", "192.0.2.1"))
                await server.sendto(answer.to_wire(), peer)
        assert [each.ip for each in found] == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("NXDOMAIN", "does not exist"),
        ("SERVFAIL", "could not answer (SERVFAIL)"),
        ("REFUSED", "could not answer (REFUSED)"),
        ("NOERROR", "has no address (neither A nor AAAA)"),
        ("silent", "did not answer within 0.6 s"),
        ("garbage", "no DNS answer"),
        ("wrong id", "another question"),
        ("truncated, no TCP", "did not answer within 0.6 s"),
        ("truncated, TCP cut", "in the middle of its answer"),
        ("huge", "65537 bytes: up to 16384"),
    ],
)
async def test_what_is_no_address_is_a_dns_error_in_plain_words_within_the_time(fault, told):
    async with answering() as (stub, resolver):
        stub.names["r1.example"] = ["192.0.2.1"]
        stub.faults["r1.example"] = fault
        started = time.monotonic()
        failure = await failure_of(resolver, "r1.example")
        assert failure.code == "dns_error"
        assert failure.detail.startswith("r1.example: ")
        assert told in failure.detail
        assert time.monotonic() - started < WITHIN_S + 0.3


@pytest.mark.parametrize(
    "names", [{"a.example": ["a.example"]}, {"a.example": ["b.example"], "b.example": ["a.example"]}]
)
@pytest.mark.parametrize("fault", ["", "bare alias"])
async def test_aliases_in_a_circle_are_a_dns_error(names, fault):
    async with answering(3.0) as (stub, resolver):
        stub.names |= names
        stub.faults |= dict.fromkeys(names, fault)
        failure = await failure_of(resolver, "a.example")
        assert failure.code == "dns_error"
        assert "CNAME" in failure.detail or "no DNS answer" in failure.detail


@pytest.mark.parametrize(("count", "told"), [(65, "65 addresses"), (500, "500 records")])
async def test_five_hundred_addresses_are_a_dns_error_at_once(count, told):
    async with answering(5.0) as (stub, resolver):
        stub.names["r1.example"] = MANY[:count]
        with trio.fail_after(1):
            failure = await failure_of(resolver, "r1.example")
        assert (failure.code, told in failure.detail) == ("dns_error", True)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", ".".join(["a" * 60] * 5)])
@pytest.mark.parametrize("server", [None, ("127.0.0.1", 1)])
async def test_what_cannot_be_a_name_is_a_dns_error(host, server):
    assert (await failure_of(Resolver(server), host)).code == "dns_error"


async def test_a_name_server_that_nobody_runs_is_a_dns_error():
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    failure = await failure_of(Resolver(address, within_s=0.2), "r1.example")
    assert (failure.code, "cannot be asked" in failure.detail) == ("dns_error", True)


async def test_what_a_name_has_is_asked_anew_each_time():
    async with answering() as (stub, resolver):
        for ip in ("192.0.2.1", "192.0.2.2"):
            stub.names["r1.example"] = [ip]
            assert [each.ip for each in await resolver.look_up("r1.example", 443)] == [ip]


@pytest.mark.parametrize("fault", ["silent", "truncated, no TCP"])
async def test_a_look_up_that_is_cancelled_ends_at_once_and_leaves_no_socket(fault):
    async with answering(30.0) as (stub, resolver):
        stub.names["r1.example"] = ["192.0.2.1"]
        stub.faults["r1.example"] = fault
        before = open_descriptors()
        for _ in range(5):
            with trio.move_on_after(0.05) as scope:
                await resolver.look_up("r1.example", 443)
            assert scope.cancelled_caught
        await becomes_true(lambda: open_descriptors() <= before)  # the stub's ends close a moment later


async def test_no_descriptor_is_left_by_look_ups_that_fail():
    async with answering(0.1) as (stub, resolver):
        before = open_descriptors()
        for fault in ("NXDOMAIN", "garbage", "silent", "huge", "truncated, no TCP"):
            stub.faults["r1.example"] = fault
            for _ in range(3):
                await failure_of(resolver, "r1.example")
        await becomes_true(lambda: open_descriptors() <= before)


async def test_without_descriptors_a_look_up_is_a_local_fault():
    async with answering() as (_, resolver):
        with no_descriptors():
            failure = await failure_of(resolver, "r1.example")
    assert failure.code == "local_fault"


def test_an_answer_cut_in_the_middle_of_a_record_is_known_as_truncated():
    data = bytearray(answer_bytes()[:-3])
    data[2] |= 2  # TC
    question = resolve._Question(("127.0.0.1", 1), "r1.example", dns.name.from_text("r1.example."), "A", 1.0)
    answer = question._parsed(bytes(data), QUERY)
    assert answer is not None
    assert answer.flags & 0x0200


QUERY = dns.message.make_query("r1.example.", "A")


def answer_bytes() -> bytes:
    answer = dns.message.make_response(QUERY)
    answer.answer.append(dns.rrset.from_text("r1.example.", 0, "IN", "CNAME", "r2.example."))
    answer.answer.append(dns.rrset.from_text("r2.example.", 0, "IN", "A", "192.0.2.1", "192.0.2.2"))
    return answer.to_wire()


@given(
    st.lists(st.tuples(st.integers(0, len(answer_bytes()) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 90)
)
def test_whatever_bytes_come_they_are_an_answer_or_none(changes, length):
    data = bytearray(answer_bytes())
    for place, value in changes:
        data[place] = value
    question = resolve._Question(("127.0.0.1", 1), "r1.example", dns.name.from_text("r1.example."), "A", 1.0)
    with suppress(AttemptFailure):
        answer = question._parsed(bytes(data[:length]), QUERY)
        if answer is not None:
            question._read(answer)
    assert all(socket.inet_pton(socket.AF_INET, ip) for ip in question.ips)
    assert question.failure.code == "dns_error"


# --- this host's resolver ---------------------------------------------------------------------------------------


class SystemDns:
    """Stands for `getaddrinfo`: the one thing that no server on loopback can make hang."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hanging: set[str] = set()
        self.released = threading.Event()
        self.error: Exception | None = None
        self.ips = ["192.0.2.1"]

    def getaddrinfo(self, host: str, port: int, *args: object, **kwargs: object) -> list[tuple[object, ...]]:
        self.asked.append(host)
        if self.error is not None:
            raise self.error
        if host in self.hanging or host.startswith("hung"):
            self.released.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.ips]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[SystemDns]:
    stub = SystemDns()
    monkeypatch.setattr(socket, "getaddrinfo", stub.getaddrinfo)
    yield stub
    stub.released.set()


async def test_a_name_is_looked_up_fully_qualified(system):
    resolver = Resolver()
    for host in ("r1.example", "r1.example.", "localhost"):
        assert [each.ip for each in await resolver.look_up(host, 443)] == ["192.0.2.1"]
    assert system.asked == ["r1.example.", "r1.example.", "localhost"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "dns_error", "does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "dns_error", "no usable answer"),
        (socket.gaierror(socket.EAI_FAMILY, "odd"), "dns_error", "odd"),
        (socket.gaierror(socket.EAI_MEMORY, "x"), "local_fault", "no memory"),
        (OSError(24, "Too many open files"), "local_fault", "Too many open files"),
        (OSError(13, "Permission denied"), "dns_error", "Permission denied"),
    ],
)
async def test_what_the_system_says_is_told_in_plain_words(system, error, code, told):
    system.error = error
    failure = await failure_of(Resolver(), "r1.example")
    assert (failure.code, told in failure.detail, "r1.example" in failure.detail) == (code, True, True)


async def test_a_system_that_has_no_descriptors_is_a_local_fault_though_it_says_try_again(system):
    system.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with no_descriptors():
        failure = await failure_of(Resolver(), "r1.example")
    assert failure.code == "local_fault"


async def test_a_host_that_can_start_no_thread_is_a_local_fault(monkeypatch):
    async def no_thread(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    assert (await failure_of(Resolver(), "r1.example")).code == "local_fault"


async def test_the_system_may_not_say_five_hundred_addresses_either(system):
    system.ips = MANY
    assert (await failure_of(Resolver(), "r1.example")).code == "dns_error"


async def test_a_hundred_hung_look_ups_delay_neither_a_known_name_nor_other_threads(system):
    resolver = Resolver(within_s=1.0)
    await resolver.look_up("known.example", 443)
    codes: list[str] = []

    async def look_up(host: str) -> None:
        codes.append((await failure_of(resolver, host)).code)

    async with trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(look_up, f"hung{n}.example")
        await becomes_true(lambda: len(system.asked) == 1 + UNKNOWN_AT_ONCE)
        started = time.monotonic()
        assert await resolver.look_up("known.example", 443)
        assert await trio.to_thread.run_sync(lambda: "ran") == "ran"
        assert time.monotonic() - started < 0.3
    # whose turn never came is not to blame
    assert (codes.count("dns_error"), codes.count("local_fault")) == (UNKNOWN_AT_ONCE, 100 - UNKNOWN_AT_ONCE)


@pytest.mark.parametrize("ends_by", ["look-up", "attempt"])
async def test_known_names_that_begin_to_hang_soon_share_the_threads_of_the_unknown(system, ends_by):
    resolver = Resolver(within_s=0.3 if ends_by == "look-up" else 30)
    names = [f"n{n}.example" for n in range(KNOWN_AT_ONCE)]
    for name in [*names, "healthy.example"]:
        await resolver.look_up(name, 443)
    system.hanging = {f"{name}." for name in names}

    async def look_up(host: str) -> None:
        with trio.move_on_after(0.3):
            await failure_of(resolver, host)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(look_up, name)
    system.released.set()
    system.released = threading.Event()
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(look_up, name)
        await becomes_true(lambda: len(system.asked) == 3 * KNOWN_AT_ONCE + 1)
        with trio.fail_after(0.1):
            assert await resolver.look_up("healthy.example", 443)
    system.released.set()


async def test_no_more_names_are_remembered_than_allowed_the_longest_unused_go_first(system, monkeypatch):
    monkeypatch.setattr(resolve, "NAMES_REMEMBERED", 3)
    resolver = Resolver()
    for host in ("a.example", "b.example", "c.example", "a.example", "d.example"):
        await resolver.look_up(host, 443)
    assert list(resolver._found) == ["c.example", "a.example", "d.example"]
