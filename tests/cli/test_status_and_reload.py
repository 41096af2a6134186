"""How the daemon does, and having it read its files again: what is shown, and the exit codes."""

import json

import pytest
from api_samples import STATUS, WH, run
from stub_api import problem


def test_the_status_fits_a_screen_and_names_the_webhooks_in_trouble(stub):
    stub.answers["GET /v1/status"] = (200, STATUS)
    lines = run(stub, "status").stdout.splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith("hookrelay 0.1.0, ready, up ")
    assert "waiting      1,204 pending, 30 held, 8 in flight" in lines
    assert "overdue      3m" in lines
    assert "store        1.4 GiB" in lines
    assert [line.split()[-1] for line in lines if line.startswith(WH)] == ["https://a.example", "https://b.example"]
    assert json.loads(run(stub, "status", "--output", "json").stdout) == STATUS


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("wrong", [{"ready": False}, {"trouble": "the disk is full"}])
def test_a_daemon_that_is_not_well_exits_with_1(stub, output, wrong):
    stub.answers["GET /v1/status"] = (200, STATUS | wrong)
    result = run(stub, "status", "--output", output, code=1)
    assert ("not ready" if "ready" in wrong else "the disk is full") in result.stdout or output == "json"


def test_a_refused_reload_stands_in_the_status(stub):
    stub.answers["GET /v1/status"] = (200, STATUS | {"reload": {"successful": False, "at": "2026-02-26"}})
    assert "the reload at 2026-02-26 was refused: `hookrelay check` says why" in run(stub, "status").stdout


def test_a_reload_tells_every_mistake_as_check_does(stub):
    stub.answers["POST /-/reload"] = (200, {"reloaded": True, "webhooks": 2})
    assert run(stub, "reload").stdout == "reloaded: 2 webhooks\n"
    assert json.loads(run(stub, "reload", "--output", "json").stdout) == {"reloaded": True, "webhooks": 2}
    mistakes = [("a.toml:3: webhook[0].url", "is missing"), ("b.toml", "cannot be read")]
    stub.answers["POST /-/reload"] = problem(422, "invalid_configuration", "two mistakes", *mistakes)
    told = run(stub, "reload", code=78).stderr.splitlines()
    assert told == ["a.toml:3: webhook[0].url: is missing", "b.toml: cannot be read", "2 mistakes: nothing was changed"]
    stub.answers["POST /-/reload"] = problem(403, "forbidden", "only for administrators")
    run(stub, "reload", code=77)
