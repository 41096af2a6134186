"""What goes on for a while: `deliveries tail` over breaks, `replay` slice by slice."""

import json
import subprocess
import time
from pathlib import Path

import processes
import pytest
from api_samples import DELIVERY, DLV, FAILED, HOOKRELAY, WH, on_a_terminal, run
from interrupt import interrupt
from stub_api import Stream, StubApi, problem

# --- tail -------------------------------------------------------------------------------------------------------------


def message(delivery: dict) -> bytes:
    return b": hello\n\nevent: delivery\ndata: " + json.dumps(delivery).encode() + b"\n\n"


@pytest.fixture
def tail(stub):
    running = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [*HOOKRELAY, "deliveries", "tail", "--api", stub.place, *options]
        running.append(processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_tail_shows_deliveries_over_a_break_and_ends_with_130_at_ctrl_c(stub, tail):
    other = {**DELIVERY, "id": "dlv_2"}
    stub.answers["GET /v1/events/stream"] = [
        Stream(message(FAILED), b'event: event\nid: evt_1\ndata: {"id": "evt_1"}\n\n'),
        problem(503, "unavailable", "the daemon starts"),
        Stream(message(other), ends=False),
    ]
    process = tail("--type", "a.*", "--type", "b", "--webhook", WH, "--tenant", "acme")
    first, second = process.stdout.readline(), process.stdout.readline()
    assert stub.asked[0].query == {"include": "deliveries", "types": "a.*,b", "webhook": WH, "tenant": "acme"}
    assert first.split()[1:5] == ["failed", "500", "12", "ms"]
    assert first.endswith("attempt 1  http_status: the receiver answered 500\n")
    assert "dlv_2" in second
    assert interrupt(process) == 130
    _, told = process.communicate()
    assert told.splitlines() == [
        "hookrelay: the daemon ended the stream: asking again in 0.5 s",
        "hookrelay: the daemon starts: asking again in 1 s",
        "hookrelay: connected again; `hookrelay deliveries list` shows what passed meanwhile",
    ]


def test_a_tail_in_json_is_an_object_a_line_of_the_wanted_status(stub, tail):
    stub.answers["GET /v1/events/stream"] = Stream(message(DELIVERY), message(FAILED), ends=False)
    assert json.loads(tail("--output", "json", "--status", "failed").stdout.readline()) == FAILED


def test_a_tail_of_a_daemon_that_goes_away_asks_until_it_is_back(stub, tail, tmp_path):
    stub.answers["GET /v1/events/stream"] = Stream(message(DELIVERY), ends=False)
    process = tail()
    assert DLV in process.stdout.readline()
    stub.close()
    assert "asking again" in process.stderr.readline()
    Path(tmp_path / "api.sock").unlink()
    assert "No such file or directory: asking again" in process.stderr.readline()
    again = StubApi(str(tmp_path / "api.sock"))
    again.answers["GET /v1/events/stream"] = Stream(message(FAILED), ends=False)
    assert "failed" in process.stdout.readline()
    again.close()


@pytest.mark.parametrize(
    ("status", "name", "code"), [(403, "forbidden", 77), (429, "rate_limited", 1), (503, "unavailable", 69)]
)
def test_a_tail_that_is_refused_to_begin_with_ends(stub, status, name, code):
    stub.answers["GET /v1/events/stream"] = problem(status, name, "not for you")
    assert run(stub, "deliveries", "tail", code=code).stderr.startswith("hookrelay: not for you")


# --- replay -----------------------------------------------------------------------------------------------------------

REPLAY = f"POST /v1/webhooks/{WH}/replay"


def test_a_dry_run_says_how_many_and_replays_none(stub):
    stub.answers[REPLAY] = (200, {"count": 7})
    since = ["--since", "2026-02-26T10:00:00Z"]
    result = run(stub, "replay", WH, *since, "--until", "2026-02-26T12:00:00+01:00", "--type", "a.b", "--dry-run")
    assert stub.last.body == {
        "since": "2026-02-26T10:00:00.000Z",
        "until": "2026-02-26T11:00:00.000Z",
        "status": ["failed"],
        "type": "a.b",
        "dry_run": True,
    }
    assert result.stdout == f"7 deliveries of {WH}, failed, made since 2026-02-26T10:00:00.000Z\n"
    assert json.loads(run(stub, "replay", WH, *since, "--dry-run", "--output", "json").stdout) == {"count": 7}
    assert all(asked.body["dry_run"] for asked in stub.asked)


def test_a_replay_asks_first_and_does_nothing_where_nobody_answers(stub):
    stub.answers[REPLAY] = (200, {"count": 7})
    result = run(stub, "replay", WH, "--since", "24h", code=2)
    assert "Deliver them again? Add --yes" in result.stderr
    assert [asked.body["dry_run"] for asked in stub.asked] == [True]


def test_a_replay_counts_back_once_and_leaves_the_end_open(stub):
    stub.answers[REPLAY] = (200, {"count": 7})
    before = time.time()
    result = run(stub, "replay", WH, "--since", "24h", "--status", "failed", "--status", "cancelled", "--yes")
    dry, real = (asked.body for asked in stub.asked)
    assert real == {**dry, "dry_run": False}
    assert "until" not in real
    assert real["status"] == ["failed", "cancelled"]
    since = time.mktime(time.strptime(real["since"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert since == pytest.approx(before - 86400, abs=30)
    assert result.stdout.splitlines()[-1].startswith("7 deliveries on their way: ")


def test_a_replay_of_none_asks_nothing(stub):
    stub.answers[REPLAY] = (200, {"count": 0})
    run(stub, "replay", WH, "--since", "24h")
    assert len(stub.asked) == 1


def test_a_big_replay_goes_slice_by_slice_without_gap_or_overlap(stub):
    stub.answers[REPLAY] = lambda asked: (200, {"count": 2500 if asked.body["dry_run"] else 800})
    times = ["--since", "2026-02-26T10:00:00Z", "--until", "2026-02-26T13:00:00Z"]
    result = run(stub, "replay", WH, *times, "--yes", "--output", "json")
    slices = [(asked.body["since"][11:19], asked.body["until"][11:19]) for asked in stub.asked[1:]]
    assert slices == [("10:00:00", "11:00:00"), ("11:00:00", "12:00:00"), ("12:00:00", "13:00:00")]
    assert json.loads(result.stdout) == {"count": 2400}


def test_a_replay_that_breaks_off_says_from_where_to_go_on(stub):
    said = [(200, {"count": 2500}), (200, {"count": 900}), problem(503, "unavailable", "the daemon stops")]
    stub.answers[REPLAY] = said
    times = ["--since", "2026-02-26T10:00:00Z", "--until", "2026-02-26T13:00:00Z"]
    result = run(stub, "replay", WH, *times, "--yes", code=69)
    assert "900 deliveries on their way; go on with --since 2026-02-26T11:00:00.000Z" in result.stderr


def test_a_replay_shows_its_progress_on_a_terminal(stub):
    stub.answers[REPLAY] = (200, {"count": 2500})
    code, seen = on_a_terminal(stub, "replay", WH, "--since", "24h", typed="y\n")
    assert code == 0
    assert "replaying" in seen


@pytest.mark.parametrize("given", ["yesterday", "2026-02-26T10:00:00", "24 h"])
def test_a_time_that_is_none_is_told_with_right_ones(stub, given):
    assert "write one such as 2026-02-26T10:00:00Z" in run(stub, "replay", WH, "--since", given, code=2).stderr
