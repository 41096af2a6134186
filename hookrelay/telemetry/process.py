"""This process, as the host sees it: what Prometheus expects of any, and who may read its memory.

prometheus-client's own collector says nothing where /proc holds processes only, which is how the systemd unit runs the
daemon (`ProcSubset=pid`).
"""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_SELF = Path("/proc/self")
_PR_SET_DUMPABLE = 4
"""prctl(2), `linux/prctl.h`."""


def hide_memory() -> bool:
    """Let nobody but root read this process's memory, nor dump it: secrets are in there (THREATS §3). Whether it is so.

    Its folder in /proc is root's from then on. It holds until another program is executed.
    """
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):  # no Linux
        return False


def families(started_at: float) -> Iterator[Metric]:
    """Of this process, begun at `started_at`. Without what a host has no /proc for."""
    yield CounterMetricFamily("process_cpu_seconds", "CPU time spent, by user and system.", value=time.process_time())
    yield GaugeMetricFamily("process_start_time_seconds", "When the process began.", value=started_at)
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield GaugeMetricFamily(
        "process_max_fds", "How many files may be open.", value=inf if most == resource.RLIM_INFINITY else most
    )
    with suppress(OSError):
        yield GaugeMetricFamily("process_open_fds", "Open files, sockets among them.", value=_open_fds())
    with suppress(OSError):
        pages = int((_SELF / "statm").read_text().split()[1])
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", value=pages * resource.getpagesize())


def _open_fds() -> int:
    return len(os.listdir(_SELF / "fd")) - 1  # without the one that lists them
