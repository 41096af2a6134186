"""Opening a connection: look the name up, vet what comes back, connect to just that. Nothing else opens one."""

import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import trio

from hookrelay.model import Trust
from hookrelay.net.failure import AttemptFailure, of_os_error
from hookrelay.net.http1 import Connection
from hookrelay.net.resolve import Address, Resolver
from hookrelay.net.trust import Trusts
from hookrelay.rules.egress import NOT_PUBLIC, Vetted

CONNECT_S = 10.0
"""For each address at most; a name with several gets to try the next."""
CONNECT_LEAST_S = 1.0
ELSEWHERE = f"the name {NOT_PUBLIC}"

Phase = Literal["idle", "look_up", "connect", "tls", "send", "answer", "body"]


class Origin(NamedTuple):
    """Where a webhook's connections go."""

    scheme: str
    host: str
    port: int
    trust: Trust | None = None


Vet = Callable[[Origin, Sequence[Address]], Vetted]
"""Whether all of these addresses may be dialled; asked first with none, whether the origin may be looked up."""


class Dialer:
    """What all lanes share of connecting. Each part may be replaced at any time: the next connection uses the new one.

    `vet` is asked for every new connection, with every address the name has just now, and the connection goes to
    one of those addresses and no other: a name cannot change its mind in between.
    """

    def __init__(self, *, vet: Vet, resolver: Resolver | None = None, trusts: Trusts | None = None) -> None:
        self.vet = vet
        self.resolver = resolver or Resolver()
        self.trusts = trusts or Trusts()
        self.proxy: str | None = None
        """Through which deliveries go (`net.proxy`); None: straight."""
        self.open_connections = 0

    async def connect(self, origin: Origin, progress: Callable[[Phase], None]) -> Connection:
        """A fresh connection; `progress` is told each phase as it begins. AttemptFailure says what went wrong.

        The caller owns the connection, and gives it back by `hang_up`.
        """
        addresses, opened = await self._vetted(origin, progress)
        # before anything is sent: a file that is gone is no reason to bother the receiver
        context = await self.trusts.context(origin.trust) if origin.scheme == "https" else None
        progress("connect")
        sock, address = await _first_that_answers(addresses)
        try:
            _check_ends(sock, address, opened)
            if context is not None:
                progress("tls")
                sock = await _start_tls(sock, context, origin.host)
        except BaseException:
            sock.close()
            raise
        self.open_connections += 1
        return Connection(sock, str(address))

    async def vetted(self, origin: Origin, progress: Callable[[Phase], None]) -> list[Address]:
        """The addresses that the name has now, all of which may be dialled. AttemptFailure where one may not."""
        return (await self._vetted(origin, progress))[0]

    async def _vetted(self, origin: Origin, progress: Callable[[Phase], None]) -> tuple[list[Address], frozenset[str]]:
        progress("look_up")
        self._refuse_or_pass(origin, ())  # what the name alone forbids is not even looked up
        addresses = await self.resolver.look_up(origin.host, origin.port)
        return addresses, self._refuse_or_pass(origin, addresses)

    def _refuse_or_pass(self, origin: Origin, addresses: Sequence[Address]) -> frozenset[str]:
        vetted = self.vet(origin, addresses)
        if vetted.refusal is not None:
            raise AttemptFailure("egress_blocked", vetted.refusal, vetted.reason)
        return vetted.opened

    def hang_up(self, connection: Connection) -> None:
        """Close a connection that `connect` gave."""
        connection.close()
        self.open_connections -= 1


# --- TCP --------------------------------------------------------------------------------------------------------


async def _first_that_answers(addresses: Sequence[Address]) -> tuple[socket.socket, Address]:
    failure = AttemptFailure("dns_error", "the name has no address")
    for tried, address in enumerate(addresses):
        left = len(addresses) - tried
        # one that swallows everything must leave the next its part of the attempt's time
        share_s = (trio.current_effective_deadline() - trio.current_time()) / left
        within_s = CONNECT_S if left == 1 else min(CONNECT_S, max(CONNECT_LEAST_S, share_s))
        try:
            return await _connect(address, within_s), address
        except AttemptFailure as error:
            failure = error
            if error.code == "local_fault":
                break
    raise failure


async def _connect(address: Address, within_s: float) -> socket.socket:
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
            with trio.move_on_after(within_s) as scope:
                await trio.lowlevel.wait_writable(sock)
            if scope.cancelled_caught:
                raise AttemptFailure("connect_timeout", f"{address} did not answer within {within_s:.3g} s") from None
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number)) from None
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            raise of_os_error(error, "connecting") from error
        raise
    return sock


def _check_ends(sock: socket.socket, vetted: Address, opened: frozenset[str]) -> None:
    """Before the first byte: the far end is the vetted one, and not this host, but where the operator opened that."""
    try:
        peer, own = sock.getpeername()[:2], sock.getsockname()[:2]
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise AttemptFailure("reset", "the receiver reset the connection as soon as it was made") from error
        raise of_os_error(error, "connecting") from error
    if peer != (vetted.ip, vetted.port):
        raise AttemptFailure(
            "egress_blocked", ELSEWHERE, f"the connection led to another address than {vetted}, the one vetted"
        )
    if peer == own:
        # a port that nobody listens at, met by a connection from that very port
        raise AttemptFailure("egress_blocked", ELSEWHERE, f"{vetted}: the connection led back to itself")
    if peer[0] == own[0] and vetted.ip not in opened:
        raise AttemptFailure(
            "egress_blocked",
            ELSEWHERE,
            f"{vetted} is an address of this host itself: only `egress.allow` can open it",
        )


# --- TLS --------------------------------------------------------------------------------------------------------


async def _start_tls(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Takes `plain` over: closes it where this fails. The certificate must be that of `host`, name or literal."""
    try:
        sock = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    except OSError as error:
        plain.close()
        raise of_os_error(error, "agreeing on TLS") from error
    try:
        while True:
            try:
                sock.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(sock)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(sock)
            except OSError as error:
                raise of_os_error(error, "agreeing on TLS") from error
            else:
                return sock
    except BaseException:
        sock.close()
        raise
