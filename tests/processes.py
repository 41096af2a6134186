"""Processes that tests start: each has ended when its test has, whatever happened (conftest.py sees to it)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_started: "list[subprocess.Popen[Any]]" = []


def start(*args: Any, **options: Any) -> "subprocess.Popen[Any]":
    """`subprocess.Popen`, noted for `ending`."""
    process = subprocess.Popen(*args, **options)
    _started.append(process)
    return process


@contextmanager
def ending() -> Iterator[None]:
    """Kill what was started inside and still runs at the end; what was started before lives on."""
    before = len(_started)
    try:
        yield
    finally:
        for process in _started[before:]:
            end(process)
        del _started[before:]


@contextmanager
def running(*args: Any, **options: Any) -> "Iterator[subprocess.Popen[Any]]":
    """A process for the time of a block. Unlike `with Popen` it waits for nothing that a failed test left undone."""
    process = start(*args, **options)
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    """Kill it where it still runs, and close our ends of its pipes."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None and not pipe.closed:
            pipe.close()
