"""How many durable deliveries a second, and for how much CPU? One webhook, 64 connections, 1 KB events.

The ceiling is wrk, which POSTs the same bytes to the same nginx from the daemon's core and stores nothing.
"""

import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from benchmarks import rig

EVENTS = 100_000
WARM_UP = 5_000
RUNS = 3
CONNECTIONS = 64


def main() -> None:
    """Print the figures, plain and over TLS."""
    rig.need("nginx", "wrk")
    print(f"throughput: {rig.machine()}")
    for tls in (False, True):
        with rig.folder() as at, rig.nginx(at, tls=tls) as (port, status):
            figures = [run(at / str(number), at, port, status, tls=tls) for number in range(RUNS)]
            ceiling = statistics.median(_wrk(at, port, tls=tls) for _ in range(RUNS))
        rate = statistics.median(figure[0] for figure in figures)
        cpu = statistics.median(figure[1] for figure in figures)
        print(
            f"  {'TLS  ' if tls else 'plain'}: {rate:,.0f} deliveries/s, {cpu:.1f} CPU-µs each,"
            f" {rate / ceiling:.2f} of wrk's {ceiling:,.0f} POSTs/s"
            f"   (runs: {', '.join(f'{r:,.0f}/s {c:.1f} µs' for r, c in figures)})"
        )


def run(
    at: Path,
    shared: Path,
    port: int,
    status: int,
    *,
    tls: bool = False,
    extra: str = "",
    beside: Callable[[rig.Daemon], AbstractContextManager[None]] = nullcontext,
    prepare: Callable[[Path], None] | None = None,
) -> tuple[float, float]:
    """Deliveries a second, and CPU-µs each; `beside` says what else goes on meanwhile, `extra` more of the settings.

    `prepare` is called with the store's file before the daemon runs on it.
    """
    at.mkdir()
    url = f"{'https' if tls else 'http'}://localhost:{port}/hook"
    rig.write_files(
        at,
        rig.webhook("bench", url, max_in_flight=CONNECTIONS),
        extra + (f'egress.ca_file = "{shared / "ca.pem"}"' if tls else ""),
    )
    if prepare is not None:
        with rig.daemon(at):
            pass  # makes the store, and the webhook's row
        prepare(at / "hookrelay.db")
    with rig.daemon(at) as daemon:
        _deliver(daemon, status, WARM_UP)
        cpu = daemon.cpu_s()
        with beside(daemon):
            seconds = _deliver(daemon, status, EVENTS)
        return EVENTS / seconds, (daemon.cpu_s() - cpu) / EVENTS * 1e6


def _deliver(daemon: rig.Daemon, status: int, count: int) -> float:
    """Submit `count` events and wait until they are delivered and recorded; seconds from the first to the last.

    nginx is asked how far it is, not the daemon: a scrape would count as work of the deliveries.
    """
    series = 'hookrelay_deliveries_total{result="succeeded"}'
    before, arrived = daemon.metric(series), rig.requests(status)
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.submit", str(daemon.socket), str(count)]
    with rig.process(command, rig.OTHER_CORE, daemon.at / "submit.log"):
        looks = 0
        while (had := rig.requests(status) - arrived - looks) < count:
            looks += 1
            if time.perf_counter() - started > 120:
                sys.exit(f"{had} of {count} after two minutes: " + (daemon.at / "daemon.log").read_text()[-2000:])
            time.sleep(0.02)
        while daemon.metric(series) < before + count:
            time.sleep(0.005)
        return time.perf_counter() - started


def _wrk(at: Path, port: int, *, tls: bool) -> float:
    script = at / "post.lua"
    body = rig.event(1).strip().decode()
    script.write_text(f"wrk.method='POST'\nwrk.headers['Content-Type']='application/json'\nwrk.body='{body}'\n")
    url = f"{'https' if tls else 'http'}://localhost:{port}/hook"
    command = [
        "taskset",
        "-c",
        str(min(rig.DAEMON_CORE)),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        "-d4s",
        "-s",
        str(script),
        url,
    ]
    found = re.search(r"Requests/sec:\s+([0-9.]+)", subprocess.run(command, capture_output=True, text=True).stdout)
    if found is None:
        sys.exit("wrk gave no figure")
    return float(found[1])


if __name__ == "__main__":
    main()
