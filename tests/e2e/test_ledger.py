"""Nothing twice: under load, with retries that fall due meanwhile, what the receiver saw is what the history says."""

import json
from collections import Counter
from zlib import crc32

from rig import OK, Client, Daemon, Receiver, Request, answer, hook

from hookrelay.model import Ids

WEBHOOKS = 40
EVENTS = 520
BATCH = 20
FAILING = 8
"""One of so many deliveries fails at first."""


def _moody(request: Request, number: int) -> bytes:
    is_first = b"webhook-attempt: 1\r\n" in request.head + b"\r\n"
    return answer(500) if is_first and crc32((request.id + request.path).encode()) % FAILING == 0 else OK


def test_of_20_000_deliveries_none_comes_twice_and_each_history_is_what_the_receiver_saw(daemon, receiver):
    taken: Receiver = receiver(_moody)
    hooks = (hook(f"w{number}", taken.port, retry=["100ms", "1s"]) for number in range(WEBHOOKS))
    running: Daemon = daemon("".join(hooks))
    running.start()
    client: Client = running.client()
    said = client.answers()
    for first in range(0, EVENTS, BATCH):
        client.send(b"".join(b'{"type":"a.b","data":%d}\n' % number for number in range(first, first + BATCH)))
        for _ in range(BATCH):
            assert next(said)["deliveries"] == WEBHOOKS
    running.settled(within_s=240)
    assert running.end() == 0
    came = Counter(
        (request.id, request.path, int(request.headers["webhook-attempt"])) for request in list(taken.requests)
    )
    assert [each for each, count in came.items() if count > 1] == []
    assert came.total() >= WEBHOOKS * EVENTS
    seen = Counter((id, path) for id, path, _ in came)
    with running.store() as conn:
        ids = Ids(conn.execute("SELECT tag FROM store").get)
        paths = {
            seq: json.loads(text)["url"].rpartition(":")[2].partition("/")[1:]
            for seq, text in conn.execute("SELECT seq, definition FROM webhook")
        }
        history = {
            (ids.make("evt", created_ms, event), "".join(paths[webhook])): (state, count)
            for created_ms, event, webhook, state, count in conn.execute(
                "SELECT created_ms, event, webhook, state, attempt_count FROM delivery"
            )
        }
        rows = conn.execute("SELECT count(*) FROM attempt").get
    assert len(history) == WEBHOOKS * EVENTS
    assert history == {each: ("succeeded", count) for each, count in seen.items()}
    # a failed attempt has a row of its own, and so has the success after it
    assert rows == sum(count for count in seen.values() if count > 1)
