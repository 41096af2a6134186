"""Files of webhooks that are cut, moved or gone at the moment of a reload or a start cost nothing that waits."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import GOOD, Daemon, answer, hook, wait_for

WAITING = 20


@pytest.fixture
def waiting(daemon, receiver):
    """A daemon whose webhook has deliveries to be tried again in an hour, and the file's text."""
    taken = receiver(lambda request, number: answer(500 if len(taken.requests) <= WAITING else 200))
    text = hook("one", taken.port, retry=["1h"]) + hook("two", taken.port, retry=["1h"])
    running: Daemon = daemon(hook("two", taken.port, retry=["1h"]) + hook("one", taken.port, retry=["1h"]))
    running.hooks.write_text(text)
    running.start()
    running.submit(*[GOOD + b"\n"] * (WAITING // 2))
    taken.wait(WAITING)
    wait_for(lambda: len(failed_once(running)) == WAITING, told=running.log)
    return running, text


def failed_once(running: Daemon) -> list[dict]:
    rows = [row for name in ("one", "two") for row in running.deliveries(name)]
    return [row for row in rows if row["attempt_count"] == 1]


def statuses(running: Daemon) -> dict[str, tuple[str, str | None]]:
    rows = running.get("/v1/webhooks").json["data"]
    return {row["url"].rpartition("/")[2]: (row["status"], row["disabled_reason"]) for row in rows}


HELD = ("disabled", "missing_from_files")


def empty(running: Daemon, text: str) -> None:
    running.hooks.write_text("")


def cut(running: Daemon, text: str) -> None:
    running.hooks.write_text(text[: text.index("[[webhook]]", 5)])


def comments_only(running: Daemon, text: str) -> None:
    running.hooks.write_text("# " + text.replace("\n", "\n# "))


def renamed(running: Daemon, text: str) -> None:
    running.hooks.rename(running.hooks.with_suffix(".toml~"))


def deleted(running: Daemon, text: str) -> None:
    running.hooks.unlink()


def hidden(running: Daemon, text: str) -> None:
    running.hooks.rename(running.hooks.with_name(".hooks.toml.swp"))


WAYS = [empty, cut, comments_only, renamed, deleted, hidden]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("when", ["reload", "start"])
def test_what_waits_is_held_and_goes_on_when_the_file_is_back(waiting, way: Callable, when: str):
    running, text = waiting
    way(running, text)
    if when == "reload":
        running.tell(signal.SIGHUP)
        running.logged("webhooks_missing")
    else:
        assert running.end() == 0
        running.start()
    gone = {"two"} if way is cut else {"one", "two"}
    assert {name for name, standing in statuses(running).items() if standing == HELD} == gone
    running.submit(GOOD + b"\n")
    status = running.get("/v1/status").json
    assert status["missing_from_files"] == {"webhooks": len(gone), "held": len(gone) * (WAITING // 2 + 1)}
    for path in running.hooks.parent.iterdir():
        path.unlink()
    running.rewrite(text)
    assert running.get("/-/reload", "POST").json["missing_from_files"]["webhooks"] == 0
    assert set(statuses(running).values()) == {("active", None)}
    rows = [row for name in ("one", "two") for row in running.deliveries(name)]
    assert "cancelled" not in {row["status"] for row in rows}
    wait_for(lambda: sum(row["status"] == "succeeded" for row in running.deliveries("one")) == 1)


def in_place(path: Path, text: str) -> None:
    with path.open("w") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()


def by_a_temporary_file(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)


def as_vim_does(path: Path, text: str) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)
    path.with_name(path.name + "~").unlink()


def deleted_and_made(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


@pytest.mark.parametrize("save", [in_place, by_a_temporary_file, as_vim_does, deleted_and_made])
def test_no_editor_s_way_to_save_costs_anything_whenever_a_reload_comes(waiting, save: Callable):
    running, text = waiting
    for turn in range(15):
        running.tell(signal.SIGHUP)
        save(running.hooks, f"# {turn}\n{text}")
    assert running.get("/-/reload", "POST").status == 200
    assert set(statuses(running).values()) == {("active", None)}
    assert len(failed_once(running)) == WAITING
    assert {row["status"] for row in failed_once(running)} == {"pending"}


def test_a_configmap_that_is_swapped_costs_nothing(waiting):
    running, text = waiting
    folder = running.hooks.parent
    running.hooks.unlink()

    def swap(number: int) -> None:
        version = folder / f"..v{number}"
        version.mkdir()
        (version / "hooks.toml").write_text(f"# {number}\n{text}")
        (folder / "..new").symlink_to(version.name)
        os.replace(folder / "..new", folder / "..data")
        if number:
            shutil.rmtree(folder / f"..v{number - 1}")

    swap(0)
    running.hooks.symlink_to("..data/hooks.toml")
    for number in range(1, 10):
        running.tell(signal.SIGHUP)
        swap(number)
    assert running.get("/-/reload", "POST").status == 200
    assert set(statuses(running).values()) == {("active", None)}
    assert {row["status"] for row in failed_once(running)} == {"pending"}


def test_a_folder_that_is_copied_half_way_and_a_restart_in_the_middle_cost_nothing(waiting):
    running, text = waiting
    first, second = text[: text.index("[[webhook]]", 5)], text[text.index("[[webhook]]", 5) :]
    running.hooks.unlink()
    (running.hooks.parent / "one.toml").write_text(first)
    assert running.get("/-/reload", "POST").json["missing_from_files"] == {
        "webhooks": 1,
        "held": WAITING // 2,
        "removal_grace": "10m",
    }
    assert running.end() == 0
    running.start()
    assert statuses(running) == {"one": ("active", None), "two": HELD}
    (running.hooks.parent / "two.toml").write_text(second)
    assert running.get("/-/reload", "POST").status == 200
    assert set(statuses(running).values()) == {("active", None)}
    assert {row["status"] for row in failed_once(running)} == {"pending"}
    # the same name in two files is a mistake that names both, and changes nothing
    running.hooks.write_text(second)
    refused = running.get("/-/reload", "POST")
    assert refused.status == 422
    assert "hooks.toml" in refused.body.decode()
    assert "two.toml" in refused.body.decode()


def test_a_folder_that_had_webhooks_and_is_gone_is_a_mistake_at_a_start_and_a_reload(waiting):
    running, _ = waiting
    folder = running.hooks.parent
    folder.rename(folder.with_name("elsewhere"))
    refused = running.get("/-/reload", "POST")
    assert (refused.status, "make an empty one" in refused.body.decode()) == (422, True)
    assert set(statuses(running).values()) == {("active", None)}
    assert running.get("/-/reload?dry_run=true", "POST").status == 422
    assert running.end() == 0
    done = running.run()
    assert done.returncode == 78
    assert "delivery.webhooks_dir" in done.stderr
    folder.with_name("elsewhere").rename(folder)
    running.start()
    assert {row["status"] for row in failed_once(running)} == {"pending"}


def test_check_says_before_how_many_deliveries_are_at_stake_and_reload_removes_where_it_is_told_to(waiting):
    running, _ = waiting
    running.hooks.write_text("")

    def said(*words: str) -> str:
        done = running.command(*words, "--api", f"unix:{running.at}/a.sock")
        assert done.returncode == 0, done.stderr
        return done.stdout

    diff = running.command("check", "--config", str(running.config), "--diff", "--api", f"unix:{running.at}/a.sock")
    assert diff.stdout.count(f"({WAITING // 2} deliveries wait: held, then cancelled)") == 2
    assert f"in no file any more: 2, with {WAITING} deliveries held; removed after 10m" in said("reload")
    assert f"2 webhooks are in no file any more, {WAITING} deliveries are held" in said("status")
    assert said("reload", "--remove") == "reloaded: 0 webhooks\n"
    wait_for(lambda: running.metric('hookrelay_deliveries_total{result="cancelled"}') == WAITING, told=running.log)
