"""A lane takes each delivery once, whoever brings it: a page of the store, or whoever has stored it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
import trio
from builders import webhook
from doubles import HANG, LateStore, Receiver, Request, new_store, relaying
from house import house
from hypothesis import HealthCheck, given, register_random, settings
from hypothesis import strategies as st
from trio._core import _run
from trio.testing import MockClock, wait_all_tasks_blocked

from hookrelay import lane, shelf
from hookrelay.model import Refused
from hookrelay.net.failure import AttemptFailure
from hookrelay.redeliver import Replay
from hookrelay.store import history

NO_ROOM = AttemptFailure("local_fault", "no descriptors")

# --- between a commit and its telling ---------------------------------------------------------------------------


async def test_what_a_page_shows_before_it_was_offered_goes_out_once_and_is_counted_once(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, 200, seconds=0.5)
    store = new_store(LateStore)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        async with relaying(receiver, webhook(delays=(0.0, 10.0)), store=store) as relay:
            await relay.accept()
            await trio.sleep(8)
            with store.lateness():
                nursery.start_soon(relay.keep)
                await trio.sleep(8)  # the retry falls due: its page shows what is on disk and was not offered yet
                assert await store.read(count_pending) == 2
            await wait_all_tasks_blocked()
            assert relay.dispatcher.pending() == 2
            await relay.settled(60)
        store.close()
    assert sorted(request.attempt for request in receiver.requests) == [1, 1, 2]


def count_pending(conn: Any) -> int:
    return conn.execute("SELECT count(*) FROM delivery WHERE state = 'pending'").get


# --- the law ----------------------------------------------------------------------------------------------------

DELAYS = [0.0, 0.001, 0.02, 0.1, 0.3]
"""How late a thread may be, in seconds."""
register_random(_run._r)  # so that what was drawn gives the same run again
NAMES = ("free", "ordered")

chosen = st.integers(0, 1 << 30)
name = st.sampled_from(NAMES)
waits = st.sampled_from([0.0, 0.001, 0.02, 0.1, 0.3, 3.0])
replies = st.lists(st.sampled_from([200, 200, 200, 500, HANG, 503]), min_size=1, max_size=6)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(1, 12), st.sampled_from([None, None, "k", "l"])),
        st.tuples(st.just("submit"), st.integers(1, 12), st.sampled_from([None, None, "k", "l"])),
        st.tuples(st.just("wait"), waits),
        st.tuples(st.just("wait"), waits),
        st.tuples(st.just("look"), name),
        st.tuples(st.just("look"), name),
        st.tuples(st.just("answer"), name, replies, st.sampled_from([0.0, 0.01, 0.3, 1.5])),
        st.tuples(st.just("refuse"), name),
        st.tuples(st.just("reload"), name),
        st.tuples(st.just("pause"), name),
        st.tuples(st.just("resume"), name),
        st.tuples(st.just("restart")),
        st.tuples(st.just("trouble"), st.booleans()),
        st.tuples(st.just("cancel"), chosen),
        st.tuples(st.just("retry"), chosen),
        st.tuples(st.just("replay"), name),
        st.tuples(st.just("test"), name),
        st.tuples(st.just("hang_up")),
    ),
    max_size=30,
)


class UnevenStore(LateStore):
    """Its threads are late by luck, before they look and after."""

    luck: Random

    async def read(self, job: Callable[..., Any], *args: Any, keep: bool = False) -> Any:
        await self._lose_time()
        answer = await super().read(job, *args, keep=keep)
        await self._lose_time()
        return answer

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        await self._lose_time()
        answer = await super()._in_thread(work)
        await self._lose_time()
        return answer

    async def _lose_time(self) -> None:
        with trio.CancelScope(shield=True):  # a thread ends what it has begun
            await trio.sleep(self.luck.choice(DELAYS))


class World:
    """Carries operations out, many at a time, and keeps what it needs to judge."""

    def __init__(self, luck: Random) -> None:
        self.receiver = Receiver()
        self.asking: set[trio.CancelScope] = set()
        """Of those who wait for an answer."""
        self.luck = luck

    async def live(self, todo: Sequence[Any]) -> None:
        self.store = new_store(UnevenStore)
        self.store.luck = Random(0)  # noqa: S311 -- a schedule, not a secret
        async with house(self.receiver, self.store) as made:
            self.made = made
            most = {"free": 2, "ordered": 3}
            self.hooks = {
                each: await made.make(
                    url=f"https://{each}.example/0",
                    ordered=each == "ordered",
                    max_in_flight=most[each],
                    timeout="1s",
                    retry=["500ms", "1s", *["4s"] * 45],
                )
                for each in NAMES
            }
            self.store.luck = self.luck
            async with trio.open_nursery() as self.callers:
                for operation in todo:
                    self.act(*operation)
                    self.check_count()
                    await trio.sleep(operation[1] if operation[0] == "wait" else 0)
                    self.check_count()
                await self.mend()
            await self.judge()

    def check_count(self) -> None:
        """What is counted is what is pending on disk, but for what was not told yet."""
        if self.store._batch_began is None:
            dispatcher = self.made.dispatcher
            assert dispatcher.pending() + dispatcher.held() == count_pending(self.store._conn)

    def act(self, kind: str, *said: Any) -> None:
        match kind, said:
            case "submit", (count, key):
                line = b'{"type":"a.b","data":1%b}' % (b"" if key is None else b',"ordering_key":"%b"' % key.encode())
                self.made.ingest.submit([line] * count, lambda answer: None)
            case "answer", (each, replies, seconds):
                self.receiver.answers(*replies, host=f"{each}.example", seconds=seconds)
            case "refuse", (each,):
                self.receiver.refuses(*[NO_ROOM] * 2, host=f"{each}.example")
            case "trouble", (is_failing,):
                self.store.is_failing = is_failing
            case "look", (each,):
                self.made.dispatcher.look_again(self.hooks[each].seq)
            case "restart", ():
                self.made.dispatcher.restart(1000, None)
            case "hang_up", ():
                for scope in self.asking:
                    scope.cancel()
            case "wait", _:
                pass
            case _:
                self.callers.start_soon(self.ask, kind, *said)

    async def ask(self, kind: str, what: Any) -> None:
        """What a person asks for over the API. Refused is an answer, too."""
        made = self.made
        scope = trio.CancelScope()
        self.asking.add(scope)
        with suppress(Refused), scope:
            match kind:
                case "reload":
                    url = f"https://{what}.example/{self.luck.random()}"
                    await made.editor.update(self.hooks[what], {"url": url}, lambda _: True)
                case "pause" | "resume":
                    status = "paused" if kind == "pause" else "active"
                    await made.editor.update(self.hooks[what], {"status": status}, lambda _: True)
                case "cancel" | "retry":
                    seq = what % (self.store.last_delivery + 1)
                    found = await self.store.read(history.recent, [seq])
                    if found:
                        await getattr(made.redeliverer, kind)(found[0])
                case "replay":
                    wanted = Replay(since_ms=0, until_ms=1 << 50, states=("succeeded", "failed", "cancelled"))
                    await made.redeliverer.replay(self.hooks[what], wanted, dry_run=False)
                case "test":
                    await made.redeliverer.test(made.registry.catalog.by_seq[self.hooks[what].seq], "a.b", b"1")
        self.asking.discard(scope)

    async def mend(self) -> None:
        """All is well from now on: then all that was accepted ends."""
        self.store.is_failing = False
        self.receiver.recover()
        await trio.sleep(40)  # until nobody asks any more
        for each in NAMES:
            await self.made.editor.update(self.hooks[each], {"status": "active"}, lambda _: True)
        with trio.fail_after(600):
            while count_pending(self.store._conn):  # noqa: ASYNC110 -- nobody tells
                await trio.sleep(1)
        await trio.sleep(100)  # and then nothing more comes

    async def judge(self) -> None:
        made, requests = self.made, self.receiver.requests
        assert (made.dispatcher.pending(), made.dispatcher.held()) == (0, 0)
        sent = Counter((request.host, request.id, request.attempt) for request in requests)
        assert [each for each, times in sent.items() if times > 1] == []
        seen = {(request.host, request.id, request.attempt): request for request in requests}
        for each in NAMES:
            assert self.receiver.most_at_once[f"{each}.example"] <= self.hooks[each].max_in_flight
            ends: dict[str | None, float] = defaultdict(float)
            for row in reversed(await made.rows(self.hooks[each])):
                await self.judge_one(f"{each}.example", row, seen, ends)
        assert seen == {}  # nothing came that the history does not know
        assert self.receiver.open_connections == 0

    async def judge_one(self, host: str, row: Any, seen: dict[Any, Request], ends: dict[Any, float]) -> None:
        found = await self.store.read(history.delivery, row.seq)
        assert found is not None
        _, event, _, attempts = found
        id = self.store.ids.make("evt", event.created_ms, event.seq)
        by_hand = "SELECT by_hand OR state = 'cancelled' FROM delivery WHERE seq = ?"
        is_touched = row.test or self.store._conn.execute(by_hand, (row.seq,)).get
        assert is_touched or row.state == "succeeded"
        assert row.attempt_count == len(attempts)
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        mine = [(attempt, seen.pop((host, id, attempt.number), None)) for attempt in attempts]
        for attempt, request in mine:
            if request is not None:
                assert attempt.error_code in ("timeout", "interrupted") or attempt.response_code == request.code
            else:
                assert attempt.error_code in ("local_fault", "interrupted")
        came = [request for _, request in mine if request is not None]
        chain = "" if host == "ordered.example" else event.ordering_key
        if chain is not None and not is_touched:
            assert came[0].at >= ends[chain]
            assert came[-1].ended_at is not None
            ends[chain] = came[-1].ended_at


@settings(max_examples=4000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations, st.integers(0, 1 << 30))
def test_whatever_comes_between_each_attempt_goes_out_once_all_arrives_in_order_and_the_counts_are_right(
    todo: list[Any], seed: int
):
    world = World(Random(seed))  # noqa: S311 -- a schedule, not a secret
    with pytest.MonkeyPatch.context() as patch:
        for module in (lane, shelf):
            patch.setattr(module, "PAGE", 4)
        patch.setattr(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        trio.run(world.live, todo, clock=MockClock(autojump_threshold=0))
