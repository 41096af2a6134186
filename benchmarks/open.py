"""What does an attempt in flight cost? 10,000 of them at once, at a receiver that does not answer until it is told."""

import argparse
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import rig

ATTEMPTS = 10_000
WEBHOOKS = 20
WARM_UP = 5
"""Deliveries before, for each attempt: SQLite's cache and Python's heap have their size by then."""
WARM_CONNECTIONS = 8
PATIENCE_S = 100
"""For each step; under the longest timeout that a webhook may have."""
TIMEOUT = "120s"
SPARE = 500
"""Descriptors for all that is no attempt."""
CHUNK = 200
IDLE_S = 5
PROTOTYPE_KIB = {"plain": 6, "TLS": 34}


def main() -> None:
    """Print KiB an attempt and the CPU that is used while nothing happens, plain and over TLS."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open", description=__doc__)
    parser.add_argument("--attempts", type=int, default=ATTEMPTS, help=f"in flight at once, a multiple of {WEBHOOKS}")
    attempts = parser.parse_args().attempts
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    if attempts + SPARE > descriptors:
        sys.exit(f"{attempts:,} attempts need {attempts + SPARE:,} descriptors: `ulimit -Hn` says {descriptors:,}")
    if attempts % WEBHOOKS or not 0 < attempts <= WEBHOOKS * 1000:
        sys.exit(f"{attempts:,} attempts cannot be shared out: take a multiple of {WEBHOOKS} up to {WEBHOOKS * 1000:,}")
    print(f"open: {rig.machine()}")
    for kind in PROTOTYPE_KIB:
        with rig.folder() as at, rig.pinned(rig.OTHER_CORE):
            print(f"  {kind + ':':6} {_run(at, kind, attempts)}", flush=True)


def _run(at: Path, kind: str, attempts: int) -> str:
    port, count = rig.free_port(), at / "count"
    command = [sys.executable, "-m", "benchmarks.moody", str(port), str(count)]
    # a webhook may have what leaves as much to the others and a reserve: twice as many as are needed is enough for all
    extra = f"delivery.max_connections = {2 * attempts}"
    if kind == "TLS":
        rig.certificates(at)
        command.append(str(at))
        extra += f'\negress.ca_file = "{at / "ca.pem"}"'
    rig.write_files(at, _webhooks(f"{'https' if kind == 'TLS' else 'http'}://127.0.0.1:{port}", attempts), extra)
    # the receiver ends first: then no attempt hangs that the daemon would wait for
    with rig.daemon(at) as daemon, rig.process(command, rig.OTHER_CORE, at / "receiver.log") as receiver:
        rig.wait_for_port(port)
        warm = attempts * WARM_UP
        _submit(daemon, (rig.event(number, type="warm") for number in range(warm)))
        _until("deliveries of the warm-up", warm, lambda: _succeeded(daemon))
        time.sleep(1)
        before, quiet = _rss_kib(daemon.pid), _idle_cpu(daemon)
        _submit(daemon, (rig.event(number, type=f"open.w{number % WEBHOOKS}") for number in range(attempts)))
        _until("attempts in flight", warm + attempts, lambda: int(count.read_bytes()))
        time.sleep(1)
        during, idle = _rss_kib(daemon.pid), _idle_cpu(daemon)
        os.kill(receiver, signal.SIGUSR1)
        _until("deliveries", warm + attempts, lambda: _succeeded(daemon))
    return (
        f"{(during - before) / attempts:.1f} KiB an attempt (a prototype: {PROTOTYPE_KIB[kind]});"
        f" {attempts:,} in flight: {during / 1024:.0f} MiB resident, {before / 1024:.0f} before;"
        f" idle CPU {idle:.1%} of a core, {quiet:.1%} before"
    )


def _webhooks(origin: str, attempts: int) -> str:
    share = attempts // WEBHOOKS
    return "\n".join(
        [
            rig.webhook("warm", f"{origin}/ok/0", events=["warm"], max_in_flight=WARM_CONNECTIONS),
            *(
                rig.webhook(
                    f"w{number}",
                    f"{origin}/hang/{number}",
                    events=[f"open.w{number}"],
                    max_in_flight=share,
                    timeout=TIMEOUT,
                )
                for number in range(WEBHOOKS)
            ),
        ]
    )


def _submit(daemon: rig.Daemon, lines: Iterable[bytes]) -> None:
    """Submit all of them, some at a time: every one is on disk then."""
    waiting = list(lines)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        with sock.makefile("rb") as answers:
            for first in range(0, len(waiting), CHUNK):
                chunk = waiting[first : first + CHUNK]
                sock.sendall(b"".join(chunk))
                for _ in chunk:
                    if not (answer := answers.readline()).endswith(b'"deliveries":1}\n'):
                        sys.exit(f"an event was not taken: {answer.decode()}")


def _succeeded(daemon: rig.Daemon) -> int:
    return int(daemon.metric('hookrelay_deliveries_total{result="succeeded"}'))


def _until(what: str, wanted: int, count: Callable[[], int]) -> None:
    until = time.monotonic() + PATIENCE_S
    while (have := count()) < wanted:
        if time.monotonic() > until:
            sys.exit(f"{have:,} of {wanted:,} {what} after {PATIENCE_S} s")
        time.sleep(0.2)


def _rss_kib(pid: int) -> int:
    """Resident memory; what `status` says may be off by what each core has not yet accounted for."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


def _idle_cpu(daemon: rig.Daemon) -> float:
    """Part of a core that is used while nothing happens."""
    cpu, started = daemon.cpu_s(), time.monotonic()
    time.sleep(IDLE_S)
    return (daemon.cpu_s() - cpu) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
