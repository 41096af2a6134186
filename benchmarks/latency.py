"""How long from the line's last byte to the receiver's first? One event at a time, then at fixed rates."""

import socket
import statistics
import sys
import threading
import time

from benchmarks import rig

ALONE = 1000
SECONDS = 10
RATES = (3_000, 10_000)


def main() -> None:
    """Print medians and tails in milliseconds."""
    print(f"latency: {rig.machine()}")
    _report("one at a time", _run(None))
    for rate in RATES:
        _report(f"{rate:,}/s", _run(rate))


def _run(rate: int | None) -> list[float]:
    with rig.folder() as at:
        port = rig.free_port()
        arrived = at / "arrived"
        rig.write_files(at, rig.webhook("bench", f"http://127.0.0.1:{port}/", max_in_flight=64))
        command = [sys.executable, "-m", "benchmarks.receiver", str(port), str(arrived)]
        with rig.process(command, rig.OTHER_CORE, at / "receiver.log"):
            rig.wait_for_port(port)
            with rig.daemon(at) as daemon:
                sent = _one_by_one(daemon) if rate is None else _paced(daemon, rate)
                for _ in range(500):
                    if daemon.metric("hookrelay_pending_deliveries") == 0:
                        break
                    time.sleep(0.02)
        received = {line.split()[0]: float(line.split()[1]) for line in arrived.read_bytes().splitlines()}
        return sorted((received[event] - moment) * 1000 for event, moment in sent.items())


def _one_by_one(daemon: rig.Daemon) -> dict[bytes, float]:
    sent = {}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))
        for number in range(ALONE):
            time.sleep(0.005)
            line = rig.event(number)
            moment = time.monotonic()
            sock.sendall(line)
            sent[_id(sock.recv(4096))] = moment
    return sent


def _paced(daemon: rig.Daemon, rate: int) -> dict[bytes, float]:
    """`rate` events a second, each sent by itself at its time; the first second does not count."""
    moments: list[float] = []
    ids: list[bytes] = []
    count = rate * (SECONDS + 1)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(daemon.socket))

        def read() -> None:
            rest = b""
            while len(ids) < count:
                *lines, rest = (rest + sock.recv(1 << 20)).split(b"\n")
                ids.extend(map(_id, lines))

        reader = threading.Thread(target=read)
        reader.start()
        started = time.monotonic()
        number = 0
        while number < count:
            due = int((time.monotonic() - started) * rate)
            if due <= number:
                time.sleep(0.0003)
                continue
            step = min(due, count) - number
            moments += [time.monotonic()] * step
            sock.sendall(b"".join(map(rig.event, range(number, number + step))))
            number += step
        reader.join()
    return dict(zip(ids[rate:], moments[rate:], strict=True))


def _id(line: bytes) -> bytes:
    return line[7:37]


def _report(name: str, times: list[float]) -> None:
    print(
        f"  {name}: p50 {statistics.median(times):.2f} ms, p99 {times[int(len(times) * 0.99)]:.2f} ms,"
        f" worst {times[-1]:.2f} ms over {len(times):,} deliveries"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        RATES = tuple(map(int, sys.argv[1:]))
    main()
