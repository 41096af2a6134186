"""Do webhooks that hang or drip delay the healthy ones? 1,000 webhooks, a fifth of them bad, against all healthy."""

import argparse
import os
import select
import socket
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import rig

WEBHOOKS = 1000
GROUP = 10
"""Webhooks that want the same events; the first of a group hangs, the second drips."""
BAD = {0: "hang", 1: "drip"}
RATE = 1000
"""Deliveries a second: each webhook gets one every second."""
SECONDS = 18
PAIRS = 2
WARM_UP_S = 2
"""Events of these seconds do not count: by then every webhook has had its first connection."""
LATE_S = 10
"""How long is waited for what has not arrived when all is submitted; then it counts as that late."""
ASKED_RATIO, ASKED_MS = 1.5, 100


class Figures(NamedTuple):
    """What one run gave."""

    times: list[float]
    """Milliseconds from the line's last byte to the whole request, sorted."""
    missing: int
    """How many of these never arrived: they count with the time until the run was ended."""
    daemon_cpu: float
    """Part of a core while events were submitted."""
    receiver_cpu: float
    others_cpu: float
    """What others took of this machine: where it is much, the figures are theirs."""
    slowest_ms: float
    """The longest that the submitter fell behind its own schedule."""


def main() -> None:
    """Print latencies at the healthy webhooks of both kinds of run, their ratio and their difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.isolation", description=__doc__)
    parser.add_argument("--timeout", type=int, default=5, help="every webhook's timeout in seconds")
    parser.add_argument("--seconds", type=int, help="how long each run submits; by default long enough for timeouts")
    parser.add_argument("--webhooks", type=int, default=WEBHOOKS, help=f"how many, in groups of {GROUP}")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="how many healthy runs, and how many mixed ones")
    asked = parser.parse_args()
    seconds = asked.seconds or max(SECONDS, asked.timeout + 10)
    print(f"isolation: {rig.machine()}")
    print(
        f"  {asked.webhooks:,} webhooks, {RATE * asked.webhooks // WEBHOOKS:,} deliveries/s, timeout {asked.timeout} s"
    )
    runs: dict[str, list[Figures]] = {"healthy": [], "mixed": []}
    with rig.pinned(rig.OTHER_CORE):
        for _ in range(asked.pairs):
            for kind, figures in runs.items():
                figures.append(_run(asked.webhooks, seconds, asked.timeout, is_mixed=kind == "mixed"))
                _report(kind, figures[-1])
    for percent, asked_for in ((50, ""), (99, f" (at most {ASKED_RATIO} x and +{ASKED_MS} ms is asked)")):
        alone, beside = (
            statistics.median(_percentile(run.times, percent) for run in figures) for figures in runs.values()
        )
        print(
            f"  p{percent}: {beside:.2f} ms beside the bad, {alone:.2f} ms without:"
            f" {beside / alone:.2f} x, {beside - alone:+.2f} ms{asked_for}"
        )


def _run(webhooks: int, seconds: int, timeout_s: int, *, is_mixed: bool) -> Figures:
    with rig.folder() as at:
        port, arrived = rig.free_port(), at / "arrived"
        rig.write_files(at, "\n".join(_webhook(n, port, timeout_s, is_mixed=is_mixed) for n in range(webhooks)))
        command = [sys.executable, "-m", "benchmarks.moody", str(port), str(arrived)]
        # the receiver ends first: then no attempt hangs that the daemon would wait for
        with rig.daemon(at) as daemon, rig.process(command, rig.OTHER_CORE, at / "receiver.log") as receiver:
            rig.wait_for_port(port)
            before, started = _cpu(daemon.pid, receiver), time.monotonic()
            sent, slowest_s = _submit(daemon, webhooks // GROUP, seconds)
            lasted = time.monotonic() - started
            cpu = [(now - then) / lasted for now, then in zip(_cpu(daemon.pid, receiver), before, strict=True)]
            _wait(daemon, len(sent) * (GROUP - len(BAD) if is_mixed else GROUP))
            ended = time.monotonic()
        times, missing = _latencies(sent, _arrivals(arrived), webhooks // GROUP, started + WARM_UP_S, ended)
        return Figures(sorted(times), missing, cpu[0], cpu[1], cpu[3] - sum(cpu[:3]), slowest_s * 1000)


def _cpu(daemon: int, receiver: int) -> list[float]:
    """Seconds used by daemon, receiver, submitter, and all of this machine."""
    return [rig.cpu_s(daemon), rig.cpu_s(receiver), rig.cpu_s(os.getpid()), rig.busy_s()]


def _webhook(number: int, port: int, timeout_s: int, *, is_mixed: bool) -> str:
    mood = BAD.get(number % GROUP, "ok") if is_mixed else "ok"
    url = f"http://127.0.0.1:{port}/{mood}/{number}"
    return rig.webhook(f"w{number}", url, events=[f"group.g{number // GROUP}"], timeout=f"{timeout_s}s")


def _submit(daemon: rig.Daemon, groups: int, seconds: int) -> tuple[list[tuple[bytes, float]], float]:
    """One event for each group every second, each sent by itself at its time, whatever became of those before.

    The events' ids with the moments when they were sent, in order; and the longest that one was sent late.
    """
    moments: list[float] = []
    ids: list[bytes] = []
    out = rest = b""
    slowest_s = 0.0
    count = groups * seconds
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        sock.setblocking(False)
        started = time.monotonic()
        while len(ids) < count:
            now = time.monotonic()
            due = started + len(moments) / groups
            if len(moments) == count:
                due += LATE_S
                if due <= now:
                    sys.exit(f"{count - len(ids)} events have no answer after {LATE_S} s")
            elif due <= now:
                slowest_s = max(slowest_s, now - due)
                out += rig.event(len(moments), type=f"group.g{len(moments) % groups}")
                moments.append(now)
            with suppress(BlockingIOError):  # a daemon that does not read must not slow the schedule
                out = out[sock.send(out) :] if out else out
            if select.select([sock], [sock] if out else [], [], max(0.0, due - now))[0]:
                *lines, rest = (rest + sock.recv(1 << 20)).split(b"\n")
                if wrong := [line for line in lines if not line.endswith(b'"deliveries":%d}' % GROUP)]:
                    sys.exit(f"an event was not taken: {wrong[0].decode()}")
                ids += [line[7:37] for line in lines]
    return list(zip(ids, moments, strict=True)), slowest_s


def _wait(daemon: rig.Daemon, expected: int) -> None:
    """Until all that can succeed has, or it is too late."""
    until = time.monotonic() + LATE_S
    while time.monotonic() < until:
        if daemon.metric('hookrelay_deliveries_total{result="succeeded"}') >= expected:
            return
        time.sleep(0.1)


def _arrivals(path: Path) -> dict[tuple[int, bytes], float]:
    """When each webhook got each event for the first time."""
    arrivals: dict[tuple[int, bytes], float] = {}
    for line in path.read_bytes().splitlines():
        number, event, moment = line.split()
        arrivals.setdefault((int(number), event), float(moment))
    return arrivals


def _latencies(
    sent: list[tuple[bytes, float]], arrivals: dict[tuple[int, bytes], float], groups: int, since: float, ended: float
) -> tuple[list[float], int]:
    """Milliseconds for each delivery to a webhook that is healthy in both kinds of run, and how many never arrived."""
    times, missing = [], 0
    for index, (event, moment) in enumerate(sent):
        if moment < since:
            continue
        for member in range(len(BAD), GROUP):
            arrival = arrivals.get((index % groups * GROUP + member, event))
            missing += arrival is None
            times.append(((ended if arrival is None else arrival) - moment) * 1000)
    return times, missing


def _percentile(times: list[float], percent: int) -> float:
    return statistics.median(times) if percent == 50 else times[len(times) * percent // 100]


def _report(kind: str, run: Figures) -> None:
    print(
        f"  {kind + ':':8} p50 {_percentile(run.times, 50):.2f} ms, p99 {_percentile(run.times, 99):.2f} ms,"
        f" worst {run.times[-1]:.2f} ms over {len(run.times):,} deliveries, {run.missing} of them never arrived"
        f"\n"
        f"           of a core: daemon {run.daemon_cpu:.2f}, receiver {run.receiver_cpu:.2f},"
        f" others on this machine {run.others_cpu:.2f}; submitter late by {run.slowest_ms:.1f} ms at most",
        flush=True,
    )


if __name__ == "__main__":
    main()
