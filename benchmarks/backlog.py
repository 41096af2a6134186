"""What does a million waiting deliveries cost? A dead receiver, memory, submissions meanwhile, and a restart."""

import re
import subprocess
import sys
import time

from benchmarks import rig

EVENTS = 1_000_000
STEP = 50_000


def main() -> None:
    """Print memory, submission rates before and after, and the time to READY on restart."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    print(f"backlog: {rig.machine()}")
    with rig.folder() as at:
        dead = rig.free_port()
        rig.write_files(at, rig.webhook("dead", f"http://127.0.0.1:{dead}/"))
        with rig.daemon(at) as daemon:
            rates = [_submit(daemon, STEP) for _ in range(count // STEP)]
            pending = daemon.metric("hookrelay_pending_deliveries")
            print(
                f"  {pending:,.0f} pending: {daemon.rss_mib():.0f} MiB resident;"
                f" submissions {rates[0]:,.0f}/s at first,"
                f" {rates[-1]:,.0f}/s at the end (slowest step {min(rates):,.0f}/s)"
            )
            print(f"  store: {daemon.metric('hookrelay_store_size_bytes') / (1 << 20):,.0f} MiB")
        started = time.perf_counter()
        with rig.daemon(at) as daemon:
            ready = time.perf_counter() - started
            pending = daemon.metric("hookrelay_pending_deliveries")
            print(f"  restart: READY after {ready:.2f} s with {pending:,.0f} pending")
            rate = _submit(daemon, STEP)
            time.sleep(2)
            print(f"  after the restart: {rate:,.0f} submissions/s, {daemon.rss_mib():.0f} MiB resident")


def _submit(daemon: rig.Daemon, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.submit", str(daemon.socket), str(count)]
    done = subprocess.run(["taskset", "-c", str(min(rig.OTHER_CORE)), *command], capture_output=True, text=True)
    found = re.search(r"seconds=([0-9.]+) refused=0", done.stdout)
    if found is None:
        sys.exit(f"events were refused: {done.stdout} {done.stderr}")
    return count / float(found[1])


if __name__ == "__main__":
    main()
