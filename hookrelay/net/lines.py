"""Lines over a Unix socket, in and out: events.sock's side of the contract that knows no events (contract §2.1).

A client may send without waiting for answers; they come in the order of the lines. Reading stops while too much is
unanswered or unread: nothing is dropped, the client's own send blocks.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio
from msgspec import Struct

from hookrelay.net.listen import Listener

READ = 65536
RETRY_S = 0.1
"""How long trouble of this host gets to pass before the next client is taken."""
FRESH_S = 0.5
"""So long a client that has just come, or has just had its answers, does not make room for another."""

Submit = Callable[[Sequence[bytes | None], Callable[[bytes], None]], None]
"""`submit(lines, answered)`: take the lines (None stands for one that was too long) and call `answered` once, with all
of their answers, newline-terminated and in order, when each line's event is on disk or refused."""


class Limits(Struct, frozen=True):
    """What one connection may cost."""

    line: int = 256 * 1024
    """Bytes of a line, its newline not counted."""
    unanswered: int = 1 << 20
    """Bytes of lines taken and not yet answered, above which no more is read."""
    unanswered_lines: int = 4096
    send_s: float = 60.0
    """How long a client may leave its answers unread before it is given up."""
    connections: int = 512
    """A newcomer beyond that takes the place of the client that has been idle longest."""


class Splitter:
    """Turns chunks into lines. A line over the limit comes out as None and costs no more memory than the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        """The line that is not whole yet. Grown in place: small pieces of a long line do not copy it each time."""
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The lines that `chunk` completes, without their newlines; blank ones are left out."""
        *whole, rest = chunk.split(b"\n")
        if whole and self._kept:
            whole[0] = bytes(self._kept) + whole[0]
            self._kept.clear()
        lines: list[bytes | None] = []
        for line in whole:
            if self._is_skipping:
                self._is_skipping = False
                lines.append(None)
            elif len(line) > self._limit:
                lines.append(None)
            elif line and not line.isspace():
                lines.append(line)
        if self._is_skipping:
            return lines
        if len(self._kept) + len(rest) > self._limit:
            self._is_skipping = True
            self._kept.clear()
        else:
            self._kept += rest
        return lines

    def end(self) -> list[bytes | None]:
        """What was left without a newline when the client closed its side: a line all the same."""
        return self.feed(b"\n")


class _Slot:
    """A chunk's lines that were submitted together, and their answers once there are any."""

    __slots__ = ("answer", "cost", "lines")

    def __init__(self, lines: int, cost: int) -> None:
        self.lines = lines
        self.cost = cost
        self.answer: bytes | None = None


class _Conversation:
    """One client: what it has said that is not answered yet."""

    def __init__(self, stream: trio.SocketStream, submit: Submit, limits: Limits) -> None:
        self._stream = stream
        self._submit = submit
        self._limits = limits
        self._slots: deque[_Slot] = deque()
        self._cost = 0
        self._lines = 0
        self._moved = trio.Event()
        self._is_over = False
        self._is_listening = True
        self._since_s = trio.current_time()
        self.life = trio.CancelScope()

    def idle_since(self) -> float:
        """Since when nothing has come from it while nothing is owed to it; infinity where that is not so."""
        return self._since_s if self._is_listening and not self._slots else math.inf

    async def hear(self, room: Callable[[], Awaitable[None]]) -> None:
        """Read and submit until the client closes its side."""
        splitter = Splitter(self._limits.line)
        try:
            while True:
                while self._cost > self._limits.unanswered or self._lines > self._limits.unanswered_lines:
                    await self._moved.wait()
                await room()
                self._is_listening = True
                chunk = await self._stream.receive_some(READ)
                self._is_listening, self._since_s = False, trio.current_time()
                if self.life.cancel_called:
                    return  # its place is another's: what nobody can answer any more is not taken
                lines = splitter.feed(chunk) if chunk else splitter.end()
                if lines:
                    self._take(lines, len(chunk))
                if not chunk:
                    return
        finally:
            self.stop_hearing()

    def stop_hearing(self) -> None:
        """Nothing more will come; what was taken is still answered."""
        self._is_over = True
        self._notify()

    async def answer(self) -> None:
        """Send answers in order until there is nothing left to be answered."""
        while True:
            if not self._slots:
                if self._is_over:
                    return
                await self._moved.wait()
                continue
            if self._slots[0].answer is None:
                await self._moved.wait()
                continue
            parts = []
            while self._slots and self._slots[0].answer is not None:
                slot = self._slots.popleft()
                parts.append(slot.answer or b"")
                self._cost -= slot.cost
                self._lines -= slot.lines
            with trio.fail_after(self._limits.send_s):
                await self._stream.send_all(b"".join(parts))
            self._since_s = trio.current_time()
            self._notify()

    def _take(self, lines: Sequence[bytes | None], cost: int) -> None:
        slot = _Slot(len(lines), cost)
        self._slots.append(slot)
        self._cost += cost
        self._lines += len(lines)

        def answered(answer: bytes) -> None:
            slot.answer = answer
            if self._slots and self._slots[0] is slot:
                self._notify()

        self._submit(lines, answered)

    def _notify(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()


async def serve(
    listener: Listener,
    submit: Submit,
    *,
    room: Callable[[], Awaitable[None]],
    stopping: trio.Event,
    limits: Callable[[], Limits] = Limits,
    on_trouble: Callable[[], None] = lambda: None,
    on_limit: Callable[[str], None] = lambda limit: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve clients until `stopping`; then read no more, answer what was taken, and return.

    `room` is awaited before every read: the daemon's own back-pressure over all clients. `on_trouble` is told of the
    first of a row of failures to accept, `on_limit` of a newcomer for whom another had to go (`events_clients`). Owns
    `listener`.
    """
    conversations = set[_Conversation]()
    freed = trio.Event()

    async def converse(stream: trio.SocketStream, conversation: _Conversation) -> None:
        try:
            with conversation.life:
                async with stream:
                    await _converse(conversation, room, stopping)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, MemoryError):
            pass  # the client is gone, reads nothing, or costs too much: what it handed in is stored all the same
        finally:
            conversations.discard(conversation)
            freed.set()

    async def make_room() -> None:
        nonlocal freed
        if len(conversations) < limits().connections:
            return
        on_limit("events_clients")
        while len(conversations) >= limits().connections:
            idlest = min(conversations, key=_Conversation.idle_since)
            if trio.current_time() - idlest.idle_since() >= FRESH_S:
                conversations.discard(idlest)
                idlest.life.cancel()
                return
            # answers are owed to all, or they have just come
            freed = trio.Event()
            with trio.move_on_after(RETRY_S):
                await freed.wait()

    try:
        async with trio.open_nursery() as clients:
            async with trio.open_nursery() as accepting:

                async def accept() -> None:
                    is_in_trouble = False
                    while True:
                        try:
                            stream = await listener.accept()
                        except (OSError, MemoryError):
                            if not is_in_trouble:
                                on_trouble()
                            is_in_trouble = True
                            await trio.sleep(RETRY_S)  # no descriptors just now: the client waits in the kernel's queue
                            continue
                        is_in_trouble = False
                        try:
                            await make_room()
                        except BaseException:
                            await trio.aclose_forcefully(stream)
                            raise
                        conversation = _Conversation(stream, submit, limits())
                        conversations.add(conversation)
                        clients.start_soon(converse, stream, conversation)

                accepting.start_soon(accept)
                task_status.started()
                await stopping.wait()
                accepting.cancel_scope.cancel()
            listener.close()
    finally:
        listener.close()


async def _converse(conversation: _Conversation, room: Callable[[], Awaitable[None]], stopping: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def hear() -> None:
            async with trio.open_nursery() as both:
                both.start_soon(_cancel_when, stopping, both.cancel_scope)
                await conversation.hear(room)
                both.cancel_scope.cancel()

        nursery.start_soon(hear)
        await conversation.answer()


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
