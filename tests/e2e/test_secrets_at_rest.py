"""A copied database tells nothing of secrets, of the values of headers, or of the API's keys."""

import base64
import json
import signal

import pytest
from rig import Daemon, Receiver, line, wait_for

KEY = base64.b64encode(bytes(range(32))).decode()
OTHER_KEY = base64.b64encode(bytes(range(1, 33))).decode()
HEADER = "Bearer the-receivers-own-password"


class House:
    """A daemon in a folder, asked over its Unix socket."""

    def __init__(self, at, keys=()):
        self.at = at
        self.seal_with(*keys)
        settings = 'store.key_file = "keys"\n' if keys else ""
        self.receiver = Receiver()
        self.daemon = Daemon(at, settings=settings).start()

    def seal_with(self, *keys):
        (self.at / "keys").write_text("".join(f"{key}\n" for key in keys))
        (self.at / "keys").chmod(0o600)

    def restart(self, *keys):
        assert self.daemon.end() == 0
        self.seal_with(*keys)
        self.daemon = Daemon(self.at, settings='store.key_file = "keys"\n' if keys else "").start()

    def ask(self, method, path, body=None):
        import http.client
        import socket

        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.at / "a.sock"))
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, text
        return json.loads(text) if text else None

    def make(self, **fields):
        url = f"http://127.0.0.1:{self.receiver.port}/in"
        headers = {"authorization": HEADER}
        return self.ask("POST", "/v1/webhooks", {"url": url, "events": ["*"], "headers": headers, **fields})

    def files(self):
        """Everything of the store, but for the file of keys."""
        # the lock names the process that had it last
        kept = (path for path in sorted(self.at.glob("h.db*")) if path.suffix != ".lock")
        return b"".join(path.read_bytes() for path in kept)

    def close(self):
        self.daemon.end()
        self.receiver.close()


def traces(secret):
    """How a secret could stand in a file."""
    encoded = secret.removeprefix("whsec_")
    return [base64.b64decode(encoded), encoded.rstrip("=").encode()]


def assert_not_in(content, *secrets):
    for secret in secrets:
        for trace in traces(secret):
            assert trace not in content, f"{secret} is in the store's files as {trace!r}"
    assert HEADER.encode() not in content


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path, (KEY,))
    yield made
    made.close()


def test_neither_secrets_nor_header_values_nor_keys_are_in_a_copied_store(house):
    made = house.make()
    deleted = house.make()
    key = house.ask("POST", "/v1/keys", {"tenant": "*", "role": "admin"})["key"]
    rotated = house.ask("POST", f"/v1/webhooks/{made['id']}/rotate-secret", {"overlap": "1h"})["secret"]
    house.daemon.submit(line(1))
    wait_for(lambda: len(house.receiver.requests) == 2)
    assert {request.headers["authorization"] for request in house.receiver.requests} == {HEADER}
    house.ask("DELETE", f"/v1/webhooks/{deleted['id']}")
    secrets = made["secret"], rotated, deleted["secret"]
    assert_not_in(house.files(), *secrets)
    house.daemon.settled()
    shown = [house.ask("GET", path) for path in ("/v1/webhooks", "/v1/deliveries", "/v1/keys", "/v1/status")]
    first = shown[1]["data"][0]["id"]
    told = json.dumps([*shown, house.ask("GET", f"/v1/deliveries/{first}")])
    told += house.daemon.get("/metrics").body.decode()
    house.daemon.end(signal.SIGKILL)
    for content in (house.files(), told.encode(), house.daemon.log().encode()):
        assert_not_in(content, *secrets)
        assert key.encode() not in content


def test_what_stood_there_in_plain_is_sealed_at_the_next_start_and_gone_from_the_files(tmp_path):
    house = House(tmp_path)
    try:
        made = [house.make() for _ in range(20)]
        house.ask("PATCH", f"/v1/webhooks/{made[0]['id']}", {"description": "x" * 1000})
        gone = house.make()
        house.ask("DELETE", f"/v1/webhooks/{gone['id']}")
        assert base64.b64encode(base64.b64decode(made[0]["secret"][6:])) in house.files()
        house.restart(KEY)
        assert_not_in(house.files(), gone["secret"], *(each["secret"] for each in made))
        house.daemon.submit(line(1))
        wait_for(lambda: len(house.receiver.requests) == 20)
    finally:
        house.close()


def test_a_deleted_secret_of_a_killed_daemon_is_gone_once_there_is_a_key(tmp_path):
    house = House(tmp_path)
    try:
        made = house.make()
        house.ask("DELETE", f"/v1/webhooks/{made['id']}")
        house.daemon.end(signal.SIGKILL)
        assert any(trace in house.files() for trace in traces(made["secret"]))
        house.seal_with(KEY)
        house.daemon = Daemon(tmp_path, settings='store.key_file = "keys"\n').start()
        assert_not_in(house.files(), made["secret"])
        assert house.daemon.end() == 0
        assert_not_in(house.files(), made["secret"])
    finally:
        house.close()


def test_a_store_that_had_a_key_for_a_while_is_cleaned_again_after_it_was_without(tmp_path):
    house = House(tmp_path)
    try:
        first = house.make()
        house.restart(KEY)
        assert_not_in(house.files(), first["secret"])
        second = house.make()
        house.ask("DELETE", f"/v1/webhooks/{first['id']}")
        house.ask("DELETE", f"/v1/webhooks/{second['id']}")
        house.restart()
        third = house.make()
        house.ask("DELETE", f"/v1/webhooks/{third['id']}")
        house.restart(KEY)
        assert_not_in(house.files(), first["secret"], second["secret"], third["secret"])
    finally:
        house.close()


def test_a_key_is_rotated_by_putting_a_new_one_first_and_removed_after_a_start(house):
    made = house.make()
    house.restart(OTHER_KEY, KEY)
    house.restart(OTHER_KEY)
    house.daemon.submit(line(1))
    wait_for(lambda: house.receiver.requests)
    assert_not_in(house.files(), made["secret"])


@pytest.mark.parametrize(("keys", "said"), [((), "set store.key_file"), ((OTHER_KEY,), "store.key_file lacks")])
def test_without_the_right_key_the_daemon_does_not_start_and_touches_nothing(house, keys, said):
    house.make()
    assert house.daemon.end() == 0
    before = house.files()
    house.seal_with(*keys)
    done = Daemon(house.at, settings='store.key_file = "keys"\n' if keys else "").run()
    assert (done.returncode, said in done.stderr) == (78, True), done.stderr
    assert "Traceback" not in done.stderr
    assert house.files() == before
    house.seal_with(KEY)
    house.daemon = Daemon(house.at, settings='store.key_file = "keys"\n').start()
    house.daemon.submit(line(1))
    wait_for(lambda: house.receiver.requests)
