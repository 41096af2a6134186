"""The power goes in the first second of a new store's life, whose daemon takes events as soon as it can."""

import contextlib
import os
import random
import sys
from pathlib import Path

import cut_power
import processes
import pytest
from rig import Client, Daemon, hook, line, wait_for

CUTS = 24
SYNCS = 60
"""So many there are in about a second; the first dozen make the store."""


def live(daemon: Daemon, left: Path, sync: int, share: float) -> list[str]:
    """Run until the power goes: the ids of the events that were acknowledged."""
    program = Path(cut_power.__file__)
    command = [sys.executable, str(program), str(left), str(sync), str(share), "serve", "--config", str(daemon.config)]
    own = daemon._env()
    environment = own | {"PYTHONPATH": os.pathsep.join([str(program.parents[1]), own.get("PYTHONPATH", "")])}
    with (daemon.at / "log").open("ab") as log:
        daemon.process = processes.start(command, env=environment, stdout=log, stderr=log)
    taken: list[str] = []
    while daemon.process.poll() is None:
        with contextlib.suppress(OSError):
            submit(Client(daemon.at / "e.sock"), taken)
    assert daemon.wait(20) == cut_power.DEAD, daemon.log()
    return taken


def submit(client: Client, taken: list[str]) -> None:
    """Events, a few at a time, until nobody answers any more; those that are acknowledged go to `taken`."""
    with contextlib.closing(client):
        while True:
            client.send(b"".join(line(len(taken) + each, idempotency_key=f"{len(taken)}-{each}") for each in range(3)))
            answers = [answer["id"] for _, answer in zip(range(3), client.answers(), strict=False)]
            taken += answers
            if len(answers) < 3:
                return


@pytest.mark.parametrize("number", range(CUTS))
def test_what_was_acknowledged_before_the_power_went_is_there_is_shown_and_comes(
    daemon, receiver, tmp_path, number: int
):
    luck = random.Random(number)  # noqa: S311 -- the same luck every time
    got = receiver()
    at, left = tmp_path / "first", tmp_path / "left"
    at.mkdir()
    taken = live(
        daemon(hook("one", got.port), at=at), left, luck.randrange(1, SYNCS), luck.choice([0.0, 0.3, 0.7, 1.0])
    )
    marker = at / "h.db.id"
    if luck.random() < 0.5 and marker.exists():  # it is not synced: it may have come to the platter, or not
        (left / "h.db.id").write_bytes(marker.read_bytes())
    again = daemon(hook("one", got.port), at=left).start()
    for id in taken:
        event = again.get(f"/v1/events/{id}")
        assert (event.status, event.json.get("delivery_count")) == (200, 1)
        assert again.get(f"/v1/deliveries/{event.json['deliveries'][0]['id']}").status == 200
    for path in ("/v1/events", "/v1/deliveries", "/v1/webhooks", "/v1/status"):
        assert again.get(path).status == 200
    again.settled()
    wait_for(lambda: set(taken) <= set(got.ids()), told=again.log)
    assert again.get("/v1/check", "POST").json["faults"] == []
    assert again.end() == 0
    print(f"cut {number}: {len(taken)} events")
