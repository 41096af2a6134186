import errno
import os
import secrets
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from hookrelay.net.listen import CannotListen, Listener, open_tcp, open_unix


def left_by_a_dead_process(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()


def refusal(path: Path, mode: int = 0o600, group: str | None = None) -> CannotListen:
    with pytest.raises(CannotListen) as caught:
        open_unix(path, mode, group)
    assert caught.value.path == str(path)
    assert str(caught.value) == f"{path}: {caught.value.detail}"
    return caught.value


async def greeted(listener: Listener, path: Path) -> bool:
    """Whether a client that connects to `path` reaches `listener`."""
    async with await trio.open_unix_socket(str(path)) as client, await listener.accept() as server:
        await server.send_all(b"x")
        return bytes(await client.receive_some()) == b"x"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_a_socket_appears_with_its_mode_and_answers(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "api.sock"
    async with open_unix(path, mode) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert await greeted(listener, path)
        assert os.listdir(tmp_path) == ["api.sock"]
    assert os.listdir(tmp_path) == []


async def test_mode_and_group_are_in_force_before_anyone_can_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "api.sock", list[str]()

    def watched(name: str) -> Callable[..., None]:
        does = getattr(os, name)

        def watch(at: Path, *args: object, **kwargs: object) -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                seen.append(f"{name} {'connects' if sock.connect_ex(str(at)) == 0 else 'refused'} {path.exists()}")
            does(at, *args, **kwargs)

        return watch

    for name in ("chown", "chmod", "rename"):
        monkeypatch.setattr(os, name, watched(name))
    async with open_unix(path, 0o660, str(os.getgid())):
        assert path.stat().st_gid == os.getgid()
    assert seen == ["chown refused False", "chmod refused False", "rename connects False"]


async def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    left_by_a_dead_process(path)
    async with open_unix(path, 0o600) as listener:
        assert await greeted(listener, path)


async def test_a_socket_on_which_somebody_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with open_unix(path, 0o600) as listener:
        error = refusal(path)
        assert error.taken
        assert "another process answers" in error.detail
        (await listener.accept()).socket.close()  # the probe
        assert await greeted(listener, path)
    assert os.listdir(tmp_path) == []


async def test_a_socket_whose_queue_is_full_counts_as_answering(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with open_unix(path, 0o600, backlog=0):
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(str(path))
            assert refusal(path).taken


def test_a_socket_of_another_type_counts_as_answering(tmp_path: Path) -> None:
    path = tmp_path / "log.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        assert refusal(path).taken
    assert path.is_socket()


@pytest.mark.parametrize(
    ("put", "kind"),
    [
        (lambda path: path.write_text("precious"), "a file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.symlink_to("elsewhere"), "a symbolic link"),
        (lambda path: os.mkfifo(path), "a file"),
    ],
)
def test_what_is_no_socket_stays_untouched(tmp_path: Path, put: Callable[[Path], object], kind: str) -> None:
    path = tmp_path / "api.sock"
    put(path)
    before = path.lstat()
    error = refusal(path)
    assert error.taken
    assert f"there is {kind}" in error.detail
    after = path.lstat()
    assert (after.st_ino, after.st_mtime_ns, after.st_mode) == (before.st_ino, before.st_mtime_ns, before.st_mode)
    assert os.listdir(tmp_path) == ["api.sock"]


async def test_a_link_to_a_live_or_stale_socket_is_a_link(tmp_path: Path) -> None:
    left_by_a_dead_process(tmp_path / "stale.sock")
    path = tmp_path / "api.sock"
    path.symlink_to("stale.sock")
    assert "a symbolic link" in refusal(path).detail


def test_a_folder_that_everyone_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o777)
    error = refusal(folder / "api.sock")
    assert (error.taken, error.not_permitted) == (False, True)
    assert f"chmod o-w {folder}" in error.detail
    assert os.listdir(folder) == []


@pytest.mark.parametrize("mode", [0o1777, 0o770, 0o2775])
async def test_a_sticky_folder_or_one_of_a_group_will_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    async with open_unix(folder / "api.sock", 0o600) as listener:
        assert await greeted(listener, folder / "api.sock")


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    error = refusal(tmp_path / "run" / "api.sock")
    assert (error.taken, error.not_permitted) == (False, False)
    assert "does not exist: create it" in error.detail
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    assert "is not a folder" in refusal(tmp_path / "run" / "api.sock").detail


def test_a_group_that_does_not_exist_is_told(tmp_path: Path) -> None:
    error = refusal(tmp_path / "api.sock", group="no-such-group")
    assert "no group 'no-such-group'" in error.detail
    assert os.listdir(tmp_path) == []


def test_what_the_system_forbids_is_told_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", forbidden)
    error = refusal(tmp_path / "api.sock", group=str(os.getgid()))
    assert (error.taken, error.not_permitted) == (False, True)
    assert "that user in the group" in error.detail
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name_length", [1, 2, 12, 40])
async def test_a_path_of_107_bytes_will_do_and_one_of_108_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name_length: int
) -> None:
    monkeypatch.chdir(tmp_path)  # so that the path's length does not depend on where the tests run
    folder = Path("d" * (106 - name_length))
    os.mkdir(folder)
    longest = folder / ("é" * (name_length // 2) + "s" * (name_length % 2))
    assert len(os.fsencode(longest)) == 107
    async with open_unix(longest, 0o600) as listener:
        assert await greeted(listener, longest)
        assert len(os.listdir(folder)) == 1
    assert "at most 107 bytes, this one 108" in refusal(longest.with_name(longest.name + "x")).detail


async def test_where_only_the_names_own_length_is_left_another_name_of_that_length_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("d" * 105)
    os.mkdir(folder)
    (folder / "b").symlink_to("nowhere")
    names = iter("aabc")
    monkeypatch.setattr(secrets, "token_hex", lambda: next(names))
    async with open_unix(folder / "a", 0o600):
        assert sorted(os.listdir(folder)) == ["a", "b"]
    assert next(names, "all were tried") == "all were tried"
    monkeypatch.setattr(secrets, "token_hex", lambda: "a")
    error = refusal(folder / "a")
    assert "no free name" in error.detail


async def test_on_close_a_socket_that_is_another_ones_by_now_stays(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    ours = open_unix(path, 0o600)
    path.unlink()
    async with open_unix(path, 0o600) as other:
        ours.close()
        assert await greeted(other, path)


async def test_closing_wakes_who_waits_for_a_client_and_may_be_done_twice(tmp_path: Path) -> None:
    listener = open_unix(tmp_path / "api.sock", 0o600)
    ended = list[str]()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        ended.append("once")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            listener.close()
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
    assert ended == ["once"]


# --- TCP ----------------------------------------------------------------------------------------------------------


async def test_a_tcp_port_answers_and_is_taken_then() -> None:
    (listener,) = await open_tcp("127.0.0.1", 0)
    async with listener:
        port = listener.port
        assert port is not None
        async with await trio.open_tcp_stream("127.0.0.1", port) as client, await listener.accept() as server:
            await server.send_all(b"x")
            assert await client.receive_some() == b"x"
        with pytest.raises(CannotListen) as caught:
            await open_tcp("127.0.0.1", port)
    assert caught.value.taken
    assert caught.value.path == f"127.0.0.1:{port}"
    (again,) = await open_tcp("127.0.0.1", port)
    again.close()


async def test_an_address_of_another_host_is_told() -> None:
    with pytest.raises(CannotListen, match="no such address") as caught:
        await open_tcp("192.0.2.1", 0)
    assert (caught.value.taken, caught.value.not_permitted) == (False, False)


@pytest.mark.parametrize("missing", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_a_name_with_an_address_that_this_host_lacks_uses_the_others(
    monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    answers = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]

    async def two_addresses(*args: object, **kwargs: object) -> object:
        await trio.lowlevel.checkpoint()
        return answers

    bind = socket.socket.bind

    def without_ipv6(sock: socket.socket, address: tuple[object, ...]) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(missing, "not here")
        bind(sock, address)

    class WithoutIPv6(socket.socket):
        bind = without_ipv6  # type: ignore[assignment]  # the parameter is as narrow as this test needs

    monkeypatch.setattr(trio.socket, "getaddrinfo", two_addresses)
    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    (listener,) = await open_tcp("localhost", 0)
    assert listener.socket.family == socket.AF_INET
    listener.close()
    del answers[1]
    with pytest.raises(CannotListen):
        await open_tcp("localhost", 0)


async def test_a_port_that_needs_a_privilege_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unprivileged(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with pytest.raises(CannotListen, match="ports below 1024") as caught:
        await open_tcp("127.0.0.1", 80)
    assert caught.value.not_permitted
