"""What does the API cost? Deliveries beside 500 calls a second, and pages of a history of a million deliveries."""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks import rig, throughput
from hookrelay.store import open as opening

RATE = 500
RUNS = 3
DELIVERIES = 1_000_000
PAGE = 50


def main() -> None:
    """Print both."""
    rig.need("nginx")
    print(f"api: {rig.machine()}")
    _beside_calls()
    _pages()


def _beside_calls() -> None:
    """The throughput benchmark alone and beside the calls, in turns."""
    alone: list[float] = []
    beside: list[float] = []
    with rig.folder() as at, rig.nginx(at) as (port, status):
        for number in range(RUNS):
            alone.append(throughput.run(at / f"a{number}", at, port, status)[0])
            log = at / f"calls{number}"
            rate, cpu_us = throughput.run(at / f"b{number}", at, port, status, beside=partial(_calls, log))
            beside.append(rate)
            print(
                f"    alone {alone[-1]:,.0f}/s, beside {rate:,.0f}/s, {cpu_us:.0f} µs each; {log.read_text().strip()}"
            )
    without, with_calls = statistics.median(alone), statistics.median(beside)
    print(
        f"  {RATE} calls/s: {without:,.0f} → {with_calls:,.0f} deliveries/s ({(with_calls / without - 1) * 100:+.1f} %)"
    )


@contextmanager
def _calls(log: Path, daemon: rig.Daemon) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.call", str(daemon.at / "api.sock"), str(RATE), "0"]
    with rig.process(command, rig.OTHER_CORE, log):
        yield


def _pages() -> None:
    with rig.folder() as at:
        rig.write_files(at, rig.webhook("bench", "http://127.0.0.1:9999/"))
        with rig.daemon(at):
            pass  # makes the store, and the webhook's row
        _fill(at / "hookrelay.db")
        with rig.daemon(at) as daemon:
            (hook,) = json.loads(daemon.get("/v1/webhooks")[1])["data"]
            lists = {
                "of the webhook": f"/v1/webhooks/{hook['id']}/deliveries?",
                "of its failures": f"/v1/webhooks/{hook['id']}/deliveries?status=failed&",
                "of all": "/v1/deliveries?",
                "of one tenant": "/v1/deliveries?tenant=default&",
                "of a day": f"/v1/webhooks/{hook['id']}/deliveries?since=48h&until=24h&",
                "events": "/v1/events?tenant=default&",
            }
            for name, path in lists.items():
                first, hundredth = _times(daemon, path)
                print(f"  page {name}: first {first:.1f} ms, hundredth {hundredth:.1f} ms")


def _times(daemon: rig.Daemon, path: str) -> tuple[float, float]:
    """Milliseconds of the first page and of the hundredth: medians of seven."""
    cursors = [""]
    for _ in range(100):
        answer = json.loads(daemon.get(f"{path}limit={PAGE}{cursors[-1]}")[1])
        cursors.append(f"&cursor={answer['next_cursor']}")
    found = []
    for cursor in (cursors[0], cursors[99]):
        times = []
        for _ in range(7):
            begun = time.perf_counter()
            status, answer = daemon.get(f"{path}limit={PAGE}{cursor}")
            times.append((time.perf_counter() - begun) * 1000)
            if status != 200 or len(json.loads(answer)["data"]) != PAGE:
                sys.exit(f"{path}: {status}, and no full page")
        found.append(statistics.median(times))
    return found[0], found[1]


def _fill(path: Path) -> None:
    """A history of so many deliveries, one every 250 ms until now; one in fifty has failed."""
    now_ms = int(time.time() * 1000)
    opened = opening.open_file(path, max_size=10 << 30, now_ms=now_ms)
    conn = opened.writer
    with conn:
        conn.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
            " INSERT INTO event (seq, created_ms, tenant, type, timestamp, data)"
            " SELECT i, ?2 - (?1 - i) * 250, 'default', 'booking.created', '2026-01-01T00:00:00Z', x'7b7d' FROM n",
            (DELIVERIES, now_ms),
        )
        conn.execute(
            "INSERT INTO delivery (seq, event, webhook, created_ms, state, attempt_count, started_ms, duration_us,"
            " response_code, completed_ms) SELECT seq, seq, 1, created_ms, iif(seq % 50, 'succeeded', 'failed'), 1,"
            " created_ms, 5000, iif(seq % 50, 200, 500), created_ms + 5 FROM event"
        )
    conn.close()
    for each in (opened.marker, opened.lock):
        if each is not None:
            each.close()


if __name__ == "__main__":
    main()
