import apsw
import pytest

from hookrelay.store import tally
from hookrelay.store.open import open_memory
from hookrelay.store.tally import Failure


@pytest.fixture
def conn() -> apsw.Connection:
    return open_memory(1).writer


def test_counts_of_one_counter_add_up(conn):
    tally.add(conn, [(120, 0, 7, 1, 2), (120, 0, 7, 2, 1), (1800, 0, 7, 1, 2)])
    tally.add(conn, [(120, 0, 7, 1, 3), (120, 120, 7, 1, 10), (120, 0, 8, 1, 100)])
    found = tally.sums(conn, 120, [7], 0, 240, 120)
    assert sorted(found) == [(7, 0, 1, 5), (7, 0, 2, 1), (7, 120, 1, 10)]


def test_periods_are_put_together_into_slots(conn):
    tally.add(conn, [(1800, start, -5, 1, 1) for start in range(0, 1800 * 10, 1800)])
    assert sorted(tally.sums(conn, 1800, [-5], 1800, 1800 * 9, 3600)) == [
        (-5, 1800, 1, 2),
        (-5, 5400, 1, 2),
        (-5, 9000, 1, 2),
        (-5, 12600, 1, 2),
    ]


def test_only_the_named_scopes_are_looked_at_and_by_their_key(conn):
    tally.add(conn, [(1800, 1800 * n, scope, 1, 1) for n in range(20) for scope in range(1, 30)])
    assert {row[0] for row in tally.sums(conn, 1800, [3, 9, 500], 0, 1800 * 20, 1800)} == {3, 9}
    seen = []
    conn.exec_trace = lambda cursor, text, bindings: seen.append((text, bindings)) or True
    tally.sums(conn, 1800, [3, 9], 0, 1800 * 20, 1800)
    conn.exec_trace = None
    ((text, bindings),) = seen
    plan = [row[3] for row in conn.execute("EXPLAIN QUERY PLAN " + text, bindings)]
    assert any(step.startswith("SEARCH t USING PRIMARY KEY (size=? AND start=? AND scope=?)") for step in plan)
    assert not any("SCAN t" in step for step in plan)


def test_old_periods_go_a_little_at_a_time(conn):
    tally.add(conn, [(120, 120 * n, 1, 1, 1) for n in range(10)] + [(1800, 0, 1, 1, 1)])
    assert tally.prune(conn, 120, 120 * 6, 4) == 4
    assert tally.prune(conn, 120, 120 * 6, 4) == 2
    assert tally.prune(conn, 120, 120 * 6, 4) == 0
    assert len(tally.sums(conn, 120, [1], 0, 1200, 120)) == 4
    assert len(tally.sums(conn, 1800, [1], 0, 1800, 1800)) == 1


def test_of_two_failures_the_newer_is_kept_whichever_comes_first(conn):
    older, newer = Failure(5, 1, "timeout", None), Failure(9, 2, "http_status", 503)
    tally.note_failures(conn, [(1, newer), (2, older)])
    tally.note_failures(conn, [(1, older), (2, newer)])
    assert tally.failures(conn, [1, 2, 3]) == [(1, newer), (2, newer)]
