"""Webhooks that are made and changed over the API: checked, on disk, in force."""

from typing import Any

import pytest
import trio
from builders import webhook
from doubles import HANG, Receiver
from house import House, house
from msgspec import structs

from hookrelay.model import Refused, Webhook
from hookrelay.rules.egress import Policy
from hookrelay.rules.sign import Signer
from hookrelay.store import events
from hookrelay.store import webhooks as stored


def anything(webhook: Webhook) -> bool:
    return True


def nothing(webhook: Webhook) -> bool:
    return False


async def refusal(work: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value


def key(made: House, text: str = "k", body: bytes = b"{}") -> events.Key:
    return events.idempotency_key(made.store.salt, "default", text, "", body, 0, 1000)


async def test_a_new_webhook_gets_events_from_the_moment_it_is_answered(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook, secret = await made.editor.create({"url": "https://r1.example/hook", "events": ["a.*"]})
        assert secret is not None
        assert secret.startswith("whsec_")
        await made.submit()
        await trio.sleep(1)
        assert [row.state for row in await made.rows(hook)] == ["succeeded"]
    (request,) = receiver.requests
    signature = Signer(hook.secrets).signature(request.id, int(request.headers["webhook-timestamp"]), request.body)
    assert request.headers["webhook-signature"] == signature.decode()


async def test_every_wrong_field_is_told_at_once_and_nothing_is_made(autojump_clock):
    async with house(Receiver()) as made:
        refused = await refusal(made.editor.create({"url": "ftp://x", "events": [], "rate_limit": "fast", "colour": 1}))
        assert (refused.code, {error.field for error in refused.errors}) == (
            "invalid_field",
            {"url", "events", "rate_limit", "colour"},
        )
        assert made.registry.catalog.by_id == {}
        assert await made.store.read(stored.all_made) == []


async def test_the_same_request_again_makes_nothing_new_and_shows_the_secret_until_it_is_changed(autojump_clock):
    async with house(Receiver()) as made:
        values = {"url": "https://r1.example/hook", "events": ["*"]}
        first, secret = await made.editor.create(values, key(made))
        assert await made.editor.create(values, key(made)) == (first, secret)
        assert (await refusal(made.editor.create(values, key(made, body=b"x")))).code == "idempotency_conflict"
        other, _ = await made.editor.create(values, key(made, "other"))
        assert other.id != first.id
        changed = await made.editor.update(first, {"description": "x"}, anything)
        assert await made.editor.create(values, key(made)) == (changed, None)
        await made.editor.delete(first, anything)
        assert (await refusal(made.editor.create(values, key(made)))).code == "idempotency_conflict"


async def test_the_same_request_twice_at_once_makes_one_webhook(autojump_clock):
    async with house(Receiver()) as made:
        answers: list[tuple[Webhook, str | None]] = []

        async def ask() -> None:
            answers.append(await made.editor.create({"url": "https://r1.example/", "events": ["*"]}, key(made)))

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(ask)
            assert len({(hook.id, secret) for hook, secret in answers}) == 1
        assert made.editor._locks == {}


async def test_a_new_rate_limit_counts_from_the_moment_it_is_set(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make(rate_limit="1/h")
        await made.submit(30)
        await trio.sleep(1)
        assert len(receiver.requests) == 1
        hook = await made.editor.update(hook, {"rate_limit": "10/s"}, anything)
        await trio.sleep(1.05)
        assert len(receiver.requests) in (10, 11)
        await made.editor.update(hook, {"rate_limit": None}, anything)
        await trio.sleep(0.5)
        assert len(receiver.requests) == 30


async def test_a_patch_changes_what_it_names_and_null_sets_back_to_the_default(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make(rate_limit="5/s", timeout="2s", metadata={"a": {"b": 1, "c": 2}}, ordered=True)
        patch = {"rate_limit": None, "timeout": "3s", "metadata": {"a": {"b": None}}}
        hook = await made.editor.update(hook, patch, anything)
        assert (hook.rate_limit, hook.timeout_s, hook.metadata, hook.ordered) == (None, 3.0, {"a": {"c": 2}}, True)
        refused = await refusal(made.editor.update(hook, {"url": None, "retry": "x", "secret": "y"}, anything))
        assert {error.field for error in refused.errors} == {"url", "retry", "secret"}
        assert made.registry.catalog.by_id[hook.id] is hook


async def test_a_header_that_is_sent_back_masked_keeps_its_value(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make(headers={"X-Key": "hidden", "x-old": "1"})
        hook = await made.editor.update(hook, {"headers": {"x-key": "***", "x-old": None, "x-new": "2"}}, anything)
        assert dict(hook.headers) == {"X-Key": "hidden", "x-new": "2"}


async def test_a_mask_without_a_value_behind_it_is_refused(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        for work in (
            made.editor.update(hook, {"headers": {"x-new": "***"}}, anything),
            made.editor.create({"url": "https://r1.example/", "events": ["*"], "headers": {"x-new": "***"}}),
        ):
            assert [error.field for error in (await refusal(work)).errors] == ["headers.x-new"]


async def test_a_change_that_was_made_upon_something_older_is_refused(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        for change in (
            made.editor.update(hook, {"description": "x"}, nothing),
            made.editor.rotate(hook, 0, None, nothing),
            made.editor.delete(hook, nothing),
        ):
            assert (await refusal(change)).code == "precondition_failed"
        assert made.registry.catalog.by_id[hook.id] is hook


async def test_changes_of_one_webhook_at_the_same_time_are_made_one_after_the_other(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(made.editor.update, hook, {"metadata": {f"k{number}": number}}, anything)
        changed = made.registry.catalog.by_id[hook.id]
        assert changed.metadata == {f"k{number}": number for number in range(20)}
        assert changed.updated_ms == hook.updated_ms + 20
        assert made.editor._locks == {}


async def test_a_webhook_that_is_deleted_while_another_change_waits_is_not_found(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        found: list[Refused] = []

        async def change() -> None:
            found.append(await refusal(made.editor.update(hook, {"description": "x"}, anything)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.editor.delete, hook, anything)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(change)
        assert [refused.code for refused in found] == ["not_found"]
        assert made.registry.catalog.by_id == {}


@pytest.mark.parametrize(("held", "ends"), [("deliver", "succeeded"), ("discard", "cancelled"), (None, "succeeded")])
async def test_a_paused_webhook_holds_and_is_released_or_discarded_by_a_patch(autojump_clock, held: Any, ends: str):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        hook = await made.editor.update(hook, {"status": "paused"}, anything)
        await made.submit(30)
        await trio.sleep(100)
        assert (made.dispatcher.held(), receiver.requests) == (30, [])
        patch = {"status": "active"} | ({} if held is None else {"held": held})
        hook = await made.editor.update(hook, patch, anything)
        await trio.sleep(10)
        assert {row.state for row in await made.rows(hook)} == {ends}
        assert (made.dispatcher.held(), made.dispatcher.pending()) == (0, 0)


async def test_a_disabled_webhook_is_active_again_by_a_patch_with_a_fresh_start(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        hook = made.registry.catalog.by_id[hook.id]
        assert (hook.status, hook.disabled_reason) == ("disabled", "gone")
        hook = await made.editor.update(hook, {"description": "still out of order"}, anything)
        assert hook.status == "disabled"
        receiver.recover()
        hook = await made.editor.update(hook, {"status": "active"}, anything)
        assert (hook.status, hook.disabled_reason) == ("active", None)
        await trio.sleep(10)
        assert [row.state for row in await made.rows(hook)] == ["succeeded"]


async def test_what_waits_for_a_deleted_webhook_is_cancelled_and_its_secrets_are_forgotten(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make(max_in_flight=1)
        await made.submit(3)
        await trio.sleep(1)
        await made.editor.delete(hook, anything)
        assert hook.id not in made.registry.catalog.by_id
        await made.submit()
        receiver.recover()
        await trio.sleep(1)
        assert sorted(row.state for row in await made.rows(hook)) == ["cancelled", "cancelled", "succeeded"]
        assert made.store._conn.execute("SELECT sealed FROM webhook").get == b""


async def test_after_a_rotation_both_secrets_sign_until_the_overlap_ends(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        rotated = await made.editor.rotate(hook, 60.0, None, anything)
        assert rotated.previous_until_ms is not None
        assert len(rotated.webhook.secrets) == 2
        for wait_s in (1, 58, 2):
            await made.submit()
            await trio.sleep(wait_s)
        await made.submit()
        await trio.sleep(1)
        counts = [len(request.headers["webhook-signature"].split(" ")) for request in receiver.requests]
        assert counts == [2, 2, 2, 1]
        kept = made.registry.catalog.by_id[hook.id]
        assert kept.secrets == rotated.webhook.secrets[:1]


async def test_without_overlap_the_old_secret_signs_no_more(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        rotated = await made.editor.rotate(hook, 0.0, None, anything)
        assert (len(rotated.webhook.secrets), rotated.previous_until_ms) == (1, None)
        assert rotated.webhook.secrets != hook.secrets


async def test_a_rotation_never_lengthens_the_life_of_an_older_secret(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        await made.editor.rotate(hook, 10.0, None, anything)
        rotated = await made.editor.rotate(hook, 100.0, None, anything)
        assert len(rotated.webhook.secrets) == 3
        await trio.sleep(11)
        assert len(made.registry.catalog.by_id[hook.id].secrets) == 2


async def test_no_more_than_ten_secrets_sign_at_once(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        for _ in range(9):
            await made.editor.rotate(hook, 1000.0, None, anything)
        assert (await refusal(made.editor.rotate(hook, 1000.0, None, anything))).code == "conflict"
        rotated = await made.editor.rotate(hook, 0.0, None, anything)
        assert len(rotated.webhook.secrets) == 1


async def test_a_webhook_of_a_file_is_left_alone_but_for_making_it_active_again(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        await made.say(structs.replace(webhook(), source="file:a.toml"))
        hook = made.hook
        for change in (
            made.editor.update(hook, {"description": "x"}, anything),
            made.editor.update(hook, {"status": "paused"}, anything),
            made.editor.update(hook, {"status": "active"}, anything),
            made.editor.rotate(hook, 0, None, anything),
            made.editor.delete(hook, anything),
        ):
            refused = await refusal(change)
            assert (refused.code, "a.toml" in refused.detail) == ("file_managed", True)
        await made.submit()
        await trio.sleep(1)
        assert made.hook.status == "disabled"
        receiver.recover()
        assert (await made.editor.update(made.hook, {"status": "active"}, anything)).status == "active"
        await trio.sleep(10)
        assert [row.state for row in await made.rows(made.hook)] == ["succeeded"]


async def test_a_reload_leaves_the_webhooks_of_the_api_as_they_are(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        paused = await made.editor.update(await made.make(), {"status": "paused"}, anything)
        await made.say(webhook(seq=3))
        assert {each.id: each.status for each in made.registry.catalog.by_seq.values()} == {
            hook.id: "active",
            paused.id: "paused",
            webhook(seq=3).id: "active",
        }
        await made.say(removes=True)
        assert made.registry.catalog.by_id.keys() == {hook.id, paused.id}


async def test_an_egress_rule_that_was_tightened_keeps_nobody_from_changing_other_fields(autojump_clock):
    async with house(Receiver()) as made:
        made.policy = Policy(allow=(), deny=(), allow_http=True)
        hook = await made.make(url="http://r1.example/hook")
        made.policy = Policy(allow=(), deny=(), allow_http=False)
        hook = await made.editor.update(hook, {"description": "x"}, anything)
        assert hook.description == "x"
        refused = await refusal(made.editor.update(hook, {"url": "http://r2.example/"}, anything))
        assert [error.field for error in refused.errors] == ["url"]
