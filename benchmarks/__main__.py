"""`make bench`: every question in turn, or those that are named."""

import sys
from importlib import import_module

QUESTIONS = (
    *("throughput", "latency", "backlog", "isolation", "open", "api", "dashboard", "retention"),
    *("backup", "daemon"),
)


def main() -> None:
    """Run what was asked for."""
    asked = sys.argv[1:] or QUESTIONS
    unknown = set(asked) - set(QUESTIONS)
    if unknown:
        sys.exit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    del sys.argv[1:]
    for question in asked:
        import_module(f"benchmarks.{question}").main()


main()
