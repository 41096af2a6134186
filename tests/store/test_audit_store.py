"""The audit trail in the store: a record is there with its change, and is not there without it."""

from typing import Any

import apsw
import pytest

from hookrelay.store import audit, prune
from hookrelay.store.audit import AuditRow, Wanted
from hookrelay.store.open import open_memory


def row(**fields: Any) -> AuditRow:
    said = {"created_ms": 1000, "tenant": "t", "action": "key.created", "object": "key_1", "actor": "key_0"}
    more = {"seq": 0, "by_operator": 0, "session": None, "pid": None, "address": None, "more": '{"details":{}}'}
    return AuditRow(**{**said, **more, **fields})


@pytest.fixture
def conn() -> apsw.Connection:
    made = open_memory(1).writer
    made.execute("CREATE TABLE thing (n)")
    return made


def found(conn: apsw.Connection, **wanted: Any) -> list[AuditRow]:
    return audit.records(conn, Wanted(**wanted), None, 100).rows


def add(conn: apsw.Connection, count: int) -> int:
    for number in range(count):
        conn.execute("INSERT INTO thing VALUES (?)", (number,))
    return count


def test_a_job_that_changes_nothing_leaves_no_record_unless_that_is_certain(conn):
    assert audit.recorded(conn, lambda: [row()], add, (0,), False) == (0, [])
    assert found(conn) == []
    assert audit.recorded(conn, lambda: [row()], add, (2,), False) == (2, [1])
    assert audit.recorded(conn, lambda: [row(), row()], add, (0,), True) == (0, [2, 3])
    assert [each.seq for each in found(conn)] == [3, 2, 1]


def test_many_steps_are_one_record_with_all_of_their_figures(conn):
    def counts(count: int) -> dict[str, int]:
        return {"things": count}

    seq = None
    for count in (0, 3, 0, 4):
        answer, seq = audit.counted(conn, seq, row(), counts, add, (count,))
        assert answer == count
    (one,) = found(conn)
    assert (one.seq, one.more) == (seq, '{"details":{"things":7}}')


def test_a_tenant_is_shown_an_operator_and_finds_them_by_no_other_name(conn):
    by = {"actor": "uid:0", "by_operator": 1, "pid": 7, "session": "ses_1", "address": "192.0.2.1"}
    audit.insert(conn, row(**by))
    (shown,) = found(conn, tenant="t", is_tenant=True)
    assert (shown.actor, shown.pid, shown.session, shown.address) == ("operator", None, None, None)
    (shown,) = found(conn, tenant="t")
    assert (shown.actor, shown.pid, shown.session, shown.address) == ("uid:0", 7, "ses_1", "192.0.2.1")
    for actor in ("uid:0", "ses_1"):
        assert found(conn, tenant="t", is_tenant=True, actor=actor) == []
        assert len(found(conn, tenant="t", actor=actor)) == 1


def test_each_filter_narrows_and_pages_go_on_where_the_last_one_ended(conn):
    for number in range(30):
        tenant = "t" if number % 3 else "u"
        action = "key.created" if number % 2 else "key.revoked"
        audit.insert(conn, row(created_ms=number * 100_000, tenant=tenant, action=action, object=f"key_{number}"))
    seen: list[int] = []
    before = None
    while True:
        page = audit.records(conn, Wanted(tenant="t", action="key.created"), before, 3)
        seen += [each.seq for each in page.rows]
        before = page.next
        if before is None:
            break
    assert seen == [number + 1 for number in range(29, 0, -1) if number % 2 and number % 3]
    assert [each.object for each in found(conn, object="key_7")] == ["key_7"]
    between = found(conn, since_ms=500_000, until_ms=900_000)
    assert [each.created_ms for each in between] == [800_000, 700_000, 600_000, 500_000]


def test_the_old_go_and_the_newest_stays_whatever_its_age(conn):
    for number in range(10):
        audit.insert(conn, row(created_ms=number))
    assert prune.records(conn, -1, 0, 100) == (0, None)
    assert prune.records(conn, -1, 4, 3) == (3, 3)
    assert prune.records(conn, 3, 4, 3) == (1, 6)
    assert prune.records(conn, 6, 4, 3) == (0, None)
    prune.records(conn, -1, 1 << 40, 100)
    assert [each.created_ms for each in found(conn)] == [9]


def test_too_many_records_are_those_of_whoever_has_most(conn):
    for number in range(100):
        audit.insert(conn, row(tenant="busy" if number % 10 else "quiet"))
    assert prune.surplus(conn, 100) is None
    assert prune.surplus(conn, 60) == ("busy", 40)
    assert prune.oldest_records(conn, "busy", 40) == 40
    assert prune.surplus(conn, 60) is None
    assert len(found(conn, tenant="quiet")) == 10
    assert found(conn, tenant="busy")[0].seq == 100
