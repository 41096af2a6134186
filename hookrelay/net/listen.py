"""Opening the daemon's own sockets: TCP, and Unix sockets that never take another's place (THREATS §4)."""

import errno
import grp
import os
import secrets
import socket
import stat
from pathlib import Path

import trio

PATH_LIMIT = 107
"""Bytes of a Unix socket's path (sun_path without its NUL)."""
BACKLOG = 512


class CannotListen(Exception):
    """The place to listen cannot be had; whatever is there is untouched."""

    def __init__(self, detail: str, *, taken: bool = False, not_permitted: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.taken = taken
        """Somebody or something else is there."""
        self.not_permitted = not_permitted


class Listener:
    """A listening socket. A Unix socket's file goes with it, as long as the file is its own."""

    def __init__(self, inner: trio.SocketListener, path: Path | None = None) -> None:
        self._inner = inner
        self._path = path
        self._file = None if path is None else _identity(path)

    async def accept(self) -> trio.SocketStream:
        """The next client. Raises OSError where this host cannot take one just now."""
        return await self._inner.accept()

    async def aclose(self) -> None:
        """Close, and remove the file unless another socket has taken its place."""
        if self._path is not None and self._file is not None and _identity(self._path) == self._file:
            self._path.unlink(missing_ok=True)
            self._file = None
        await self._inner.aclose()


def open_unix(path: Path, mode: int, group: str | None = None) -> Listener:
    """Listen at `path` with these permissions; only call it while holding the store's lock.

    Bound under a temporary name and renamed, so that nobody ever meets it with other permissions. A socket that a dead
    daemon left is replaced; anything else that is there is not. Raises CannotListen.
    """
    _check_parent(path)
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise CannotListen(
            f"{path}: the path has over {PATH_LIMIT} bytes, which no Unix socket can have: use a shorter one"
        )
    _check_place(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _bind(sock, path, temporary, mode, group)
        sock.listen(BACKLOG)
        temporary.rename(path)
    except BaseException as error:
        sock.close()
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refusal(f"{path}", error) from error
        raise
    return Listener(trio.SocketListener(trio.socket.from_stdlib_socket(sock)), path)


async def open_tcp(host: str, port: int) -> list[Listener]:
    """Listen on every address of `host`. Raises CannotListen."""
    try:
        return [Listener(found) for found in await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)]
    except OSError as error:
        raise _refusal(f"{host}:{port}", error) from error


def _bind(sock: socket.socket, path: Path, temporary: Path, mode: int, group: str | None) -> None:
    # the name a socket is bound under counts against its limit too: a short one by way of the folder's descriptor
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    old_mask = os.umask(0o777 & ~mode)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{temporary.name}")
    finally:
        os.umask(old_mask)
        os.close(folder)
    if group is not None:
        try:
            number = grp.getgrnam(group).gr_gid
        except KeyError:
            raise CannotListen(f"{path}: there is no group {group!r}: create it, or change events.group") from None
        os.chown(temporary, -1, number)
    os.chmod(temporary, mode)


def _check_parent(path: Path) -> None:
    try:
        parent = path.parent.stat()
    except OSError as error:
        raise CannotListen(
            f"{path.parent}: {error.strerror}: create this folder for {path.name}, or configure another place",
            not_permitted=isinstance(error, PermissionError),
        ) from error
    if not stat.S_ISDIR(parent.st_mode):
        raise CannotListen(f"{path.parent}: not a folder: the socket {path.name} needs one")
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise CannotListen(
            f"{path.parent}: everybody may write to this folder and so replace the socket: `chmod o-w` it",
            not_permitted=True,
        )


def _check_place(path: Path) -> None:
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refusal(str(path), error) from error
    if not stat.S_ISSOCK(there.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link", stat.S_IFREG: "a file"}
        kind = kinds.get(stat.S_IFMT(there.st_mode), "something")
        raise CannotListen(f"{path}: there is {kind} where the socket should be: move it away", taken=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return  # left behind by a daemon that died: the rename takes its place
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT):
                raise _refusal(str(path), error) from error
    raise CannotListen(f"{path}: another process listens there: stop it, or configure another place", taken=True)


def _refusal(place: str, error: OSError) -> CannotListen:
    if error.errno == errno.EADDRINUSE:
        return CannotListen(f"{place}: another process listens there: stop it, or configure another place", taken=True)
    remedies = {
        errno.EACCES: "this user may not: change the folder's owner, or take a port from 1024 on",
        errno.EPERM: "this user may not",
        errno.EADDRNOTAVAIL: "no interface of this host has that address",
        errno.EROFS: "the file system is read-only",
    }
    remedy = remedies.get(error.errno or 0, "configure another place")
    return CannotListen(
        f"{place}: {error.strerror or error}: {remedy}", not_permitted=isinstance(error, PermissionError)
    )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
