"""What CI makes of a run in which tests failed, and that a test which hangs costs only itself."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_spec = importlib.util.spec_from_file_location("judge", ROOT / ".ci/judge.py")
assert _spec is not None
assert _spec.loader is not None
judge = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(judge)

ALL = [f"tests/test_x.py::test_{letter}" for letter in "abcdef"]


def verdict(failing: int = 1, **said: object) -> dict[str, object]:
    """Of a run whose first tests have failed, and all others passed."""
    return {"status": 1, "collected": ALL, "passed": ALL[failing:], "failed": ALL[:failing], "skipped": [], **said}


@pytest.mark.parametrize("failed", [1, 3])
def test_a_few_failures_among_tests_that_all_ran_are_judged_once_more(failed):
    assert judge.again(verdict(failed)) == ALL[:failed]


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (verdict(4), "4 tests failed, and 3 at most"),
        (verdict(status=2), "status 2: the run broke off"),
        (verdict(status=3), "status 3: the run broke off"),
        (verdict(skipped=ALL[-1:], passed=ALL[1:-1]), "1 tests were skipped: tests/test_x.py::test_f"),
        (verdict(passed=ALL[2:]), "1 of 6 tests never ran, such as tests/test_x.py::test_b"),
        (verdict(0), "nothing"),
        (verdict(failed=["tests/test_y.py"], passed=ALL), "no test that was collected: tests/test_y.py"),
    ],
)
def test_a_run_that_broke_off_skipped_or_failed_widely_has_no_second_chance(run, why):
    with pytest.raises(ValueError, match=why):
        judge.again(run)


@pytest.mark.parametrize("second", [{"status": 0, "passed": ALL[:1]}, {"status": 3, "passed": ALL[:2]}])
def test_a_second_run_counts_only_where_all_of_its_tests_ran_and_passed(second):
    judge.passed({"status": 0, "passed": ALL[:2]}, ALL[:2])
    with pytest.raises(ValueError, match="of 2 passed"):
        judge.passed(second, ALL[:2])


def test_without_a_verdict_the_run_has_failed(tmp_path, capsys):
    assert judge.main("again", tmp_path / "none", tmp_path / "names") == 1
    assert capsys.readouterr().out.startswith("the run has failed: ")


SAMPLE = """
import subprocess, sys, processes, pytest

def test_hangs():
    with processes.running([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"],
                           stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.wait()

def test_leaves_a_process():
    processes.start(["sleep", "600"])

@pytest.mark.parametrize("name", ["a b", "[x]"])
def test_fails(name):
    assert False

def test_passes():
    assert all(process.poll() is not None for process in processes._started)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_that_hangs_fails_alone_and_the_run_says_what_it_came_to(tmp_path, workers):
    for name in ("conftest.py", "processes.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path)
    (tmp_path / "test_sample.py").write_text(SAMPLE)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 5\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider"]
    env = {**os.environ, "HOOKRELAY_TEST_VERDICT": str(tmp_path / "verdict"), "CI": "true"}
    done = subprocess.run(
        [*command, "-n", str(workers)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stdout
    said = json.loads((tmp_path / "verdict").read_text())
    assert said["failed"] == [f"test_sample.py::test_{name}" for name in ("fails[[x]]", "fails[a b]", "hangs")]
    assert said["passed"] == ["test_sample.py::test_leaves_a_process", "test_sample.py::test_passes"]
    assert said["collected"] == sorted(said["passed"] + said["failed"])
    names = tmp_path / "names"
    assert judge.main("again", tmp_path / "verdict", names) == 0
    again = subprocess.run(
        [*command, "--deselect", "test_sample.py::test_hangs", f"@{names}"],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "2 failed, 1 deselected" in again.stdout
