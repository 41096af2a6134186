"""SIGTERM lets what was begun end; SIGHUP applies what the files say, all of it or none, and disturbs nobody else."""

import re
import signal
import threading
import time

import pytest
from rig import GOOD, OK, answer, hook, line, wait_for


def test_sigterm_lets_what_is_in_flight_end_and_records_it(daemon, receiver):
    def slow(request, number):
        time.sleep(1)
        return OK

    taken = receiver(slow)
    running = daemon(hook("slow", taken.port)).start()
    running.submit(*[GOOD] * 12)
    taken.wait(8)
    assert running.end(within_s=10) == 0
    assert len(taken.requests) == 8  # the other four were not begun
    with running.store() as conn:
        rows = conn.execute("SELECT state, attempt_count, response_code FROM delivery ORDER BY seq").fetchall()
    assert rows == [("succeeded", 1, 200)] * 8 + [("pending", 0, None)] * 4
    assert '"stopped"' in running.log().splitlines()[-1]
    running.start()
    taken.wait(12)
    running.settled()
    assert running.end() == 0
    assert set(taken.ids().values()) == {1}


def test_lines_that_are_sent_after_sigterm_are_not_taken(daemon, receiver):
    gate = threading.Event()

    def hold(request, number):
        gate.wait(20)
        return OK

    taken = receiver(hold)
    running = daemon(hook("one", taken.port)).start()
    client, idle = running.client(), running.client()
    assert client.ask(line(1, idempotency_key="1"))["deliveries"] == 1
    taken.wait(1)
    running.tell(signal.SIGTERM)
    running.logged("stopping")
    wait_for(lambda: not (running.at / "e.sock").exists())
    for each in (client, idle):
        try:
            each.send(line(2, idempotency_key="2"))
            assert list(each.answers()) == []
        except OSError:
            pass  # closed already
    with pytest.raises(OSError, match="No such file"):
        running.client()
    gate.set()
    assert running.wait(10) == 0
    running.start()
    assert "duplicate" not in running.submit(line(2, idempotency_key="2"))[0]
    assert running.submit(line(1, idempotency_key="1"))[0]["duplicate"] is True
    assert running.end() == 0


def test_every_line_that_sigterm_finds_read_is_answered_and_no_other_is_stored(daemon):
    running = daemon().start()
    client = running.client()
    ids = []
    sender = threading.Thread(target=send_until_closed, args=(client,))
    sender.start()
    for said in client.answers():
        assert said.keys() == {"id", "deliveries"}, said
        ids.append(said["id"])
        if len(ids) == 200:
            running.tell(signal.SIGTERM)
    sender.join(10)
    assert running.wait(10) == 0
    with running.store() as conn:
        assert conn.execute("SELECT count(*) FROM event").get == len(set(ids)) == len(ids)
    assert len(ids) >= 200


def send_until_closed(client):
    for number in range(100_000):
        try:
            client.send(line(number))
        except OSError:
            return


def test_a_second_sigterm_cuts_what_hangs_charges_nobody_and_it_comes_after_the_start(daemon, receiver):
    closed = threading.Event()

    def hang_once(request, number):
        if number == 1:
            closed.wait(20)
        return OK

    taken = receiver(hang_once)
    running = daemon(hook("hang", taken.port)).start()
    running.submit(GOOD)
    taken.wait(1)
    running.tell(signal.SIGTERM)
    running.logged("stopping")
    assert running.end(within_s=2) == 0
    closed.set()
    with running.store() as conn:
        delivery = conn.execute("SELECT state, attempt_count, strikes, error_code FROM delivery").get
        attempts = conn.execute("SELECT number, error_code FROM attempt").fetchall()
    assert delivery == ("pending", 1, 0, "interrupted")
    assert attempts == [(1, "interrupted")]
    running.start()
    taken.wait(2)
    running.settled()
    assert [request.headers["webhook-attempt"] for request in taken.requests] == ["1", "2"]
    (row,) = running.deliveries("hang")
    assert (row["status"], row["attempt_count"]) == ("succeeded", 2)
    codes = [attempt["error"] and attempt["error"]["code"] for attempt in running.attempts(row["id"])]
    assert codes == ["interrupted", None]
    assert running.end() == 0


def test_a_reload_adds_changes_and_removes_webhooks_and_disturbs_no_other(daemon, receiver):
    gate = threading.Event()

    def script(request, number):
        if request.path in ("/kept", "/changed"):
            gate.wait(20)
        return answer(500) if request.path == "/removed" else OK

    taken = receiver(script)
    changed = hook("changed", taken.port)
    running = daemon(hook("kept", taken.port) + changed + hook("removed", taken.port)).start()
    (first,) = running.submit(GOOD)
    taken.wait(3)
    waiting = running.deliveries("removed")[0]["id"]
    wait_for(lambda: running.get(f"/v1/deliveries/{waiting}").json["attempt_count"] == 1)
    running.rewrite(hook("kept", taken.port) + changed.replace("/changed", "/moved") + hook("added", taken.port))
    assert running.get("/-/reload?remove=true", "POST").status == 200
    wait_for(lambda: running.get(f"/v1/deliveries/{waiting}").json["status"] == "cancelled")
    assert running.metric('hookrelay_deliveries_total{result="cancelled"}') == 1
    (second,) = running.submit(GOOD)
    assert (first["deliveries"], second["deliveries"]) == (3, 3)
    wait_for(lambda: taken.ids("/added") == {second["id"]: 1} and taken.ids("/kept")[second["id"]] == 1)
    gate.set()
    running.settled()
    # what was in flight went on to its end, once; what came later went to the new address
    assert taken.ids("/kept") == {first["id"]: 1, second["id"]: 1}
    assert taken.ids("/changed") == {first["id"]: 1}
    assert taken.ids("/moved") == {second["id"]: 1}
    assert taken.ids("/removed") == {first["id"]: 1}
    assert [row["status"] for row in running.deliveries("moved")] == ["succeeded"] * 2
    assert running.metric("hookrelay_config_last_reload_successful") == 1
    assert running.end() == 0


def test_after_any_mistake_a_reload_applies_nothing_and_tells_every_one(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port), 'events.max_size = "2KiB"\n').start()
    assert running.metric("hookrelay_config_last_reload_successful") == 1
    good, settings = running.hooks.read_text(), running.config.read_text()
    running.rewrite(good + hook("two", taken.port) + 'colour = "red"\nretry = "soon"\n')
    running.config.write_text(settings.replace("2KiB", "4KiB"))
    running.tell(signal.SIGHUP)
    running.logged("reload_refused")
    assert running.metric("hookrelay_config_last_reload_successful") == 0
    told = re.findall(r"hooks\.toml:(\d+): ", running.log())
    assert told == ["11", "12"]
    assert running.submit(GOOD)[0]["deliveries"] == 1
    long = b'{"type":"a","data":"%b"}' % (b"x" * 3000)
    assert running.submit(long)[0]["error"]["code"] == "too_large"
    running.rewrite(good + hook("two", taken.port))
    running.tell(signal.SIGHUP)
    running.logged("reloaded")
    assert running.metric("hookrelay_config_last_reload_successful") == 1
    assert running.submit(long)[0]["deliveries"] == 2
    assert running.end() == 0


def test_ten_hups_in_a_row_and_a_sigterm_behind_them_are_obeyed(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port)).start()
    for number in range(10):
        running.rewrite(hook("one", taken.port) + hook(f"more{number}", taken.port))
        running.tell(signal.SIGHUP)
        (said,) = running.submit(GOOD)
        assert 1 <= said["deliveries"] <= number + 2  # what a file no longer names is held, and gets its events
    # signals may fall together, but the last of them comes after the last change
    wait_for(lambda: "more9" in running.get("/v1/webhooks").body.decode(), told=running.log)
    running.rewrite(hook("one", taken.port))
    for _ in range(10):
        running.tell(signal.SIGHUP)
    assert running.end() == 0
    assert running.log().count('"event": "reloaded"') >= 2
    assert "Traceback" not in running.log()
