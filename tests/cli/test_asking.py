"""Where the daemon is asked, and what is told where it cannot be, or does not want."""

import json
import os
import socket
import subprocess
import sys

import pytest
from api_samples import HOOKRELAY, WH, run
from stub_api import HANG_UP, StubApi, page, problem


def test_the_configuration_says_where_the_daemon_is_whatever_else_is_wrong_in_it(stub, tmp_path):
    stub.answers["GET /v1/webhooks"] = page()
    (tmp_path / "hookrelay.toml").write_text('api.listen = ["127.0.0.1:1", "unix:api.sock"]\nevents.sockt = "x"\n')
    run(None, "webhooks", "list", "--config", tmp_path / "hookrelay.toml")
    assert len(stub.asked) == 1


def test_the_environment_says_where_the_daemon_is_before_the_configuration(tmp_path):
    stub = StubApi()
    stub.answers["GET /v1/webhooks"] = page()
    (tmp_path / "hookrelay.toml").write_text('api.listen = ["127.0.0.1:1"]\n')
    everywhere = json.dumps([stub.place.replace("http://127.0.0.1", "0.0.0.0")])  # noqa: S104 -- asked, not listened on
    run(None, "webhooks", "list", "--config", tmp_path / "hookrelay.toml", HOOKRELAY_API__LISTEN=everywhere)
    run(stub, "webhooks", "list", "--config", tmp_path / "hookrelay.toml")
    run(None, "webhooks", "list", "--config", tmp_path / "hookrelay.toml", "--api", stub.place)
    stub.close()
    assert len(stub.asked) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("api.listen = 7\n", "hookrelay.toml:1: api.listen: "),
        ("\napi = 7\n", "hookrelay.toml:2: api: "),
        ("api.listen = [\n", "hookrelay.toml:"),
        ("api.listen = []\n", "api.listen is empty"),
    ],
)
def test_a_configuration_that_does_not_say_where_the_daemon_is_exits_with_78(tmp_path, text, told):
    (tmp_path / "hookrelay.toml").write_text(text)
    assert told in run(None, "status", "--config", tmp_path / "hookrelay.toml", code=78).stderr


@pytest.mark.parametrize("place", ["http://", "ftp://a", "unix:", "127.0.0.1:80", "http://a:99999", "http://[::1"])
def test_a_place_that_is_none_is_told_with_right_ones(place):
    assert "write unix:/run/hookrelay/api.sock or http://" in run(None, "status", "--api", place, code=2).stderr


def test_a_key_that_no_header_could_carry_is_told_and_not_repeated(stub):
    told = run(stub, "status", code=2, HOOKRELAY_KEY="hunter2\nx").stderr
    assert "HOOKRELAY_KEY is no key" in told
    assert "hunter2" not in told


@pytest.mark.parametrize("kind", ["no socket", "nobody listens", "closed port"])
def test_an_unreachable_daemon_exits_with_69_and_says_what_to_do(tmp_path, kind):
    place = f"unix:{tmp_path}/api.sock"
    with socket.socket(socket.AF_UNIX) as left, socket.create_server(("127.0.0.1", 0)) as server:
        if kind == "nobody listens":
            left.bind(str(tmp_path / "api.sock"))
        elif kind == "closed port":
            place = f"http://127.0.0.1:{server.getsockname()[1]}"
            server.close()
        # httpx leaves the socket that it could not connect to the collector: here, to the end of a process
        command = [*HOOKRELAY, "webhooks", "list", "--api", place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    told = done.stderr
    assert done.returncode == 69
    assert told.startswith(f"hookrelay: {place}: ")
    assert told.endswith(": is the daemon running there? --api or HOOKRELAY_API name another place\n")
    assert told.count("\n") == 1


def test_something_else_that_answers_is_told_from_a_daemon(stub):
    stub.answers["GET /v1/status"] = (200, b"<html>")
    assert "what answers there is no hookrelay" in run(stub, "status", code=69).stderr
    stub.answers["GET /v1/status"] = (404, b"<html>")
    assert "the answer was 404" in run(stub, "status", code=1).stderr
    stub.answers["GET /v1/status"] = HANG_UP
    assert "is the daemon running there?" in run(stub, "status", code=69).stderr


BOUND_BY_MODES = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: without them file modes bind root as well
    ctypes.CDLL(None).prctl(24, capability)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "hookrelay", *sys.argv[1:]])
"""


def test_a_socket_that_may_not_be_opened_exits_with_77(stub, tmp_path):
    (tmp_path / "api.sock").chmod(0)
    command = [sys.executable, "-c", BOUND_BY_MODES, "status", "--api", stub.place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.stderr.startswith(f"hookrelay: {stub.place}: Permission denied: api.mode says who may open it")
    assert done.returncode == 77


def test_the_socket_for_events_is_no_place_to_ask(tmp_path):
    command = [sys.executable, "-m", "hookrelay", "status", "--api", f"unix:{tmp_path}/events.sock"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert f"the API is asked at unix:{tmp_path}/api.sock" in done.stderr
    assert done.returncode == 2


def test_what_keeps_a_daemon_from_starting_is_an_error_to_the_journal(tmp_path):
    (tmp_path / "h.toml").write_text("nonsense = 1\nmore = 2\n")
    with (tmp_path / "journal").open("w+") as journal:
        stat = os.fstat(journal.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "hookrelay", "serve", "--config", str(tmp_path / "h.toml")],
            env={**os.environ, "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"},
            stderr=journal,
            timeout=30,
        )
        journal.seek(0)
        assert [line[:14] for line in journal] == ["<3>hookrelay: "] * 2
    assert done.returncode == 78


@pytest.mark.parametrize("closed", ["etc/hookrelay.toml", "etc"])
def test_a_configuration_that_may_not_be_read_exits_with_77(closed, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hookrelay.toml").write_text("")
    (tmp_path / closed).chmod(0)
    command = [sys.executable, "-c", BOUND_BY_MODES, "status", "--config", str(tmp_path / "etc" / "hookrelay.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    (tmp_path / closed).chmod(0o755)
    assert "permission denied: be root (sudo), or say by --api" in done.stderr
    assert done.returncode == 77


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        (401, "unauthorized", 77),
        (403, "forbidden", 77),
        (404, "not_found", 1),
        (409, "file_managed", 1),
        (429, "rate_limited", 1),
        (503, "unavailable", 69),
    ],
)
def test_a_refusal_is_one_sentence_and_its_exit_code(stub, status, name, code):
    stub.answers[f"GET /v1/webhooks/{WH}"] = problem(status, name, "what is wrong and what would be right")
    told = run(stub, "webhooks", "show", WH, code=code).stderr
    hint = "; HOOKRELAY_KEY is the key that is sent" if code == 77 else ""
    assert told == f"hookrelay: what is wrong and what would be right{hint}\n"


def test_every_wrong_field_is_told(stub):
    wrong = [("url", "is not a URL"), ("events.0", "is not an event type")]
    stub.answers["POST /v1/webhooks"] = problem(422, "invalid_field", "2 fields are wrong", *wrong)
    told = run(stub, "webhooks", "create", "--url", "x", "--event", "!", code=1).stderr.splitlines()
    assert told == ["hookrelay: 2 fields are wrong", "  url: is not a URL", "  events.0: is not an event type"]


def test_a_file_that_cannot_be_read_exits_with_74(stub, tmp_path):
    create = ["webhooks", "create", "--url", "https://a.example", "--event", "*"]
    assert "none: No such file" in run(stub, *create, "--secret-file", tmp_path / "none", code=74).stderr
    (tmp_path / "binary").write_bytes(b"\xff")
    assert "is not UTF-8" in run(stub, *create, "--header-file", f"a={tmp_path / 'binary'}", code=74).stderr
    assert stub.asked == []
