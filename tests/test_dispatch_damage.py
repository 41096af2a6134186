"""A payload that is not what was accepted ends its delivery: never sent, charged to nobody, told aloud."""

import apsw
import pytest
import trio
from doubles import Receiver
from house import House, house

from hookrelay.checkup import Checked, Checkup
from hookrelay.model import OPERATORS, Webhook
from hookrelay.redeliver import Replay
from hookrelay.store import history, purge

ALL = Replay(since_ms=0, until_ms=1 << 50, states=("failed", "succeeded"))
LINE = b'{"type":"a.b","data":{"n":"\xc3\xa4 b"},"ordering_key":"k"}'


def flip(conn: apsw.Connection, event: int, at: int = 2, bit: int = 0x80) -> None:
    """By default the text is no UTF-8 any more."""
    data = bytearray(conn.execute("SELECT data FROM event WHERE seq = ?", (event,)).get)
    data[at] ^= bit
    conn.execute("UPDATE event SET data = ? WHERE seq = ?", (bytes(data), event))


async def paused_with(made: House, count: int, **fields: object) -> Webhook:
    """A webhook for which `count` events wait in the store."""
    hook = await made.make(**fields)
    await made.editor.update(hook, {"status": "paused"}, lambda _: True)
    await made.submit(count, LINE)
    return made.hook


async def resume(made: House) -> None:
    await made.editor.update(made.hook, {"status": "active"}, lambda _: True)
    with trio.fail_after(1000):
        while made.dispatcher.pending():  # noqa: ASYNC110 -- the mock clock's
            await trio.sleep(0.1)


async def look(made: House) -> Checked:
    return await Checkup(made.store).look()


@pytest.mark.parametrize("spoil", [(2, 0x80), (0, 0x04), (7, 0x20), (8, 0x01)])
async def test_a_damaged_payload_ends_its_own_delivery_and_no_other(autojump_clock, spoil: tuple[int, int]):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await paused_with(made, 9)
        flip(made.store._conn, 4, *spoil)
        before = hook.updated_ms
        await resume(made)
        rows = await made.rows(hook)
        assert {row.state for row in rows if row.event != 4} == {"succeeded"}
        (row,) = [row for row in rows if row.event == 4]
        assert (row.state, row.error_code, row.response_code, row.attempt_count) == (
            "failed", "payload_damaged", None, 1,
        )  # fmt: skip
        # the rest of its chain went on, in order
        assert [request.body.count(b"a.b") for request in receiver.requests] == [1] * 8
        # loud, and charged to nobody
        assert made.metrics.attempts["payload_damaged"] == made.metrics.local_faults["payload_damaged"] == 1
        assert made.metrics.deliveries["failed"] == 1
        (told,) = [each for each in made.told if each["event"] == "payload_damaged"]
        assert (told["log_level"], told["webhook"]) == ("error", hook.id)
        health = made.store._conn.execute("SELECT failures, failing_since_ms, status FROM webhook").fetchall()
        assert health == [(0, None, "active")]
        assert made.dispatcher.is_up(hook)
        assert made.hook.updated_ms > before  # by the pause alone
        assert made.store._conn.execute("SELECT strikes FROM delivery WHERE event = 4").get == 0


async def test_a_retry_by_hand_and_a_replay_of_it_end_the_same_way(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(1, LINE)
        await trio.sleep(1)
        assert len(receiver.requests) == 1  # what was fresh in memory needed no look
        flip(made.store._conn, 1)
        (row,) = await made.rows(hook)
        await made.redeliverer.retry(row)
        await trio.sleep(1)
        assert await made.redeliverer.replay(hook, ALL, dry_run=False) == 1
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        assert (row.state, row.error_code, row.attempt_count) == ("failed", "payload_damaged", 3)
        found = await made.store.read(history.delivery, row.seq)
        assert found is not None
        assert [attempt.error_code for attempt in found[3]] == [None, "payload_damaged", "payload_damaged"]
        assert len(receiver.requests) == 1
        assert made.dispatcher.pending() == 0


async def test_a_page_full_of_damage_is_ended_and_what_lies_behind_it_is_sent(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await paused_with(made, 700)
        for event in range(1, 601):
            flip(made.store._conn, event, 3, 1 << event % 8)
        await resume(made)
        assert len(receiver.requests) == 100
        rows = await made.rows(hook)
        assert sorted(row.event for row in rows if row.error_code == "payload_damaged") == list(range(1, 601))


async def test_a_damaged_payload_is_sent_neither_before_nor_after_it_was_cancelled(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await paused_with(made, 1)
        flip(made.store._conn, 1)
        (row,) = await made.rows(hook)
        await made.redeliverer.cancel(row)
        await resume(made)
        (row,) = await made.rows(hook)
        assert (row.state, row.error_code) == ("cancelled", None)
        assert receiver.requests == []


async def test_a_look_through_the_store_counts_damaged_payloads_and_purging_ends_the_damage(autojump_clock):
    async with house(Receiver()) as made:
        await paused_with(made, 1200)
        assert ((await look(made)).damaged_payloads, (await look(made)).faults) == (0, [])
        for event in (7, 650, 1200):
            flip(made.store._conn, event)
        found = await look(made)
        assert found.damaged_payloads == 3
        assert found.faults == [
            "3 of the payloads are not what was accepted, the first that of the event with number 7: their deliveries"
            " end as payload_damaged"
        ]
        purge.blank_events(made.store._conn, [7, 8], [], 1)
        assert (await look(made)).damaged_payloads == 2


async def test_what_is_shown_of_a_damaged_payload_is_that_it_is_damaged(autojump_clock):
    async with house(Receiver()) as made:
        await paused_with(made, 3)
        flip(made.store._conn, 2)
        after = await made.store.read(history.events_after, None, 0, 10)
        of_tenant = await made.store.read(history.events_after, "default", 1, 10)
        assert [(row.seq, row.is_damaged, data == b"null") for row, data in after] == [
            (1, False, False), (2, True, True), (3, False, False),
        ]  # fmt: skip
        assert of_tenant == after[1:]
        event = await made.store.read(history.event, 2, 10)
        delivery = await made.store.read(history.delivery, 2)
        assert event is not None
        assert delivery is not None
        assert (event[0].is_damaged, event[1], delivery[1].is_damaged, delivery[2]) == (True, b"null", True, b"null")


async def test_purging_what_operators_were_told_passes_over_damage(autojump_clock):
    async with house(Receiver()) as made:
        await paused_with(made, 2)
        conn = made.store._conn
        conn.execute("UPDATE event SET tenant = ?, type = ?", (OPERATORS, purge.TOLD))
        conn.execute("UPDATE event SET data = ? WHERE seq = 2", (b'{"event_id":"evt_1"}',))
        flip(conn, 1, 0, 0x04)  # no JSON any more
        wanted = purge.Purge(tenant="default", event=5, before_ms=1 << 50)
        assert purge.announcements(conn, wanted, "evt_1", 0, 10, 10).events == [2]
