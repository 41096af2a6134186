"""Retention on a running daemon: what is old goes by itself, what waits stays, the numbers go on."""

from rig import answer, wait_for


def test_what_has_ended_goes_after_its_time_while_what_waits_stays(served, told):
    house = served(settings='store.retention = "1m"\nevents.idempotency_window = "1s"\n')
    told.says["/waiting"] = answer(500)
    house.admin.make(told.url("/good"), events=["*"])
    house.admin.make(told.url("/waiting"), events=["kept"], retry=["24h"])
    event = {"type": "gone", "data": 1, "idempotency_key": "k"}
    old = house.admin.post("/v1/events", event).json
    house.admin.post("/v1/events", {"type": "kept", "data": 1})
    wait_for(lambda: all(row["attempt_count"] for row in house.admin.data("/v1/deliveries")))
    house.running.end()
    _make_older(house.running.at / "h.db", 120_000)
    house.running.start()
    assert {row["type"] for row in house.admin.data("/v1/events")} == {"gone", "kept"}
    house.admin.post("/v1/events", {"type": "new", "data": 1})
    wait_for(lambda: {row["type"] for row in house.admin.data("/v1/events")} == {"kept", "new"}, 30)
    wait_for(lambda: '"pruned"' in house.running.log())
    left = {(row["event_type"], row["status"]) for row in house.admin.data("/v1/deliveries")}
    assert left == {("kept", "pending"), ("new", "succeeded")}
    again = house.admin.post("/v1/events", event).json
    assert (again["id"] != old["id"], "duplicate" in again) == (True, False)


def _make_older(path, by_ms):
    """As if all of it had happened earlier."""
    import apsw

    conn = apsw.Connection(str(path))
    with conn:
        for table, column in (("event", "created_ms"), ("delivery", "created_ms"), ("delivery", "completed_ms")):
            conn.execute(f"UPDATE {table} SET {column} = {column} - {by_ms}")  # noqa: S608 -- our own names
        conn.execute(f"UPDATE idempotency SET created_ms = created_ms - {by_ms}, used_ms = used_ms - {by_ms}")  # noqa: S608
    conn.close()
