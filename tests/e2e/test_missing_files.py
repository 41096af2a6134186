"""However files are saved, swapped, copied or lost: what waits for their webhooks is held, and delivered in the end."""

import shutil
import signal
import threading

import pytest
from rig import GOOD, OK, hook, line, wait_for

WAITING = 12
MISSING = ("disabled", "missing_from_files")
ACTIVE = ("active", None)
BOTH = ("one", "two")


class Shop:
    """Two ordered webhooks in one file and a receiver that keeps the first of each waiting until it is `open`."""

    def __init__(self, daemon, receiver):
        self.open = threading.Event()
        self.receiver = receiver(self.answer)
        tables = [hook(name, self.receiver.port, ordered=True) for name in BOTH]
        self.one, self.two = tables
        self.whole = "".join(tables)
        self.daemon = daemon(self.whole)
        self.file, self.folder = self.daemon.hooks, self.daemon.hooks.parent
        self.ids = []

    def answer(self, request, number):
        self.open.wait(60)
        return OK

    def start(self):
        """With events that wait: one of each webhook is under way."""
        self.daemon.start()
        self.submit(WAITING)
        self.receiver.wait(2)
        return self

    def submit(self, count):
        said = self.daemon.submit(*(line(number) for number in range(count)))
        assert [each["deliveries"] for each in said] == [2] * count
        self.ids += [each["id"] for each in said]

    def hup(self):
        """SIGHUP, until it is obeyed or refused."""
        looks = self.looks()
        self.daemon.tell(signal.SIGHUP)
        wait_for(lambda: self.looks() > looks, told=self.daemon.log)

    def looks(self):
        log = self.daemon.log()
        return log.count('"event": "reloaded"') + log.count('"event": "reload_refused"')

    def kill_and_start(self):
        self.daemon.end(signal.SIGKILL)
        self.daemon.start()

    def run(self, *args, code=0):
        done = self.daemon.command(*args, "--api", f"unix:{self.daemon.at}/a.sock")
        assert done.returncode == code, done
        return done.stdout + done.stderr

    def stands(self):
        rows = [self.daemon.webhook(name) for name in BOTH]
        return [(row["status"], row["disabled_reason"]) for row in rows]

    def check(self):
        """Both are there again, and each gets all that ever matched, in its order, and but for a crash once."""
        assert self.stands() == [ACTIVE] * 2
        self.open.set()
        self.daemon.settled()
        assert self.daemon.metric("hookrelay_held_deliveries") == 0
        assert self.daemon.metric('hookrelay_deliveries_total{result="cancelled"}') == 0
        for name in BOTH:
            assert list(self.receiver.ids("/" + name)) == self.ids
            assert {row["status"] for row in self.daemon.deliveries(name)} == {"succeeded"}


@pytest.fixture
def shop(daemon, receiver):
    made = Shop(daemon, receiver)
    yield made
    made.open.set()


def emptied(shop):
    shop.file.write_text("")


def only_blanks(shop):
    shop.file.write_text("# to be done\n\n")


def cut_between_tables(shop):
    shop.file.write_text(shop.one)


def renamed(shop):
    shop.file.rename(shop.file.with_name("hooks.toml.bak"))


def hidden(shop):
    shop.file.rename(shop.file.with_name(".hooks.toml"))


def deleted(shop):
    shop.file.unlink()


def folder_emptied(shop):
    shutil.rmtree(shop.folder)
    shop.folder.mkdir()


def other_folder(shop):
    (shop.daemon.at / "empty.d").mkdir()
    shop.daemon.config.write_text(shop.daemon.config.read_text() + 'delivery.webhooks_dir = "empty.d"\n')


LOST = (emptied, only_blanks, cut_between_tables, renamed, hidden, deleted, folder_emptied, other_folder)
CUT_INSIDE = ("url = ", "events = ", "[[webhook]", 'secret = "whsec_MfK')


def put_back(shop):
    if not shop.file.exists() or shop.file.read_text() != shop.whole:
        shop.daemon.rewrite(shop.whole)
    text = shop.daemon.config.read_text()
    shop.daemon.config.write_text(text.replace('delivery.webhooks_dir = "empty.d"\n', ""))


@pytest.mark.parametrize("lose", LOST)
def test_what_a_reload_finds_no_more_is_held_and_delivered_in_order_when_it_is_back(shop, lose):
    shop.start()
    lose(shop)
    shop.hup()
    missing = 1 if lose is cut_between_tables else 2
    assert shop.stands() == ([ACTIVE] if missing == 1 else [MISSING]) + [MISSING]
    shop.submit(3)
    status = shop.daemon.get("/v1/status").json["missing_from_files"]
    assert (status["webhooks"], status["held"]) == (missing, missing * (WAITING + 3))
    assert 500 < status["removal_in_seconds"] <= 600
    assert shop.daemon.metric('hookrelay_webhooks{status="disabled"}') == missing
    held = [row["status"] for row in shop.daemon.deliveries("two")]
    assert held == ["held"] * (WAITING + 3)
    put_back(shop)
    shop.hup()
    shop.check()


@pytest.mark.parametrize("lose", LOST)
def test_what_a_start_finds_no_more_is_held_and_delivered_in_order_when_it_is_back(shop, lose):
    shop.start()
    shop.daemon.end(signal.SIGKILL)
    lose(shop)
    shop.daemon.start()
    shop.submit(3)
    missing = 1 if lose is cut_between_tables else 2
    status = shop.daemon.get("/v1/status").json["missing_from_files"]
    assert (status["webhooks"], status["held"]) == (missing, missing * (WAITING + 3))
    assert '"event": "webhooks_missing"' in shop.daemon.log()
    shop.kill_and_start()
    put_back(shop)
    shop.hup()
    shop.check()


@pytest.mark.parametrize("rest", CUT_INSIDE)
def test_a_file_that_is_cut_inside_of_a_table_is_refused_at_a_reload_and_at_a_start(shop, rest):
    shop.start()
    shop.file.write_text(shop.one + shop.two.partition(rest)[0] + rest)
    shop.hup()
    assert shop.stands() == [ACTIVE] * 2
    shop.daemon.end(signal.SIGKILL)
    assert shop.daemon.run().returncode == 78
    put_back(shop)
    shop.daemon.start()
    shop.check()


def test_a_folder_that_is_gone_is_a_mistake_at_a_reload_and_at_a_start_and_costs_nothing(shop):
    shop.start()
    aside = shop.folder.rename(shop.daemon.at / "aside")
    shop.hup()
    shop.submit(1)
    wrong = (
        f"{shop.folder}: delivery.webhooks_dir: there is no such folder, and webhooks of it are known: bring it back"
    )
    assert wrong in shop.run("reload", code=78)
    assert wrong in shop.run("reload", "--remove", code=78)
    assert wrong in shop.run("check", "--config", str(shop.daemon.config), "--diff", code=78)
    assert shop.stands() == [ACTIVE] * 2
    shop.daemon.end(signal.SIGKILL)
    for _ in range(2):
        done = shop.daemon.run()
        assert (done.returncode, wrong in done.stderr, "Traceback" in done.stderr) == (78, True, False)
    aside.rename(shop.folder)
    shop.daemon.start()
    shop.check()


def test_a_daemon_that_never_had_webhooks_of_files_needs_no_folder(daemon):
    running = daemon()
    running.hooks.unlink()
    running.hooks.parent.rmdir()
    running.start()
    running.tell(signal.SIGHUP)
    running.logged("reloaded")
    assert running.submit(GOOD)[0]["deliveries"] == 0
    assert running.end() == 0


# --- how files are saved --------------------------------------------------------------------------------------------


def written_in_place(shop, text, moment):
    """nano, `cat >`, an editor set to keep the inode"""
    with shop.file.open("w") as file:
        moment()
        for part in (text[: len(shop.one)], text[len(shop.one) :]):
            file.write(part)
            file.flush()
            moment()


def renamed_over(shop, text, moment):
    """sed -i, most editors: a new file takes the old one's place"""
    fresh = shop.file.with_name("hooks.toml.tmp")
    fresh.write_text(text)
    moment()
    fresh.replace(shop.file)
    moment()


def backed_up_first(shop, text, moment):
    """vim with backupcopy=no: the old file goes aside under another name before the new one is written"""
    backup = shop.file.with_name("hooks.toml~")
    shop.file.rename(backup)
    moment()
    written_in_place(shop, text, moment)
    backup.unlink()
    moment()


def deleted_and_made(shop, text, moment):
    shop.file.unlink()
    moment()
    written_in_place(shop, text, moment)


def synchronised(shop, text, moment):
    """rsync: a hidden file beside it that is renamed in the end"""
    fresh = shop.file.with_name(".hooks.toml.a8Xk2p")
    fresh.write_text(text[:40])
    moment()
    fresh.write_text(text)
    moment()
    fresh.replace(shop.file)
    moment()


WAYS = (written_in_place, renamed_over, backed_up_first, deleted_and_made, synchronised)


@pytest.mark.parametrize("save", WAYS)
def test_a_reload_at_any_moment_of_saving_a_file_costs_nothing(shop, save):
    shop.start()

    def reload_amid():
        shop.hup()
        shop.submit(1)

    save(shop, shop.one + shop.two + "# saved\n", reload_amid)
    shop.hup()
    shop.check()


@pytest.mark.parametrize("save", [written_in_place, backed_up_first])
def test_a_crash_and_a_start_at_any_moment_of_saving_a_file_costs_nothing(shop, save):
    shop.start()

    def start_amid():
        shop.kill_and_start()
        shop.submit(1)

    save(shop, shop.one + shop.two + "# saved\n", start_amid)
    shop.hup()
    shop.check()


def mounted(shop):
    """The folder as Kubernetes mounts a ConfigMap: links into a hidden folder, behind one that is swapped."""
    shop.file.unlink()
    version(shop, "..2026_01")
    (shop.folder / "..data").symlink_to("..2026_01")
    shop.file.symlink_to("..data/hooks.toml")


def version(shop, name):
    (shop.folder / name).mkdir()
    (shop.folder / name / "hooks.toml").write_text(shop.whole)


def test_a_config_map_is_swapped_under_reloads_and_nothing_is_lost(shop):
    mounted(shop)
    shop.start()
    version(shop, "..2026_02")
    shop.hup()
    assert shop.stands() == [ACTIVE] * 2
    (shop.folder / "..data_tmp").symlink_to("..2026_02")
    shop.hup()
    (shop.folder / "..data_tmp").replace(shop.folder / "..data")
    shop.hup()
    shutil.rmtree(shop.folder / "..2026_01")
    shop.hup()
    assert shop.daemon.log().count('"event": "webhooks_missing"') == 0
    shop.check()


def test_a_config_map_whose_folder_is_gone_is_refused_and_one_whose_file_is_gone_is_held(shop):
    mounted(shop)
    shop.start()
    (shop.folder / "..2026_01").rename(shop.folder / "..gone")
    shop.hup()  # a link to nothing
    assert shop.stands() == [ACTIVE] * 2
    shop.file.unlink()
    shop.hup()
    assert shop.stands() == [MISSING] * 2
    version(shop, "..2026_01")
    shop.file.symlink_to("..data/hooks.toml")
    shop.hup()
    shop.check()


def test_a_folder_that_is_copied_file_by_file_loses_nothing_at_any_moment(shop):
    shop.file.unlink()
    for name, table in zip(BOTH, (shop.one, shop.two), strict=True):
        (shop.folder / f"{name}.toml").write_text(table)
    shop.start()
    source = shutil.copytree(shop.folder, shop.daemon.at / "source")
    shutil.rmtree(shop.folder)
    shop.hup()
    shop.folder.mkdir()
    shop.hup()
    for name in BOTH:
        whole = (source / f"{name}.toml").read_bytes()
        with (shop.folder / f"{name}.toml").open("wb") as copy:
            for start in range(0, len(whole), 50):
                copy.write(whole[start : start + 50])
                copy.flush()
                shop.hup()
    assert '"event": "reload_refused"' in shop.daemon.log()
    shop.check()


def test_a_webhook_that_moves_to_another_file_stays_the_one_it_was(shop):
    shop.start()
    before = [shop.daemon.webhook(name)["id"] for name in BOTH]
    shop.file.rename(shop.folder / "other.toml")
    shop.hup()
    rows = [shop.daemon.webhook(name) for name in BOTH]
    assert [row["id"] for row in rows] == before
    assert {row["source"] for row in rows} == {"file:other.toml"}
    shop.check()


def test_two_files_that_name_one_webhook_at_one_moment_are_a_mistake_that_names_both(shop):
    shop.start()
    shutil.copy(shop.file, shop.folder / "other.toml")
    told = shop.run("reload", code=78)
    assert f'{shop.folder}/other.toml:2: webhook[0].name: "one" is taken by the webhook at {shop.file}:2' in told
    shop.file.unlink()
    shop.hup()
    shop.check()


# --- how they are removed -------------------------------------------------------------------------------------------


def test_only_reload_remove_cancels_at_once_and_says_how_many(shop):
    shop.start()
    shop.open.set()
    shop.daemon.settled()
    shop.file.write_text(shop.one.replace("ordered", 'status = "paused"\nordered') + shop.two)
    shop.hup()
    shop.submit(40)
    shop.daemon.settled()
    id = shop.daemon.webhook("one")["id"]
    shop.file.write_text(shop.two)
    said = f"- {id} = http://127.0.0.1:{shop.receiver.port}/one (file:hooks.toml)"
    told = shop.run("check", "--config", str(shop.daemon.config), "--diff")
    assert f"{said}  (40 deliveries wait: held, then cancelled)" in told
    for _ in range(2):
        shop.hup()
        assert "in no file any more: 1, with 40 deliveries held; removed after 10m" in shop.run("reload")
    assert "1 webhooks are in no file any more, 40 deliveries are held for them; the first" in shop.run("status")
    refused = shop.run("webhooks", "delete", id, "--yes", code=1)
    assert "no longer names it" in refused
    assert "hookrelay reload --remove" in refused
    assert "hookrelay reload --remove" in shop.run("webhooks", "resume", id, code=1)
    told = shop.run("reload", "--remove").splitlines()
    assert told == ["reloaded: 1 webhook", "removed: 1, with 40 deliveries that are cancelled"]
    assert shop.daemon.get(f"/v1/webhooks/{id}").status == 404
    wait_for(lambda: shop.daemon.metric('hookrelay_deliveries_total{result="cancelled"}') == 40)
    assert '"cancelled": 40' in shop.daemon.log()


def test_over_http_remove_is_a_parameter(shop):
    shop.start()
    shop.open.set()
    shop.daemon.settled()
    emptied(shop)
    said = shop.daemon.get("/-/reload", "POST").json
    assert (said["missing_from_files"]["webhooks"], said["removed"]) == (2, {"webhooks": 0, "cancelled": 0})
    assert shop.daemon.get("/-/reload?remove=yes", "POST").status == 422
    assert shop.daemon.get("/-/reload?remove=true&dry_run=true", "POST").json["reloaded"] is False
    assert len(shop.daemon.get("/v1/webhooks").json["data"]) == 2
    said = shop.daemon.get("/-/reload?remove=true", "POST").json
    assert (said["missing_from_files"]["webhooks"], said["removed"]) == (0, {"webhooks": 2, "cancelled": 0})
    assert shop.daemon.get("/v1/webhooks").json["data"] == []


def test_the_grace_is_counted_over_restarts_and_then_they_are_removed_and_what_waits_is_cancelled(daemon, receiver):
    running = daemon(hook("one", receiver().port, status="paused"), 'delivery.removal_grace = "3s"\n').start()
    running.submit(*[GOOD] * 5)
    running.rewrite("")
    for _ in range(20):
        # each lives for less than the grace, and all of them for more
        if not running.end():
            running.start()
        if not running.get("/v1/webhooks").json["data"]:
            break
        running.tell(signal.SIGHUP)
        running.logged("reloaded")
        threading.Event().wait(0.5)
    assert running.get("/v1/webhooks").json["data"] == []
    wait_for(lambda: '"event": "deliveries_cancelled"' in running.log(), told=running.log)
    assert '"event": "webhooks_removed"' in running.log()
    assert running.end() == 0
    with running.store() as conn:
        assert conn.execute("SELECT state, count(*) FROM delivery GROUP BY 1").fetchall() == [("cancelled", 5)]
