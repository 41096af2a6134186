"""What does retention cost? Deliveries while 1,000,000 older ones are removed, and while as many stay."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import rig, throughput
from hookrelay.store import open as opening
from hookrelay.upkeep import FIRST_S

OLD = 1_000_000
RUNS = 3
DAY_MS = 86_400_000


def main() -> None:
    """Print both, in turns."""
    rig.need("nginx")
    print(f"retention: {rig.machine()}")
    found: dict[int, list[float]] = {1: [], 40: []}
    with rig.folder() as at, rig.nginx(at) as (port, status):
        for number in range(RUNS):
            for age_days in (1, 40) if number % 2 else (40, 1):
                left: list[float] = []
                rate, cpu_us = throughput.run(
                    at / f"{number}-{age_days}",
                    at,
                    port,
                    status,
                    prepare=partial(fill, age_days, OLD),
                    beside=partial(_watched, left),
                )
                found[age_days].append(rate)
                kind = "removed" if age_days > 30 else "kept"
                print(f"    {OLD:,} {kind}: {rate:,.0f}/s, {cpu_us:.0f} µs each; {left[0]:,.0f} removed a second")
    kept, removed = statistics.median(found[1]), statistics.median(found[40])
    print(f"  {kept:,.0f} → {removed:,.0f} deliveries/s while old ones go ({(removed / kept - 1) * 100:+.1f} %)")


@contextmanager
def _watched(left: list[float], daemon: rig.Daemon) -> Iterator[None]:
    """Begin once retention has, and tell how fast it was."""
    time.sleep(FIRST_S)
    before, began = _count(daemon.at), time.monotonic()
    yield
    left.append((before - _count(daemon.at) + throughput.EVENTS) / (time.monotonic() - began))


def _count(at: Path) -> int:
    conn = opening.reader(str(at / "hookrelay.db"))
    try:
        count: int = conn.execute("SELECT count(*) FROM delivery").get
        return count
    finally:
        conn.close()


def fill(age_days: int, count: int, path: Path) -> None:
    """So many deliveries that ended so long ago; the last of them yesterday, that the clock is trusted."""
    now_ms = int(time.time() * 1000)
    opened = opening.open_file(path, max_size=10 << 30, now_ms=now_ms)
    conn = opened.writer
    with conn:
        conn.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
            " INSERT INTO event (seq, created_ms, tenant, type, timestamp, data)"
            " SELECT i, iif(i = ?1, ?2 - 3600000, ?2 - ?3 + i), 'default', 'booking.created', '2026-01-01T00:00:00Z',"
            " zeroblob(500) FROM n",
            (count, now_ms, age_days * DAY_MS),
        )
        conn.execute(
            "INSERT INTO delivery (seq, event, webhook, created_ms, state, attempt_count, started_ms, duration_us,"
            " response_code, completed_ms) SELECT seq, seq, 1, created_ms, 'succeeded', 1, created_ms, 5000, 200,"
            " created_ms + 5 FROM event"
        )
    conn.close()
    for each in (opened.marker, opened.lock):
        if each is not None:
            each.close()


if __name__ == "__main__":
    main()
