"""A receiver that lives on the mock clock, and the relaying half of the daemon in front of it."""

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio
from builders import event, wall

from hookrelay.clock import NeverBack
from hookrelay.deliver import Outside
from hookrelay.dispatch import Dispatcher
from hookrelay.feed import Feed
from hookrelay.model import Delivery, Webhook
from hookrelay.net.dial import Dialer, Origin, Phase
from hookrelay.net.failure import AttemptFailure
from hookrelay.net.http1 import Connection
from hookrelay.rules.egress import Vetted
from hookrelay.store import events, queue, webhooks
from hookrelay.store.db import Store
from hookrelay.store.open import open_memory
from hookrelay.tally import Tally
from hookrelay.telemetry.metrics import Metrics

HANG = "hang"
"""A reply that comes when the receiver is told to `recover`, and then is 200."""
Reply = int | str | bytes | AttemptFailure
"""A status, `HANG`, a whole head, or what goes wrong."""


@dataclass
class Request:
    """A request as the receiver saw it."""

    at: float
    host: str
    line: str
    headers: dict[str, str]
    body: bytes
    connection: int
    ended_at: float | None = None
    code: int | None = None
    """What was answered; None while nothing was."""

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["webhook-attempt"])


@dataclass
class Behaviour:
    """How one host answers: its replies in turn, the last of them for ever, each after `seconds`."""

    replies: deque[Reply] = field(default_factory=lambda: deque([200]))
    seconds: float = 0.01
    body: bytes = b""
    body_seconds: float = 0.0

    def next(self) -> Reply:
        return self.replies.popleft() if len(self.replies) > 1 else self.replies[0]


class Receiver(Dialer):
    """All hosts of the world, dialled without a network. Keeps what came, and how many attempts there were at once."""

    def __init__(self) -> None:
        super().__init__(vet=lambda origin, addresses: Vetted(None, frozenset()))
        self.requests: list[Request] = []
        self.hosts: dict[str, Behaviour] = {}
        self.refusals: dict[str, deque[AttemptFailure]] = {}
        self.busy: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.dialled = 0
        self.recovered = trio.Event()

    def answers(
        self, *replies: Reply, host: str = "r1.example", seconds: float = 0.01, body: bytes = b"", body_s: float = 0.0
    ) -> None:
        self.hosts[host] = Behaviour(deque(replies), seconds, body, body_s)

    def refuses(self, *failures: AttemptFailure, host: str = "r1.example") -> None:
        """Fail so many connections of `host`, each with its own failure."""
        self.refusals[host] = deque(failures)

    def recover(self) -> None:
        """Answer 200 from now on, also to what hangs."""
        self.hosts.clear()
        self.recovered.set()

    def of(self, host: str) -> list[Request]:
        return [request for request in self.requests if request.host == host]

    async def connect(self, origin: Origin, progress: Callable[[Phase], None]) -> Connection:
        progress("look_up")
        progress("connect")
        self.begin(origin.host)
        try:
            await trio.lowlevel.checkpoint()
            self._refuse(origin.host)
            if origin.scheme == "https":
                progress("tls")
                await trio.lowlevel.checkpoint()
        except BaseException:
            self.end(origin.host)
            raise
        self.dialled += 1
        self.open_connections += 1
        return Line(self, origin.host, self.dialled)

    def _refuse(self, host: str) -> None:
        if self.refusals.get(host):
            raise self.refusals[host].popleft()

    def begin(self, host: str) -> None:
        self.busy[host] += 1
        self.most_at_once[host] = max(self.most_at_once[host], self.busy[host])

    def end(self, host: str) -> None:
        self.busy[host] -= 1

    def behaviour(self, host: str) -> Behaviour:
        return self.hosts.setdefault(host, Behaviour())


class Line(Connection):
    """A connection to a Receiver. Waits where the real one waits, and never where that does not."""

    def __init__(self, receiver: Receiver, host: str, number: int) -> None:
        # nothing of the parent's: it owns a socket, this does not
        self.remote = "192.0.2.1:443"
        self.code = 0
        self.is_spent = False
        self.answered_bytes = 0
        self._receiver = receiver
        self._host = host
        self._number = number
        self._is_busy = True  # the attempt that had it opened
        self._is_closed = False
        self._whole = False
        self._request: Request

    def is_clean(self) -> bool:
        return not self.is_spent

    async def send(self, request: bytes) -> None:
        assert not self._is_closed, "sent on a closed connection"
        assert not self.is_spent, "sent on a connection that is not clean"
        self.is_spent = True
        self.answered_bytes = 0
        if not self._is_busy:
            self._is_busy = True
            self._receiver.begin(self._host)
        head, _, body = request.partition(b"\r\n\r\n")
        line, *fields = head.decode("ascii").split("\r\n")
        headers = dict(each.split(": ", 1) for each in fields)
        assert len(body) == int(headers["content-length"])
        self._request = Request(trio.current_time(), self._host, line, headers, body, self._number)
        self._receiver.requests.append(self._request)

    async def receive_head(self) -> bytes:
        behaviour = self._receiver.behaviour(self._host)
        reply = behaviour.next()
        if reply == HANG:
            await self._receiver.recovered.wait()
            reply = 200
        else:
            await trio.sleep(behaviour.seconds)
        if isinstance(reply, AttemptFailure):
            raise reply
        head = reply if isinstance(reply, bytes) else b"HTTP/1.1 %d Said" % int(reply)
        self.code = self._request.code = int(head.split(b" ", 2)[1])
        self._whole = not behaviour.body_seconds
        self._text, self._body_s = behaviour.body, behaviour.body_seconds
        self.answered_bytes = 1
        return head

    @property
    def has_whole_answer(self) -> bool:
        return self._whole

    async def receive_body(self) -> None:
        await trio.sleep(self._body_s)
        self._whole = True

    def settle(self) -> bytes:
        self.is_spent = not self._whole
        self._end()
        return self._text[:4096]

    def close(self) -> None:
        assert not self._is_closed, "closed twice"
        self.is_spent = self._is_closed = True
        self._end()

    def _end(self) -> None:
        if self._is_busy:
            self._is_busy = False
            self._receiver.end(self._host)
            if hasattr(self, "_request"):
                self._request.ended_at = trio.current_time()


@dataclass
class Relay:
    """A dispatcher over a store in memory, and what an event's submitter does."""

    store: Store
    dispatcher: Dispatcher
    metrics: Metrics
    told: Sequence[Mapping[str, Any]]
    """Log lines."""
    announced: Sequence[tuple[str, Mapping[str, Any]]]
    """What operators are told."""
    disabled: Sequence[Webhook]
    """Webhooks that their receivers' answers have disabled."""
    ended: trio.Event = field(default_factory=trio.Event)
    """The dispatcher has returned."""

    async def accept(self, count: int = 1, *, to: Sequence[int] = (1,), data: bytes = b'{"n":1}') -> list[Delivery]:
        """Store `count` events for the webhooks `to` and offer their deliveries, as ingest does."""
        stored = await self.keep(count, to=to, data=data)
        return [each for _, each in stored]

    async def keep(
        self, count: int = 1, *, to: Sequence[int] = (1,), data: bytes = b'{"n":1}', offer: bool = True, ago_ms: int = 0
    ) -> list[tuple[int, Delivery]]:
        """Store `count` events that came `ago_ms` ago, and `offer` their deliveries: `(webhook, delivery)` for each."""
        now_ms = int(wall() * 1000) - ago_ms
        entries, made = [], []
        for _ in range(count):
            seq, first = self.store.take_numbers(len(to))
            one = event(seq, created_ms=now_ms, data=data, ids=self.store.ids)
            entries.append(events.Entry(one, None, tuple(to), first))
            made += [(hook, Delivery(number, one, due_ms=now_ms)) for number, hook in enumerate(to, first)]
        done = trio.Event()

        def stored(answer: object) -> None:
            assert not isinstance(answer, BaseException), answer
            for hook, each in made if offer else ():
                self.dispatcher.offer(hook, each)
            done.set()

        self.store.enqueue(events.insert, entries, stored)
        await done.wait()
        return made

    async def waiting(self, hook: int = 1) -> list[Delivery]:
        """What the store holds as pending for a webhook, due or not."""
        page = await self.store.read(queue.due, self.store.ids, hook, 1 << 52, (), 100_000)
        return page.deliveries

    async def settled(self, within_s: float = 3600.0) -> None:
        """Wait until nothing is pending."""
        nap = 0.05
        with trio.fail_after(within_s):
            while self.dispatcher.pending():
                await trio.sleep(nap)
                nap *= 1.05


def new_store(kind: type[Store] = Store) -> Store:
    return kind(open_memory(int(wall() * 1000)))


@asynccontextmanager
async def relaying(
    receiver: Receiver,
    *hooks: Webhook,
    store: Store | None = None,
    clock: Callable[[], float] = wall,
    max_connections: int = 1000,
    disable_after_s: float | None = 5 * 86400.0,
    last_written_ms: int | None = None,
) -> AsyncIterator[Relay]:
    """A relay at work; the block's end stops it at once. A `store` that is given is the caller's, and running."""
    async with trio.open_nursery() as keeping:
        own = new_store() if store is None else None
        if own is not None:
            await keeping.start(own.run)
        store = own or store
        assert store is not None
        metrics = Metrics()
        log, told = listening_log()
        announced: list[tuple[str, Mapping[str, Any]]] = []
        outside = Outside(
            store=store,
            metrics=metrics,
            log=log,
            wall=clock,
            due=NeverBack(clock),
            announce=lambda type, data: announced.append((type, data)),
            feed=Feed(),
            tally=Tally(store, lambda seq: None, clock),
            disable_after_s=disable_after_s,
        )
        disabled: list[Webhook] = []
        dispatcher = Dispatcher(outside, receiver, hooks, max_connections=max_connections, disabled=disabled.append)
        async with trio.open_nursery() as nursery:
            relay = Relay(store, dispatcher, metrics, told, announced, disabled)
            await nursery.start(_run, relay, last_written_ms)
            yield relay
            dispatcher.stop(0)
        if own is not None:
            own.close()


async def _run(
    relay: Relay, last_written_ms: int | None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    backlogs, standings = await relay.store.read(queue.backlogs), await relay.store.read(queue.standings)
    run = relay.dispatcher.run
    await run(backlogs, standings, last_written_ms=last_written_ms, task_status=task_status)
    relay.ended.set()


async def declare(store: Store, hooks: Iterable[Webhook]) -> None:
    """Let the store know webhooks 1, 2, …: the history shows no delivery of one that it does not know."""
    declared = [webhooks.Declared(hook.id, hook.tenant, hook.source, hook.status, "{}") for hook in hooks]
    await store.change(webhooks.declare, webhooks.News(declared, [], [], []), 0)
    known = await store.read(webhooks.known)
    assert [known[hook.id].seq for hook in hooks] == [hook.seq for hook in hooks]


def listening_log() -> tuple[Any, Sequence[Mapping[str, Any]]]:
    """A logger of the real kind, and the list into which its lines go."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, [capture], structlog.make_filtering_bound_logger(0))
    return log, capture.entries
