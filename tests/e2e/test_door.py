"""The doors of a running daemon: nobody is kept out by who holds on to them, and what nobody waits for is given up."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from api_rig import Served, Told, serve
from rig import GOOD, Request, wait_for

from hookrelay.net.lines import Limits
from hookrelay.web.auth import OPEN


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    taken = Told()
    yield taken
    taken.close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, told: Told) -> Iterator[Served]:
    served = serve(tmp_path_factory.mktemp("door"))
    yield served
    with contextlib.closing(served.running):
        assert served.running.end() == 0
        assert "request_failed" not in served.running.log()


def ask(house: Served, raw: bytes, *, over_unix: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of the answer to a request as it is written here."""
    connect = house.admin.connect if over_unix else house.stranger().connect
    with contextlib.closing(connect()) as sock:
        sock.settimeout(20)
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    named = [field.partition(": ") for field in fields]
    assert len({name.lower() for name, _, _ in named}) == len(named), fields
    return int(status.split(" ")[1]), {name.lower(): value for name, _, value in named}, body


@pytest.mark.parametrize("over_unix", [False, True])
def test_the_server_as_a_whole_tells_which_methods_there_are(house: Served, over_unix: bool) -> None:
    for line in (b"OPTIONS *", b"OPTIONS http://localhost"):
        status, fields, body = ask(house, line + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", over_unix=over_unix)
        assert (status, body) == (204, b"")
        assert fields["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
    if not over_unix:
        assert ask(house, b"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n")[0] == 421


def test_every_answer_says_that_its_type_is_not_to_be_guessed(house: Served) -> None:
    good = b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    asked = [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/webhooks" + good, 401),
        (b"GET /v1/webhooks HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nExpect: more\r\n\r\n", 417),
        (b"GET /dashboard/none" + good, 404),
        (b"GET /dashboard/sign-in" + good, 200),
        (b"GET /dashboard" + good, 303),
        (b"POST /metrics" + good, 405),
        (b"GET /" + b"x" * 20_000 + good, 431),
        (b"GET /v1/none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n", 401),
        (b"POST /dashboard/sign-in HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
         b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 16385\r\n\r\n", 413),
        *((b"GET " + path.encode() + good, 200) for path in OPEN - {"*"}),
    ]  # fmt: skip
    for raw, expected in asked:
        status, fields, _ = ask(house, raw)
        assert (raw[:40], status, fields.get("x-content-type-options")) == (raw[:40], expected, "nosniff")


def test_a_test_whose_caller_hangs_up_makes_way_at_once(house: Served, told: Told) -> None:
    shop = house.caller("hasty", "admin")

    def silent(request: Request) -> bytes:
        time.sleep(5)
        return b""

    told.says["/silent"] = silent
    hook = shop.make(told.url("/silent"), max_in_flight=1, timeout="30s")
    path = f"/v1/webhooks/{hook['id']}/test"
    with contextlib.closing(shop.connect()) as sock:
        body = json.dumps({"type": "a.b"})
        fields = f"Host: localhost\r\nAuthorization: Bearer {shop.key}\r\nContent-Type: application/json"
        sock.sendall(f"POST {path} HTTP/1.1\r\n{fields}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        told.wait_at("/silent", 1)
    del told.says["/silent"]
    began = time.monotonic()
    assert shop.post(path, {"type": "a.b"}).json["status"] == "succeeded"
    assert time.monotonic() - began < 15  # not the 30 s of the one before
    cut = shop.data(f"/v1/webhooks/{hook['id']}/deliveries")[-1]
    assert (cut["status"], cut["error"]["code"]) == ("failed", "interrupted")
    assert "hung up" in cut["error"]["detail"]


def test_idle_clients_of_events_sock_do_not_keep_a_newcomer_out(house: Served) -> None:
    limit = Limits().connections
    with contextlib.ExitStack() as stack:
        idle = []
        for _ in range(limit + 5):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(20)
            sock.connect(str(house.running.at / "e.sock"))
            idle.append(sock)
        assert "id" in house.running.submit(GOOD)[0]
        assert idle[0].recv(1) == b""
        assert house.running.metric('hookrelay_limits_met_total{limit="events_clients"}') >= 1
        wait_for(lambda: "limit_met" in house.running.log())


def test_health_metrics_and_operators_are_answered_while_callers_hold_all_that_they_can(house: Served) -> None:
    shop = house.caller("crowd", "read")
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            sock = stack.enter_context(contextlib.closing(shop.connect()))
            sock.sendall(
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n" + b"x" * 9000
            )
        for path in ("/-/healthy", "/-/ready", "/metrics"):
            assert house.stranger().get(path).status == 200
        assert house.admin.get("/v1/status").status == 200
        assert shop.get("/v1/webhooks").status == 200
