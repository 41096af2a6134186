"""Somebody sets the clock of the host, by hours or years and either way, while a daemon runs."""

import time
from pathlib import Path

import pytest
from rig import OK, answer, hook, line, wait_for

HOUR_S = 3600
YEAR_S = 365 * 24 * HOUR_S
LATE_S = 0.7


def libraries() -> list[str]:
    """faketime's, which shows a process another wall clock and leaves the monotonic one alone."""
    return [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]


class HostClock:
    """The wall clock of the daemon that runs in this environment."""

    def __init__(self, at: Path) -> None:
        if not libraries():
            pytest.skip("faketime is not installed")
        self._file = at / "clock"
        self.environment = {
            "LD_PRELOAD": libraries()[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(0)

    def set(self, ahead_s: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}s\n")
        fresh.replace(self._file)


@pytest.mark.parametrize("ahead_s", [10 * YEAR_S, -3 * HOUR_S, -20 * YEAR_S])
def test_a_jump_of_the_clock_delays_nothing_expires_nothing_and_bursts_over_no_limit(
    daemon, receiver, tmp_path, ahead_s
):
    came: dict[str, list[float]] = {"/flaky": [], "/limited": []}

    def note(request, number):
        came[request.path].append(time.monotonic())
        return answer(500) if request.path == "/flaky" and len(came["/flaky"]) == 1 else OK

    taken = receiver(note)
    clock = HostClock(tmp_path)
    hooks = hook("flaky", taken.port, events=["a"], retry=["4s"])
    hooks += hook("limited", taken.port, events=["b"], rate_limit="4/s burst 1")
    running = daemon(hooks, 'store.retention = "1d"\n', **clock.environment).start()
    client = running.client()
    first = client.ask(line(1, type="a", idempotency_key="k"))
    for number in range(8):
        client.send(line(number, type="b"))
    wait_for(lambda: came["/flaky"] and len(came["/limited"]) >= 2, told=lambda: f"{came} {running.log()}")
    shown = float(running.metric("hookrelay_config_last_reload_timestamp_seconds"))
    assert abs(shown - time.time()) < 60
    clock.set(ahead_s)
    answers = client.answers()
    assert all("id" in next(answers) for _ in range(8))
    taken.wait(10)
    running.settled()
    waited_s = came["/flaky"][1] - came["/flaky"][0]
    assert waited_s > 3 or ahead_s > 0
    assert waited_s < 20  # not the hours by which the clock was set back
    # each start costs a quarter of a second, whatever the clock says; a busy machine sees some of them late
    starts = came["/limited"]
    assert all(later - earlier > 4 * 0.25 - LATE_S for earlier, later in zip(starts, starts[4:], strict=False))
    assert starts[-1] - starts[0] > 7 * 0.25 - LATE_S
    assert client.ask(line(1, type="a", idempotency_key="k")) == first | {"duplicate": True}
    fresh = client.ask(line(2, type="a"))
    wait_for(lambda: fresh["id"] in taken.ids(), told=running.log)
    wait_for(lambda: running.metric('hookrelay_local_faults_total{kind="clock_jump"}') == 1, told=running.log)
    assert [each["status"] for each in running.deliveries("flaky")] == ["succeeded"] * 2  # upkeep has been round
    assert running.end() == 0


def test_keys_of_a_clock_that_was_behind_are_known_when_it_is_right_in_the_same_daemon_and_after_a_restart(
    daemon, receiver, tmp_path
):
    clock = HostClock(tmp_path)
    clock.set(-50 * YEAR_S)
    running = daemon(hook("one", receiver().port), **clock.environment).start()
    lines = [line(number, idempotency_key=f"k{number}") for number in range(10)]
    ids = [said["id"] for said in running.submit(*lines)]
    clock.set(0)
    for _ in range(2):
        assert [(said["id"], said.get("duplicate")) for said in running.submit(*lines)] == [(id, True) for id in ids]
        assert running.end() == 0
        running.start()
