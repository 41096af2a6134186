"""What the host does to a running daemon: it charges nobody, refuses what it must, and is well soon after."""

import json
import resource
import signal
import threading
import time

from rig import GOOD, OK, hook, wait_for


def test_while_the_disk_fails_lines_are_refused_as_unavailable_and_then_all_goes_on(daemon, receiver):
    is_mended = threading.Event()

    def hold(request, number):
        is_mended.wait(30)
        return OK

    taken = receiver(hold)
    running = daemon(hook("one", taken.port)).start()
    client = running.client()
    first = client.ask(b'{"type":"a","data":1}\n')
    taken.wait(1)
    big = json.dumps({"type": "a", "data": "x" * 100_000}).encode() + b"\n"
    # the kernel refuses every write beyond this size of a file, as a disk with a fault would
    _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (16 << 10, hard))
    end = time.monotonic() + 1.5  # checkpoints and the marker come round meanwhile
    while time.monotonic() < end:
        assert client.ask(big)["error"]["code"] == "unavailable"
    assert running.get("/-/ready").status == 503
    assert running.get("/-/healthy").status == 200
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    is_mended.set()
    wait_for(lambda: running.get("/-/ready").status == 200, 10, running.log)
    last = client.ask(big)
    taken.wait(2)
    running.settled()
    assert [delivery["status"] for delivery in running.deliveries("one")] == ["succeeded"] * 2
    assert set(taken.ids()) == {first["id"], last["id"]}
    assert running.end() == 0


def test_a_reload_while_the_disk_fails_is_refused_and_works_when_it_is_mended(daemon, receiver):
    taken = receiver()
    running = daemon(hook("one", taken.port)).start()
    _, hard = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (4 << 10, hard))
    running.rewrite(hook("one", taken.port, description="new") + hook("two", taken.port))
    running.tell(signal.SIGHUP)
    running.logged("reload_refused")
    assert running.metric("hookrelay_config_last_reload_successful") == 0
    running.rewrite("# none")  # what waits for removed webhooks is cancelled, which the disk does not take either
    running.tell(signal.SIGHUP)
    wait_for(lambda: running.log().count("reload_refused") == 2, told=running.log)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    running.rewrite(hook("one", taken.port, description="new") + hook("two", taken.port))
    running.tell(signal.SIGHUP)
    running.logged("reloaded")
    assert running.client().ask(GOOD + b"\n")["deliveries"] == 2
    taken.wait(2)
    assert running.end() == 0


def test_without_descriptors_attempts_end_as_local_fault_and_all_is_well_after(daemon, receiver):
    taken = receiver()
    hooks = hook("one", taken.port, max_in_flight=20, retry=[])
    # by name: the host's resolver has no descriptors either, and would have it that the name cannot be found
    hooks += hook("two", taken.port, url=f"http://localhost:{taken.port}/two", max_in_flight=20, retry=[])
    running = daemon(hooks, 'egress.allow = ["127.0.0.1/32", "::1/128"]\n').start()
    client = running.client()
    client.ask(GOOD + b"\n")
    taken.wait(2)
    pid = running.process.pid
    open_fds = int(running.metric("process_open_fds"))  # its folder in /proc is root's
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_fds, hard))
    client.send((GOOD + b"\n") * 200)
    answers = client.answers()
    ids = {next(answers)["id"] for _ in range(200)}
    failed = "looking localhost up: Too many open files"
    wait_for(lambda: running.log().count(failed) > 5, told=running.log)
    waiting = [running.client() for _ in range(40)]  # in the kernel's queue: there are no descriptors for so many
    for each in waiting:
        each.send(GOOD + b"\n")
    so_far = running.log().count(failed)
    wait_for(lambda: running.log().count(failed) > so_far + 5, told=running.log)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert [next(each.answers())["deliveries"] for each in waiting] == [2] * 40
    running.settled(5)
    assert ids <= taken.ids().keys()
    assert running.metric('hookrelay_local_faults_total{kind="attempt"}') > 0
    assert running.metric('hookrelay_local_faults_total{kind="accept"}') > 0
    # one attempt is all that the schedule has: none of them was used up by a fault of ours
    assert running.metric('hookrelay_deliveries_total{result="succeeded"}') == 2 * 241
    assert running.metric('hookrelay_deliveries_total{result="failed"}') == 0
    assert "dns_error" not in running.log()
    assert running.end() == 0
