"""The webhooks in force: what files say, what has become of each, and who is told."""

from typing import Any

import pytest
import trio
from builders import webhook
from doubles import HANG, Receiver
from house import house
from msgspec import structs

FIRST = webhook(seq=1)


async def test_what_the_files_say_is_in_force_with_the_store_s_keys(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(structs.replace(FIRST, seq=0))
        assert (made.hook.id, made.hook.seq, made.hook.status) == (FIRST.id, 1, "active")
        await made.submit(3)
        await trio.sleep(1)
    assert len(receiver.requests) == 3


async def test_a_webhook_that_files_say_again_stays_the_same_object_while_another_changes(autojump_clock):
    other = webhook(seq=2)
    async with house(Receiver()) as made:
        await made.say(structs.replace(FIRST, seq=0), structs.replace(other, seq=0))
        before = dict(made.registry.catalog.by_seq)
        await made.say(structs.replace(FIRST, seq=0), structs.replace(other, seq=0, description="new"))
        after = made.registry.catalog.by_seq
        assert (after[1] is before[1], after[2].description) == (True, "new")
        await made.say(structs.replace(FIRST, seq=0, secrets=(b"new",)), structs.replace(other, seq=0))
        assert made.registry.catalog.by_seq[1].secrets == (b"new",)  # of which the store knows nothing


@pytest.mark.parametrize("held", ["deliver", "discard"])
async def test_what_a_paused_webhook_held_is_delivered_or_discarded_when_it_is_active_again(autojump_clock, held: Any):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(structs.replace(FIRST, status="paused"))
        await made.submit(700)
        assert (made.dispatcher.held(), receiver.requests) == (700, [])
        await made.say(structs.replace(FIRST, held=held))
        await trio.sleep(10)
        assert (made.dispatcher.held(), made.dispatcher.pending()) == (0, 0)
        assert made.statuses() == [("cancelled" if held == "discard" else "succeeded", 700)]
    assert len(receiver.requests) == (0 if held == "discard" else 700)


async def test_a_paused_webhook_counts_as_up_and_is_not_decades_overdue_when_it_is_active_again(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(structs.replace(FIRST, status="paused"))
        await made.submit(3)
        assert made.dispatcher.is_up(made.hook)
        await made.say(FIRST)
        assert [(pending, seconds < 60) for _, pending, seconds in made.dispatcher.overdue()] == [(3, True)]
        receiver.answers(500)
        await trio.sleep(1)
        assert not made.dispatcher.is_up(made.hook)
        await made.say(structs.replace(FIRST, status="paused"))
        assert made.dispatcher.is_up(made.hook)


async def test_what_waits_for_a_removed_webhook_is_cancelled_and_what_is_in_flight_ends(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        await made.say(FIRST)
        await made.submit(1200)
        await trio.sleep(1)
        await made.say(removes=True)
        await trio.sleep(1)
        assert made.statuses() == [("pending", 1200)]  # eight are in flight: nothing of the webhook is touched yet
        receiver.recover()
        await trio.sleep(1)
        assert made.statuses() == [("cancelled", 1192), ("succeeded", 8)]
        assert made.metrics.deliveries["cancelled"] == 1192
    (line,) = [line for line in made.told if line["event"] == "deliveries_cancelled"]
    assert (line["webhook"], line["webhook_name"], line["tenant"]) == (FIRST.id, "r1.example", FIRST.tenant)


async def test_a_webhook_disabled_by_an_answer_stays_so_until_its_definition_changes(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        await made.say(FIRST)
        await made.submit()
        await trio.sleep(1)
        assert (made.hook.status, made.hook.disabled_reason) == ("disabled", "gone")
        await made.say(FIRST)
        assert made.hook.status == "disabled"
        receiver.recover()
        await made.say(structs.replace(FIRST, description="mended"))
        assert (made.hook.status, made.hook.disabled_reason) == ("active", None)
        await trio.sleep(10)
        assert made.statuses() == [("succeeded", 1)]


async def test_an_answer_that_disables_while_files_are_read_again_is_not_forgotten(autojump_clock):
    receiver = Receiver()
    receiver.answers(410, seconds=5.0)
    async with house(receiver) as made:
        await made.say(FIRST)
        await made.submit()
        await trio.sleep(1)
        prepared = await made.registry.prepare([FIRST])
        await trio.sleep(10)
        assert made.hook.status == "disabled"
        made.registry.put_in_force(prepared)
        assert (made.hook.status, made.hook.disabled_reason) == ("disabled", "gone")
        await made.submit()
        await trio.sleep(10)
        assert made.dispatcher.held() == 2
    assert len(receiver.requests) == 1


async def test_a_webhook_that_becomes_active_again_while_files_are_read_again_stays_active(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        await made.say(FIRST)
        await made.submit()
        await trio.sleep(1)
        prepared = await made.registry.prepare([FIRST])
        receiver.recover()
        changed = await made.editor.update(made.hook, {"status": "active"}, lambda webhook: True)
        made.registry.put_in_force(prepared)
        assert (made.hook.status, made.hook.updated_ms) == ("active", changed.updated_ms)
        await made.submit()
        await trio.sleep(10)
        assert made.dispatcher.held() == 0
    assert len(receiver.requests) > 1


async def test_operators_hear_of_it_where_they_have_a_webhook_that_wants_to(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        ops = webhook(seq=2, tenant="hookrelay", events=("hookrelay.*",))
        await made.say(FIRST, ops)
        await made.submit()
        await trio.sleep(1)
        (told,) = receiver.of("r2.example")
        assert b'"type":"hookrelay.webhook.disabled"' in told.body
        assert b'"reason":"gone"' in told.body
        await made.say(structs.replace(FIRST, description="mended"), removes=True)
        events = made.ingest._store.last_event
        await made.submit()
        await trio.sleep(1)
        assert made.ingest._store.last_event == events + 1  # nobody listens: nothing is stored
