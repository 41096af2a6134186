"""What does the daemon cost while it has nothing to do, to start, and to read its files again?

The first READY after exec on an empty store, memory and CPU at rest, and reloads of 10,000 webhooks beside 500 events a
second: how long until the files are in force, and what submissions and deliveries notice of it.
"""

import argparse
import os
import signal
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from benchmarks import rig

STARTS = 9
SETTLED_S = 10
"""After READY: templates have been compiled by then, and upkeep has had its first look."""
IDLE_S = 30
WEBHOOKS = 10_000
FILES = 10
RATE = 500
RELOADS = 5
QUIET_S = 3.0
PATIENCE_S = 60


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daemon", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], "start", "idle", "reload"], help="all where none is named")
    parser.add_argument("--runs", type=int, default=0, help=f"starts ({STARTS}) and reloads ({RELOADS}) of each kind")
    asked = parser.parse_args()
    print(f"daemon: {rig.machine()}; load {os.getloadavg()[0]:.1f}")
    with rig.pinned(rig.OTHER_CORE):
        if not asked.only or "start" in asked.only:
            _start(asked.runs or STARTS)
        if not asked.only or "idle" in asked.only:
            for count in (0, 1000):
                _idle(count)
        if not asked.only or "reload" in asked.only:
            _reload(asked.runs or RELOADS)


class Ear:
    """What a daemon tells its service manager (sd_notify)."""

    def __init__(self, at: Path) -> None:
        self.env = {"NOTIFY_SOCKET": str(at / "notify.sock")}
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.env["NOTIFY_SOCKET"])
        self._sock.settimeout(PATIENCE_S)

    def until(self, field: bytes) -> float:
        """The moment at which this was told."""
        while field not in self._sock.recv(65536).split(b"\n"):
            pass
        return time.perf_counter()


@contextmanager
def _daemon(at: Path, ear: Ear, **env: str) -> Iterator[tuple[rig.Daemon, float]]:
    """A daemon that is ready, and how long that took."""
    command = [str(rig.HOOKRELAY), "serve", "--config", str(at / "hookrelay.toml")]
    began = time.perf_counter()
    with rig.process(command, rig.DAEMON_CORE, at / "daemon.log", {**ear.env, **env}) as pid:
        try:
            ready = ear.until(b"READY=1")
        except TimeoutError:
            sys.exit((at / "daemon.log").read_text())
        yield rig.Daemon(at, pid), ready - began


def _by_thread(pid: int) -> dict[str, float]:
    """CPU time of each thread there is, to the nanosecond where `stat` counts ticks of 10 ms."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def _cpu_s(pid: int) -> float:
    return sum(_by_thread(pid).values())


# --- start ------------------------------------------------------------------------------------------------------


def _start(runs: int) -> None:
    for kind in ("with compiled modules", "without"):
        took, cpu = [], []
        for _ in range(runs):
            with rig.folder() as at:
                _write(at, [])
                env = {"PYTHONPYCACHEPREFIX": str(at / "pyc")} if kind == "without" else {}
                with _daemon(at, Ear(at), **env) as (daemon, ready):
                    took.append(ready)
                    cpu.append(_cpu_s(daemon.pid))
        print(
            f"  READY on an empty store, {kind}: {statistics.median(took):.2f} s ({min(took):.2f} to {max(took):.2f}),"
            f" {statistics.median(cpu):.2f} s of CPU ({min(cpu):.2f} to {max(cpu):.2f})",
            flush=True,
        )


# --- idle -------------------------------------------------------------------------------------------------------


def _idle(count: int) -> None:
    with rig.folder() as at:
        _write(at, [_webhook(number) for number in range(count)])
        with _daemon(at, Ear(at)) as (daemon, _):
            time.sleep(SETTLED_S)
            cpu, wakes, began = _by_thread(daemon.pid), _wakes(daemon.pid), time.monotonic()
            time.sleep(IDLE_S)
            seconds = time.monotonic() - began
            used, woke = _growth(cpu, _by_thread(daemon.pid)) / seconds, _growth(wakes, _wakes(daemon.pid)) / seconds
            rollup = _rollup(daemon.pid)
    print(
        f"  idle with {count:,} webhooks: {used:.2%} of a core, awake {woke:.0f} times a second;"
        f" {rollup['Rss'] / 1024:.1f} MiB resident ({rollup['Pss'] / 1024:.1f} where shared pages are shared out,"
        f" {rollup['Anonymous'] / 1024:.1f} its own)",
        flush=True,
    )


def _wakes(pid: int) -> dict[str, float]:
    """How often each of its threads has waited for something so far."""
    return {
        task.name: int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary")
    }


def _growth(before: dict[str, float], after: dict[str, float]) -> float:
    """By how much the sum has grown; a thread that ended meanwhile has taken its count with it."""
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


# --- reload -----------------------------------------------------------------------------------------------------


def _reload(runs: int) -> None:
    with rig.folder() as at:
        port, arrived = rig.free_port(), at / "arrived"
        command = [sys.executable, "-m", "benchmarks.receiver", str(port), str(arrived)]
        probe = rig.webhook("probe", f"http://127.0.0.1:{port}/", events=["probe"])
        webhooks = [probe, *(_webhook(number) for number in range(1, WEBHOOKS))]
        _write(at, [probe])
        ear = Ear(at)
        with rig.process(command, rig.OTHER_CORE, at / "receiver.log"):
            rig.wait_for_port(port)
            with _daemon(at, ear) as (daemon, _):
                probing = Probe(daemon)
                spans: dict[str, list[tuple[float, float, float]]] = {}

                def span(kind: str, went: float | None = None) -> None:
                    cpu, began = _cpu_s(daemon.pid), time.monotonic()
                    if went is None:
                        os.kill(daemon.pid, signal.SIGHUP)
                        ear.until(b"RELOADING=1")
                        ear.until(b"READY=1")
                    else:
                        time.sleep(went)
                    ended = time.monotonic()
                    spans.setdefault(kind, []).append((began, ended, _cpu_s(daemon.pid) - cpu))
                    time.sleep(0.5)

                time.sleep(1)
                _write(at, webhooks)
                span("10,000 new ones")
                for turn in range(runs):
                    span("without", QUIET_S)
                    span("nothing changed")
                    _write(at, [*webhooks[:-1], _webhook(WEBHOOKS - 1, turn)])
                    span("one changed")
                    _write(at, [probe, *(_webhook(number, turn) for number in range(1, WEBHOOKS))])
                    span("all but the probe's changed")
                    _write(at, webhooks)
                    span("all but the probe's changed")
                probing.stop()
                log = (at / "daemon.log").read_text()
                if daemon.metric('hookrelay_webhooks{status="active"}') != WEBHOOKS or "refused" in log:
                    sys.exit(log)
        _report(spans, probing, [float(line.split()[1]) for line in arrived.read_text().splitlines()])


class Probe:
    """Submits `RATE` events a second, each by itself, and notes how long every answer took."""

    def __init__(self, daemon: rig.Daemon) -> None:
        self.sent: list[float] = []
        self.answered: list[float] = []
        self._ending = threading.Event()
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(daemon.socket))
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._read)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._ending.is_set():
            time.sleep(max(0.0, began + len(self.sent) / RATE - time.monotonic()))
            self.sent.append(time.monotonic())
            self._sock.sendall(rig.event(len(self.sent), type="probe"))
        self._sock.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        with self._sock.makefile("rb") as lines:
            for line in lines:
                self.answered.append(time.monotonic())
                if b'"deliveries":1}' not in line:
                    self._ending.set()
                    print("  refused:", line.decode().strip())

    def stop(self) -> None:
        """Submit no more, and wait for every answer."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._sock.close()
        time.sleep(1)


def _report(spans: dict[str, list[tuple[float, float, float]]], probing: Probe, arrivals: list[float]) -> None:
    quiet = statistics.median(cpu / (ended - began) for began, ended, cpu in spans["without"])
    for kind, found in spans.items():
        took = [ended - began for began, ended, _ in found]
        cpu = [cpu - quiet * (ended - began) for began, ended, cpu in found]
        waits, gaps = [], []
        for began, ended, _ in found:
            waits += [b - a for a, b in zip(probing.sent, probing.answered, strict=True) if began <= a <= ended]
            inside = [at for at in arrivals if began <= at <= ended]
            gaps.append(max((b - a for a, b in pairwise(inside)), default=0.0))
        what = "no reload" if kind == "without" else f"reload, {kind}"
        applied = "" if kind == "without" else f" {_spread(took)} s, {statistics.median(cpu):.2f} s of CPU;"
        print(
            f"  {what}:{applied} answers p50 {_at(waits, 0.5):.1f}, p99 {_at(waits, 0.99):.1f}, at most"
            f" {max(waits) * 1000:.0f} ms; longest gap between deliveries {statistics.median(gaps) * 1000:.0f} ms"
            f" (at most {max(gaps) * 1000:.0f})",
            flush=True,
        )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _at(seconds: list[float], share: float) -> float:
    """That quantile, in milliseconds."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] * 1000


# --- files ------------------------------------------------------------------------------------------------------


def _webhook(number: int, turn: int = -1) -> str:
    return rig.webhook(
        f"webhook-{number}",
        f"https://customer-{number}.example.com/hooks/{turn}",
        events=["booking.created", "payment.*"],
        tenant=f"tenant-{number % 200}",
        description=f"Bookings of customer {number}",
    )


def _write(at: Path, webhooks: Sequence[str]) -> None:
    """The settings, all but the paths and one TCP address of the API at their defaults, and some files of webhooks."""
    if not (at / "hookrelay.toml").exists():
        api = f'api.listen = ["unix:{at}/api.sock", "127.0.0.1:{rig.free_port()}"]'
        rig.write_files(at, "", api)
    share = max(1, len(webhooks) // FILES)
    for index in range(FILES):
        text = "\n".join(webhooks[index * share : (index + 1) * share if index + 1 < FILES else None])
        if text or not webhooks:
            (at / "webhooks.d" / f"{index}.toml").write_text(text)


if __name__ == "__main__":
    main()
