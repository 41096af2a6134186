"""The audit trail: one record and one line of the log for a change, or neither, in the change's own commit."""

import json
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from builders import START_MS, wall, webhook
from doubles import Receiver, listening_log, new_store
from house import House, house
from msgspec import structs

from hookrelay.audit import ACTIONS, Actor, Entry, Trail
from hookrelay.model import Refused
from hookrelay.redeliver import Replay
from hookrelay.store import audit
from hookrelay.store.audit import AuditRow
from hookrelay.store.db import Store

ANN = Actor("key_ann", session="ses_1", address="192.0.2.1")
ENTRY = Entry(action="key.created", by=ANN, tenant="t", object="key_1")


def records(store: Store) -> list[AuditRow]:
    """Oldest first."""
    return audit.records(store._conn, audit.Wanted(), None, 1000).rows[::-1]


def shown(made: House) -> list[tuple[str, str, str | None]]:
    return [(row.action, row.actor, row.object) for row in records(made.store)]


def lines(made: House) -> list[Any]:
    return [line for line in made.told if line["event"] == "audit"]


def plant(conn: Any, times: int) -> int:
    for number in range(times):
        conn.execute("INSERT INTO thing VALUES (?)", (number,))
    return times


async def test_a_change_that_fails_leaves_no_record_and_a_record_that_cannot_be_written_undoes_its_change(
    autojump_clock,
):
    def fail(conn: Any) -> None:
        conn.execute("INSERT INTO thing VALUES (1)")
        raise Refused("conflict", "after all not")

    store = new_store()
    log, told = listening_log()
    trail = Trail(store, log, wall)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        store._conn.execute("CREATE TABLE thing (n)")
        with pytest.raises(Refused):
            await trail.change(ENTRY, fail)
        wrong = structs.replace(ENTRY, by=structs.replace(ANN, is_operator=7))  # a CHECK of the table's refuses it
        with pytest.raises(apsw.ConstraintError):
            await trail.change(wrong, plant, 3)
        assert store._conn.execute("SELECT count(*) FROM thing").get == 0
        assert (records(store), told) == ([], [])
        assert await trail.change(ENTRY, plant, 3) == 3
        assert [row.object for row in records(store)] == ["key_1"]
        store.close()


async def test_the_line_of_the_log_says_what_the_record_does(autojump_clock):
    store = new_store()
    log, told = listening_log()
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        await Trail(store, log, wall).note(structs.replace(ENTRY, details={"event": "x", "name": None}))
        (row,) = records(store)
        (line,) = told
        assert line == {
            "event": "audit",
            "log_level": "info",
            "id": store.ids.make("aud", START_MS, row.seq),
            "action": "key.created",
            "actor": "key_ann",
            "session": "ses_1",
            "address": "192.0.2.1",
            "tenant": "t",
            "object": "key_1",
            "details": {"event": "x"},
        }
        store.close()


async def test_of_very_many_records_at_once_the_first_have_lines_of_their_own(autojump_clock):
    async with house(Receiver()) as made:
        await made.say(*(structs.replace(webhook(seq), source="file:a.toml") for seq in range(1, 151)))
        assert len(records(made.store)) == 150
        assert len(lines(made)) == 100
        assert [line["records"] for line in made.told if line["event"] == "audit_more"] == [50]


async def test_a_change_names_its_fields_and_urls_and_no_value_that_is_secret(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make(headers={"x-key": "hidden"})
        moved = {"url": "https://r2.example/hook", "headers": {"x-key": "hidden too"}, "status": "paused"}
        hook = await made.editor.update(hook, moved, lambda _: True, by=ANN)
        rotated = await made.editor.rotate(hook, 60.0, None, lambda _: True, by=ANN)
        await made.editor.delete(rotated.webhook, lambda _: True, by=ANN)
        rows = records(made.store)
        assert [row.action for row in rows] == [
            "webhook.created",
            "webhook.updated",
            "webhook.secret_rotated",
            "webhook.deleted",
        ]
        assert {row.object for row in rows} == {hook.id}
        more = [json.loads(row.more) for row in rows]
        assert [each["fields"] for each in more] == [[], ["url", "status", "headers"], ["secret"], []]
        assert [(each["url_before"], each["url_after"]) for each in more] == [
            (None, "https://r1.example/hook"),
            ("https://r1.example/hook", "https://r2.example/hook"),
            (None, None),
            ("https://r2.example/hook", None),
        ]
        assert more[1]["details"] == {"status": "paused"}
        text = json.dumps([rows, made.told], default=str)
        assert "hidden" not in text
        assert rotated.text.removeprefix("whsec_") not in text


async def test_a_request_that_was_answered_before_makes_no_second_record(autojump_clock):
    from hookrelay.store import events

    async with house(Receiver()) as made:
        key = events.idempotency_key(made.store.salt, "default", "k", "", b"{}", 0, 1000)
        for _ in range(3):
            await made.editor.create({"url": "https://r1.example/", "events": ["*"]}, key, by=ANN)
        assert len(records(made.store)) == 1


async def test_what_cannot_be_called_off_any_more_leaves_no_record(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        with pytest.raises(Refused):
            await made.redeliverer.cancel(row, by=ANN)
        await made.redeliverer.retry(row, by=ANN)
        assert [action for action, *_ in shown(made)] == ["webhook.created", "delivery.retried"]


async def test_a_replay_of_many_steps_is_one_record_that_counts_them_all(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(retry=[])
        await made.submit(1200)
        await trio.sleep(3 * 86_400)
        wanted = Replay(since_ms=0, until_ms=1 << 50)
        await made.redeliverer.replay(hook, wanted, dry_run=True, by=ANN)
        assert len(records(made.store)) == 1
        await made.redeliverer.replay(hook, wanted, dry_run=False, by=ANN)
        row = records(made.store)[-1]
        assert (row.action, json.loads(row.more)["details"]["deliveries"]) == ("webhook.replayed", 1200)
        assert [line["details"]["deliveries"] for line in lines(made)[1:]] == [1200]


async def test_a_webhook_that_its_receiver_disables_is_recorded_once_in_the_commit_of_the_answer(autojump_clock):
    receiver = Receiver()
    receiver.answers(410)
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(3)
        await trio.sleep(100)
        assert shown(made)[1:] == [("webhook.disabled", "daemon", hook.id)]
        assert json.loads(records(made.store)[-1].more)["details"] == {"status": "disabled", "reason": "gone"}
        assert [line["action"] for line in lines(made)] == ["webhook.created", "webhook.disabled"]


async def test_the_end_of_an_old_secret_is_the_daemons_doing(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.make()
        await made.editor.rotate(hook, 10.0, None, lambda _: True, by=ANN)
        await trio.sleep(100)
        assert shown(made)[1:] == [
            ("webhook.secret_rotated", "key_ann", hook.id),
            ("webhook.secret_ended", "daemon", hook.id),
        ]


async def test_files_that_say_the_same_again_are_no_change(autojump_clock):
    async with house(Receiver()) as made:
        hook = structs.replace(webhook(), source="file:a.toml")
        await made.say(hook)
        await made.say(hook)
        assert shown(made) == [("webhook.created", "file:a.toml", hook.id)]
        await made.say(structs.replace(hook, secrets=(b"another",)))
        await made.say()
        await made.say(removes=True)
        actions = [action for action, *_ in shown(made)[1:]]
        assert actions == ["webhook.updated", "webhook.disabled", "webhook.deleted"]


def test_every_action_that_a_record_may_have_is_in_the_handbook():
    text = (Path(__file__).parents[1] / "docs" / "security.md").read_text()
    assert [action for action in ACTIONS if f"`{action}`" not in text] == []
