"""Opening the doors: listening sockets, and the rules for the files of Unix ones (THREATS §4, "socket path").

What is said over a connection is left to `lines` and `serve`.
"""

import errno
import grp
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import Any

import trio

MAX_PATH = 107
"""Bytes of a socket's path; the kernel's limit."""
BACKLOG = 1024
_SPARE_NAME = 13
_TRIES = 40
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class CannotListen(Exception):
    """A socket could not be opened. Names the place, and says what its owner can do about it."""

    def __init__(self, path: str, detail: str, *, taken: bool = False, not_permitted: bool = False) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail
        self.taken = taken
        """Something else is there: another daemon, or a file that is no socket. Nothing was touched."""
        self.not_permitted = not_permitted


class Listener(trio.abc.Listener[trio.SocketStream]):
    """A listening socket that owns its descriptor and, where it is a Unix one, its file, unless told otherwise.

    To be closed inside trio: tasks that wait for it get `trio.ClosedResourceError`.
    """

    def __init__(self, sock: socket.socket, path: Path | None = None, *, owns_file: bool = True) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.path = path
        """None for TCP."""
        self._identity = _identity(path) if path is not None and owns_file else None
        self._is_closed = False

    @property
    def port(self) -> int | None:
        """The TCP port, also where the system was asked to choose one."""
        return None if self.path is not None else int(self.socket.getsockname()[1])

    def take(self) -> tuple[socket.socket, Any]:
        """A client that waits, and its address; BlockingIOError where there is none. Does not wait.

        Other OSErrors are trouble of this host or of that one client: the listener goes on.
        """
        sock, address = self.socket.accept()
        sock.setblocking(False)
        return sock, address

    async def accept(self) -> trio.SocketStream:
        """The next client. OSError where this host has no room for it just now."""
        while True:
            if self._is_closed:
                raise trio.ClosedResourceError("this listener was closed")
            await trio.lowlevel.wait_readable(self.socket)
            try:
                sock, _ = self.take()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            return trio.SocketStream(trio.socket.from_stdlib_socket(sock))

    def close(self) -> None:
        """Listen no more. The socket's file goes too, unless another has taken its place by now."""
        if self._is_closed:
            return
        self._is_closed = True
        # before the descriptor: while it is open, the file's inode number is given to no other
        if self.path is not None and self._identity is not None and _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()

    async def aclose(self) -> None:
        """The same, for `async with`."""
        self.close()
        await trio.lowlevel.checkpoint()


def open_unix(path: Path, mode: int, group: str | None = None, backlog: int = BACKLOG) -> Listener:
    """Listen on a Unix socket that appears at `path` all at once, with its mode and group.

    A socket's file on which nobody answers is replaced: to be called by whom the store's lock has made the only
    daemon. Raises CannotListen; whatever else is at `path` stays untouched.
    """
    place = str(path)
    raw = os.fsencode(path)
    if len(raw) > MAX_PATH or b"\0" in raw:
        raise CannotListen(
            place, f"a socket's path has at most {MAX_PATH} bytes, this one {len(raw)}: use a shorter one"
        )
    _check_folder(path)
    _check_free(path)
    gid = _gid(place, group)
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot(place, error, "opening a socket") from error
    spare: Path | None = None
    try:
        spare = _bind_beside(sock, path)
        # nobody can connect before `listen`, so the mode is in force for the first client already
        if gid is not None:
            os.chown(spare, -1, gid, follow_symlinks=False)
        os.chmod(spare, mode)
        sock.listen(backlog)
        _check_free(path)
        os.rename(spare, path)
        return Listener(sock, path)
    except BaseException as error:
        sock.close()
        if spare is not None:
            spare.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot(place, error, "making the socket", group) from error
        raise


async def open_tcp(host: str, port: int, backlog: int = BACKLOG) -> list[Listener]:
    """Listen on every address that `host` has here. Raises CannotListen.

    An address of a family that this host lacks (`localhost` with IPv6 turned off) is left out while another works.
    """
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        answers = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(place, f"{host!r} is no address of this host: {error.strerror or error}") from error
    listeners: list[Listener] = []
    missing: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(answers):
            try:
                listeners.append(_open_address(family, address, backlog))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if missing is not None and not listeners:
            raise missing
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise _cannot(place, error, "listening") from error
    return listeners


def _open_address(family: int, address: Any, backlog: int) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
        return Listener(sock)
    except BaseException:
        sock.close()
        raise


def _check_folder(path: Path) -> None:
    """Whoever may write the folder may put a socket of their own in place of ours."""
    folder = path.parent
    try:
        found = folder.stat()
    except FileNotFoundError as error:
        raise CannotListen(str(path), f"the folder {folder} does not exist: create it") from error
    except OSError as error:
        raise _cannot(str(path), error, f"looking at the folder {folder}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise CannotListen(str(path), f"{folder} is not a folder")
    # in a sticky folder such as /tmp, nobody but us can move what is ours
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise CannotListen(
            str(path),
            f"everyone may write the folder {folder}, and so replace the socket: `chmod o-w {folder}`, or use another",
            not_permitted=True,
        )


def _check_free(path: Path) -> None:
    """Nothing is there, or a socket's file that a dead process left."""
    place = str(path)
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _cannot(place, error, "looking at it") from error
    if not stat.S_ISSOCK(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "a folder" if path.is_dir() else "a file"
        raise CannotListen(place, f"there is {kind}, not a socket: move it away, or use another path", taken=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(place)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except PermissionError as error:
            raise _cannot(place, error, "asking whether somebody answers on it") from error
        except OSError:
            pass  # its queue is full, or it is a socket of another type: alive in any case
    raise CannotListen(
        place, "another process answers on this socket: stop it, or give this daemon a path of its own", taken=True
    )


def _bind_beside(sock: socket.socket, path: Path) -> Path:
    """Bind to a name in the same folder that nothing has, and that is no longer than a path may be."""
    room = MAX_PATH - len(os.fsencode(path.parent / "x")) + 1
    for _ in range(_TRIES):
        name = (
            ("." + secrets.token_hex(_SPARE_NAME))[:_SPARE_NAME] if room >= _SPARE_NAME else secrets.token_hex()[:room]
        )
        spare = path.with_name(name)
        if name == path.name:
            continue
        try:
            sock.bind(str(spare))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise
        return spare
    raise CannotListen(str(path), "no free name beside it for making the socket: use a shorter path", taken=True)


def _gid(place: str, group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isascii() and group.isdigit() and len(group) < 10:
            return int(group)
        raise CannotListen(place, f"there is no group {group!r}: create it, or name another for the socket") from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _cannot(place: str, error: OSError, doing: str, group: str | None = None) -> CannotListen:
    reason = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        return CannotListen(place, "another process listens here: stop it, or use another port", taken=True)
    if error.errno == errno.EADDRNOTAVAIL:
        return CannotListen(place, "this host has no such address: listen on one that it has, such as 127.0.0.1")
    if error.errno in (errno.EACCES, errno.EPERM):
        remedy = "its folder must be writable for the daemon's user"
        if doing == "listening":
            remedy = "ports below 1024 need a privilege: use another port"
        elif group is not None:
            remedy += f", and that user in the group {group!r}"
        return CannotListen(place, f"{doing}: {reason}: {remedy}", not_permitted=True)
    return CannotListen(place, f"{doing}: {reason}")
