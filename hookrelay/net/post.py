"""One POST to one webhook, and what came of it. What a receiver does is a value here, never an exception."""

import time

import trio

from hookrelay.model import AttemptError, Outcome
from hookrelay.net.dial import Dialer, Origin, Phase
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.http1 import Connection
from hookrelay.rules import redirect
from hookrelay.rules.phases import written

BODY_S = 5.0
"""How long a body may take once its head is there: the answer counts already, its text is for the history only."""

_TIMED_OUT: dict[Phase, tuple[AttemptError, str]] = {
    "look_up": ("dns_error", "looking the name up took longer than the attempt may"),
    "connect": ("connect_timeout", "no connection within the attempt's time"),
    "tls": ("timeout", "the TLS handshake did not end within the attempt's time"),
    "send": ("timeout", "the receiver did not take the request within the attempt's time"),
}


class Poster:
    """One worker's way to its webhook: at most one connection, kept from POST to POST.

    `post` runs inside a cancel scope of its caller, which it is given, whose deadline is the attempt's. When that
    strikes, `post` is cancelled and `timed_out` tells what the attempt had come to.
    """

    def __init__(self, dialer: Dialer, origin: Origin) -> None:
        self._dialer = dialer
        self._origin = origin
        self._connection: Connection | None = None
        self._phase: Phase = "idle"
        self._code = 0
        self._head = b""
        self._head_at = 0.0
        self._started = 0.0
        self._started_ms = 0
        self._marks: list[tuple[str, float]] = []

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    async def post(self, request: bytes, started_ms: int, scope: trio.CancelScope) -> Outcome:
        """Send `request` (head and body), begun at `started_ms`, and judge the answer by contract §3.1."""
        self._started_ms = started_ms
        self._started = time.perf_counter()
        self._marks = []
        try:
            connection = self._connection
            is_kept = connection is not None and connection.is_clean()
            if connection is None or not is_kept:
                connection = await self._dial()
            try:
                self._phase = "send"
                await connection.send(request)
                self._phase = "answer"
                self._head = await connection.receive_head()
            except AttemptFailure as failure:
                if not is_kept or failure.code != "reset" or connection.answered_bytes:
                    raise
                # closed by the receiver since its last answer: nobody has seen the request, so it costs no attempt
                connection = await self._dial()
                self._phase = "send"
                await connection.send(request)
                self._phase = "answer"
                self._head = await connection.receive_head()
            self._head_at = time.perf_counter()
            self._code = connection.code
            if not connection.has_whole_answer:
                self._phase = "body"
                scope.deadline = min(scope.deadline, trio.current_time() + BODY_S)
                await connection.receive_body()
        except AttemptFailure as failure:
            outcome = self._failed(failure.code, failure.detail, failure.reason)
            self.hang_up()
            return outcome
        self._phase = "idle"
        return self._answered(connection)

    def timed_out(self) -> Outcome:
        """The outcome of a `post` that was cancelled by its scope's deadline."""
        if self._phase == "body" and self._connection is not None:
            outcome = self._answered(self._connection)
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
        if self._connection is not None:
            self._dialer.hang_up(self._connection)
            self._connection = None

    async def _dial(self) -> Connection:
        self.hang_up()
        self._connection = await self._dialer.connect(self._origin, self._reach)
        self._marks.append(("answer", time.perf_counter()))
        return self._connection

    def _reach(self, phase: Phase) -> None:
        self._phase = phase
        self._marks.append((phase, time.perf_counter()))

    def _answered(self, connection: Connection) -> Outcome:
        body = connection.settle()
        if connection.is_spent:
            self.hang_up()
        code = self._code
        accepted = 200 <= code < 300
        return Outcome(
            self._started_ms,
            self._head_at - self._started,
            None if accepted else "http_status",
            "" if accepted else redirect.answered(code, self._head),
            code,
            self._head,
            body,
            connection.remote,
            written(self._marks, self._head_at),
        )

    def _failed(self, code: AttemptError, detail: str, reason: str = "") -> Outcome:
        remote = self._connection.remote if self._connection is not None else None
        now = time.perf_counter()
        phases = written(self._marks, now)
        return Outcome(
            self._started_ms, now - self._started, code, detail, remote_address=remote, phases=phases, reason=reason
        )
