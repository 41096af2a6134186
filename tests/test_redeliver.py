"""What people ask of deliveries: a test, a retry, a replay, an end."""

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from builders import START_MS
from doubles import HANG, LateStore, Receiver, new_store
from house import House, house
from msgspec import structs

from hookrelay.connections import VISITS_PER_TENANT, Visits
from hookrelay.model import LocalTrouble, Refused, Webhook
from hookrelay.redeliver import Replay
from hookrelay.store import history
from hookrelay.tally import FINE_S

ALL = Replay(since_ms=0, until_ms=1 << 50)


async def row_of(made: House, number: int) -> history.DeliveryRow:
    found = await made.store.read(history.recent, [number])
    return found[0]


async def attempts_of(made: House, number: int) -> list[tuple[int, str | None]]:
    found = await made.store.read(history.delivery, number)
    assert found is not None
    return [(attempt.number, attempt.error_code) for attempt in found[3]]


async def refusal(work: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value


# --- tests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "code"), [("store_full", "store_full"), ("store_io", "unavailable")])
async def test_no_test_is_sent_that_could_not_be_recorded(autojump_clock, kind: str, code: str):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        made.store.trouble = LocalTrouble(kind, "not now")
        assert (await refusal(made.redeliverer.test(hook, "a.b", b"1"))).code == code
        assert receiver.requests == []
        made.store.trouble = None
        await made.redeliverer.test(hook, "a.b", b"1")
        assert len(receiver.requests) == 1


async def test_a_test_is_one_attempt_in_the_history_and_in_nothing_else(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make()
        seq = await made.redeliverer.test(hook, "a.b", b'{"x": 1}')
        row = await row_of(made, seq)
        assert (row.state, row.test, row.response_code, row.attempt_count) == ("failed", 1, 500, 1)
        assert await attempts_of(made, seq) == [(1, "http_status")]
        await trio.sleep(80_000)
        assert len(receiver.requests) == 1
        assert b',"test":true,"data":{"x": 1}}' in receiver.requests[0].body
        assert made.metrics.attempts == {"success": 0}
        assert made.dispatcher.is_up(hook)
        assert made.dispatcher.pending() == 0
        tally = made.tally
        assert [totals for _, totals in await tally.series(hook.seq, FINE_S, 3000) if totals.attempts] == []
        assert await tally.failures([hook.seq]) == {}
        assert await made.store.read(history.count_dead, 10) == 0
        assert tally.attempts(hook.seq) == 1  # whoever looks at the webhook's page sees it come
        receiver.answers(200, body=b"thanks")
        seq = await made.redeliverer.test(hook, "a.b", b"null")
        assert (await row_of(made, seq)).state == "succeeded"
        assert await attempts_of(made, seq) == [(1, None)]


@pytest.mark.parametrize("status", ["paused", "disabled"])
async def test_a_webhook_that_takes_no_deliveries_can_be_tested(autojump_clock, status: str):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        if status == "paused":
            hook = await made.editor.update(hook, {"status": "paused"}, lambda _: True)
        else:
            receiver.answers(410)
            await made.submit()
            await trio.sleep(1)
            receiver.answers(200)
        hook = made.registry.catalog.by_id[hook.id]
        assert hook.status == status
        seq = await made.redeliverer.test(hook, "a.b", b"1")
        assert (await row_of(made, seq)).state == "succeeded"


async def test_a_test_that_hangs_ends_with_the_webhook_s_timeout(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make(timeout="2s")
        began = trio.current_time()
        seq = await made.redeliverer.test(hook, "a.b", b"1")
        assert trio.current_time() - began == pytest.approx(2, abs=0.1)
        assert (await row_of(made, seq)).error_code == "timeout"


async def test_a_test_that_is_given_up_while_it_waits_leaves_nothing_and_in_flight_an_interrupted_attempt(
    autojump_clock,
):
    receiver = Receiver()
    receiver.answers(HANG, HANG)
    async with house(receiver) as made:
        hook = await made.make(max_in_flight=1, timeout="60s")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.redeliverer.test, hook, "a.b", b"1")
            await trio.sleep(1)
            with trio.move_on_after(1):
                await made.redeliverer.test(hook, "a.b", b"2")
            assert len(receiver.requests) == 1
            nursery.cancel_scope.cancel()
        last = made.store.last_delivery
        row = await row_of(made, last)
        assert (row.state, row.attempt_count, row.error_code) == ("failed", 1, "interrupted")
        assert await attempts_of(made, last) == [(1, "interrupted")]
        receiver.answers(200)
        await made.redeliverer.test(hook, "a.b", b"3")  # its place is free again


async def test_tests_of_one_tenant_at_silent_receivers_leave_others_places_and_end_in_a_429_within_ten_seconds(
    autojump_clock,
):
    receiver = Receiver()
    receiver.answers(HANG, host="silent.example")
    async with house(receiver) as made:
        silent = [
            await made.make(url="https://silent.example/", tenant="greedy", max_in_flight=100, timeout="120s")
            for _ in range(3)
        ]
        ours = await made.make(tenant="other")
        refused: list[tuple[str, float]] = []
        began = trio.current_time()

        async def ask(hook: Webhook) -> None:
            try:
                await made.redeliverer.test(hook, "a.b", b"1")
            except Refused as error:
                refused.append((error.code, trio.current_time() - began))

        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(ask, silent[number % 3])
            await trio.sleep(1)
            assert len(receiver.of("silent.example")) == 4
            for _ in range(20):
                await made.redeliverer.test(ours, "a.b", b"1")
            assert trio.current_time() - began < 2
            await trio.sleep(10)
            assert len(refused) == 56
            assert {code for code, _ in refused} == {"rate_limited"}
            assert max(seconds for _, seconds in refused) < 10
            nursery.cancel_scope.cancel()
        assert made.limits_met == {"test_attempts": 56}


async def test_four_greedy_tenants_take_every_place_for_as_long_as_an_attempt_may_last_and_no_longer(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG, host="silent.example")
    async with house(receiver) as made:
        greedy = [
            await made.make(url="https://silent.example/", tenant=f"greedy{number}", timeout="3s")
            for number in range(4)
        ]
        ours = await made.make(tenant="other")
        async with trio.open_nursery() as nursery:
            for hook in greedy:
                for _ in range(4):
                    nursery.start_soon(made.redeliverer.test, hook, "a.b", b"1")
            await trio.sleep(1)
            assert len(receiver.of("silent.example")) == 16
            await made.redeliverer.test(ours, "a.b", b"1")  # waits for the first place that becomes free
        assert len(receiver.of("r1.example")) == 1


async def test_a_test_that_is_given_up_while_it_waits_gives_back_all_that_it_had(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make(max_in_flight=2, rate_limit="2/m burst 4", timeout="60s")
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(made.redeliverer.test, hook, "a.b", b"1")
            await trio.sleep(1)
            for _ in range(5):  # none of these gets a place in flight
                with trio.move_on_after(0.1):
                    await made.redeliverer.test(hook, "a.b", b"2")
                    pytest.fail("there was no place")
            await refusal(made.redeliverer.test(hook, "a.b", b"3"))
            nursery.cancel_scope.cancel()
        receiver.answers(200)
        for _ in range(2):  # the other two of the burst: nobody who was turned away has used any of it
            await made.redeliverer.test(hook, "a.b", b"4")
        assert made.dispatcher.visits_under_way() == 0
        assert "rate limit" in (await refusal(made.redeliverer.test(hook, "a.b", b"5"))).detail


async def test_a_place_for_tests_that_becomes_free_goes_to_who_waits_longest_and_has_fewer_than_its_share(
    autojump_clock,
):
    visits, order = Visits(most=3, share=2), list[str]()

    async def visit(name: str, seconds: float) -> None:
        await visits.take(name[0])
        order.append(name)
        await trio.sleep(seconds)
        visits.release(name[0])

    async with trio.open_nursery() as nursery:
        for name, seconds in (("a1", 1), ("a2", 5), ("b1", 9), ("a3", 1), ("a4", 1), ("c1", 1), ("b2", 1)):
            nursery.start_soon(visit, name, seconds)
            await trio.sleep(0.01)
    assert order == ["a1", "a2", "b1", "a3", "a4", "c1", "b2"]
    assert visits.under_way == 0
    async with trio.open_nursery() as nursery:
        for name in ("a5", "a6", "a7", "b3", "b4", "c2"):
            nursery.start_soon(visit, name, 5)
            await trio.sleep(0.01)
    assert order[7:] == ["a5", "a6", "b3", "a7", "b4", "c2"]


async def test_where_the_daemon_dies_during_a_test_the_event_has_a_delivery_that_says_so(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.redeliverer.test, hook, "a.b", b"1")
            await trio.sleep(1)
            assert len(receiver.requests) == 1
            (row,) = await made.rows(hook)  # what a daemon that is started now would find
            (event, count) = made.store._conn.execute("SELECT max(seq), count(*) FROM event").fetchall()[0]
            assert (row.event, count, row.state, row.error_code) == (event, 1, "failed", "interrupted")
            assert "under way" in row.error_detail
            receiver.recover()
        (row,) = await made.rows(hook)
        assert (row.state, row.error_code, row.error_detail, row.attempt_count) == ("succeeded", None, None, 1)
        assert made.store._conn.execute("SELECT count(*) FROM attempt").get == 0


async def test_a_test_waits_for_the_rate_limit_and_counts_towards_it(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make(rate_limit="1/s")
        await made.submit()
        await trio.sleep(0.1)
        await made.redeliverer.test(hook, "a.b", b"1")
        await made.submit()
        await trio.sleep(5)
        times = [request.at for request in receiver.requests]
        assert [round(b - a, 1) for a, b in pairwise(times)] == [1.0, 1.0]


async def test_a_test_that_the_limits_leave_no_room_for_is_refused_with_the_reason(autojump_clock):
    receiver = Receiver()
    receiver.answers(b"HTTP/1.1 503 x\r\nretry-after: 60")
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        refused = await refusal(made.redeliverer.test(hook, "a.b", b"1"))
        assert (refused.code, "asked to be left alone" in refused.detail) == ("rate_limited", True)
        assert len(receiver.requests) == 1


async def test_a_test_keeps_within_what_may_be_in_flight_and_goes_before_what_waits(autojump_clock):
    receiver = Receiver()
    receiver.answers(200, seconds=1)
    async with house(receiver) as made:
        hook = await made.make(max_in_flight=2)
        await made.submit(20)
        await trio.sleep(0.5)
        began = trio.current_time()
        await made.redeliverer.test(hook, "a.b", b"1")
        assert trio.current_time() - began < 2.1
        await trio.sleep(30)
        assert receiver.most_at_once["r1.example"] == 2
        assert len(receiver.requests) == 21


async def test_tests_and_retries_by_hand_never_disable_a_webhook(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(retry=[])
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        for _ in range(30):
            await trio.sleep(86_400)
            await made.redeliverer.test(hook, "a.b", b"1")
            await made.redeliverer.retry(await row_of(made, row.seq))
            await trio.sleep(70)
        assert made.registry.catalog.by_id[hook.id].status == "active"
        failures = made.store._conn.execute("SELECT failures FROM webhook").get
        assert failures == 1


# --- retries ----------------------------------------------------------------------------------------------------


async def failed(made: House, receiver: Receiver, **fields: Any) -> tuple[Webhook, history.DeliveryRow]:
    """A webhook, and a delivery to it that has failed for good."""
    receiver.answers(500)
    hook = await made.make(retry=["1s"], **fields)
    await made.submit()
    await trio.sleep(70)
    (row,) = await made.rows(hook)
    assert (row.state, row.attempt_count) == ("failed", 2)
    return hook, row


async def test_a_failed_delivery_that_is_tried_again_gets_one_attempt(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        _, row = await failed(made, receiver)
        await made.redeliverer.retry(row)
        assert made.dispatcher.pending() == 1
        await trio.sleep(70)
        again = await row_of(made, row.seq)
        assert (again.state, again.attempt_count) == ("failed", 3)
        receiver.recover()
        await made.redeliverer.retry(again)
        await trio.sleep(1)
        assert (await row_of(made, row.seq)).state == "succeeded"
        assert len(await attempts_of(made, row.seq)) == 4
        assert made.dispatcher.pending() == 0


async def test_a_success_that_is_sent_again_keeps_its_first_attempt_in_the_history(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        receiver.answers(500)
        await made.redeliverer.retry(row)
        await trio.sleep(1)
        assert (await row_of(made, row.seq)).state == "failed"
        assert await attempts_of(made, row.seq) == [(1, None), (2, "http_status")]


async def test_a_pending_delivery_becomes_due_now_and_keeps_its_schedule(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(retry=["1h", "2h"])
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        await made.redeliverer.retry(row)
        await trio.sleep(1)
        assert (await row_of(made, row.seq)).attempt_count == 2
        await trio.sleep(3600)
        assert (await row_of(made, row.seq)).attempt_count == 2
        await trio.sleep(2 * 3600)
        again = await row_of(made, row.seq)
        assert (again.state, again.attempt_count) == ("failed", 3)


async def test_a_retry_overtakes_what_its_ordering_key_waits_for(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(retry=["1h"], ordered=True)
        await made.submit(2)
        await trio.sleep(3600 * 1.2)
        first = (await made.rows(hook))[-1]
        assert first.state == "failed"
        receiver.recover()
        await made.redeliverer.retry(first)
        await trio.sleep(1)
        assert (await row_of(made, first.seq)).state == "succeeded"
        await trio.sleep(3600 * 1.2)
        assert {row.state for row in await made.rows(hook)} == {"succeeded"}
        assert made.dispatcher.pending() == 0


async def test_a_test_or_a_deleted_webhook_s_delivery_is_not_tried_again(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook, row = await failed(made, receiver)
        seq = await made.redeliverer.test(hook, "a.b", b"1")
        assert (await refusal(made.redeliverer.retry(await row_of(made, seq)))).code == "conflict"
        await made.editor.delete(hook, lambda _: True)
        assert (await refusal(made.redeliverer.retry(row))).code == "conflict"


# --- cancelling -------------------------------------------------------------------------------------------------


async def test_what_is_called_off_is_not_sent_wherever_it_waits(autojump_clock):
    receiver = Receiver()
    receiver.answers(HANG)
    async with house(receiver) as made:
        hook = await made.make(max_in_flight=1, timeout="100s")
        await made.submit(600)  # one in flight, some in memory, the rest in the store
        await trio.sleep(1)
        rows = await made.rows(hook)
        assert len(rows) == 600
        for row in rows[:-1]:
            await made.redeliverer.cancel(row)
        assert made.dispatcher.pending() == 1
        receiver.recover()
        await trio.sleep(10)
        assert len(receiver.requests) == 1
        states = [row.state for row in await made.rows(hook)]
        assert (states.count("cancelled"), states.count("succeeded")) == (599, 1)
        assert made.dispatcher.pending() == 0
        assert made.metrics.deliveries["cancelled"] == 599


async def test_an_attempt_in_flight_goes_on_to_its_end_and_changes_nothing_any_more(autojump_clock):
    receiver = Receiver()
    receiver.answers(500, seconds=5)
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        await made.redeliverer.cancel(row)
        await trio.sleep(100)
        again = await row_of(made, row.seq)
        assert again.state == "cancelled"
        assert await attempts_of(made, row.seq) == [(1, "http_status")]
        assert made.dispatcher.pending() == 0


@pytest.mark.parametrize("code", [200, 500])
async def test_what_is_called_off_and_not_told_yet_while_its_attempt_ends_is_counted_once_and_shows_it(
    autojump_clock, code: int
):
    receiver = Receiver()
    receiver.answers(code, seconds=5, body=b"said")
    store = new_store(LateStore)
    async with house(receiver, store) as made, trio.open_nursery() as callers:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        with store.lateness():
            callers.start_soon(made.redeliverer.cancel, row)
            await trio.sleep(10)
            assert (await row_of(made, row.seq)).state == "cancelled"
            assert (len(receiver.requests), made.dispatcher.pending()) == (1, 1)
        await trio.sleep(1)
        assert made.dispatcher.pending() == 0
        again = await row_of(made, row.seq)
        assert (again.state, again.attempt_count, again.response_code) == ("cancelled", 1, code)
        assert await attempts_of(made, row.seq) == [(1, None if code == 200 else "http_status")]
        receiver.recover()
        await made.submit()  # and the lane goes on
        await trio.sleep(10)
        assert len(receiver.requests) == 2


@pytest.mark.parametrize("code", [200, 500])
async def test_what_is_called_off_in_flight_and_wanted_again_meanwhile_is_delivered(autojump_clock, code: int):
    receiver = Receiver()
    receiver.answers(code, 200, seconds=5)
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(2)  # what comes of the other one must not be what has the lane look again
        await trio.sleep(1)
        row, _ = await made.rows(hook)
        await made.redeliverer.cancel(row)
        assert made.dispatcher.pending() == 1
        await made.redeliverer.retry(await row_of(made, row.seq))
        assert made.dispatcher.pending() == 2
        await trio.sleep(30)
        assert {row.state for row in await made.rows(hook)} == {"succeeded"}
        assert made.dispatcher.pending() == 0
    sent = [(request.id, request.attempt) for request in receiver.requests]
    assert len(set(sent)) == len(sent) == (2 if code == 200 else 3)


async def test_an_attempt_that_is_not_recorded_yet_when_it_is_called_off_and_wanted_again_keeps_its_number(
    autojump_clock,
):
    receiver = Receiver()
    receiver.answers(500, 200, seconds=5)
    store = new_store(LateStore)
    async with house(receiver, store) as made, trio.open_nursery() as callers:
        hook = await made.make()
        await made.submit()
        await trio.sleep(1)
        (row,) = await made.rows(hook)
        await made.redeliverer.cancel(row)
        with store.lateness():
            callers.start_soon(made.redeliverer.retry, await row_of(made, row.seq))
            await trio.sleep(10)  # the attempt ends as one that was called off, and is on its way to the disk
        await trio.sleep(30)
        assert (await row_of(made, row.seq)).state == "succeeded"
        assert await attempts_of(made, row.seq) == [(1, "http_status"), (2, None)]
        assert made.dispatcher.pending() == 0
    assert [request.attempt for request in receiver.requests] == [1, 2]


@pytest.mark.parametrize("asked", ["cancel", "retry", "replay"])
async def test_what_a_caller_asked_for_who_is_gone_before_it_is_on_disk_is_known_to_the_lane(
    autojump_clock, asked: str
):
    receiver = Receiver()
    store = new_store(LateStore)
    async with house(receiver, store) as made, trio.open_nursery() as callers:
        hook, row = await failed(made, receiver)
        if asked == "cancel":
            await made.submit()
            row, _ = await made.rows(hook)
        with store.lateness():
            if asked == "replay":
                callers.start_soon(partial(made.redeliverer.replay, hook, ALL, dry_run=False))
            else:
                callers.start_soon(getattr(made.redeliverer, asked), row)
            await trio.sleep(0.1)
            callers.cancel_scope.cancel()
        receiver.recover()
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
            assert (await row_of(made, row.seq)).state == ("cancelled" if asked == "cancel" else "succeeded")
            assert made.dispatcher.pending() == 0


async def test_the_end_of_one_frees_the_next_of_its_chain(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(ordered=True, retry=["10h"])
        await made.submit(2)
        await trio.sleep(1)
        second, first = await made.rows(hook)
        assert (second.attempt_count, first.attempt_count) == (0, 1)
        receiver.recover()
        await made.redeliverer.cancel(first)
        await trio.sleep(1)
        assert (await row_of(made, second.seq)).state == "succeeded"


async def test_what_is_held_can_be_called_off_and_what_has_ended_cannot(autojump_clock):
    async with house(Receiver()) as made:
        hook = await made.editor.update(await made.make(), {"status": "paused"}, lambda _: True)
        await made.submit(2)
        await trio.sleep(1)
        row = (await made.rows(hook))[0]
        await made.redeliverer.cancel(row)
        assert made.dispatcher.held() == 1
        refused = await refusal(made.redeliverer.cancel(row))
        assert (refused.code, "cancelled" in refused.detail) == ("conflict", True)
        assert made.dispatcher.held() == 1


# --- replays ----------------------------------------------------------------------------------------------------


async def test_a_replay_makes_what_failed_anew_by_the_whole_schedule_and_only_once(autojump_clock):
    receiver = Receiver()
    receiver.answers(500)
    async with house(receiver) as made:
        hook = await made.make(retry=["1s"])
        await made.submit(1200)
        await trio.sleep(3 * 86_400)  # at one probe a minute
        assert {row.state for row in await made.rows(hook)} == {"failed"}
        assert await made.redeliverer.replay(hook, ALL, dry_run=True) == 1200
        before = len(receiver.requests)
        receiver.recover()
        assert await made.redeliverer.replay(hook, ALL, dry_run=False) == 1200
        assert await made.redeliverer.replay(hook, ALL, dry_run=False) == 0
        await trio.sleep(3600)
        assert len(receiver.requests) == before + 1200
        assert made.dispatcher.pending() == 0
        assert {row.state for row in await made.rows(hook, state="failed")} == set()


async def test_a_replay_takes_only_what_was_asked_for(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make()
        await made.submit(2)
        await made.submit(3, b'{"type":"c.d","data":1}')
        await trio.sleep(1000)
        await made.submit(4)
        await made.redeliverer.test(hook, "a.b", b"1")
        await trio.sleep(1)

        async def count(**fields: Any) -> int:
            wanted = Replay(**({"since_ms": 0, "until_ms": 1 << 50, "states": ("succeeded",)} | fields))
            return await made.redeliverer.replay(hook, wanted, dry_run=True)

        assert await count() == 9
        assert await count(type="c.d") == 3
        assert await count(since_ms=START_MS + 500_000) == 4
        assert await count(until_ms=START_MS + 500_000) == 5
        assert await count(states=("failed", "cancelled")) == 0
        assert len(receiver.requests) == 10


async def test_what_is_replayed_of_an_ordered_webhook_keeps_its_order(autojump_clock):
    receiver = Receiver()
    async with house(receiver) as made:
        hook = await made.make(ordered=True)
        for number in range(5):
            await made.submit(1, b'{"type":"a.b","data":%d}' % number)
        await trio.sleep(10)
        receiver.answers(500, 200)
        wanted = Replay(since_ms=0, until_ms=1 << 50, states=("succeeded",))
        assert await made.redeliverer.replay(hook, wanted, dry_run=False) == 5
        await made.submit(1, b'{"type":"a.b","data":9}')
        await trio.sleep(100)
        said = [request.body[-2:-1] for request in receiver.requests]
        assert said == [b"0", b"1", b"2", b"3", b"4", b"0", b"0", b"1", b"2", b"3", b"4", b"9"]


async def test_a_tenant_s_slow_receivers_keep_no_other_tenant_from_a_test(autojump_clock):
    async with house(Receiver()) as made, trio.open_nursery() as held:
        slow = await made.make()

        async def stay() -> None:
            async with made.dispatcher.visit(slow, 5):
                await trio.sleep(60)

        for _ in range(VISITS_PER_TENANT):
            held.start_soon(stay)
        await trio.testing.wait_all_tasks_blocked()
        start_s = trio.current_time()
        async with made.dispatcher.visit(structs.replace(slow, seq=99, tenant="other"), 5):
            assert trio.current_time() == start_s
        with pytest.raises(Refused, match="try again"):
            async with made.dispatcher.visit(slow, 5):
                raise AssertionError
        assert trio.current_time() - start_s == 5
        await trio.sleep(60)
        assert made.dispatcher.visits_under_way() == 0
