"""May the tests that failed beside all others be judged once more, alone? And have they all passed then?

`judge.py again VERDICT NAMES` writes the names of the tests to run again, one a line; `judge.py passed VERDICT NAMES`
asks of the second run. VERDICT is the file in which tests/conftest.py says what a run came to. Exit code 1: no,
and why.
"""

import json
import sys
from pathlib import Path

MOST = 3
"""So many tests may pass alone only: a machine that is busy fails few, a fault fails again."""
SOME_FAILED = 1
"""pytest's status where every test ran to its end and some failed; any other is an ended or broken run."""


def again(verdict: dict) -> list[str]:
    """The tests to run again. ValueError where the run must not be given a second chance, and why."""
    collected, passed, failed = (set(verdict[key]) for key in ("collected", "passed", "failed"))
    if verdict["status"] != SOME_FAILED:
        raise ValueError(f"pytest ended with status {verdict['status']}: the run broke off")
    if verdict["skipped"]:
        raise ValueError(f"{len(verdict['skipped'])} tests were skipped: {', '.join(verdict['skipped'])}")
    if missing := collected - passed - failed:
        raise ValueError(f"{len(missing)} of {len(collected)} tests never ran, such as {min(missing)}")
    if not failed or failed - collected:
        raise ValueError(f"what failed is no test that was collected: {', '.join(sorted(failed)) or 'nothing'}")
    if len(failed) > MOST:
        raise ValueError(f"{len(failed)} tests failed, and {MOST} at most are judged once more")
    return sorted(failed)


def passed(verdict: dict, names: list[str]) -> None:
    """Whether the second run was of just these tests, and all of them passed. ValueError where not."""
    if verdict["status"] != 0 or verdict["passed"] != sorted(names):
        count = f"{len(verdict['passed'])} of {len(names)} passed"
        raise ValueError(f"pytest ended with status {verdict['status']} and {count}")


def main(asked: str, verdict: Path, names: Path) -> int:
    try:
        found = json.loads(verdict.read_text())
        if asked == "again":
            names.write_text("".join(f"{name}\n" for name in again(found)))
        else:
            passed(found, names.read_text().splitlines())
    except (OSError, ValueError) as error:
        print(f"the run has failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
