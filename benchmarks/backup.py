"""What does a backup cost? Deliveries while one copy of a store is taken after the other, and while none is."""

import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks import rig, throughput
from benchmarks.retention import fill

OLD = 300_000
RUNS = 3


def main() -> None:
    """Print both, in turns."""
    rig.need("nginx", "curl")
    print(f"backup: {rig.machine()}")
    found: dict[bool, list[float]] = {True: [], False: []}
    with rig.folder() as at, rig.nginx(at) as (port, status):
        for number in range(RUNS):
            for is_on in (True, False) if number % 2 else (False, True):
                speeds: list[float] = []
                rate, cpu_us = throughput.run(
                    at / f"{number}-{is_on}",
                    at,
                    port,
                    status,
                    prepare=partial(fill, 1, OLD),
                    beside=partial(_backed_up, speeds) if is_on else _left_alone,
                )
                found[is_on].append(rate)
                said = f"{len(speeds)} copies, {statistics.mean(speeds):.0f} MB/s each" if speeds else "no backup"
                print(f"    {said}: {rate:,.0f}/s, {cpu_us:.0f} µs each")
    without, beside = statistics.median(found[False]), statistics.median(found[True])
    print(
        f"  {without:,.0f} → {beside:,.0f} deliveries/s while backups are taken ({(beside / without - 1) * 100:+.1f} %)"
    )


@contextmanager
def _left_alone(daemon: rig.Daemon) -> Iterator[None]:
    yield


@contextmanager
def _backed_up(speeds: list[float], daemon: rig.Daemon) -> Iterator[None]:
    """Take copies all the time, and throw them away: what keeping them costs is not the daemon's."""
    is_over = threading.Event()

    def take() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            place = ["--unix-socket", str(daemon.at / "api.sock"), "http://localhost/v1/backup"]
            done = subprocess.run(
                ["curl", "-s", "-o", "/dev/null", "-w", "%{size_download}", "-X", "POST", *place],
                capture_output=True,
                text=True,
                check=True,
            )
            speeds.append(int(done.stdout) / (time.monotonic() - began) / 1e6)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


if __name__ == "__main__":
    main()
