"""Configuration that is damaged, huge, of another kind, or not to be read: one line says where and what to do.

At the start that is the end of it; at a reload the old configuration stays, and all goes on.
"""

import json
import os
import re
import signal
import subprocess

import pytest
from rig import GOOD, Daemon, Receiver, hook, wait_for


def put(content: bytes):
    def make(path):
        path.write_bytes(content)

    return make


def fifo(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def dangling(path):
    path.symlink_to("nowhere.toml")


def endless(path):
    path.symlink_to("/dev/zero")


def waiting(path):
    path.symlink_to("/dev/ptmx")  # a device that is read when somebody writes


def loop(path):
    path.symlink_to(path.name)


BAD = {
    "truncated": (put(b'x.y = "z"\n[[webhook]]\nname = "x"\nurl = "https://exa'), ":4: "),
    "nested deeply": (put(b"a = " + b"[" * 100_000), ":1: "),
    "of deep keys": (put(b"a" + b".a" * 100_000 + b" = 1\n"), ":1: "),
    "a number of 5,000 digits": (put(b"\n\na = " + b"9" * 5000 + b"\n"), ":3: "),
    "17 MiB": (put(b"# long\n" * ((17 << 20) // 7)), ":"),
    "16 MiB on one line": (put(b"#" * (17 << 20)), ":1: "),
    "not UTF-8": (put(b'# fine\nname = "\xff\xfe"\n'), ":2: "),
    "UTF-16": (put("a = 1\n".encode("utf-16")), ":1: "),
    "with a byte-order mark": (put(b"\xef\xbb\xbfa = 1\n"), ":1: "),
    "with a NUL": (put(b"a = 1\nb = \0\n"), ":2: "),
    "a pipe": (fifo, ": "),
    "a folder": (folder, ": "),
    "a link to nothing": (dangling, ": "),
    "a link to itself": (loop, ": "),
    "a device without end": (endless, ": "),
    "a device that waits": (waiting, ": "),
}


@pytest.fixture(scope="module")
def at_work(tmp_path_factory):
    """A daemon for all of them: each must leave it as it was."""
    taken = Receiver()
    running = Daemon(tmp_path_factory.mktemp("files"), hook("one", taken.port)).start()
    yield running, taken
    running.close()
    taken.close()


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_of_webhooks_at_a_reload_is_told_by_its_place_and_costs_nothing(at_work, what):
    make, place = BAD[what]
    running, taken = at_work
    bad = running.hooks.with_name("bad.toml")
    make(bad)
    before, refused = len(running.log()), running.log().count("reload_refused")
    running.tell(signal.SIGHUP)
    wait_for(lambda: running.log().count("reload_refused") > refused, told=running.log)
    log = running.log()[before:]
    (mistake, *more) = [
        line["mistake"] for line in map(json.loads, log.splitlines()) if line["event"] == "config_mistake"
    ]
    assert mistake.startswith(f"{bad}{place}")
    assert len(mistake) < 400
    assert len(more) <= 2
    assert "Traceback" not in log
    bad.rmdir() if what == "a folder" else bad.unlink()
    (said,) = running.submit(GOOD)
    assert said["deliveries"] == 1
    wait_for(lambda: said["id"] in taken.ids(), told=running.log)
    assert running.metric("hookrelay_config_last_reload_successful") == 0


def test_bad_files_of_webhooks_at_the_start_are_all_told_by_their_places(daemon):
    running = daemon()
    for number, (make, _) in enumerate(BAD.values()):
        make(running.hooks.with_name(f"bad{number:02d}.toml"))
    done = running.run()
    assert done.returncode == 78
    assert "Traceback" not in done.stderr
    told = done.stderr.splitlines()
    for number, (what, (_, place)) in enumerate(BAD.items()):
        start = f"hookrelay: {running.hooks.with_name(f'bad{number:02d}.toml')}{place}"
        assert any(line.startswith(start) for line in told), what
    assert len(told) <= len(BAD) + 4
    assert not (running.at / "h.db").exists()


@pytest.mark.parametrize("what", ["truncated", "nested deeply", "a pipe", "a folder", "a device that waits"])
def test_a_bad_main_file_is_told_by_its_place(daemon, what):
    make, place = BAD[what]
    running = daemon()
    running.config.unlink()
    make(running.config)
    done = running.run()
    assert done.returncode == 78
    assert done.stderr.startswith(f"hookrelay: {running.config}{place}")
    assert "Traceback" not in done.stderr


def test_a_file_over_its_limit_is_told_the_limit(daemon):
    running = daemon("", "#" * (1 << 20))
    done = running.run()
    assert done.returncode == 78
    assert re.search(r"hookrelay\.toml:\d+: is longer than 1 MiB", done.stderr)


def test_thousands_of_files_of_webhooks_are_read_in_bounded_time_and_memory(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port)).start()
    for number in range(5_000):
        running.hooks.with_name(f"f{number}.toml").write_text(f"# {number}\n")
    running.tell(signal.SIGHUP)
    running.logged("reloaded", 60)
    assert running.submit(GOOD)[0]["deliveries"] == 1
    status = subprocess.run(["ps", "-o", "rss=", str(running.process.pid)], capture_output=True, text=True, check=True)
    assert int(status.stdout) < 200_000  # KiB
    assert running.end() == 0
