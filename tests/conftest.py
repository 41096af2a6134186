"""What holds for every test: it leaves no process behind, and in a run of record (CI set in the environment) a skipped
test is a failure and the run says in a file what it came to (.ci/judge.py reads it).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from hypothesis import settings

# a machine that is busy with other tests is no reason to fail
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

_collected: set[str] = set()


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    with processes.ending():
        yield


def pytest_collection_finish(session: pytest.Session) -> None:
    _collected.update(item.nodeid for item in session.items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: list[str]) -> None:
    _collected.update(ids)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skips_count() and _names(session.config, "skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode, config: pytest.Config
) -> None:
    if _skips_count() and _names(config, "skipped"):
        terminalreporter.line("CI is set: a skipped test counts as a failure", red=True)
    if "HOOKRELAY_TEST_VERDICT" in os.environ:
        verdict = {
            "status": int(exitstatus),
            "collected": sorted(_collected),
            "passed": _names(config, "passed"),
            "failed": sorted({*_names(config, "failed"), *_names(config, "error")}),
            "skipped": _names(config, "skipped"),
        }
        Path(os.environ["HOOKRELAY_TEST_VERDICT"]).write_text(json.dumps(verdict))


def _skips_count() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def _names(config: pytest.Config, outcome: str) -> list[str]:
    """The tests of this outcome; a test that failed in its set-up has an `error`."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return sorted({report.nodeid for report in reporter.stats.get(outcome, ())}) if reporter else []
