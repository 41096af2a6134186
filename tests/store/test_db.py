"""The writer: groups commits, tells everybody their own answer, and writes nothing half."""

import resource
import threading
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing

from hookrelay.model import Event, Ids, Outcome, Refused, Verdict
from hookrelay.store import events, history, keys, queue, sessions
from hookrelay.store import open as opening
from hookrelay.store.db import Store
from hookrelay.store.files import StoreDamaged, StoreTaken, StoreTooNew, StoreUnusable

NOW = 1_800_000_000_000


def entry(
    store: Store,
    key: str | None = None,
    data: bytes = b"1",
    now: int = NOW,
    at_ms: int = 0,
    window_ms: int = 1 << 40,
) -> events.Entry:
    seq, first = store.take_numbers(1)
    event = Event(seq, now, store.ids.make("evt", now, seq), "a.b", "default", "2027-01-15T08:00:00Z", data)
    hashed = None
    if key is not None:
        hashed = events.idempotency_key(store.salt, "default", key, "a.b", data, at_ms, window_ms)
    return events.Entry(event, hashed, (1,), first)


def opened(path: Path, **options: int) -> opening.Opened:
    return opening.open_file(path, **{"max_size": 1 << 30, "now_ms": NOW, **options})


@pytest.fixture(params=["memory", "file"])
async def store(request, tmp_path):
    made = Store(opening.open_memory(NOW) if request.param == "memory" else opened(tmp_path / "h.db"))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made
        made.close()


async def test_what_is_answered_can_be_read(store):
    (receipt,) = await store.write(events.insert, [entry(store)])
    page = await store.read(queue.due, store.ids, 1, NOW, [], 10)
    assert (receipt.deliveries, receipt.duplicate) == (1, False)
    assert [delivery.event.seq for delivery in page.deliveries] == [receipt.seq]


async def test_many_writers_share_few_commits_and_each_gets_its_own_answer(store):
    before = store._commits
    receipts = {}

    async def write(number: int) -> None:
        (receipts[number],) = await store.write(events.insert, [entry(store, data=b"%d" % number)])

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(write, number)
    page = await store.read(queue.due, store.ids, 1, NOW, [], 500)
    stored = {delivery.event.seq: int(delivery.event.data) for delivery in page.deliveries}
    assert {number: stored[receipt.seq] for number, receipt in receipts.items()} == {each: each for each in range(200)}
    assert store._commits - before <= 10


async def test_a_job_that_fails_is_undone_alone_and_told_to_its_caller(store):
    def spoil(conn: apsw.Connection) -> None:
        conn.execute("DELETE FROM event")
        raise KeyError("spoiled")

    told = []

    async def fail() -> None:
        try:
            await store.change(spoil)
        except KeyError as error:
            told.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, events.insert, [entry(store)])
        nursery.start_soon(fail)
        nursery.start_soon(store.write, events.insert, [entry(store)])
    page = await store.read(queue.due, store.ids, 1, NOW, [], 10)
    assert (len(told), len(page.deliveries)) == (1, 2)


async def test_a_key_used_before_gives_the_first_answer_or_a_conflict(store):
    first, same_batch = await store.write(events.insert, [entry(store, "k"), entry(store, "k")])
    (later,) = await store.write(events.insert, [entry(store, "k")])
    (other,) = await store.write(events.insert, [entry(store, "k", data=b"2")])
    (expired,) = await store.write(events.insert, [entry(store, "k", data=b"3", now=NOW + 9, window_ms=-1)])
    assert [(each.seq, each.duplicate) for each in (same_batch, later)] == [(first.seq, True)] * 2
    assert isinstance(other, Refused)
    assert other.code == "idempotency_conflict"
    assert (expired.seq != first.seq, expired.duplicate) == (True, False)


async def test_the_same_value_written_otherwise_is_a_duplicate_and_another_value_a_conflict(store: Store):
    (first,) = await store.write(events.insert, [entry(store, "k", data=b'{"a": 1, "b": [2]}')])
    alike, other = await store.write(
        events.insert, [entry(store, "k", data=b'{"b":[2],"a":1}'), entry(store, "k", data=b'{"b":[2],"a":1.0}')]
    )
    assert (alike.seq, alike.duplicate) == (first.seq, True)
    assert other.code == "idempotency_conflict"
    # also among those of one commit
    one, same = await store.write(events.insert, [entry(store, "l", data=b"[1]"), entry(store, "l", data=b"[ 1 ]")])
    assert (same.seq, same.duplicate) == (one.seq, True)


async def test_once_a_payload_is_gone_only_its_equal_bytes_are_known(store: Store):
    (first,) = await store.write(events.insert, [entry(store, "k", data=b"[1]")])
    await store.change(lambda conn: conn.execute("UPDATE event SET data = x'6e756c6c', purged_ms = 1").get)
    same, alike = await store.write(events.insert, [entry(store, "k", data=b"[1]"), entry(store, "k", data=b"[ 1]")])
    assert (same.seq, same.duplicate) == (first.seq, True)
    assert alike.code == "idempotency_conflict"


def test_keys_count_by_running_time_over_restarts_and_no_clock_shakes_it(tmp_path):
    async def run(now_ms: int) -> tuple[events.Receipt, int]:
        made = Store(opened(tmp_path / "h.db", now_ms=now_ms), inline=True)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            (found,) = await made.write(
                events.insert, [entry(made, "k", now=now_ms, at_ms=made.running_ms(), window_ms=3_600_000)]
            )
            await trio.sleep(1000)
            running_ms = made.running_ms()
            made.close()
        return found, running_ms

    # a machine without a clock of its own begins in 1970 and is set right, or the other way round
    for number, now_ms in enumerate((86_400_000, NOW, 1000, 3 * NOW, NOW)):
        found, running_ms = trio.run(run, now_ms, clock=trio.testing.MockClock(autojump_threshold=0))
        assert found.duplicate == (number in (1, 2, 3))  # after an hour of running it is forgotten
        assert running_ms == pytest.approx((number + 1) * 1_000_000, abs=2000)


async def test_two_keys_that_share_a_hash_are_told_apart(store):
    one, two = entry(store, "k"), entry(store, "l", data=b"2")
    colliding = events.Entry(two.event, two.key._replace(hash=one.key.hash), two.webhooks, two.first_delivery)
    answers = await store.write(events.insert, [one, colliding])
    again = await store.write(events.insert, [colliding, one])
    assert [answer.duplicate for answer in answers + again] == [False, False, True, True]
    assert [again[0].seq, again[1].seq] == [answers[1].seq, answers[0].seq]


async def test_a_first_success_needs_no_row_of_its_own_and_is_in_the_history_all_the_same(store):
    made = entry(store)
    await store.write(events.insert, [made])
    await store.change(
        lambda conn: conn.execute(
            "INSERT INTO webhook (seq, id, tenant, source, definition, created_ms, updated_ms)"
            " VALUES (1, 'wh', 'default', 'x', '{}', 0, 0)"
        )
    )
    outcome = Outcome(NOW, 0.25, None, "", 200, b"HTTP/1.1 200 OK", b"thanks", "127.0.0.1:1")
    await store.write(queue.record, [queue.Result(made.first_delivery, 1, outcome, Verdict("succeeded", 0))])
    row, _, _, attempts = await store.read(history.delivery, made.first_delivery)
    rows = await store.read(lambda conn: conn.execute("SELECT count(*) FROM attempt").get)
    assert (rows, row.state, row.response_code) == (0, "succeeded", 200)
    assert [(each.number, each.response_body) for each in attempts] == [(1, b"thanks")]


async def test_after_the_close_new_work_is_refused_and_old_work_is_written(tmp_path):
    path = tmp_path / "h.db"
    made = Store(opened(path))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        nursery.start_soon(made.write, events.insert, [entry(made)])
        await trio.testing.wait_all_tasks_blocked()
        made.close()
        with pytest.raises(Refused, match="stopping"):
            await made.write(events.insert, [entry(made)])
    again = opened(path)
    assert again.writer.execute("SELECT count(*) FROM event").get == 1
    Store(again)._close()


async def test_a_full_store_refuses_and_recovers_by_itself(tmp_path):
    made = Store(opened(tmp_path / "h.db", max_size=1 << 20))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        with pytest.raises(Refused) as refused:
            await made.write(events.insert, [entry(made, data=b"x" * 50_000) for _ in range(40)])
        assert refused.value.code == "store_full"
        assert made.trouble is not None
        await trio.sleep(1.5)  # a real second, in which the writer tries by itself whether it can write again
        assert made.trouble is None
        await made.write(events.insert, [entry(made)])
        made.close()


@pytest.mark.parametrize("error", [apsw.CantOpenError, apsw.IOError, apsw.NoMemError, MemoryError])
async def test_a_read_that_this_host_cannot_make_just_now_is_refused_or_waited_for(tmp_path, error):
    kinds, tries = [], []

    def look(conn: apsw.Connection) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise error("not now")
        return conn.execute("SELECT count(*) FROM event").get

    made = Store(opened(tmp_path / "h.db"))
    made.stats.troubled = kinds.append
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        with pytest.raises(Refused) as refused:
            await made.read(look)
        assert refused.value.code == "unavailable"
        assert await made.read(look, keep=True) == 0
        made.close()
    assert kinds == ["memory" if error in (apsw.NoMemError, MemoryError) else "store_io"] * 2


async def test_a_store_is_read_though_no_descriptor_is_left(tmp_path):
    made = Store(opened(tmp_path / "h.db"))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            await made.write(events.insert, [entry(made)])
            both = threading.Barrier(2)  # one waits for the other: each is read on a connection of its own
            counts = []

            def count(conn: apsw.Connection) -> int:
                both.wait(10)
                return conn.execute("SELECT count(*) FROM event").get

            async def look() -> None:
                counts.append(await made.read(count))

            async with trio.open_nursery() as reading:
                reading.start_soon(look)
                reading.start_soon(look)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert counts == [1, 1]
        made.close()


async def test_a_write_without_memory_is_refused_and_the_next_is_taken(store):
    def spoil(conn: apsw.Connection) -> None:
        conn.execute("DELETE FROM event")
        raise MemoryError

    await store.write(events.insert, [entry(store)])
    with pytest.raises(Refused, match="no memory"):
        await store.change(spoil)
    await store.write(events.insert, [entry(store)])
    assert await store.read(lambda conn: conn.execute("SELECT count(*) FROM event").get) == 2


async def test_a_page_that_is_found_damaged_while_reading_ends_the_store(tmp_path):
    def look(conn: apsw.Connection) -> None:
        raise apsw.CorruptError("database disk image is malformed")

    async def read() -> None:
        made = Store(opened(tmp_path / "h.db"))
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            await made.read(look)

    with pytest.raises(ExceptionGroup) as ended:
        await read()
    assert ended.group_contains(StoreDamaged, match=r"h\.db: database disk image is malformed: restore it")


def test_the_file_is_made_as_durable_as_it_is_promised(tmp_path):
    store = opened(tmp_path / "h.db")
    pragma = store.writer.pragma
    assert [pragma(name) for name in ("journal_mode", "synchronous", "auto_vacuum", "wal_autocheckpoint")] == [
        "wal",
        2,
        2,
        0,
    ]
    assert pragma("application_id") == opening.APPLICATION_ID
    strict = store.writer.execute(
        "SELECT min(strict) FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'"
    )
    assert strict.get == 1
    with pytest.raises(apsw.ConstraintError):
        store.writer.execute(
            "INSERT INTO delivery (seq, event, webhook, created_ms, due_ms, state) VALUES (1,1,1,1,1,'odd')"
        )
    Store(store)._close()


def test_one_daemon_a_store(tmp_path):
    first = opened(tmp_path / "h.db")
    with pytest.raises(StoreTaken, match="process id"):
        opened(tmp_path / "h.db")
    Store(first)._close()
    Store(opened(tmp_path / "h.db"))._close()


@pytest.mark.parametrize("left", [None, b"", b"junk" * 500])
def test_a_store_that_is_gone_emptied_or_overwritten_is_refused_untouched(tmp_path, left):
    path = tmp_path / "h.db"
    Store(opened(path))._close()
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    with pytest.raises(StoreDamaged):
        opened(path)
    assert (path.read_bytes() if path.exists() else None) == left


def test_a_store_that_lost_commits_is_refused_unless_the_loss_is_accepted(tmp_path):
    path = tmp_path / "h.db"
    Store(opened(path))._close()
    marker = path.with_name("h.db.id")
    text = marker.read_text()
    marker.write_text(text.replace(f"commits {0:>20}", f"commits {7:>20}"))
    with pytest.raises(StoreDamaged, match="7 commits that were on disk are missing"):
        opened(path)
    Store(opened(path, accept_loss=True))._close()


def test_a_first_daemon_that_died_before_it_had_made_anything_stands_in_nobodys_way(tmp_path):
    path = tmp_path / "h.db"
    begun = apsw.Connection(str(path))
    begun.pragma("journal_mode", "wal")
    begun.close()
    assert path.stat().st_size
    Store(opened(path))._close()
    Store(opened(path))._close()


@pytest.mark.parametrize("text", ["", "hookrelay store 12\n", "\0" * 60])
def test_a_torn_marker_is_not_believed(tmp_path, text):
    path = tmp_path / "h.db"
    Store(opened(path))._close()
    path.with_name("h.db.id").write_text(text)
    Store(opened(path))._close()


def test_a_store_of_a_later_version_is_left_to_it(tmp_path):
    path = tmp_path / "h.db"
    Store(opened(path))._close()
    conn = apsw.Connection(str(path))
    conn.pragma("user_version", 99)
    conn.close()
    with pytest.raises(StoreTooNew, match="schema 99"):
        opened(path)


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreUnusable, match="nowhere"):
        opened(tmp_path / "nowhere" / "h.db")


def test_a_schema_made_step_by_step_is_the_schema_made_at_once(tmp_path):
    def shape(conn: apsw.Connection) -> list:
        return conn.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()

    whole, stepwise = apsw.Connection(":memory:"), apsw.Connection(":memory:")
    opening.migrate(whole, None, NOW)
    for _, text in opening.migrations():
        stepwise.execute(text)
    assert shape(whole) == shape(stepwise)


def test_an_older_store_is_brought_up_to_date_after_a_copy_of_it_and_what_waited_is_due(tmp_path):
    path = tmp_path / "h.db"
    with pytest.MonkeyPatch.context() as patch:
        first, *_ = opening.migrations()
        patch.setattr(opening, "migrations", lambda: [first])
        old = opened(path)
        old.writer.execute("INSERT INTO event VALUES (1, 5, 'default', 'a.b', 't', x'31', NULL, 'k', NULL, 0)")
        old.writer.execute("INSERT INTO delivery (seq, event, webhook, created_ms, due_ms) VALUES (1, 1, 1, 5, 5)")
        Store(old)._close()
    new = opened(path)
    page = queue.due(new.writer, Ids(7), 1, NOW, [], 10)
    assert [(each.seq, each.chain, each.event.ordering_key) for each in page.deliveries] == [(1, None, "k")]
    assert new.writer.pragma("user_version") == len(opening.migrations())
    Store(new)._close()
    copy = apsw.Connection(str(path.with_name(f"h.db.before-schema-{len(opening.migrations())}")))
    assert (copy.pragma("user_version"), copy.execute("SELECT count(*) FROM delivery").get) == (1, 1)
    copy.close()


def of_schema(path: Path, number: int) -> None:
    """Make, or bring up to date, a store as the version with that schema would."""
    with pytest.MonkeyPatch.context() as patch:
        steps = opening.migrations()[:number]
        patch.setattr(opening, "migrations", lambda: steps)
        Store(opened(path))._close()


def test_keys_and_links_of_the_operators_tenant_end_with_an_upgrade(tmp_path):
    path = tmp_path / "h.db"
    of_schema(path, 5)
    conn = apsw.Connection(str(path))
    for number, tenant in enumerate(("hookrelay", "acme")):
        conn.execute(
            "INSERT INTO key (id, tenant, role, name, hint, digest, created_ms) VALUES (?, ?, 'read', '', '', ?, 1)",
            (f"key_{number}", tenant, bytes([number])),
        )
        conn.execute(
            "INSERT INTO session (id, kind, digest, tenant, role, created_ms, lasts_ms, ends_ms)"
            " VALUES (?, 'link', ?, ?, 'read', 1, 1, ?)",
            (f"lnk_{number}", bytes([number]), tenant, 1 << 50),
        )
    conn.close()
    new = opened(path)
    assert [row.tenant for row in keys.all_keys(new.writer)] == ["acme"]
    assert [row.tenant for row in sessions.all_sessions(new.writer, NOW)] == ["acme"]
    Store(new)._close()


def schema_of(path: Path) -> int:
    conn = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    version: int = conn.pragma("user_version")
    conn.close()
    return version


def test_an_upgrade_that_was_cut_short_goes_on_and_keeps_its_copy(tmp_path):
    path, newest = tmp_path / "h.db", len(opening.migrations())
    of_schema(path, 1)
    copy = tmp_path / f"h.db.before-schema-{newest}"
    copy.write_bytes(path.read_bytes())
    of_schema(path, 2)  # as far as it came
    Store(opened(path))._close()
    assert (schema_of(path), schema_of(copy)) == (newest, 1)


def test_after_an_upgrade_that_was_taken_back_the_next_one_takes_a_copy_of_its_own(tmp_path):
    path, newest = tmp_path / "h.db", len(opening.migrations())
    of_schema(path, 1)
    Store(opened(path))._close()
    copy = tmp_path / f"h.db.before-schema-{newest}"
    first = copy.read_bytes()
    path.write_bytes(first)
    (tmp_path / "h.db.id").unlink()
    old = apsw.Connection(str(path))
    old.execute("INSERT INTO event VALUES (1, 5, 'default', 'a.b', 't', x'31', NULL, NULL, NULL, 0)")
    old.close()
    Store(opened(path))._close()
    assert (schema_of(path), schema_of(copy)) == (newest, 1)
    again = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    assert again.execute("SELECT count(*) FROM event").get == 1
    again.close()


def test_a_torn_copy_of_a_cut_upgrade_is_made_anew(tmp_path):
    path, newest = tmp_path / "h.db", len(opening.migrations())
    of_schema(path, 1)
    copy = tmp_path / f"h.db.before-schema-{newest}"
    copy.write_bytes(b"half of something" * 100)
    copy.with_name(copy.name + ".new").write_bytes(b"and of this")
    Store(opened(path))._close()
    assert (schema_of(path), schema_of(copy)) == (newest, 1)
    assert not copy.with_name(copy.name + ".new").exists()


def test_answers_come_only_after_the_disk_has_it(tmp_path):
    """Every commit of the writer syncs the write-ahead log before COMMIT returns."""
    synced = []
    default = apsw.vfs_names()[0]

    class CountingFile(apsw.VFSFile):
        def __init__(self, base: str, name, flags) -> None:
            super().__init__(base, name, flags)
            self._is_wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

        def xSync(self, flags: int) -> None:
            synced.append(self._is_wal)
            super().xSync(flags)

    class CountingVFS(apsw.VFS):
        def __init__(self) -> None:
            super().__init__("counting", default, makedefault=True)

        def xOpen(self, name, flags):
            return CountingFile(default, name, flags)

    vfs = CountingVFS()
    try:
        made = Store(opened(tmp_path / "h.db"))
    finally:
        vfs.unregister()
    assert apsw.vfs_names()[0] == default
    for _ in range(5):
        synced.clear()
        made._commit([made_request(made)])
        assert True in synced
    made._close()


def made_request(store: Store):
    from hookrelay.store.db import _Request

    return _Request(events.insert, [entry(store)], lambda answer: None, keep=False)


async def test_a_store_answers_unless_a_batch_is_stuck(tmp_path):
    def stick(conn: apsw.Connection) -> None:
        let_go.wait(10)

    let_go = threading.Event()
    made = Store(opened(tmp_path / "h.db"))
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        assert await made.answers(0.02)
        nursery.start_soon(made.change, stick)
        await trio.sleep(0.05)
        assert not await made.answers(0.02)
        assert await made.answers(20)
        let_go.set()
        await made.change(lambda conn: None)
        assert await made.answers(0.02)
        made.close()


async def test_a_turn_is_taken_between_two_batches_and_what_it_raises_is_its_caller_s_alone(store):
    seen: list[bool] = []

    def look(conn: apsw.Connection) -> str:
        seen.append(conn.in_transaction)
        return "seen"

    def fail(conn: apsw.Connection) -> None:
        raise KeyError("mine")

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(store.write, events.insert, [entry(store)])
            nursery.start_soon(store.turn, look)
        with pytest.raises(KeyError, match="mine"):
            await store.turn(fail)
    assert seen == [False] * 20
    assert await store.turn(look) == "seen"
    store.close()
    with pytest.raises(Refused, match="stopping"):
        await store.turn(look)
