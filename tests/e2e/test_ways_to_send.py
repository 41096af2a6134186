"""`hookrelay send` against the daemon itself: by which way events go, and examples of the catalogue."""

import json
import os
import subprocess
import sys

import pytest
from api_rig import serve

CATALOGUE = """
event_types."booking.created" = { description = "A guest has booked", example = { booking = 7, guest = "Zoë" } }
event_types.ping = {}
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    made = serve(tmp_path_factory.mktemp("house"), settings=CATALOGUE)
    yield made
    made.running.close()


def send(*args, stdin=b"", **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOOKRELAY_")}
    return subprocess.run(
        [sys.executable, "-m", "hookrelay", "send", *map(str, args)],
        env=clean | environment, input=stdin, capture_output=True, timeout=30,
    )  # fmt: skip


def newest(house):
    id = house.admin.get("/v1/events?limit=1").json["data"][0]["id"]
    return house.admin.get(f"/v1/events/{id}").json


@pytest.mark.parametrize("way", ["environment", "option", "tcp", "TCP in capitals"])
def test_a_daemon_that_is_named_gets_the_event_over_its_api(house, way):
    unix, tcp = f"unix:{house.running.at}/a.sock", f"http://localhost:{house.port}"
    key = house.caller("acme", "submit").key
    args, environment = {
        "environment": ([], {"HOOKRELAY_API": unix}),
        "option": (["--api", unix], {"HOOKRELAY_API": "unix:/nowhere/api.sock"}),
        "tcp": ([], {"HOOKRELAY_API": tcp, "HOOKRELAY_KEY": key}),
        "TCP in capitals": ([], {"HOOKRELAY_API": f" {tcp.upper()}", "HOOKRELAY_KEY": key}),
    }[way]
    done = send("a.b", '{"n":  1.50}', *args, **environment)
    assert (done.returncode, done.stderr) == (0, b"1 accepted, 0 duplicate, 0 refused\n"), done
    event = newest(house)
    assert done.stdout.decode() == f"{event['id']}: 0 deliveries\n"
    assert event["tenant"] == ("acme" if "tcp" in way.lower() else "default")


def test_what_an_option_names_goes_before_the_environment(house):
    at = house.running.at
    nowhere = {"HOOKRELAY_API": "http://127.0.0.1:1"}
    assert send("a.b", "1", "--socket", at / "e.sock", **nowhere).returncode == 0
    assert send("a.b", "1", "--config", at / "hookrelay.toml", **nowhere).returncode == 0
    assert send("a.b", "1", **nowhere).returncode == 69
    both = send("a.b", "1", "--socket", at / "e.sock", "--api", "http://127.0.0.1:1")
    assert (both.returncode, b"name two ways" in both.stderr) == (2, True)


def test_many_lines_over_the_api_are_summed_up_as_those_over_the_socket(house):
    lines = [json.dumps({"type": "bulk", "data": number, "idempotency_key": f"k{number}"}) for number in range(1300)]
    lines[700] = '{"type":"bad type","data":1}'
    lines[701] = lines[0]
    text = "\n\n".join(lines).encode()
    done = send("--file", "-", stdin=text, HOOKRELAY_API=f"unix:{house.running.at}/a.sock")
    assert done.returncode == 1
    told = done.stderr.decode().splitlines()
    assert told[0].startswith("line 1401: invalid_event: ")
    assert told[1:] == ["1298 accepted, 1 duplicate, 1 refused"]


@pytest.mark.parametrize(("key", "told"), [(None, b"no key was sent"), ("x" * 40, b"is not known here")])
def test_who_has_no_right_key_is_told_and_exits_with_77(house, key, told):
    environment = {"HOOKRELAY_API": f"http://localhost:{house.port}"} | ({} if key is None else {"HOOKRELAY_KEY": key})
    done = send("a.b", "1", **environment)
    assert (done.returncode, told in done.stderr, b"HOOKRELAY_KEY" in done.stderr) == (77, True, True)


def test_the_example_of_the_catalogue_is_sent(house):
    place = {"HOOKRELAY_API": f"unix:{house.running.at}/a.sock"}
    done = send("booking.created", "--example", "--tenant", "acme", **place)
    assert done.returncode == 0, done.stderr
    event = newest(house)
    assert (event["type"], event["tenant"], event["test"]) == ("booking.created", "acme", False)
    assert event["data"] == {"booking": 7, "guest": "Zoë"}
    over_socket = send("booking.created", "--example", "--config", house.running.at / "hookrelay.toml")
    assert over_socket.returncode == 0, over_socket.stderr


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["ping"], 1, "the catalogue has no example of ping: add one to event_types, or give DATA"),
        (["booking.craeted"], 1, "no event type booking.craeted: did you mean booking.created?"),
        (["zzz"], 1, "no event type zzz: event_types in the configuration makes it"),
        (["booking.created", "{}"], 2, "--example stands in the place of DATA"),
        (["--file", "-"], 2, "--example stands in the place of DATA"),
    ],
)
def test_an_example_that_there_is_not_is_told(house, args, code, told):
    done = send(*args, "--example", HOOKRELAY_API=f"unix:{house.running.at}/a.sock")
    assert (done.returncode, told in done.stderr.decode()) == (code, True), done.stderr
