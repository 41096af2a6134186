"""Logs: one event a line, with ids. For people on a terminal, as JSON elsewhere. Neither secret nor payload."""

import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

# structlog loads rich where it is installed, to draw tracebacks: 40 ms of every start and 4 MiB, for what is not drawn
# here. None has its import fail, which structlog is ready for; the command line gets its own rich afterwards.
_RICH = sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # the documented way to have an import fail
import structlog  # noqa: E402 -- see above

from hookrelay.telemetry.journal import goes_to_journal  # noqa: E402 -- see above

if _RICH is None:
    del sys.modules["rich"]

Logger = structlog.typing.FilteringBoundLogger

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}


def configure(level: str, format: Literal["auto", "console", "json"], stream: TextIO | None = None) -> Logger:
    """The daemon's logger, writing to standard error (or `stream`). May be called again: the settings can change."""
    out = sys.stderr if stream is None else stream
    is_console = format == "console" or (format == "auto" and out.isatty())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        _in_order,
    ]
    if is_console:
        processors.append(_escaped)
        processors.append(structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", sort_keys=False))
    else:
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=True))
        processors.append(_without_delete)
        if goes_to_journal(out):
            processors.append(_with_priority)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unfailing(out))),
        cache_logger_on_first_use=False,
    )
    logger: Logger = structlog.get_logger()
    return logger


class _Unfailing:
    """A stream whose trouble costs the line and not the daemon: a file on a full disk, a pipe that nobody reads now."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._out.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._out.flush()


_FIRST = ("event", "level", "webhook", "webhook_name", "tenant", "time")


def _in_order(_: object, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What happened, how bad it is and to whom stand first: a line that a screen cuts off still says that."""
    return {name: line[name] for name in _FIRST if name in line} | dict(line)


def _escaped(_: object, method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """No text of a receiver's moves the cursor, turns the reading direction or begins a line (THREATS §3)."""
    for key, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n" if key == "exception" else ""
            line[key] = "".join([c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in value])
    return line


def _without_delete(_: object, method: str, line: structlog.typing.EventDict) -> str:
    """The one control character that JSON leaves as it is."""
    return str(line).replace("\x7f", "\\u007f")


def _with_priority(_: object, method: str, line: structlog.typing.EventDict) -> str:
    """`<N>` before the line, which the journal takes for its priority (sd-daemon(3))."""
    return f"<{_PRIORITIES.get(method, 6)}>{line}"
