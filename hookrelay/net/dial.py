"""Opening a connection: look the name up, vet what comes back, connect to just that. Nothing else opens one."""

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import trio

from hookrelay.model import Trust
from hookrelay.net.failure import AttemptFailure, of_os_error
from hookrelay.net.http1 import Connection

LOOK_UP_S = 5.0
CONNECT_S = 10.0
"""For each address; a name with several gets to try the next."""
LOOK_UPS_AT_ONCE = 64

Phase = Literal["idle", "look_up", "connect", "tls", "send", "answer", "body"]


class Origin(NamedTuple):
    """Where a webhook's connections go."""

    scheme: str
    host: str
    port: int
    trust: Trust | None = None


class Address(NamedTuple):
    """One answer of a look-up."""

    family: int
    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


Vet = Callable[[Origin, Sequence[Address]], str | None]
"""Why a connection to any of these addresses is not allowed; None where all of them are."""


class Dialer:
    """What all lanes share of connecting: the resolver's threads, the trust, the egress rules.

    `vet` is asked for every new connection, with every address the name has just now, and the connection goes to
    one of those addresses and no other: a name cannot change its mind in between.
    """

    def __init__(self, *, vet: Vet, ca_file: str | None = None) -> None:
        self._vet = vet
        self._ca_file = ca_file
        self._trust: ssl.SSLContext | None = None
        self._look_ups = trio.CapacityLimiter(LOOK_UPS_AT_ONCE)
        self.open_connections = 0

    async def connect(self, origin: Origin, progress: Callable[[Phase], None]) -> Connection:
        """A fresh connection; `progress` is told each phase as it begins. AttemptFailure says what went wrong.

        The caller owns the connection, and gives it back by `hang_up`.
        """
        progress("look_up")
        addresses = await self._look_up(origin)
        refusal = self._vet(origin, addresses)
        if refusal is not None:
            raise AttemptFailure("egress_blocked", refusal)
        progress("connect")
        sock, address = await self._first_that_answers(addresses)
        try:
            _check_peer(sock, address)
            if origin.scheme == "https":
                progress("tls")
                sock = await self._start_tls(sock, origin.host)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise of_os_error(error, "connecting") from error
            raise
        self.open_connections += 1
        return Connection(sock, str(address))

    def hang_up(self, connection: Connection) -> None:
        """Close a connection that `connect` gave."""
        connection.close()
        self.open_connections -= 1

    async def _look_up(self, origin: Origin) -> list[Address]:
        with contextlib.suppress(ValueError):
            literal = ipaddress.ip_address(origin.host)
            family = socket.AF_INET if literal.version == 4 else socket.AF_INET6
            return [Address(family, str(literal), origin.port)]
        # fully qualified, so that no search domain of this host is tried; a name without a dot has only this host's
        name = f"{origin.host}." if "." in origin.host and not origin.host.endswith(".") else origin.host
        with trio.move_on_after(LOOK_UP_S):
            try:
                found = await trio.to_thread.run_sync(
                    _addresses, name, origin.port, limiter=self._look_ups, abandon_on_cancel=True
                )
            except OSError as error:
                raise _look_up_failure(error, origin.host) from error
            return found
        raise AttemptFailure("dns_error", f"looking {origin.host} up took over {LOOK_UP_S:g} s")

    async def _first_that_answers(self, addresses: Sequence[Address]) -> tuple[socket.socket, Address]:
        failure = AttemptFailure("dns_error", "the name has no address")
        for address in addresses:
            try:
                return await _connect(address), address
            except AttemptFailure as error:
                failure = error
                if error.code == "local_fault":
                    break
        raise failure

    async def _start_tls(self, plain: socket.socket, host: str) -> ssl.SSLSocket:
        if self._trust is None:
            self._trust = _trust(self._ca_file)
        sock = self._trust.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        try:
            while True:
                try:
                    sock.do_handshake()
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(sock)
                except ssl.SSLWantWriteError:
                    await trio.lowlevel.wait_writable(sock)
                except ssl.SSLError as error:
                    raise of_os_error(error, "connecting") from error
                except OSError as error:
                    raise of_os_error(error, "agreeing on TLS") from error
                else:
                    return sock
        except BaseException:
            sock.close()
            raise


def _check_peer(sock: socket.socket, address: Address) -> None:
    if sock.getpeername()[:2] != (address.ip, address.port):
        raise AttemptFailure("egress_blocked", "the connection led to another address than the one vetted")
    if sock.getsockname()[:2] == sock.getpeername()[:2]:
        raise AttemptFailure("egress_blocked", "the connection led back to itself")


def _addresses(name: str, port: int) -> list[Address]:
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Address(family, str(peer[0]), port) for family, _, _, _, peer in answers))


def _look_up_failure(error: OSError, host: str) -> AttemptFailure:
    # a resolver that got no descriptor says "temporary failure": ask for one to know whose fault it is
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as own:
        if own.errno in (errno.EMFILE, errno.ENFILE):
            return AttemptFailure("local_fault", f"looking {host} up: {own.strerror}")
    return AttemptFailure("dns_error", f"{host}: {error.strerror or error}")


async def _connect(address: Address) -> socket.socket:
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
    except OSError as error:
        raise of_os_error(error, "connecting") from error
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect((address.ip, address.port))
        except BlockingIOError:
            with trio.move_on_after(CONNECT_S) as scope:
                await trio.lowlevel.wait_writable(sock)
            if scope.cancelled_caught:
                raise AttemptFailure("connect_timeout", f"{address} did not answer within {CONNECT_S:g} s") from None
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise of_os_error(error, "connecting") from error
        raise
    return sock


def _trust(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is not None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)  # a file adds trust, it does not replace the system's
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
