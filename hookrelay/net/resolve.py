"""What addresses a name has now: from this host's resolver, or from a name server that the operator names.

Never waits longer than `LOOK_UP_S`, and hung look-ups of some names do not delay those of others. Whether an address
may be dialled is not known here.
"""

import errno
import importlib
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import trio

from hookrelay.net.failure import AttemptFailure, of_os_error

if TYPE_CHECKING:
    import dns.message
    import dns.name

LOOK_UP_S = 5.0
MOST_ADDRESSES = 64
"""More are an attempt to keep us busy: dialling them one after the other could take minutes."""
KNOWN_AT_ONCE = 32
UNKNOWN_AT_ONCE = 64
NAMES_REMEMBERED = 10_000
OTHER_KIND_S = 1.0
"""How long addresses of one kind wait for those of the other, once they are there."""
MOST_ALIASES = 8
ANSWER_LIMIT = 16384
"""Bytes of a name server's answer. 64 addresses and a chain of long aliases need half of it."""
MOST_RECORDS = 128
"""Parsing costs 50 to 200 µs for each, on the loop, and the owner of a name says how many there are."""
_TRUNCATED = 0x0200  # RFC 1035 §4.1.1, TC
_RESEND = (0.3, 0.4, 0.3)
"""What part of the time is waited for an answer before the question is sent again, the last time in vain."""


class Address(NamedTuple):
    """One answer of a look-up."""

    family: int
    ip: str
    """As the kernel writes it, so that it can be compared with what a socket tells."""
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Resolver:
    """Looks names up for all lanes.

    Without `server` it asks `getaddrinfo`, which blocks a thread, for up to half a minute where a domain's servers
    hang, and cannot be stopped. So names that were found last time have threads of their own: whoever owns the names
    that hang delays only names that hang or are new.

    With `server` (an address and a port) it asks that name server over UDP and TCP, without threads: then the hosts
    file is not read, and `localhost` is whatever the server says.
    """

    def __init__(self, server: tuple[str, int] | None = None, *, within_s: float = LOOK_UP_S) -> None:
        self._server = server
        self._within_s = within_s
        self._known = trio.CapacityLimiter(KNOWN_AT_ONCE)
        self._unknown = trio.CapacityLimiter(UNKNOWN_AT_ONCE)
        self._found: dict[str, None] = {}
        """Names whose last look-up succeeded, the one first whose success is longest ago."""
        if server is not None:
            # costs 60 ms: not to be paid by those who do not use it, nor in the middle of an attempt
            importlib.import_module("dns.message")

    async def look_up(self, host: str, port: int) -> list[Address]:
        """The addresses of `host`, each once, never none; an address literal is its own answer.

        AttemptFailure: `dns_error`, or `local_fault` where this host lacked a thread, a descriptor or memory.
        """
        literal = _literal(host, port)
        if literal is not None:
            return [literal]
        if self._server is None:
            found = await self._ask_system(host, port)
        else:
            found = await _ask_server(self._server, host, port, self._within_s)
        if len(found) > MOST_ADDRESSES:
            raise AttemptFailure("dns_error", f"{host} has {len(found)} addresses: up to {MOST_ADDRESSES} are taken")
        return found

    async def _ask_system(self, host: str, port: int) -> list[Address]:
        # fully qualified, so that no search domain of this host is tried; a name without a dot has only this host's
        name = f"{host}." if "." in host and not host.endswith(".") else host
        has_begun = False

        def ask() -> list[Address]:
            nonlocal has_begun
            has_begun = True
            return _system_addresses(name, port)

        pool = self._known if host in self._found else self._unknown
        found: list[Address] | None = None
        try:
            with trio.move_on_after(self._within_s):
                found = await trio.to_thread.run_sync(ask, limiter=pool, abandon_on_cancel=True)
                return found
        except (OSError, UnicodeError) as error:
            raise _system_failure(error, host) from error
        except RuntimeError as error:
            if has_begun:
                raise
            raise AttemptFailure("local_fault", f"looking {host} up: no thread could be started") from error
        finally:
            # also when the attempt's own deadline struck first
            if has_begun:
                self._remember(host, found is not None)
        if not has_begun:
            raise AttemptFailure("local_fault", f"looking {host} up: every thread for look-ups is held by others")
        raise AttemptFailure("dns_error", f"looking {host} up took over {self._within_s:g} s")

    def _remember(self, host: str, is_found: bool) -> None:
        self._found.pop(host, None)
        if is_found:
            self._found[host] = None
            if len(self._found) > NAMES_REMEMBERED:
                del self._found[next(iter(self._found))]


def _literal(host: str, port: int) -> Address | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError, ValueError):
            return _address(family, host, port)
    return None


def _address(family: int, text: str, port: int) -> Address:
    return Address(family, socket.inet_ntop(family, socket.inet_pton(family, text)), port)


# --- this host's resolver ---------------------------------------------------------------------------------------


def _system_addresses(name: str, port: int) -> list[Address]:
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Address(family, str(peer[0]), port) for family, _, _, _, peer in answers))


_SYSTEM_SAYS = {
    socket.EAI_NONAME: "{} does not exist, or has no address",
    socket.EAI_NODATA: "{} has no address",
    socket.EAI_AGAIN: "{}: the name servers gave no usable answer (SERVFAIL, or none at all)",
    socket.EAI_FAIL: "{}: the name servers refused to answer",
}


def _system_failure(error: OSError | UnicodeError, host: str) -> AttemptFailure:
    if isinstance(error, UnicodeError):
        return _no_name(host)
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_MEMORY:
            return AttemptFailure("local_fault", f"looking {host} up: no memory (this host's limit)")
        # a resolver that got no descriptor says "temporary failure": ask for one to know whose fault it is
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError as own:
            if own.errno in (errno.EMFILE, errno.ENFILE):
                return of_os_error(own, f"looking {host} up")
        said = _SYSTEM_SAYS.get(error.errno or 0)
        return AttemptFailure("dns_error", said.format(host) if said else f"{host}: {error.strerror or error}")
    failure = of_os_error(error, f"looking {host} up")
    return failure if failure.code == "local_fault" else AttemptFailure("dns_error", failure.detail)


def _no_name(host: str) -> AttemptFailure:
    return AttemptFailure("dns_error", f"{host} is no name that DNS can hold: parts of 1 to 63 characters, 253 in all")


# --- a name server of the operator's ----------------------------------------------------------------------------


async def _ask_server(server: tuple[str, int], host: str, port: int, within_s: float) -> list[Address]:
    import dns.exception
    import dns.name

    try:
        name = dns.name.from_text(host if host.endswith(".") else f"{host}.")
    except (dns.exception.DNSException, UnicodeError) as error:
        raise _no_name(host) from error
    # IPv4 first: a host without a route for the other kind notices at once, and goes on
    questions = [_Question(server, host, name, kind, within_s) for kind in ("A", "AAAA")]

    async def ask(question: _Question) -> None:
        await question.ask()
        if question.ips:
            asking.cancel_scope.deadline = min(asking.cancel_scope.deadline, trio.current_time() + OTHER_KIND_S)

    async with trio.open_nursery() as asking:
        asking.cancel_scope.deadline = trio.current_time() + within_s
        for question in questions:
            asking.start_soon(ask, question)
    found = [_address(question.family, ip, port) for question in questions for ip in question.ips]
    if not found:
        raise _worst([question.failure for question in questions])
    return list(dict.fromkeys(found))


def _worst(failures: Sequence[AttemptFailure]) -> AttemptFailure:
    """The one that tells most: that a name lacks one kind of address is the usual thing, and no trouble."""
    told = [failure for failure in failures if not isinstance(failure, _NoAddress)]
    return next((each for each in told if each.code == "local_fault"), told[0] if told else failures[0])


class _NoAddress(AttemptFailure):
    """The name exists, and has no address of the kind that was asked for."""


class _Question:
    """What addresses of one kind a name has, asked of one server. Its socket is closed when `ask` ends, however."""

    def __init__(self, server: tuple[str, int], host: str, name: "dns.name.Name", kind: str, within_s: float) -> None:
        self._server = server
        self._via = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._host = host
        self._name = name
        self._kind = kind
        self._within_s = within_s
        self.family = socket.AF_INET if kind == "A" else socket.AF_INET6
        self.ips: list[str] = []
        self.failure: AttemptFailure
        """Why there is no address; at any time, for `ask` may be cancelled."""
        self._fail(f"the name server did not answer within {within_s:g} s")

    async def ask(self) -> None:
        """Set `ips`, or `failure`. Raises neither: two questions are asked side by side."""
        name = self._name
        for _ in range(MOST_ALIASES):
            try:
                answer = await self._answer(name)
            except AttemptFailure as failure:
                self.failure = failure
                return
            alias = self._read(answer) if answer is not None else None
            if alias is None:
                return
            name = alias  # a server that does not follow aliases itself
        self._fail(f"more than {MOST_ALIASES} aliases (CNAME) lead on from it")

    def _read(self, answer: "dns.message.QueryMessage") -> "dns.name.Name | None":
        """Take the answer's addresses or its failure; a name where that has to be asked for instead."""
        import dns.exception

        rcode = answer.rcode().name
        if rcode != "NOERROR":
            self._fail(f"{'does not exist' if rcode == 'NXDOMAIN' else 'the name server could not answer'} ({rcode})")
            return None
        try:
            chain = answer.resolve_chaining()
        except dns.exception.DNSException:
            self._fail("the name server's answer contradicts itself, or its aliases (CNAME) go on without end")
            return None
        if chain.answer is not None:
            self.ips = [record.address for record in chain.answer]
        elif chain.canonical_name != answer.question[0].name:
            return chain.canonical_name
        else:
            self.failure = _NoAddress("dns_error", f"{self._host}: exists, but has no address (neither A nor AAAA)")
        return None

    async def _answer(self, name: "dns.name.Name") -> "dns.message.QueryMessage | None":
        import dns.message

        query = dns.message.make_query(name, self._kind)
        answer = await self._over_udp(query)
        if answer is None or not answer.flags & _TRUNCATED:
            return answer
        try:
            return await self._over_tcp(query)
        except OSError as error:
            self._note(error)
            return None

    async def _over_udp(self, query: "dns.message.QueryMessage") -> "dns.message.QueryMessage | None":
        wire = query.to_wire()
        try:
            # connected: the kernel drops what others send, and tells where nobody listens
            with trio.socket.socket(self._via, socket.SOCK_DGRAM) as sock:
                await sock.connect(self._server)
                for part in _RESEND:
                    with trio.move_on_after(part * self._within_s):
                        return await self._over_udp_once(query, wire, sock)
        except OSError as error:
            self._note(error)
        return None

    async def _over_udp_once(
        self, query: "dns.message.QueryMessage", wire: bytes, sock: trio.socket.SocketType
    ) -> "dns.message.QueryMessage":
        """Does not return before there is an answer: one to an earlier try is as good."""
        try:
            await sock.send(wire)
            while True:
                answer = self._parsed(await sock.recv(ANSWER_LIMIT), query)
                if answer is not None:
                    return answer
        except OSError as error:
            self._note(error)
        return await trio.sleep_forever()  # a name server that is just being restarted refuses for a moment

    async def _over_tcp(self, query: "dns.message.QueryMessage") -> "dns.message.QueryMessage | None":
        wire = query.to_wire()
        with trio.socket.socket(self._via, socket.SOCK_STREAM) as sock:
            await sock.connect(self._server)
            stream = trio.SocketStream(sock)
            await stream.send_all(len(wire).to_bytes(2, "big") + wire)
            data, size = bytearray(), 2
            while len(data) < size:
                more = await sock.recv(size - len(data))
                if not more:
                    self._fail("the name server closed the connection in the middle of its answer")
                    return None
                data += more
                if len(data) == 2:
                    size = 2 + int.from_bytes(data, "big")
                    if size > ANSWER_LIMIT:
                        self._fail(f"the name server's answer has {size} bytes: up to {ANSWER_LIMIT} are taken")
                        return None
        return self._parsed(bytes(data[2:]), query)

    def _parsed(self, data: bytes, query: "dns.message.QueryMessage") -> "dns.message.QueryMessage | None":
        """The answer to `query` that `data` is. None where it is none: then the true one may still come."""
        import dns.message

        records = sum(struct.unpack_from("!HHH", data, 6)) if len(data) >= 12 else 0
        if records > MOST_RECORDS and data[:2] == query.id.to_bytes(2, "big"):
            self._fail(f"the name server's answer has {records} records: up to {MOST_RECORDS} are taken")
            raise self.failure
        try:
            try:
                answer = dns.message.from_wire(data, raise_on_truncation=True)
            except dns.message.Truncated as cut:  # perhaps in the middle of a record
                answer = cut.kwargs["message"]
            if query.is_response(answer) and isinstance(answer, dns.message.QueryMessage):
                return answer
        except Exception:
            # bytes of a stranger's, read by a foreign parser: whatever it trips over, it was no answer
            self._fail("the name server sent what is no DNS answer, and nothing else in time")
        else:
            self._fail("the name server sent an answer to another question, and nothing else in time")
        return None

    def _note(self, error: OSError) -> None:
        """Remember why the server could not be asked. AttemptFailure where that is this host's own trouble."""
        failure = of_os_error(error, f"looking {self._host} up")
        if failure.code == "local_fault":
            raise failure from error
        self._fail(f"the name server cannot be asked: {error.strerror or error}")

    def _fail(self, why: str) -> None:
        self.failure = AttemptFailure("dns_error", f"{self._host}: {why}")
