"""What a service manager is told, and what it hands in: sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3).

Where there is no service manager, nothing is told and nothing is taken.
"""

import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio
from msgspec import Struct

from hookrelay.net.listen import CannotListen, Listener

FIRST_FD = 3
_FED = 3
"""How often within the time after which the manager would end a daemon it hears from this one."""


class Notifier:
    """The way to tell the service manager how the daemon does. What cannot be told is not told: it is no fault."""

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else "\0" + address[1:] if address.startswith("@") else address

    def tell(self, **fields: object) -> None:
        """One message, such as `READY=1` and `STATUS=…`. A field's newlines become spaces."""
        if self._address is None:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in fields.items())
        # a manager that reads nothing must not stop the loop
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto(text.encode(), self._address)

    def ready(self, status: str) -> None:
        """It serves: after the start, and after a reload."""
        self.tell(READY=1, STATUS=status)

    def reloading(self) -> None:
        """It reads its files again; `ready` follows, whatever comes of it. The time is what `notify-reload` wants."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self, status: str) -> None:
        """It takes nothing new."""
        self.tell(STOPPING=1, STATUS=status)


class Manager(Struct, frozen=True):
    """What the environment says of the service manager."""

    notifier: Notifier
    watchdog_s: float | None
    """It ends a daemon that it has not heard from for so long; None where it does not watch."""
    handed_in: tuple[tuple[int, str], ...]
    """Descriptors of listening sockets, and their names."""


def manager(environ: MutableMapping[str, str], pid: int) -> Manager:
    """What is said in `environ` to the process `pid`; the variables are taken out, so that no child believes them."""
    address = environ.pop("NOTIFY_SOCKET", None) or None
    watchdog_us, watchdog_pid = _number(environ, "WATCHDOG_USEC"), _number(environ, "WATCHDOG_PID")
    count, listen_pid = _number(environ, "LISTEN_FDS"), _number(environ, "LISTEN_PID")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    watched = watchdog_us is not None and watchdog_us > 0 and watchdog_pid in (None, pid)
    handed_in = range(count) if count is not None and listen_pid == pid else range(0)
    return Manager(
        Notifier(address),
        watchdog_us / 1e6 if watched and watchdog_us is not None else None,
        tuple((FIRST_FD + index, names[index] if index < len(names) else "") for index in handed_in),
    )


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


async def watch(
    told: Manager, answers: Callable[[], Awaitable[bool]], status: Callable[[], str], *, every_s: float = 10.0
) -> None:
    """Tell the manager how it goes, and that the daemon lives while `answers` comes back with True. Never returns.

    That this runs at all shows that the loop does; `answers` is asked whether the rest does. Where it hangs or says
    no, nothing is told, and the manager ends this process once `watchdog_s` are over.
    """
    if told.watchdog_s is not None:
        every_s = min(every_s, told.watchdog_s / _FED)
    while True:
        if await answers():
            fed = {} if told.watchdog_s is None else {"WATCHDOG": 1}
            told.notifier.tell(**fed, STATUS=status())
        await trio.sleep(every_s)


# --- sockets that the manager holds -----------------------------------------------------------------------------


class HandedIn(Struct, frozen=True):
    """The listening sockets that were handed in, by what they are for."""

    events: Listener | None
    api: tuple[Listener, ...]


def adopt(descriptors: Sequence[tuple[int, str]], events: Path, api: Sequence[Path | tuple[str, int]]) -> HandedIn:
    """Take them, each for what its name says, `events` or `api`, or else for whose address the settings name it.

    Their files stay when the daemon ends: they are the manager's, and clients queue in them across a restart. Raises
    CannotListen where one is no listening stream socket, or is for nothing that this daemon serves.
    """
    for_events: list[Listener] = []
    for_api: list[Listener] = []
    for descriptor, name in descriptors:
        sock = _listening(descriptor, name)
        address = sock.getsockname()
        place = Path(os.fsdecode(address)) if sock.family == socket.AF_UNIX else (str(address[0]), int(address[1]))
        listener = Listener(sock, place if isinstance(place, Path) else None, owns_file=False)
        if name == "events" or (name != "api" and place == events):
            for_events.append(listener)
        elif name == "api" or place in api:
            for_api.append(listener)
        else:
            sock.close()
            raise CannotListen(
                str(place),
                f"systemd hands in this socket (named {name!r}), but neither events.socket ({events}) nor api.listen"
                " names it: make ListenStream= the same path, or set FileDescriptorName=events or api",
            )
    if len(for_events) > 1:
        raise CannotListen(str(for_events[1].path), "systemd hands in two sockets for events: one is what is served")
    if for_events and for_events[0].path is None:
        raise CannotListen("events.socket", "systemd hands in a TCP socket for events: ListenStream= must be a path")
    return HandedIn(for_events[0] if for_events else None, tuple(for_api))


def _listening(descriptor: int, name: str) -> socket.socket:
    place = f"descriptor {descriptor} ({name or 'without a name'})"
    wrong = CannotListen(place, "systemd hands in what is no listening stream socket: use ListenStream=, Accept=no")
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise wrong
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) or sock.type != socket.SOCK_STREAM:
            sock.close()
            raise wrong
    except OSError as error:
        raise CannotListen(place, f"systemd hands in what cannot be used: {error.strerror}") from error
    return sock
