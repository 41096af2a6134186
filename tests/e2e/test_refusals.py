"""Every refusal of events.sock over the real socket: it costs its own line; the connection and the daemon go on."""

import threading

import pytest
from rig import GOOD, OK, Daemon, hook, wait_for

CATALOGUE = '[event_types."booking.created"]\n'
NO = b'{"type":"booking.created","data":'
NESTED_64 = NO + b"[" * 63 + b"]" * 63 + b"}"
"""As deep as it may be: the event itself counts."""

BAD = {
    "a byte-order mark": (b"\xef\xbb\xbf" + GOOD, "invalid_json"),
    "NaN": (NO + b"NaN}", "invalid_json"),
    "Infinity": (NO + b"Infinity}", "invalid_json"),
    "minus Infinity": (NO + b"[-Infinity]}", "invalid_json"),
    "trailing data": (GOOD + b" {}", "invalid_json"),
    "a trailing comma": (NO + b"[1,]}", "invalid_json"),
    "nesting of 65": (NO + b"[" * 64 + b"]" * 64 + b"}", "invalid_json"),
    "nesting without end": (b"[" * 100_000, "invalid_json"),
    "broken UTF-8": (NO + b'"\xc3\x28"}', "invalid_json"),
    "UTF-16": (GOOD.decode().encode("utf-16-le"), "invalid_json"),
    "garbage": (b"\x00\x01\xfe\xff\x7f", "invalid_json"),
    "an open string": (NO + b'"}', "invalid_json"),
    "an HTTP request": (b"GET / HTTP/1.1\r", "invalid_json"),
    "no type": (b'{"data":1}', "invalid_event"),
    "no data": (b'{"type":"booking.created"}', "invalid_event"),
    "an unknown field": (GOOD[:-1] + b',"colour":"red"}', "invalid_event"),
    "a type that is a number": (b'{"type":1,"data":1}', "invalid_event"),
    "a type with a space": (b'{"type":"booking created","data":1}', "invalid_event"),
    "a type that is too long": (b'{"type":"%b","data":1}' % (b"a" * 129), "invalid_event"),
    "a tenant that is null": (GOOD[:-1] + b',"tenant":null}', "invalid_event"),
    "a key that is empty": (GOOD[:-1] + b',"idempotency_key":""}', "invalid_event"),
    "a timestamp of yesterday": (GOOD[:-1] + b',"timestamp":"yesterday"}', "invalid_event"),
    "a list": (b"[%b]" % GOOD, "invalid_event"),
    "a text": (b'"booking.created"', "invalid_event"),
    "another type than the catalogue's": (b'{"type":"booking.creatd","data":1}', "unknown_event_type"),
    "more than 256 KiB": (NO + b'"' + b"x" * (256 << 10) + b'"}', "too_large"),
    "a used key with other data": (NO + b'2,"idempotency_key":"used"}', "idempotency_conflict"),
}
FIELDS = {"no type": "type", "no data": "data", "an unknown field": "colour", "a tenant that is null": "tenant"}


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A daemon with a closed catalogue for all lines: each must leave it as it was."""
    running = Daemon(tmp_path_factory.mktemp("closed"), "", "events.closed_catalogue = true\n" + CATALOGUE).start()
    yield running
    running.close()


@pytest.mark.parametrize("what", BAD)
def test_a_bad_line_costs_itself_alone(closed, what):
    bad, code = BAD[what]
    client = closed.client()
    first = client.ask(NO + b'1,"idempotency_key":"used"}\n')
    before = client.ask(GOOD + b"\n")
    error = client.ask(bad + b"\n")["error"]
    assert error["code"] == code
    assert error["detail"]
    assert error.get("field") == FIELDS.get(what, error.get("field"))
    after = client.ask(GOOD + b"\n")
    assert before.keys() == after.keys() == {"id", "deliveries"}
    assert first["id"] < before["id"] < after["id"] or "duplicate" in first
    client.close()
    assert closed.submit(GOOD, bad, GOOD)[1] == {"error": error}  # the same for one that is sent among others
    assert closed.get("/-/ready").status == 200


def test_what_is_just_within_the_bounds_is_taken(closed):
    room = (256 << 10) - len(NO) - 3
    answers = closed.submit(NESTED_64, NO + b'"' + b"x" * room + b'"}', b" \t" + GOOD + b"\r", b"", b"  ")
    assert [set(said) for said in answers] == [{"id", "deliveries"}] * 3


def test_a_line_that_drips_in_past_the_limit_is_refused_and_the_next_one_taken(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port), 'events.max_size = "2KiB"\n').start()
    client = running.client()
    client.send(b'{"type":"a","data":"')
    for _ in range(100):
        client.send(b"x" * 1000)
    client.send(b'"}\n')
    said = next(client.answers())
    assert said["error"]["code"] == "too_large"
    assert "2KiB" in said["error"]["detail"]
    assert client.ask(b'{"type":"a","data":"%b"}\n' % (b"x" * 2027))["error"]["code"] == "too_large"  # 2049 bytes
    assert client.ask(b'{"type":"a","data":"%b"}\n' % (b"x" * 2026))["deliveries"] == 1
    client.send(b"[" * 5000)
    client.sock.shutdown(1)  # a line without an end, and the client's side closed after it
    assert [said["error"]["code"] for said in client.answers()] == ["too_large"]
    taken.wait(1)
    assert running.end() == 0
    assert len(taken.requests) == 1


def test_a_full_store_refuses_what_is_new_and_delivers_what_it_has(daemon, receiver):
    is_full = threading.Event()

    def hold(request, number):
        is_full.wait(30)
        return OK

    taken = receiver(hold)
    running = daemon(hook("one", taken.port), 'store.max_size = "16MiB"\n').start()
    big = b'{"type":"a","data":"' + b"x" * 200_000 + b'"}'
    answers = running.submit(*[big] * 120)
    accepted = [said["id"] for said in answers if "id" in said]
    assert {said["error"]["code"] for said in answers if "error" in said} == {"store_full"}
    assert 40 < len(accepted) < 100
    client = running.client()
    assert client.ask(big + b"\n")["error"]["code"] == "store_full"
    assert client.ask(b"[]\n")["error"]["code"] == "invalid_event"
    client.close()
    is_full.set()
    wait_for(lambda: taken.ids().keys() == set(accepted), 30, running.log)
    running.settled()
    assert running.end() == 0
    with running.store() as conn:
        assert conn.execute("SELECT count(*), min(state), max(state) FROM delivery").get == (
            len(accepted),
            "succeeded",
            "succeeded",
        )
