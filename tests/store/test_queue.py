"""What comes of attempts, on a connection alone."""

from collections.abc import Iterator
from functools import partial

import apsw
import pytest
from builders import START_MS, event, outcome

from hookrelay.model import Ids, Outcome, Verdict
from hookrelay.store import events, history, purge, queue, redeliver
from hookrelay.store.open import open_memory

GOOD = outcome(response_head=b"HTTP/1.1 200 OK", response_body=b"thanks", remote_address="192.0.2.1:443", phases="1,2")
BAD = outcome("http_status", response_head=b"HTTP/1.1 500 No", response_body=b"sorry", detail="said 500")
DONE = Verdict("succeeded", 0)
AGAIN = Verdict("pending", 1, START_MS + 5000)


@pytest.fixture
def conn() -> Iterator[apsw.Connection]:
    conn = open_memory(START_MS).writer
    conn.execute(
        "INSERT INTO webhook (seq, id, tenant, source, definition, created_ms, updated_ms)"
        " VALUES (1, 'wh_1', 'default', 'api', '{}', 0, 0)"
    )
    events.insert(conn, [events.Entry(event(number), None, (1,), number) for number in (1, 2, 3)])
    yield conn
    conn.close()


def ended(
    seq: int, came: Outcome = GOOD, verdict: Verdict = DONE, *, number: int = 1, late: bool = False
) -> queue.Result:
    return queue.Result(seq, number, came, verdict, 1, is_called_off=late)


def shown(conn: apsw.Connection, seq: int) -> tuple[history.DeliveryRow, list[history.AttemptRow]]:
    found = history.delivery(conn, seq)
    assert found is not None
    return found[0], found[3]


cancel = partial(redeliver.cancel, now_ms=START_MS, is_ordered=False)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("came", "verdict"), [(GOOD, DONE), (BAD, AGAIN)])
def test_a_delivery_that_is_cancelled_in_the_commit_that_records_its_attempt_keeps_all_of_that_attempt(
    conn: apsw.Connection, came: Outcome, verdict: Verdict, late: bool
):
    cancel(conn, 2)
    answers = queue.record(conn, [ended(1), ended(2, came, verdict, late=late), ended(3)])
    assert answers == [None, queue.CALLED_OFF, None]
    row, attempts = shown(conn, 2)
    assert (row.state, row.due_ms, row.attempt_count, row.response_code, row.error_code, row.error_detail) == (
        "cancelled",
        None,
        1,
        came.response_code,
        came.error,
        came.detail or None,
    )
    assert attempts == [
        history.AttemptRow(
            1,
            came.started_ms,
            250_000,
            came.response_code,
            came.error,
            came.detail or None,
            came.remote_address,
            came.response_head,
            came.response_body,
            came.phases,
        )
    ]
    assert [shown(conn, seq)[0].state for seq in (1, 3)] == ["succeeded", "succeeded"]


def test_what_has_succeeded_in_the_commit_in_which_it_is_to_be_cancelled_stays_what_it_is(conn: apsw.Connection):
    queue.record(conn, [ended(2)])
    assert cancel(conn, 2).state == "succeeded"
    row, attempts = shown(conn, 2)
    assert (row.state, [attempt.response_body for attempt in attempts]) == ("succeeded", [b"thanks"])


@pytest.mark.parametrize("late", [False, True])
def test_nothing_of_an_attempt_is_kept_that_ends_after_its_payload_was_purged(conn: apsw.Connection, late: bool):
    cancel(conn, 2)
    purge.blank_events(conn, [2], [2], START_MS)
    queue.record(conn, [ended(2, BAD, AGAIN, late=late)])
    row, (attempt,) = shown(conn, 2)
    assert (row.state, row.error_code, row.error_detail) == ("cancelled", "http_status", None)
    assert (attempt.response_head, attempt.response_body, attempt.error_detail) == (None, None, None)


def test_what_is_wanted_again_before_its_called_off_attempt_is_recorded_goes_on_with_the_next_number(
    conn: apsw.Connection,
):
    cancel(conn, 2)
    redeliver.retry(conn, 2, START_MS + 7, 2)
    assert queue.record(conn, [ended(2, BAD, AGAIN, late=True)]) == [queue.CALLED_OFF]
    (row,) = conn.execute("SELECT state, due_ms, strikes, attempt_count FROM delivery WHERE seq = 2").fetchall()
    assert row == ("pending", START_MS + 7, 2, 1)
    assert [attempt.number for attempt in shown(conn, 2)[1]] == [1]


@pytest.mark.parametrize(("verdict", "is_over"), [(DONE, True), (Verdict("failed", 3), True), (AGAIN, False)])
def test_a_delivery_is_completed_when_the_attempt_that_ended_it_had_its_answer(
    conn: apsw.Connection, verdict: Verdict, is_over: bool
):
    queue.record(conn, [ended(1, GOOD if verdict is DONE else BAD, verdict)])
    completed_ms = conn.execute("SELECT completed_ms FROM delivery WHERE seq = 1").get
    assert completed_ms == (START_MS + 250 if is_over else None)


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_a_page_brings_no_more_retries_than_it_was_asked_for_and_says_when_the_next_is_due(
    conn: apsw.Connection, retries: int
):
    more = [events.Entry(event(number), None, (1,), number) for number in range(4, 9)]
    events.insert(conn, more)
    failed = [4, 5, 6, 7, 8]
    queue.record(conn, [ended(seq, BAD, Verdict("pending", 1, START_MS + seq)) for seq in failed])
    page = queue.due(conn, Ids(7), 1, START_MS + 60_000, (), 5, retries)
    assert [each.seq for each in page.deliveries] == [1, 2, 3, *failed[: min(retries, 2)]]
    brought = min(retries, 2)  # five are wanted in all, and first attempts go first
    assert (page.next_first_ms, page.next_retry_ms) == (None, START_MS + failed[brought])
