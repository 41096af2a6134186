"""What a lane keeps in memory, and that nothing is lost or doubled on the way between it and the store."""

import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio
from builders import webhook
from doubles import HANG, Receiver, Request, new_store, relaying
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs
from trio.testing import MockClock

from hookrelay import lane, shelf
from hookrelay.model import Delivery, LocalTrouble
from hookrelay.net.failure import AttemptFailure
from hookrelay.store.db import Store
from hookrelay.store.queue import Page


class PagedStore(Store):
    """Counts the deliveries, and their bytes, that pages bring."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.paged: list[Delivery] = []
        self.on_page: Callable[[], None] = lambda: None

    async def read(self, job: Callable[..., Any], *args: Any, keep: bool = False) -> Any:
        answer = await super().read(job, *args, keep=keep)
        if isinstance(answer, Page):
            self.paged += answer.deliveries
            self.on_page()
        return answer


def kept(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those of `deliveries` that somebody besides the caller's own list still holds."""
    return [each for each in deliveries if sys.getrefcount(each) > 3]


@pytest.mark.parametrize(("count", "size", "most"), [(10_000, 20, 512), (300, 100_000, 22)])
async def test_ever_more_for_a_webhook_that_hangs_keeps_a_bounded_part_in_memory_and_all_arrives_once(
    autojump_clock, count: int, size: int, most: int
):
    receiver = Receiver()
    receiver.answers(HANG)
    store = new_store(PagedStore)
    assert isinstance(store, PagedStore)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(receiver, webhook(max_in_flight=8, timeout_s=3600.0), store=store) as relay:
            made: list[Delivery] = []
            for _ in range(20):
                made += await relay.accept(count // 20, data=b'"%b"' % (b"x" * (size - 2)))
            await store.change(lambda conn: None)  # the writer lets go of a batch when it has the next
            await trio.sleep(10)
            assert relay.dispatcher.pending() == count
            in_memory = len(kept(made))
            assert 8 < in_memory <= most + 8
            assert store.paged == []

            peaks: list[int] = []
            store.on_page = lambda: peaks.append(in_memory + len(store.paged) - len(receiver.requests))
            receiver.recover()
            await relay.settled()
        store.close()
    assert max(peaks) <= most + 12 + 8  # a page may bring 1 MiB before it is noticed
    assert Counter(request.id for request in receiver.requests) == Counter(each.event.id for each in made)


async def test_a_backlog_of_retries_is_bounded_in_memory_too(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with relaying(receiver, webhook(delays=(0.0, 1000.0, 1000.0))) as relay:
        made = await relay.accept(2000)
        await trio.sleep(100)
        await relay.store.change(lambda conn: None)
        assert len(receiver.requests) == 2000
        assert kept(made) == []
        receiver.recover()
        await relay.settled()
    assert Counter(request.id for request in receiver.requests if request.code == 200) == Counter(
        each.event.id for each in made
    )


# --- the law ----------------------------------------------------------------------------------------------------

HOOKS = [
    webhook(number, max_in_flight=number, timeout_s=1.0, delays=(0.0, *[0.5, 1.0, 2.0, 4.0] * 30)) for number in (1, 2)
]
RESET = AttemptFailure("reset", "the receiver closed the connection")
NO_ROOM = AttemptFailure("local_fault", "no descriptors")
TROUBLE = LocalTrouble("store_io", "the disk does not answer")

replies = st.lists(st.sampled_from([200, 200, 500, HANG, RESET]), min_size=1, max_size=6)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.integers(1, 12), st.sampled_from([(1,), (2,), (1, 2)])),
        st.tuples(st.just("answer"), st.sampled_from([1, 2]), replies, st.sampled_from([0.0, 0.01, 0.3, 1.0])),
        st.tuples(st.just("refuse"), st.sampled_from([1, 2])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.001, 0.005, 0.02, 0.5, 3.0])),
        st.tuples(st.just("reload"), st.sampled_from([1, 2])),
        st.tuples(st.just("trouble")),
        st.tuples(st.just("restart"), st.sampled_from([0.0, 0.2, 2.0])),
    ),
    max_size=20,
)


class SlowStore(Store):
    """Reads as slowly as a thread may: time goes by before it looks, and before its answer is there."""

    luck: Random

    async def read(self, job: Callable[..., Any], *args: Any, keep: bool = False) -> Any:
        await trio.lowlevel.checkpoint()
        with trio.CancelScope(shield=True):  # a thread ends what it has begun
            await trio.sleep(self.luck.choice([0.0, 0.001, 0.02]))
            answer = await super().read(job, *args, keep=keep)
            await trio.sleep(self.luck.choice([0.0, 0.001, 0.02]))
        return answer


class World:
    """Carries operations out, and keeps what they promised."""

    def __init__(self, luck: Random) -> None:
        self.receiver = Receiver()
        self.accepted: Counter[tuple[str, str]] = Counter()
        self.hooks = list(HOOKS)
        self.reloads = 0
        self.luck = luck

    async def live(self, todo: deque[Any]) -> None:
        store = new_store(SlowStore)
        assert isinstance(store, SlowStore)
        store.luck = self.luck
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            while await self._one_run(store, todo):
                await store.change(lambda conn: None)  # what was cut is on disk, as it is when a daemon ends
            assert (
                await store.read(lambda conn: conn.execute("SELECT count(*) FROM delivery WHERE state = 'pending'").get)
                == 0
            )
            store.close()

    async def _one_run(self, store: Store, todo: deque[Any]) -> bool:
        """Whether a restart is due."""
        async with relaying(self.receiver, *self.hooks, store=store) as relay:
            while todo:
                match todo.popleft():
                    case ("offer", count, hooks):
                        for hook, each in await relay.keep(count, to=hooks):
                            self.accepted[f"r{hook}.example", each.event.id] += 1
                    case ("answer", hook, replies, seconds):
                        self.receiver.answers(*replies, host=f"r{hook}.example", seconds=seconds)
                    case ("refuse", hook):
                        self.receiver.refuses(NO_ROOM, RESET, NO_ROOM, host=f"r{hook}.example")
                    case ("wait", seconds):
                        await trio.sleep(seconds)
                    case ("reload", hook):
                        self.reloads += 1
                        url = f"https://r{hook}.example/{self.reloads}"
                        self.hooks[hook - 1] = structs.replace(self.hooks[hook - 1], url=url)
                        relay.dispatcher.replace_webhooks(self.hooks)
                    case ("trouble",):
                        store.trouble = TROUBLE
                    case ("restart", within_s):
                        relay.dispatcher.stop(within_s)
                        await relay.ended.wait()
                        return True
            store.trouble = None
            self.receiver.recover()
            await relay.settled(300)
        return False


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example([("offer", 2, (1,)), ("answer", 1, [200, RESET], 0.0), ("wait", 0.001)], 0)
@given(operations, st.integers(0, 1 << 30))
def test_every_delivery_is_answered_200_exactly_once_whatever_comes_between(todo: list[Any], seed: int):
    world = World(Random(seed))  # noqa: S311 -- a schedule, not a secret
    with pytest.MonkeyPatch.context() as patch:
        for module in (lane, shelf):
            patch.setattr(module, "PAGE", 4)
        trio.run(world.live, deque(todo), clock=MockClock(autojump_threshold=0))
    requests = world.receiver.requests
    assert Counter((each.host, each.id) for each in requests if each.code == 200) == world.accepted
    for hook in HOOKS:
        assert world.receiver.most_at_once[f"r{hook.seq}.example"] <= hook.max_in_flight
    sent: dict[tuple[str, str], list[Request]] = defaultdict(list)
    for each in requests:
        sent[each.host, each.id].append(each)
    # the same attempt goes out once more only where a kept connection ended without an answer (docs/decisions/0007)
    assert all(
        earlier.attempt < later.attempt or (earlier.attempt == later.attempt and earlier.code is None)
        for each in sent.values()
        for earlier, later in pairwise(each)
    )
    assert world.receiver.open_connections == 0
