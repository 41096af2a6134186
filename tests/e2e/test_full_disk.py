"""A disk that is full, or takes no writes: real ones, small enough to be filled in a moment."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig import GOOD, OK, hook, wait_for

from hookrelay.store.space import BALLAST, FREE_AT_LEAST


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many MiB, for a daemon's configuration, store, sockets and log: no place is spared."""
    place = tmp_path / "disk"

    def make(size: int) -> Path:
        place.mkdir()
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", place], capture_output=True)
        if made.returncode:
            pytest.skip("nobody but root can make a small disk")
        return place

    yield make
    if place.is_mount():
        subprocess.run(["umount", "--lazy", place], check=True)


def free(disk: Path) -> int:
    space = os.statvfs(disk)
    return space.f_bavail * space.f_frsize


def fill(disk: Path, leave: int = 0) -> Path:
    """Leave so many bytes free: a file that is as long as that takes."""
    glut = disk / "glut"
    with glut.open("ab") as file:
        if leave:
            file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, max(1, free(disk) - leave))
        else:
            block = bytes(1 << 20)
            try:
                while True:
                    os.write(file.fileno(), block)
            except OSError:
                return glut
    return glut


def test_a_full_disk_refuses_events_starts_nothing_loses_nothing_and_is_forgotten_when_it_has_room(
    daemon, receiver, disk
):
    is_let_go = threading.Event()

    def answer_slowly(request, number):
        if number <= 8:
            is_let_go.wait(60)
        return OK

    taken = receiver(answer_slowly)
    place = disk(300)
    running = daemon(hook("one", taken.port), at=place).start()
    client = running.client()
    wait_for(lambda: free(place) < (300 << 20) - BALLAST, told=running.log)
    ids = {client.ask(GOOD + b"\n")["id"] for _ in range(30)}
    taken.wait(8)  # as many as may be in flight
    glut = fill(place)
    wait_for(lambda: client.ask(GOOD + b"\n").get("error", {}).get("code") == "store_full", told=running.log)
    wait_for(lambda: running.get("/-/ready").status == 503, told=running.log)
    assert running.get("/-/healthy").status == 200
    assert running.metric('hookrelay_local_faults_total{kind="store_full"}') > 0
    # the reserve is free now: it holds what comes of the attempts in flight, whoever else filled the disk
    wait_for(lambda: BALLAST / 2 < free(place) < FREE_AT_LEAST, told=running.log)
    is_let_go.set()
    wait_for(lambda: [each["status"] for each in running.deliveries("one")].count("succeeded") == 8, told=running.log)
    time.sleep(1.5)  # longer than lanes wait between two looks at the store
    assert len(taken.requests) == 8
    assert client.ask(GOOD + b"\n")["error"]["code"] == "store_full"
    glut.unlink()
    freed = time.monotonic()
    wait_for(lambda: "id" in client.ask(GOOD + b"\n"), 10, running.log)
    wait_for(lambda: ids <= taken.ids().keys(), 10, running.log)
    assert time.monotonic() - freed < 10
    running.settled()
    wait_for(lambda: free(place) < (300 << 20) - BALLAST, told=running.log)  # the reserve is there again
    assert running.get("/-/ready").status == 200
    assert max(taken.ids().values()) == 1
    assert running.end() == 0
    assert {path.name for path in place.iterdir()} == {
        *("h.db", "h.db.id", "h.db.lock"),
        *("hookrelay.toml", "webhooks.d", "log"),
    }


def test_with_little_room_nothing_new_is_taken_and_what_waits_is_delivered(daemon, receiver, disk):
    is_let_go = threading.Event()

    def answer_slowly(request, number):
        is_let_go.wait(60)
        return OK

    taken = receiver(answer_slowly)
    place = disk(300)
    running = daemon(hook("one", taken.port), at=place).start()
    client = running.client()
    ids = {client.ask(GOOD + b"\n")["id"] for _ in range(30)}
    glut = fill(place, leave=FREE_AT_LEAST // 2)
    wait_for(lambda: client.ask(GOOD + b"\n").get("error", {}).get("code") == "store_full", told=running.log)
    is_let_go.set()
    wait_for(lambda: ids <= taken.ids().keys(), told=running.log)
    running.settled()
    assert running.get("/-/ready").status == 200
    glut.unlink()
    wait_for(lambda: "id" in client.ask(GOOD + b"\n"), 10, running.log)


def test_a_disk_that_is_full_under_load_is_no_deadlock_and_costs_no_acknowledged_event(daemon, receiver, disk):
    taken = receiver()
    place = disk(192)
    running = daemon(hook("one", taken.port), at=place).start()
    big = json.dumps({"type": "a", "data": "x" * 100_000}).encode() + b"\n"
    # what is left is filled by the store itself and by somebody else at once, faster than anybody looks
    client = running.client()
    ids: set[str] = set()
    is_filled = threading.Event()
    filler = threading.Thread(target=lambda: (fill(place), is_filled.set()))
    filler.start()
    refused = 0
    while refused < 50 or not is_filled.is_set():
        said = client.ask(big)
        if "id" in said:
            ids.add(said["id"])
        else:
            assert said["error"]["code"] in ("store_full", "unavailable")
            refused += 1
    filler.join(20)
    assert ids
    running.end(signal.SIGKILL)
    (place / "glut").unlink()
    running.start()
    wait_for(lambda: ids <= taken.ids().keys(), told=running.log)
    assert running.end() == 0


def read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)


@pytest.mark.parametrize("what", ["new", "old"])
@pytest.mark.parametrize("make_bad", [fill, read_only])
def test_a_store_on_a_disk_that_takes_no_writes_keeps_it_from_starting_and_is_named(daemon, disk, make_bad, what):
    place = disk(64)
    bad = daemon(at=place)
    if what == "old":
        assert bad.run_briefly() == 0
    before = {path: path.read_bytes() for path in place.glob("h.db*") if path.suffix != ".lock"}
    make_bad(place)
    done = bad.run()
    assert done.returncode == 74
    (told,) = done.stderr.splitlines()
    assert str(place) in told
    assert ("full" in told) == (make_bad is fill)
    assert {path: path.read_bytes() for path in before} == before
