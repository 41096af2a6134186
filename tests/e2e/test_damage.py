"""Pages of the store's file are not what they were, and that shows only while the daemon runs."""

import signal
from collections.abc import Callable

import apsw
import pytest
from rig import Daemon, hook, line

KEYED = line(1, idempotency_key="k1", pad="x" * 900)


def pages(daemon: Daemon, table: str, *, first: int = 0) -> list[int]:
    """The leaves of a table's tree, from `first` on, but for the last one: the start looks at that."""
    conn = apsw.Connection(str(daemon.at / "h.db"))
    found = conn.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", (table,)
    ).fetchall()
    conn.close()
    return [page for (page,) in found][first:-1]


def spoil(daemon: Daemon, table: str) -> None:
    found = pages(daemon, table)
    assert found
    with (daemon.at / "h.db").open("r+b") as file:
        for page in found:
            file.seek((page - 1) * 4096)
            file.write(b"\xa5" * 4096)


def submit(daemon: Daemon) -> None:
    client = daemon.client()
    client.send(b"".join(line(number, idempotency_key=f"k{number}") for number in range(50)))


def list_events(daemon: Daemon) -> None:
    daemon.get("/v1/events?limit=250")


def resume(daemon: Daemon) -> None:
    daemon.rewrite(hook("one", 65009))
    daemon.tell(signal.SIGHUP)


@pytest.mark.parametrize(
    ("table", "act"),
    [
        ("idempotency", submit),  # found by the writer
        ("event", list_events),  # by a reader, for a caller of the API
        ("event", resume),  # by a reader, for a lane
    ],
)
def test_damage_that_shows_at_run_time_ends_the_daemon_with_exit_code_65_and_no_traceback(
    daemon, table: str, act: Callable[[Daemon], None]
):
    running = daemon(hook("one", 65009, status="paused")).start()
    running.submit(*[line(number, idempotency_key=f"k{number}", data={"pad": "x" * 900}) for number in range(300)])
    assert running.end() == 0
    spoil(running, table)
    running.start()
    act(running)
    assert running.wait(20) == 65, running.log()
    said = f"hookrelay: {running.at / 'h.db'}: database disk image is malformed: restore it from a backup"
    assert said in running.log()
    assert "Traceback" not in running.log()


@pytest.mark.parametrize("table", ["webhook", "store", "event", "delivery"])
def test_damage_that_shows_at_the_start_is_told_as_plainly(daemon, table: str):
    running = daemon(hook("one", 65009, status="paused")).start()
    running.submit(line(1))
    assert running.end() == 0
    conn = apsw.Connection(str(running.at / "h.db"))
    root = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    conn.close()
    with (running.at / "h.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    done = running.run()
    assert done.returncode == 65, done.stderr
    assert str(running.at / "h.db") in done.stderr
    assert "Traceback" not in done.stderr
