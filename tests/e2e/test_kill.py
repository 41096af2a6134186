"""kill -9 under load: what was acknowledged is on disk and comes, and little of it twice."""

import signal
import threading

from rig import SECRET, Client, Daemon, Receiver, hook, line, wait_for
from standardwebhooks import Webhook

from hookrelay.lane import UNRECORDED
from hookrelay.model import Ids

KILLS = 10
SUBMITTERS = 3
WINDOW = 40
IN_FLIGHT = 8


class Submitter:
    """One host app: sends lines with keys, many at a time, and after a cut says again what was not answered."""

    def __init__(self, number: int) -> None:
        self._first = number * 1_000_000
        self._next = self._first
        self._unanswered: list[int] = []
        self.ids: dict[int, str] = {}
        self.said_again = 0

    def work(self, path: object, stop: threading.Event) -> None:
        """Until `stop`, or until the daemon is gone."""
        try:
            client = Client(path)
        except OSError:
            return
        try:
            self.said_again += len(self._unanswered)
            known = list(self.ids)[-1:]  # one that was answered: it must be known still
            self._ask(client, self._unanswered + known)
            while not stop.is_set():
                numbers = list(range(self._next, self._next + WINDOW))
                self._next += WINDOW
                self._unanswered += numbers
                self._ask(client, numbers)
        except OSError:
            pass
        finally:
            client.close()

    def _ask(self, client: Client, numbers: list[int]) -> None:
        client.send(b"".join(line(number, idempotency_key=str(number)) for number in numbers))
        for number, said in zip(numbers, client.answers(), strict=False):
            assert said["deliveries"] == 2, said
            if number in self.ids:
                assert (said["id"], said["duplicate"]) == (self.ids[number], True)
            self.ids[number] = said["id"]
            if number in self._unanswered:
                self._unanswered.remove(number)
        if any(number in self._unanswered for number in numbers):
            raise ConnectionError


def check_whole(daemon: Daemon, ids: set[str]) -> None:
    """The files as they were left: sound, each event with both deliveries, and every acknowledged event among them."""
    with daemon.store() as conn:
        assert conn.execute("PRAGMA integrity_check").get == "ok"
        odd = "SELECT count(*) FROM event WHERE (SELECT count(*) FROM delivery WHERE event = event.seq) <> 2"
        assert conn.execute(odd).get == 0
        orphans = "SELECT count(*) FROM delivery WHERE event NOT IN (SELECT seq FROM event)"
        assert conn.execute(orphans).get == 0
        names = Ids(conn.execute("SELECT tag FROM store").get)
        rows = conn.execute("SELECT created_ms, seq FROM event")
        assert ids <= {names.make("evt", created_ms, seq) for created_ms, seq in rows}


def test_ten_times_killed_under_load_it_loses_nothing_and_repeats_little(daemon, receiver):
    taken: Receiver = receiver()
    running: Daemon = daemon(hook("one", taken.port) + hook("two", taken.port))
    submitters = [Submitter(number) for number in range(SUBMITTERS)]
    faults: list[BaseException] = []

    def count() -> int:
        return sum(len(each.ids) for each in submitters)

    errors, threading.excepthook = threading.excepthook, lambda said: faults.append(said.exc_value)
    try:
        for turn in range(KILLS + 1):
            running.start()
            stop = threading.Event()
            threads = [threading.Thread(target=each.work, args=(running.at / "e.sock", stop)) for each in submitters]
            for thread in threads:
                thread.start()
            answered, came = count() + 300, len(taken.requests) + 100
            wait_for(lambda a=answered, c=came: faults or (count() > a and len(taken.requests) > c), told=running.log)
            if turn < KILLS:
                assert running.end(signal.SIGKILL) == -signal.SIGKILL
            stop.set()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()
            if turn < KILLS:
                check_whole(running, {id for each in submitters for id in each.ids.values()})
    finally:
        threading.excepthook = errors
    assert not faults
    running.settled(within_s=40)
    assert running.end() == 0
    acknowledged = {id: number for each in submitters for number, id in each.ids.items()}
    assert sum(each.said_again for each in submitters) > KILLS  # the cuts fell into the load
    check_whole(running, set(acknowledged))
    verifier = Webhook(SECRET)
    for request in taken.requests:
        told = verifier.verify(request.body, request.headers)
        assert told["data"] == {"number": acknowledged[told["id"]]}
        assert list(told) == ["id", "type", "timestamp", "data"]
    for path in ("/one", "/two"):
        counts = taken.ids(path)
        assert counts.keys() == acknowledged.keys()
        assert counts.total() - len(counts) <= KILLS * IN_FLIGHT * (1 + UNRECORDED)
    with running.store() as conn:
        # what came twice was not recorded the first time: the history shows one attempt each
        odd = "SELECT count(*) FROM delivery WHERE state <> 'succeeded' OR attempt_count <> 1"
        assert conn.execute(odd).get == 0
