import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from hookrelay.telemetry.logs import configure

HOSTILE = "\x1b[31mred\x07\x7f\x9b2J\r\nnext line\t\u202egnp.exe\u2066\u2028\u200b\ud800"
"""What a receiver may say to a terminal: escapes, line ends, bidi overrides."""


@pytest.fixture(autouse=True)
def _leave_structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    with suppress(ValueError):
        raise error
    return error


def test_json_is_one_object_a_line_with_level_time_event_and_ids():
    out = io.StringIO()
    log = configure("info", "json", out)
    log.info("ready", webhooks=3)
    log.log(30, "delivery_failed", webhook="wh_1", detail="two\nlines", response_code=None)
    first, second = lines(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first.pop("time"))
    assert first == {"level": "info", "event": "ready", "webhooks": 3}
    del second["time"]
    assert second == {
        "level": "warning",
        "event": "delivery_failed",
        "webhook": "wh_1",
        "detail": "two\nlines",
        "response_code": None,
    }


def test_a_line_begins_with_what_happened_how_bad_it_is_and_to_whom():
    for format in ("json", "console"):
        out = io.StringIO()
        log = configure("info", format, out)
        log.warning("delivery_failed", delivery="dlv_1", webhook="wh_1", attempt=3, tenant="acme", webhook_name="crm")
        if format == "json":
            names = list(lines(out)[0])
            assert names == ["event", "level", "webhook", "webhook_name", "tenant", "time", "delivery", "attempt"]
        else:
            places = [out.getvalue().index(text) for text in ("delivery_failed", "wh_1", "crm", "acme", "dlv_1")]
            assert places == sorted(places)


def test_a_log_that_cannot_be_written_costs_its_line_and_nothing_else():
    out = open("/dev/full", "w", buffering=1)  # noqa: SIM115 -- closing it fails as every write does
    log = configure("info", "json", out)
    for _ in range(3):
        log.info("ready", detail="x" * 10_000)
    with suppress(OSError):
        out.close()


def test_an_exception_is_one_line_with_its_traceback_in_json():
    out = io.StringIO()
    log = configure("info", "json", out)
    log.error("request_failed", exc_info=raised(ValueError("what went wrong")))
    (line,) = lines(out)
    assert line["exception"].splitlines()[-1] == "ValueError: what went wrong"


def test_what_is_below_the_level_is_not_written_and_the_level_can_change():
    out = io.StringIO()
    log = configure("warning", "json", out)
    log.info("quiet")
    log.warning("loud")
    configure("debug", "json", out).debug("detail")
    assert [(line["event"], line["level"]) for line in lines(out)] == [("loud", "warning"), ("detail", "debug")]


def test_auto_is_json_where_there_is_no_terminal():
    out = io.StringIO()
    configure("info", "auto", out).info("ready")
    assert lines(out)[0]["event"] == "ready"


def test_auto_is_console_with_colours_on_a_terminal():
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign] # a terminal is just that here
    configure("info", "auto", out).info("ready", webhooks=3)
    assert "\x1b[" in out.getvalue()
    assert re.search(r"ready.*webhooks.*=.*3", out.getvalue())


def test_console_can_be_forced_and_then_has_no_colours_in_a_file():
    out = io.StringIO()
    configure("info", "console", out).info("ready", webhook="wh_1")
    assert re.fullmatch(r"\S+Z \[info +\] ready +webhook=wh_1\n", out.getvalue())


@pytest.mark.parametrize("format", ["json", "console"])
def test_what_a_receiver_says_reaches_no_terminal_as_a_command(format: Any):
    out = io.StringIO()
    log = configure("info", format, out)
    log.info("attempt_failed", detail=HOSTILE, many=[HOSTILE], inner={HOSTILE: HOSTILE})
    written = out.getvalue()
    assert written.endswith("\n")
    assert written[:-1].isprintable()  # no control, no bidi, no second line
    assert "red" in written
    assert r"\u202e" in written
    written.encode()  # nothing in it that a stream could refuse


def test_a_traceback_on_a_console_keeps_its_lines_and_nothing_else_that_controls():
    out = io.StringIO()
    log = configure("info", "console", out)
    log.error("request_failed", exc_info=raised(ValueError(HOSTILE)))
    written = out.getvalue()
    assert "Traceback (most recent call last):\n" in written
    assert written.replace("\n", "").isprintable()


def test_the_journal_is_told_the_priority_of_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with (tmp_path / "journal").open("w+") as out:
        stat = os.fstat(out.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{stat.st_dev}:{stat.st_ino}")
        log = configure("debug", "json", out)
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(log, level)("said")
        log.log(30, "said")
        out.seek(0)
        written = out.read().splitlines()
    assert [line[:3] for line in written] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<4>"]
    assert all(json.loads(line[3:])["event"] == "said" for line in written)


def test_another_stream_than_the_journals_gets_no_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    with (tmp_path / "log").open("w+") as out:
        configure("info", "json", out).info("said")
        out.seek(0)
        assert json.loads(out.read())["event"] == "said"


def test_the_log_loads_no_rich_and_leaves_it_to_others():
    """It takes 40 ms and 4 MiB of every daemon's start."""
    asked = "import sys, hookrelay.telemetry.logs; assert 'rich' not in sys.modules; import rich.console"
    subprocess.run([sys.executable, "-c", asked], check=True)
