"""A webhook that its file no longer names is held, and removed only after a grace of running time."""

import json

import pytest
import trio
from builders import webhook
from doubles import HANG, Receiver
from house import House, house, restarted
from msgspec import structs

from hookrelay.model import MISSING, ConfigError, ConfigMistake, Refused
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
        assert 370_000 <= row.missing_ms <= 400_000
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
        made.grace_s = 0.0
        await made.say(HOOK)
        await made.say()
        await trio.sleep(0.1)
        assert made.registry.catalog.by_id == {}


PAUSED = structs.replace(HOOK, status="paused")
MISSED = ("disabled", MISSING)


async def test_what_waits_for_it_is_shown_as_held(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.submit(3)
        await trio.sleep(1)
        await made.say()
        assert {row.webhook_status for row in await made.rows(made.hook)} == {"disabled"}
        assert len(await made.rows(made.hook, state="pending", is_held=True)) == 3
        assert await made.rows(made.hook, state="pending", is_held=False) == []


async def test_held_discard_throws_nothing_away_that_was_held_because_it_was_missing(autojump_clock):
    discards = structs.replace(HOOK, held="discard")
    async with house(Receiver()) as made:
        await made.say(discards)
        await made.say()
        await made.submit(3)
        await made.say(discards)
        await trio.sleep(1)
        assert made.statuses() == [("succeeded", 3)]


async def test_failures_of_before_are_not_forgotten_because_a_file_was_cut_short(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.submit()
        await trio.sleep(10)
        failures = made.dispatcher._paces[1].health.failures
        await made.say()
        await made.say(HOOK)
        assert made.dispatcher._paces[1].health.failures == failures == 2


async def test_one_that_an_answer_disables_while_it_is_missing_is_so_when_it_is_back(autojump_clock):
    receiver = Receiver()
    receiver.answers(410, seconds=5.0)
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.submit()
        await trio.sleep(1)
        await made.say()
        await trio.sleep(10)
        assert standing(made) == MISSED
        await made.say(HOOK)
        assert standing(made) == ("disabled", "gone")


async def test_it_has_all_of_its_time_whenever_it_goes_missing_and_not_a_tenth_of_a_second_more(autojump_clock):
    async with house(Receiver()) as made:
        await trio.sleep(9)
        await made.say(PAUSED)
        await made.submit(700)
        await made.say()
        await trio.sleep(599.9)
        assert (standing(made), made.statuses()) == (MISSED, [("pending", 700)])
        await trio.sleep(0.2)
        assert (made.registry.catalog.by_id, made.statuses()) == ({}, [("cancelled", 700)])


async def test_its_time_stands_still_while_no_daemon_runs_and_goes_on_where_it_was(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(PAUSED)
        await made.submit(3)
        await made.say()
        await trio.sleep(395)
        await made.grace.finish()
        saved = made.saved()
    await trio.sleep(10_000)
    async with house(Receiver(), restarted(saved)) as made:
        await made.say()
        assert (standing(made), made.hook.secrets) == (MISSED, ())
        await trio.sleep(204)
        assert made.statuses() == [("pending", 3)]
        await trio.sleep(2)
        assert made.statuses() == [("cancelled", 3)]


async def test_a_daemon_that_is_killed_forgets_at_most_half_a_minute_of_it(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(HOOK)
        await made.say()
        await trio.sleep(400)
        saved = made.saved()
    async with house(Receiver(), restarted(saved)) as made:
        await made.say()
        left_s = made.grace.left_s()
        assert left_s is not None
        assert 200 <= left_s <= 231


async def test_the_definition_in_the_store_is_enough_to_match_and_to_show_it_after_a_restart(autojump_clock):
    more = {"description": "d", "headers": (("x-key", "hidden"),), "metadata": {"a": 1}, "retry": ("5s", "300s")}
    said = structs.replace(HOOK, **more)
    async with house(Receiver()) as made:
        await made.say(said)
        named, saved = made.hook, made.saved()
    async with house(Receiver(), restarted(saved)) as made:
        await made.say()
        await made.submit()
        assert (standing(made), made.dispatcher.held(), made.hook.secrets) == (MISSED, 1, ())
        hidden = {"secrets": (b"",), "headers": (("x-key", ""),), "updated_ms": 0, "name": ""}
        shown = structs.replace(made.hook, status="active", disabled_reason=None, **hidden)
        assert shown == structs.replace(named, **hidden)
        await made.say(said)
        await trio.sleep(1)
        assert (made.hook.secrets, made.statuses()) == (said.secrets, [("succeeded", 1)])


async def test_one_that_was_named_again_has_all_of_its_time_when_it_is_missing_once_more(autojump_clock):
    async with house(Receiver()) as made:
        for _ in range(3):
            await made.say(HOOK)
            await made.say()
            await trio.sleep(500)
        assert standing(made) == MISSED


async def test_a_shorter_grace_counts_from_the_reload_on_that_says_so(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(HOOK)
        await made.say()
        await trio.sleep(60)
        made.grace_s = 30.0
        await made.say()
        await trio.sleep(0.1)
        assert made.registry.catalog.by_id == {}


async def test_what_files_name_again_is_not_removed_although_nobody_reloaded(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(PAUSED)
        await made.submit(3)
        await made.say()
        made.named = {PAUSED.id}
        await trio.sleep(2000)
        assert (standing(made), made.statuses()) == (MISSED, [("pending", 3)])
        assert "removal_waits" in [line["event"] for line in made.told]
        await made.say(PAUSED)
        assert standing(made) == ("paused", None)


async def test_nothing_is_removed_while_the_files_cannot_be_read(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(PAUSED)
        await made.submit(3)
        await made.say()
        made.named = ConfigError([ConfigMistake("a.toml", 3, "", "is not TOML")])
        await trio.sleep(2000)
        assert made.statuses() == [("pending", 3)]
        made.named = set()
        await trio.sleep(61)
        assert made.statuses() == [("cancelled", 3)]
    assert "a.toml:3: is not TOML" in next(line for line in made.told if line["event"] == "removal_waits")["detail"]


async def test_a_webhook_of_the_api_is_never_missing(autojump_clock):
    async with house(Receiver()) as made:
        await made.make()
        await made.say()
        await made.say(removes=True)
        await trio.sleep(1000)
        assert (made.hook.status, made.hook.disabled_reason) == ("active", None)


async def test_made_active_over_the_api_while_the_files_are_read_that_miss_it_it_is_held(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.submit()
        await trio.sleep(1)
        prepared = await made.registry.prepare([])
        receiver.recover()
        await made.editor.update(made.hook, {"status": "active"}, lambda webhook: True)
        made.registry.put_in_force(prepared)
        assert standing(made) == MISSED
        await made.say(HOOK)
        assert standing(made) == ("active", None)


async def test_made_active_at_the_moment_it_goes_missing_nothing_is_sent_without_its_secret(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        await made.say(HOOK)
        await made.say()
        await made.submit()
        # the last step of a PATCH that was begun before
        assert made.registry.activate(HOOK.seq, 1).is_missing
        await trio.sleep(5)
        assert (standing(made), receiver.requests) == (MISSED, [])
        await made.say(removes=True)
        with pytest.raises(Refused) as refused:
            made.registry.activate(HOOK.seq, 2)
        assert refused.value.code == "not_found"


async def test_of_one_that_is_back_the_trail_says_so_and_of_no_secret_that_it_has_changed(autojump_clock):
    hook = structs.replace(HOOK, headers=(("x-shop", "7"),))
    async with house(Receiver()) as made:
        await made.say(hook)
        await made.say()
        await made.say(hook)
        await made.say()
        await made.say(structs.replace(hook, description="mended"))
        records = [line for line in made.told if line["event"] == "audit"]
        assert [(line["action"], line.get("fields"), line.get("details")) for line in records] == [
            ("webhook.created", None, None),
            ("webhook.disabled", None, {"reason": MISSING}),
            ("webhook.updated", ["status"], {"was": MISSING}),
            ("webhook.disabled", None, {"reason": MISSING}),
            ("webhook.updated", ["description", "status"], {"status": "active"}),
        ]
