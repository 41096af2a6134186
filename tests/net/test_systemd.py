"""What the service manager is told, and what it hands in."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from hookrelay.net.listen import CannotListen
from hookrelay.net.systemd import Manager, Notifier, adopt, manager, watch


class Told:
    """A notification socket, and what came in."""

    def __init__(self, address: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind(address)

    def messages(self) -> list[list[str]]:
        found = []
        while True:
            try:
                found.append(self._sock.recv(65536).decode().split("\n"))
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def notifier(tmp_path: Path, told: Told) -> Notifier:
    return Notifier(str(tmp_path / "notify"))


def listening(path: Path) -> int:
    """A descriptor of a socket that listens there, as a manager would hand it in: the taker's to close."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        return os.dup(sock.fileno())


def test_a_start_a_reload_and_a_stop_are_told_as_sd_notify_wants_them(notifier, told):
    notifier.ready("3 webhooks")
    notifier.reloading()
    notifier.stopping("two\nlines")
    ready, reloading, stopping = told.messages()
    assert ready == ["READY=1", "STATUS=3 webhooks"]
    assert reloading[0] == "RELOADING=1"
    assert reloading[1].startswith("MONOTONIC_USEC=")
    assert int(reloading[1].partition("=")[2]) > 0
    assert stopping == ["STOPPING=1", "STATUS=two lines"]


def test_an_abstract_socket_is_told_too():
    name = f"@hookrelay-test-{os.getpid()}"
    told = Told("\0" + name[1:])
    Notifier(name).tell(READY=1)
    assert told.messages() == [["READY=1"]]
    told.close()


@pytest.mark.parametrize("address", [None, "/nowhere/notify"])
def test_nobody_to_tell_is_no_trouble(address):
    Notifier(address).ready("fine")


def test_a_manager_that_reads_nothing_does_not_stop_the_daemon(notifier):
    for _ in range(2000):
        notifier.tell(STATUS="x" * 1000)


@pytest.mark.parametrize(
    ("environ", "watchdog_s", "handed_in"),
    [
        ({}, None, ()),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0, ()),
        ({"WATCHDOG_USEC": "30000000"}, 30.0, ()),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None, ()),
        ({"WATCHDOG_USEC": "0"}, None, ()),
        ({"WATCHDOG_USEC": "often"}, None, ()),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7", "LISTEN_FDNAMES": "events:api"}, None, ((3, "events"), (4, "api"))),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "7"}, None, ((3, ""), (4, ""))),
        ({"LISTEN_FDS": "2", "LISTEN_PID": "8"}, None, ()),
        ({"LISTEN_FDS": "2"}, None, ()),
        ({"LISTEN_FDS": "-1", "LISTEN_PID": "7"}, None, ()),
    ],
)
def test_what_is_meant_for_this_process_is_believed(environ, watchdog_s, handed_in):
    said = manager(environ, 7)
    assert (said.watchdog_s, said.handed_in) == (watchdog_s, handed_in)


def test_no_child_inherits_what_was_meant_for_the_daemon():
    environ = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "LISTEN_PID": "7", "HOME": "/"}
    manager(environ, 7)
    assert environ == {"HOME": "/"}


async def test_the_watchdog_is_fed_thrice_in_its_time(notifier, told, autojump_clock):
    async def answers() -> bool:
        await trio.lowlevel.checkpoint()
        return True

    with trio.move_on_after(29.5):
        await watch(Manager(notifier, 30.0, ()), answers, lambda: "fine")
    fed = [message for message in told.messages() if "WATCHDOG=1" in message]
    assert len(fed) == 3
    assert fed[0] == ["WATCHDOG=1", "STATUS=fine"]


async def test_without_a_watchdog_only_the_status_is_told(notifier, told, autojump_clock):
    async def answers() -> bool:
        await trio.lowlevel.checkpoint()
        return True

    with trio.move_on_after(15):
        await watch(Manager(notifier, None, ()), answers, lambda: "fine")
    assert told.messages() == [["STATUS=fine"], ["STATUS=fine"]]


@pytest.mark.parametrize("does", ["says no", "hangs"])
async def test_a_store_that_does_not_answer_leaves_the_watchdog_unfed(does, notifier, told, autojump_clock):
    async def answers() -> bool:
        await trio.sleep(0.001 if does == "says no" else float("inf"))
        return False

    with trio.move_on_after(60):
        await watch(Manager(notifier, 30.0, ()), answers, lambda: "fine")
    assert told.messages() == []


async def test_a_socket_is_taken_for_whose_path_it_has_or_for_what_its_name_says(tmp_path):
    descriptors = [
        (listening(tmp_path / "e.sock"), "hookrelay.socket"),
        (listening(tmp_path / "other.sock"), "api"),
        (listening(tmp_path / "a.sock"), ""),
    ]
    found = adopt(descriptors, tmp_path / "e.sock", [tmp_path / "a.sock"])
    assert found.events is not None
    assert found.events.path == tmp_path / "e.sock"
    assert [each.path for each in found.api] == [tmp_path / "other.sock", tmp_path / "a.sock"]
    for each in (found.events, *found.api):
        assert not os.get_inheritable(each.socket.fileno())
        each.close()


async def test_the_file_of_a_socket_that_was_handed_in_stays(tmp_path):
    found = adopt([(listening(tmp_path / "e.sock"), "")], tmp_path / "e.sock", [])
    assert found.events is not None
    found.events.close()
    assert (tmp_path / "e.sock").is_socket()


async def test_a_tcp_socket_is_taken_for_the_api():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, descriptor = sock.getsockname()[1], os.dup(sock.fileno())
    found = adopt([(descriptor, "")], Path("/e.sock"), [("127.0.0.1", port)])
    assert [each.port for each in found.api] == [port]
    found.api[0].close()


async def test_a_socket_for_nothing_that_is_served_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(CannotListen, match=r"FileDescriptorName=events or api") as caught:
        adopt([(listening(tmp_path / "x.sock"), "x")], tmp_path / "e.sock", [])
    assert caught.value.path == str(tmp_path / "x.sock")


def test_what_is_no_listening_socket_is_refused(tmp_path):
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
    idle = socket.socket(socket.AF_UNIX).detach()
    for descriptor in (file, datagrams, idle):
        with pytest.raises(CannotListen, match="no listening stream socket"):
            adopt([(descriptor, "events")], tmp_path / "e.sock", [])
    os.close(file)
    with pytest.raises(CannotListen, match="cannot be used"):
        adopt([(999_999, "events")], tmp_path / "e.sock", [])
