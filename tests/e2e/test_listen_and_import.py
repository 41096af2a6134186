"""`listen`, `export` and `import` against the daemon itself."""

import json
import os
import subprocess
import sys
import tomllib

import processes
import pytest
from interrupt import interrupt
from rig import OK, SECRET, Daemon, Receiver, answer, hook, line, wait_for
from standardwebhooks import Webhook


def hookrelay(place, *args, **options):
    env = {**os.environ, "HOOKRELAY_API": f"unix:{place}/a.sock", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "hookrelay", *map(str, args)],
        env=env, capture_output=True, text=True, timeout=30, **options,
    )  # fmt: skip


class Listening:
    """`hookrelay listen` as a process; `lines` is what it has printed."""

    def __init__(self, place, *args):
        self._out = (place / "listen.out").open("w+")
        self._err = (place / "listen.err").open("w+")
        env = {**os.environ, "HOOKRELAY_API": f"unix:{place}/a.sock"}
        self.process = processes.start(
            [sys.executable, "-m", "hookrelay", "listen", "--output", "json", *map(str, args)],
            env=env, stdout=self._out, stderr=self._err,
        )  # fmt: skip
        self.place = place

    def lines(self):
        return [json.loads(text) for text in (self.place / "listen.out").read_text().splitlines()]

    def told(self):
        return (self.place / "listen.err").read_text()

    def end(self):
        interrupt(self.process)
        self._out.close()
        self._err.close()
        return self.process.returncode


@pytest.fixture
def place(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path


def test_listen_posts_what_comes_signed_and_goes_on_after_a_restart_without_loss_or_repetition(place):
    taken = Receiver(lambda request, number: OK)
    daemon = Daemon(place).start()
    listening = Listening(
        place, "--forward-to", f"http://127.0.0.1:{taken.port}/hook", "--events", "booking.*",
        "--secret-file", place / "secret",
    )  # fmt: skip
    try:
        wait_for(lambda: "Ctrl-C" in listening.told(), told=listening.told)
        first = [daemon.submit(line(number))[0]["id"] for number in range(3)]
        wait_for(lambda: len(taken.requests) == 3, told=listening.told)
        daemon.submit(b'{"type":"payment.failed","data":1}\n')
        assert daemon.end() == 0
        wait_for(lambda: "asking again" in listening.told(), told=listening.told)
        daemon = Daemon(place).start()
        missed = [daemon.submit(line(number))[0]["id"] for number in range(5)]
        wait_for(lambda: [request.id for request in taken.requests][-5:] == missed, told=listening.told)
        ids = [request.id for request in taken.requests]
        assert len(ids) == len(set(ids))
        assert ids == [*first, *missed]
        for request in taken.requests:
            names = {name.lower(): value for name, value in request.headers.items()}
            Webhook(SECRET).verify(request.body.decode(), names)
            assert request.path == "/hook"
        wait_for(lambda: len(listening.lines()) == len(ids))
        assert {(each["status"], each["error"]) for each in listening.lines()} == {(200, None)}
    finally:
        assert listening.end() == 130
        daemon.end()
        taken.close()
    assert f"{len(ids)} accepted, 0 not" in listening.told()


def test_listen_tells_what_the_local_server_says_and_goes_on(place):
    taken = Receiver(lambda request, number: answer(500) if number == 1 else OK)
    daemon = Daemon(place).start()
    listening = Listening(place, "--forward-to", f"http://127.0.0.1:{taken.port}/")
    try:
        wait_for(lambda: daemon.submit(line(0)) and taken.requests, told=listening.told)
        wait_for(lambda: daemon.submit(line(1)) and len(listening.lines()) > 1, told=listening.told)
        assert [each["status"] for each in listening.lines()][:2] == [500, 200]
        assert "signed with whsec_" in listening.told()
    finally:
        assert listening.end() == 130
        daemon.end()
        taken.close()


def test_listen_says_so_where_nobody_answers_and_goes_on(place):
    taken = Receiver(lambda request, number: OK)
    taken.close()
    daemon = Daemon(place).start()
    listening = Listening(place, "--forward-to", f"http://127.0.0.1:{taken.port}/")
    try:
        wait_for(lambda: daemon.submit(line(0)) and len(listening.lines()) > 1, told=listening.told)
        said = f"nothing listens at 127.0.0.1, port {taken.port}: "
        assert all(each["status"] is None and each["error"].startswith(said) for each in listening.lines())
    finally:
        assert listening.end() == 130
        daemon.end()


def test_nothing_is_missed_from_the_line_on_that_says_so_not_even_over_a_restart_before_the_first_event(place):
    taken = Receiver(lambda request, number: OK)
    daemon = Daemon(place).start()
    listening = Listening(place, "--forward-to", f"127.0.0.1:{taken.port}")
    try:
        wait_for(lambda: f"posting new events to http://127.0.0.1:{taken.port};" in listening.told())
        assert daemon.end() == 0
        daemon = Daemon(place).start()
        sent = [daemon.submit(line(number))[0]["id"] for number in range(3)]
        wait_for(lambda: [request.id for request in taken.requests] == sent, told=listening.told)
    finally:
        assert listening.end() == 130
        daemon.end()
        taken.close()


@pytest.mark.parametrize("url", ["example.com:3000", "ftp://localhost/", "http://", "localhost:x", ":99999", "", "a b"])
def test_listen_wants_a_url(place, url):
    done = hookrelay(place, "listen", "--forward-to", url)
    assert (done.returncode, "no URL" in done.stderr) == (2, True)


def test_what_is_exported_is_imported_without_a_difference_and_changes_are_shown_and_made(place):
    daemon = Daemon(place, hook("filed", 9000)).start()
    file = place / "webhooks.toml"
    try:
        for number in range(3):
            made = hookrelay(
                place, "webhooks", "create", "--url", f"https://r{number}.example/in", "--event", "booking.*",
                "--tenant", "acme", "--header", "x-key: hidden", "--rate-limit", "5/s", "--output", "json",
            )  # fmt: skip
            assert made.returncode == 0, made.stderr
        exported = hookrelay(place, "export", "--file", file)
        assert (exported.returncode, "hidden" in file.read_text()) == (0, False)
        tables = tomllib.loads(file.read_text())["webhook"]
        assert [table["url"] for table in tables] == [f"https://r{number}.example/in" for number in range(3)]
        same = hookrelay(place, "import", file, "--dry-run")
        assert (same.returncode, same.stdout, same.stderr) == (0, "", "no difference\n")

        text = file.read_text().replace("https://r1.example/in", "https://r1.example/out").replace("5/s", "7/s", 1)
        text = text.replace('x-key = "***"', 'x-key = "***"\nx-more = "1"', 1)
        file.write_text(text + '[[webhook]]\nurl = "https://new.example/"\nevents = ["*"]\nstatus = "paused"\n')
        shown = hookrelay(place, "import", file, "--dry-run")
        assert "1 to create, 2 to update, 0 to delete" in shown.stderr
        for expected in (
            "- rate_limit = 5/s",
            "+ rate_limit = 7/s",
            "+ url = https://r1.example/out",
            "+ https://new.",
        ):
            assert expected in shown.stdout
        asked = hookrelay(place, "import", file, stdin=subprocess.DEVNULL)
        assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
        done = hookrelay(place, "import", file, "--yes", "--secrets-file", place / "secrets")
        assert done.returncode == 0, done.stderr
        assert (place / "secrets").stat().st_mode & 0o777 == 0o600
        assert (place / "secrets").read_text().count("whsec_") == 1
        again = hookrelay(place, "import", file, "--dry-run")
        assert "whsec_" not in again.stdout
        known = {each["url"]: each for each in json.loads(daemon.get("/v1/webhooks").body)["data"]}
        assert known["https://new.example/"]["status"] == "paused"
        assert known["https://r0.example/in"]["rate_limit"] == "7/s"
        assert known["https://r0.example/in"]["headers"] == {"x-key": "***", "x-more": "***"}
        assert "https://r1.example/in" not in known

        file.write_text('[[webhook]]\nurl = "https://r0.example/in"\nevents = ["booking.*"]\ntenant = "acme"\n')
        pruned = hookrelay(place, "import", file, "--prune", "--yes")
        assert pruned.returncode == 0, pruned.stderr
        left = {each["url"]: each["source"] for each in json.loads(daemon.get("/v1/webhooks").body)["data"]}
        assert left == {"https://r0.example/in": "api", "http://127.0.0.1:9000/filed": "file:hooks.toml"}
    finally:
        daemon.end()


def test_mistakes_in_a_file_are_told_with_their_lines_and_nothing_is_changed(place):
    daemon = Daemon(place).start()
    file = place / "webhooks.toml"
    file.write_text(
        '[[webhook]]\nurl = "ftp://x"\nevents = []\ncolour = 1\n\n'
        '[[webhook]]\nurl = "https://a.example/"\nevents = ["*"]\nsecret = "x"\nid = "5"\n'
    )
    try:
        done = hookrelay(place, "import", file, "--yes")
        assert done.returncode == 1
        places = [text.partition(": ")[0].rpartition(":")[2] for text in done.stderr.splitlines()]
        assert sorted(map(int, places)) == [2, 3, 4, 9, 10]
        file.write_text(
            '[[webhook]]\nid = "wh_00000000000000000000000000"\nurl = "https://a.example/"\nevents = ["*"]\n'
        )
        done = hookrelay(place, "import", file, "--yes")
        assert (done.returncode, ":2: webhook[0].id:" in done.stderr) == (1, True)
        file.write_text('[[webhook]]\nevents = ["*"]\nurl = "https://10.0.0.1/"\n')
        done = hookrelay(place, "import", file, "--yes")
        assert (done.returncode, f"{file}:3: url:" in done.stderr) == (1, True)
        assert json.loads(daemon.get("/v1/webhooks").body)["data"] == []
        assert hookrelay(place, "import", place / "nowhere.toml").returncode == 1
    finally:
        daemon.end()
