"""One POST to one webhook through `egress.proxy`: what `net.post` is where no proxy stands in between.

Imported only where a proxy is configured: httpx, which `net.tunnel` speaks through, takes 100 ms to import.
"""

import time
from math import inf

import httpx
import trio

from hookrelay.model import AttemptError, Outcome
from hookrelay.net.dial import CONNECT_LEAST_S, CONNECT_S, Dialer, Origin
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.http1 import BODY_KEPT, BODY_LIMIT
from hookrelay.net.post import BODY_S
from hookrelay.net.tunnel import Parts, Phase, Way, shown_head, taken_apart
from hookrelay.rules import redirect
from hookrelay.rules.phases import written

_TIMED_OUT: dict[Phase, tuple[AttemptError, str]] = {
    "look_up": ("dns_error", "looking the name up took longer than the attempt may"),
    "proxy": ("local_fault", "the proxy took no connection within the attempt's time"),
    "tunnel": ("connect_timeout", "the proxy made no connection to the receiver within the attempt's time"),
    "tls": ("timeout", "the TLS handshake did not end within the attempt's time"),
    "send": ("timeout", "the receiver did not take the request within the attempt's time"),
}


class ProxyPoster:
    """One worker's way to its webhook through a proxy: at most one connection, kept from POST to POST.

    To be used as `net.post.Poster` is. The name is looked up and vetted here, and the proxy is asked for the vetted
    address; SNI, the certificate's check and `Host` stay the name. https, and anything through SOCKS, goes through a
    tunnel. Plain http through an HTTP proxy is asked for in absolute form, `POST http://ADDRESS:PORT/path` with the
    name in `Host`; RFC 9112 §3.2.2 has such a proxy put the address into `Host`, and it need not open a tunnel.

    What breaks before a tunnel stands is the proxy's fault, but for what it says of the receiver. In absolute form it
    is the proxy that answers: what breaks then is its fault too, it tells of the receiver's by 502 and 504.
    The proxy's own name is looked up by this host, and not vetted: an operator chose it.
    """

    def __init__(self, dialer: Dialer, origin: Origin, proxy: str) -> None:
        self._dialer = dialer
        self._origin = origin
        self._proxy = proxy
        self._way: Way | None = None
        self._phase: Phase = "idle"
        self._code = 0
        self._head = b""
        self._remote: str | None = None
        self._body: list[bytes] = []
        self._head_at = 0.0
        self._started = 0.0
        self._started_ms = 0
        self._marks: list[tuple[str, float]] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._way is not None

    async def post(self, request: bytes, started_ms: int, scope: trio.CancelScope) -> Outcome:
        """Send `request` (head and body), begun at `started_ms`, and judge the answer by contract §3.1."""
        self._started_ms = started_ms
        self._started = time.perf_counter()
        self._marks = []
        self._body = []
        try:
            way, response = await self._exchange(taken_apart(request))
            self._code, self._head = response.status_code, shown_head(response, is_direct=way.is_tunnel)
            self._head_at, self._remote = time.perf_counter(), way.remote
        except AttemptFailure as failure:
            outcome = self._failed(failure.code, failure.detail, failure.reason)
            self.hang_up()
            return outcome
        self._phase = "body"
        scope.deadline = min(scope.deadline, trio.current_time() + BODY_S)
        await self._receive_body(way, response)
        self._phase = "idle"
        return self._answered()

    def timed_out(self) -> Outcome:
        """The outcome of a `post` that was cancelled by its scope's deadline."""
        if self._phase == "body":
            outcome = self._answered()
        else:
            code, detail = _TIMED_OUT.get(self._phase, ("timeout", "no answer within the attempt's time"))
            outcome = self._failed(code, detail)
        self.hang_up()
        return outcome

    def cut_short(self) -> Outcome:
        """The outcome of a `post` that was cancelled because the daemon stops."""
        if self._phase == "body":
            return self.timed_out()
        outcome = self._failed("interrupted", "the daemon stopped before the answer came")
        self.hang_up()
        return outcome

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        self._phase = "idle"
        if self._way is not None:
            self._way.close()
            self._way = None

    async def _exchange(self, parts: "Parts") -> tuple["Way", httpx.Response]:
        way = self._way
        if way is not None and way.is_clean():
            try:
                return way, await way.ask(parts, inf)
            except AttemptFailure:
                if not way.is_dropped:
                    raise
                # closed since its last answer; had it begun to answer, it may see the request twice (at least once)
        self.hang_up()
        addresses = await self._dialer.vetted(self._origin, self._reach)
        # before anything is sent: a file that is gone is no reason to bother the receiver
        context = await self._dialer.trusts.context(self._origin.trust) if self._origin.scheme == "https" else None
        failure = AttemptFailure("dns_error", "the name has no address")
        for tried, address in enumerate(addresses):
            left = len(addresses) - tried
            # as for direct connections: one that swallows everything leaves the next its part of the time
            share_s = (trio.current_effective_deadline() - trio.current_time()) / left
            within_s = inf if left == 1 else min(CONNECT_S, max(CONNECT_LEAST_S, share_s))
            way = self._way = Way(self._dialer, self._origin, self._proxy, address, context, self._reach)
            try:
                return way, await way.ask(parts, within_s)
            except AttemptFailure as error:
                if way.remote is not None or error.code not in ("connect_refused", "connect_error", "connect_timeout"):
                    raise
                failure = error
                self.hang_up()
        raise failure

    async def _receive_body(self, way: "Way", response: httpx.Response) -> None:
        """Read the body as far as it is worth it. Never fails: the answer counts already."""
        size = kept = 0
        try:
            async for part in response.aiter_raw():
                if kept < BODY_KEPT:
                    self._body.append(part)
                    kept += len(part)
                size += len(part)
                if size >= BODY_LIMIT:
                    # read on into the error: generators left in the middle are complained of when they are collected
                    way.close()
        except httpx.TransportError:
            way.close()
        way.settle(response)

    def _reach(self, phase: Phase) -> None:
        self._phase = phase
        self._marks.append((phase, time.perf_counter()))

    def _answered(self) -> Outcome:
        code = self._code
        accepted = 200 <= code < 300
        return Outcome(
            self._started_ms,
            self._head_at - self._started,
            None if accepted else "http_status",
            "" if accepted else redirect.answered(code, self._head),
            code,
            self._head,
            b"".join(self._body)[:BODY_KEPT],
            self._remote,
            written(self._steps(), self._head_at),
        )

    def _failed(self, code: AttemptError, detail: str, reason: str = "") -> Outcome:
        remote = self._way.remote if self._way is not None else None
        now = time.perf_counter()
        phases = written(self._steps(), now)
        return Outcome(
            self._started_ms, now - self._started, code, detail, remote_address=remote, phases=phases, reason=reason
        )

    def _steps(self) -> list[tuple[str, float]]:
        """None where the way was there already."""
        if all(phase in ("send", "answer", "body") for phase, _ in self._marks):
            return []
        names = {"send": "answer", "body": "answer"}
        return [(names.get(phase, phase), at) for phase, at in self._marks]
