"""The daemon obeys receivers and operators: holds, order, disabling, pausing, and what operators are told."""

import json
import signal
import time
from collections.abc import Callable

from rig import OK, Daemon, Receiver, Request, answer, hook, line, wait_for

Make = Callable[..., Daemon]
Listen = Callable[..., Receiver]


def numbers(receiver: Receiver, path: str | None = None) -> list[int]:
    """What the test numbered its events by, in the order in which they came first."""
    came = [json.loads(each.body)["data"]["number"] for each in list(receiver.requests) if path in (None, each.path)]
    return list(dict.fromkeys(came))


def test_no_attempt_starts_before_the_time_that_retry_after_names(daemon: Make, receiver: Listen):
    came: list[float] = []

    def script(request: Request, number: int) -> bytes:
        came.append(time.monotonic())
        return answer(503, b"", "Retry-After: 2") if number == 1 else OK

    busy = receiver(script)
    made = daemon(hook("busy", busy.port, retry=["100ms", "100ms"])).start()
    made.submit(line(0))
    busy.wait(1)
    made.submit(*[line(number) for number in range(1, 20)])
    busy.wait(21)
    assert min(came[1:]) - came[0] >= 2.0
    assert min(came[1:]) - came[0] < 4.0
    first = made.deliveries("busy")[0]
    assert made.attempts(first["id"])[0]["response_headers"]["retry-after"] == "2"


def test_a_hold_is_kept_across_a_restart(daemon: Make, receiver: Listen):
    came: list[float] = []

    def script(request: Request, number: int) -> bytes:
        came.append(time.monotonic())
        return answer(429, b"", "Retry-After: 4") if number == 1 else OK

    busy = receiver(script)
    made = daemon(hook("busy", busy.port, retry=["100ms"])).start()
    made.submit(line(0))
    wait_for(lambda: made.metric('hookrelay_attempts_total{outcome="http_status"}') == 1)
    assert made.end() == 0
    made.start()
    made.submit(line(1))
    busy.wait(3)
    assert min(came[1:]) - came[0] >= 3.9


def test_410_disables_for_good_tells_operators_and_a_changed_file_begins_anew(daemon: Make, receiver: Listen):
    gone, operators = receiver(lambda request, number: answer(410) if number == 1 else OK), receiver()
    ops = hook("ops", operators.port, tenant="hookrelay", events=["hookrelay.*"])
    made = daemon(hook("gone", gone.port, max_in_flight=1) + ops).start()
    made.submit(line(0))
    operators.wait(1)
    told = json.loads(operators.requests[0].body)
    assert told["type"] == "hookrelay.webhook.disabled"
    assert (told["data"]["reason"], told["data"]["webhook_id"]) == ("gone", made.webhook("gone")["id"])
    made.submit(*[line(number) for number in range(1, 5)])
    shown = made.webhook("gone")
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "gone")
    assert [row["status"] for row in made.deliveries("gone")] == ["held"] * 5
    assert {row["next_attempt_at"] for row in made.deliveries("gone")} == {None}
    assert made.metric('hookrelay_webhooks{status="disabled"}') == 1
    assert made.metric("hookrelay_held_deliveries") == 5
    assert made.metric(f'hookrelay_webhook_up{{webhook="{shown["id"]}"}}') == 0
    assert "webhook_disabled" in made.log()

    assert made.end() == 0
    made.start()
    assert made.webhook("gone")["disabled_reason"] == "gone"
    assert made.metric("hookrelay_held_deliveries") == 5
    assert len(gone.requests) == 1

    made.rewrite(hook("gone", gone.port, max_in_flight=1, description="mended") + ops)
    made.tell(signal.SIGHUP)
    gone.wait(6)
    made.settled()
    assert numbers(gone) == [0, 1, 2, 3, 4]
    assert (made.webhook("gone")["status"], made.webhook("gone")["disabled_reason"]) == ("active", None)


def test_a_delivery_that_fails_for_good_is_told_to_operators_and_nobody_else(daemon: Make, receiver: Listen):
    down, operators, tenant = receiver(lambda *_: answer(500)), receiver(), receiver()
    made = daemon(
        hook("down", down.port, retry=[])
        + hook("ops", operators.port, tenant="hookrelay")
        + hook("all", tenant.port, events=["hookrelay.*"])
    ).start()
    made.submit(line(0))
    operators.wait(1)
    told = json.loads(operators.requests[0].body)
    (failed,) = made.deliveries("down")
    assert told["type"] == "hookrelay.delivery.failed"
    assert told["data"]["delivery_id"] == failed["id"]
    assert (told["data"]["response_code"], told["data"]["error"]["code"]) == (500, "http_status")
    made.settled()
    assert tenant.requests == []


def test_an_ordered_webhook_gets_its_events_in_order_through_failures_reloads_and_kill(daemon: Make, receiver: Listen):
    def script(request: Request, number: int) -> bytes:
        return answer(500) if number % 7 == 3 else OK

    ordered = receiver(script)
    text = hook("ordered", ordered.port, ordered=True, retry=["20ms"] * 20)
    made = daemon(text).start()
    made.submit(*[line(number) for number in range(100)])
    ordered.wait(10)
    made.rewrite(text + 'description = "still ordered"\n')
    made.tell(signal.SIGHUP)
    ordered.wait(30)
    made.end(signal.SIGKILL)
    made.start()
    made.submit(*[line(number) for number in range(100, 120)])
    made.settled()
    assert numbers(ordered) == list(range(120))
    repeats = [json.loads(each.body)["data"]["number"] for each in ordered.requests]
    assert repeats == sorted(repeats)


def test_events_of_one_ordering_key_never_overtake_each_other_and_others_do_not_wait(daemon: Make, receiver: Listen):
    def script(request: Request, number: int) -> bytes:
        data = json.loads(request.body)["data"]
        return answer(500) if data["number"] == 0 and request.headers["webhook-attempt"] == "1" else OK

    keyed = receiver(script)
    made = daemon(hook("keyed", keyed.port, retry=["1500ms"])).start()
    made.submit(*[line(number, ordering_key="ab"[number % 2]) for number in range(40)], line(40))
    keyed.wait(22)
    early = [json.loads(each.body)["data"]["number"] for each in list(keyed.requests)]
    assert sorted(early) == [0, *range(1, 40, 2), 40]
    waiting = made.deliveries("keyed")
    assert [row["next_attempt_at"] is None for row in waiting[2:40:2]] == [True] * 19
    made.settled()
    came = numbers(keyed)
    assert [number for number in came if number % 2] == list(range(1, 40, 2))
    assert [number for number in came if not number % 2 and number < 40] == list(range(0, 40, 2))


def test_a_paused_webhook_keeps_its_events_and_delivers_them_in_order_when_it_is_active_again(
    daemon: Make, receiver: Listen
):
    shop = receiver()
    made = daemon(hook("shop", shop.port, status="paused", max_in_flight=1, rate_limit="50/s burst 1")).start()
    made.submit(*[line(number) for number in range(30)])
    assert made.metric("hookrelay_held_deliveries") == 30
    assert [row["status"] for row in made.deliveries("shop")] == ["held"] * 30
    made.rewrite(hook("shop", shop.port, max_in_flight=1, rate_limit="50/s burst 1"))
    started = time.monotonic()
    made.tell(signal.SIGHUP)
    shop.wait(30)
    assert time.monotonic() - started > 0.5  # 30 at 50 a second
    assert numbers(shop) == list(range(30))


def test_a_webhook_that_becomes_active_with_held_discard_gets_nothing_that_was_held(daemon: Make, receiver: Listen):
    shop = receiver()
    made = daemon(hook("shop", shop.port, status="paused")).start()
    made.submit(*[line(number) for number in range(30)])
    made.rewrite(hook("shop", shop.port, held="discard"))
    made.tell(signal.SIGHUP)
    made.logged("reloaded")
    made.submit(line(30))
    shop.wait(1)
    made.settled()
    assert numbers(shop) == [30]
    assert [row["status"] for row in made.deliveries("shop")] == ["cancelled"] * 30 + ["succeeded"]
    assert made.metric("hookrelay_held_deliveries") == 0
    assert made.metric('hookrelay_deliveries_total{result="cancelled"}') == 30


def test_a_file_that_is_empty_because_it_is_being_saved_takes_no_webhook_away(daemon: Make, receiver: Listen):
    shop = receiver()
    made = daemon(hook("shop", shop.port, status="paused")).start()
    made.submit(*[line(number) for number in range(5)])
    made.hooks.write_text("")
    made.tell(signal.SIGHUP)
    wait_for(lambda: '"missing": 1' in made.log(), told=made.log)
    assert '"held": 5' in made.log()
    made.hooks.write_text(hook("shop", shop.port))
    made.tell(signal.SIGHUP)
    shop.wait(5)
    assert '"removed": 1' not in made.log()


def test_a_rate_limit_is_kept_and_counted(daemon: Make, receiver: Listen):
    came: list[float] = []

    def script(request: Request, number: int) -> bytes:
        came.append(time.monotonic())
        return OK

    slow = receiver(script)
    made = daemon(hook("slow", slow.port, rate_limit="20/s burst 1")).start()
    made.submit(*[line(number) for number in range(21)])
    slow.wait(21)
    assert came[-1] - came[0] >= 0.95
    assert made.metric("hookrelay_rate_limit_waits_total") >= 19


def test_a_reload_that_denies_an_address_blocks_it_and_one_that_allows_it_again_delivers(
    daemon: Make, receiver: Listen
):
    shop = receiver()
    made = daemon(hook("shop", shop.port, retry=["300ms"] * 40)).start()
    made.submit(line(0))
    shop.wait(1)
    text = made.config.read_text()
    made.config.write_text(text.replace('["127.0.0.1/32"]', '["localhost"]'))
    made.rewrite(hook("shop", shop.port, retry=["300ms"] * 40).replace("127.0.0.1", "localhost"))
    made.tell(signal.SIGHUP)
    made.logged("reloaded")
    made.submit(line(1))
    shop.wait(2)
    made.config.write_text(text.replace('["127.0.0.1/32"]', '["localhost"]') + 'egress.deny = ["127.0.0.0/8"]\n')
    made.tell(signal.SIGHUP)
    wait_for(lambda: made.log().count('"event": "reloaded"') == 2, told=made.log)
    made.submit(line(2))
    wait_for(lambda: made.metric('hookrelay_attempts_total{outcome="egress_blocked"}') >= 2, told=made.log)
    assert len(shop.requests) == 2
    assert "egress.deny: 127.0.0.0/8" in made.deliveries("shop")[-1]["error"]["detail"]  # an administrator asks
    assert "refused by egress.deny: 127.0.0.0/8" in made.log()
    made.config.write_text(text.replace('["127.0.0.1/32"]', '["localhost"]'))
    made.tell(signal.SIGHUP)
    shop.wait(3)
