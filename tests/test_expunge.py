"""Payloads that are expunged while the daemon runs: what waits is called off, what flies may end, the bytes go."""

from typing import Any

import pytest
import trio
from builders import START_MS
from doubles import HANG, Receiver
from house import House, house

from hookrelay.expunge import Expunger, Purged
from hookrelay.model import Refused
from hookrelay.redeliver import Replay
from hookrelay.store import history
from hookrelay.store.purge import Purge

EVER = 1 << 50
SECRET_LINE = b'{"type":"a.b","data":"secret-word","idempotency_key":"secret-key","ordering_key":"secret-order"}'


def expunger(made: House) -> Expunger:
    outside = made.dispatcher.outside
    return Expunger(made.store, made.registry, made.dispatcher, made.feed, outside.log, outside.wall)


def everything(made: House) -> str:
    """All that stands in the rows of events, deliveries and attempts."""
    tables: list[Any] = [
        made.store._conn.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 -- our own names
        for table in ("event", "delivery", "attempt", "idempotency")
    ]
    return repr(tables)


async def test_what_waits_is_cancelled_and_never_sent_again(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, body=b"secret-answer")
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(line=SECRET_LINE)
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        assert (row.state, row.attempt_count) == ("pending", 1)
        assert "secret-answer" in everything(made)

        done = await expunger(made).purge(Purge(tenant="default", before_ms=EVER), "")
        assert done == Purged(events=1, cancelled=1)
        assert "secret" not in everything(made)
        found = await made.store.read(history.delivery, row.seq)
        assert found is not None
        delivery, event, data, attempts = found
        assert (delivery.state, data, event.purged_ms is not None) == ("cancelled", b"null", True)
        assert [(each.number, each.error_code, each.error_detail) for each in attempts] == [(1, "http_status", None)]
        assert made.dispatcher.pending() == 0

        with pytest.raises(Refused, match="purged"):
            await made.redeliverer.retry(delivery)
        again = Replay(since_ms=0, until_ms=EVER, states=("cancelled",))
        assert await made.redeliverer.replay(hook, again, dry_run=False) == 0
        await trio.sleep(80_000)
        assert len(receiver.requests) == 1


async def test_an_attempt_in_flight_ends_before_its_payload_goes_and_leaves_nothing(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(line=SECRET_LINE)
        await trio.sleep(1)
        assert len(receiver.requests) == 1
        ended_at: list[float] = []

        async def purge() -> None:
            await expunger(made).purge(Purge(tenant="default", before_ms=EVER), "")
            ended_at.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(purge)
            await trio.sleep(10)
            assert not ended_at
            receiver.recover()
        assert ended_at
        assert "secret" not in everything(made)
        (row,) = await made.rows(hook)
        assert (row.state, row.attempt_count, row.response_code) == ("cancelled", 1, 200)
        assert made.dispatcher.pending() == 0


async def test_only_what_is_named_goes(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        others = await made.make(tenant="acme", url="https://r2.example/hook")
        await made.submit(3)
        await made.submit(line=b'{"type":"a.b","data":"theirs","tenant":"acme"}')
        await trio.sleep(1)
        wiper = expunger(made)
        assert await wiper.count(Purge(tenant="default", before_ms=EVER)) == 3
        one = Purge(tenant="default", event=2, before_ms=EVER)
        assert await wiper.purge(one, "") == Purged(events=1, cancelled=0)
        assert await wiper.purge(one, "") == Purged(events=0, cancelled=0)
        assert await wiper.count(Purge(tenant="default", before_ms=EVER)) == 2
        assert await wiper.purge(Purge(tenant="default", before_ms=0), "") == Purged(events=0, cancelled=0)
        await wiper.purge(Purge(tenant="default", before_ms=EVER), "")
        rows = await made.rows(hook)
        assert [(row.state, row.response_code) for row in rows] == [("succeeded", 200)] * 3
        (theirs,) = await made.rows(others)
        found = await made.store.read(history.delivery, theirs.seq)
        assert found is not None
        assert found[2] == b'"theirs"'


async def test_the_next_of_an_order_goes_on_when_the_one_before_it_was_purged(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        await made.make(ordered=True)
        await made.submit(2)
        await trio.sleep(1)
        receiver.answers(200)
        done = await expunger(made).purge(Purge(tenant="default", event=1, before_ms=EVER), "")
        assert done.cancelled == 1
        await trio.sleep(60)
        assert [request.code for request in receiver.requests] == [500, 200]
        assert made.statuses() == [("cancelled", 1), ("succeeded", 1)]


async def test_what_operators_were_told_of_it_goes_too(autojump_clock):
    receiver = Receiver()
    receiver.answers(b"HTTP/1.1 500 secret-reason\r\ncontent-length: 0")
    async with house(receiver) as made:
        await made.make(retry=[])
        told = await made.make(tenant="hookrelay", url="https://r2.example/hook", events=["hookrelay.*"])
        receiver.answers(200, host="r2.example")
        await made.submit(line=SECRET_LINE)
        await trio.sleep(1)
        (row,) = await made.rows(told)
        id = made.store.ids.make("evt", START_MS, 1)
        wiper = expunger(made)
        await wiper.purge(Purge(tenant="default", event=1, before_ms=EVER), id)
        assert "secret" not in everything(made)
        found = await made.store.read(history.delivery, row.seq)
        assert found is not None
        assert found[2] == b"null"


async def test_a_test_that_ends_after_the_purge_leaves_nothing_either(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        receiver.answers(200, body=b"secret-answer", seconds=5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.redeliverer.test, hook, "a.b", b'"secret-word"')
            await trio.sleep(1)
            done = await expunger(made).purge(Purge(tenant="default", before_ms=EVER), "")
            assert (done, len(receiver.requests)) == (Purged(events=1, cancelled=0), 1)
        (row,) = await made.rows(hook)
        assert (row.state, row.response_code) == ("succeeded", 200)
        assert "secret" not in everything(made)
