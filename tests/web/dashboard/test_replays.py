"""Replays that people have started from a page: whose they are, how many there may be, and which are remembered."""

from collections import Counter

import pytest
import trio
from builders import webhook

from hookrelay.model import Refused
from hookrelay.web.dashboard.replays import AT_ONCE, KEPT, OF_TENANT, Replays, Running


def begin(replays: Replays, tenant: str, number: int, seconds: float = 60) -> Running:
    async def work(tell: object) -> int:
        await trio.sleep(seconds)
        return 1

    return replays.start(webhook(tenant=tenant), 1, work, now_ms=0, luck=number)


async def test_one_tenants_replays_leave_those_of_others_their_places(autojump_clock):
    met = Counter[str]()
    replays, stopping = Replays(lambda limit: met.update([limit])), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replays.run, stopping)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(OF_TENANT):
            begin(replays, "greedy", number)
        with pytest.raises(Refused) as caught:
            begin(replays, "greedy", 99)
        assert caught.value.code == "rate_limited"
        for number in range(AT_ONCE - OF_TENANT):
            begin(replays, f"other{number}", 100 + number)
        with pytest.raises(Refused) as caught:
            begin(replays, "one more", 200)
        assert caught.value.code == "unavailable"
        assert met == {"replays": 2}
        await trio.sleep(61)
        begin(replays, "greedy", 300)
        stopping.set()


async def test_one_tenants_replays_have_no_others_forgotten(autojump_clock):
    replays, stopping = Replays(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replays.run, stopping)
        await trio.testing.wait_all_tasks_blocked()
        long, theirs = begin(replays, "greedy", 0, 1e6), begin(replays, "other", 1, 1)
        made = []
        for number in range(3 * KEPT):
            made.append(begin(replays, "greedy", 2 + number, 1))
            await trio.sleep(2)
        found = [replays.find(each.id) is not None for each in made]
        assert found == [False] * (2 * KEPT + 1) + [True] * (KEPT - 1)
        assert replays.find(long.id) is long
        assert replays.find(theirs.id) is theirs
        stopping.set()
