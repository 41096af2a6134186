"""A webhook that its file no longer names is held, and removed only after a grace of running time."""

import json

import pytest
import trio
from builders import webhook
from doubles import HANG, Receiver
from house import House, house
from msgspec import structs

from hookrelay.model import Refused
from hookrelay.registry import MISSING
from hookrelay.store import webhooks

HOOK = webhook(source="file:a.toml", name="crm")
OTHER = webhook(seq=2, source="file:b.toml")


def standing(made: House, hook=HOOK) -> tuple[str, str | None]:
    known = made.registry.catalog.by_id[hook.id]
    return known.status, known.disabled_reason


async def test_what_waits_and_what_comes_meanwhile_is_delivered_in_order_when_the_file_names_it_again(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        await made.say(HOOK, OTHER)
        await made.submit(3)
        await trio.sleep(1)
        await made.say(OTHER)
        assert standing(made) == ("disabled", MISSING)
        assert standing(made, OTHER) == ("active", None)
        receiver.recover()
        await trio.sleep(1)
        await made.submit(2)
        await trio.sleep(300)
        assert len(receiver.of("r1.example")) == 3  # what was in flight went on to its end
        assert made.dispatcher.held() == 2
        assert made.registry.waiting_for_missing() == (1, 2)
        await made.say(HOOK, OTHER)
        assert standing(made) == ("active", None)
        await trio.sleep(1)
        assert [json.loads(request.body)["data"] for request in receiver.of("r1.example")] == [1] * 5
        assert made.statuses() == [("succeeded", 10)]
        assert made.registry.waiting_for_missing() == (0, 0)


async def test_after_the_grace_it_is_removed_and_what_waits_is_cancelled_and_told(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(structs.replace(HOOK, status="paused"), OTHER)
        await made.submit(4)
        await made.say(OTHER)
        await trio.sleep(595)
        assert standing(made) == ("disabled", MISSING)
        await trio.sleep(30)
        assert HOOK.id not in made.registry.catalog.by_id
        assert made.statuses() == [("cancelled", 4), ("succeeded", 4)]
        told = {line["event"]: line for line in made.told}
        assert told["deliveries_cancelled"]["count"] == 4
        assert told["webhook_removed"]["webhook"] == HOOK.id
        records = [line for line in made.told if line["event"] == "audit" and line["object"] == HOOK.id]
        assert [(line["action"], line["actor"]) for line in records] == [
            ("webhook.created", "file:a.toml"),
            ("webhook.disabled", "file:a.toml"),
            ("webhook.deleted", "daemon"),
        ]
        # named again it is a new one under its old id: what was cancelled stays so
        await made.say(HOOK, OTHER)
        assert standing(made) == ("active", None)
        await made.submit()
        await trio.sleep(1)
        assert made.statuses() == [("cancelled", 4), ("succeeded", 6)]


async def test_the_grace_is_running_time_and_goes_on_after_a_restart(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.say()
        await trio.sleep(400)
        (row,) = await made.store.read(webhooks.missing)
        assert 390_000 <= row.missing_ms <= 400_000
        await made.say()  # a reload that misses it again begins nothing anew
        await trio.sleep(180)
        assert standing(made) == ("disabled", MISSING)
        await trio.sleep(40)
        assert made.registry.catalog.by_id == {}


@pytest.mark.parametrize(("answer", "reason"), [(410, "gone"), (200, None)])
async def test_back_in_its_file_it_is_what_it_was_before(autojump_clock, answer: int, reason: str | None):
    receiver = Receiver()
    receiver.answers(answer)
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.submit()
        await trio.sleep(1)
        before = standing(made)
        await made.say()
        await made.say(HOOK)
        assert standing(made) == before == ("disabled" if reason else "active", reason)


async def test_nobody_can_change_or_test_it_meanwhile_and_the_refusal_says_what_to_do(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(HOOK)
        await made.say()
        missing = made.registry.catalog.by_id[HOOK.id]
        assert (missing.url, missing.events, missing.secrets) == (HOOK.url, HOOK.events, ())
        for wish in (
            made.editor.update(missing, {"status": "active"}, lambda now: True),
            made.editor.update(missing, {"url": "https://r9.example/"}, lambda now: True),
            made.editor.delete(missing, lambda now: True),
        ):
            with pytest.raises(Refused) as refused:
                await wish
            assert refused.value.code == "file_managed"
            assert "hookrelay reload --remove" in refused.value.detail
        with pytest.raises(Refused) as refused:
            await made.redeliverer.test(missing, "a.b", b"1")
        assert refused.value.code == "conflict"


async def test_it_is_removed_at_once_where_that_is_wished(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(structs.replace(HOOK, status="paused"))
        await made.submit(2)
        await made.say()
        await made.say(removes=True)
        await trio.sleep(1)
        assert made.registry.catalog.by_id == {}
        assert made.statuses() == [("cancelled", 2)]


async def test_without_a_grace_it_is_gone_with_the_next_look(autojump_clock):
    async with house(Receiver()) as made:
        made.registry._grace_s = lambda: 0.0
        await made.say(HOOK)
        await made.say()
        await trio.sleep(11)
        assert made.registry.catalog.by_id == {}
