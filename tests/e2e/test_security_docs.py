"""docs/security.md and docs/upgrading.md: their commands do what is said of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rig import Daemon, line

from hookrelay.store import open as opening
from hookrelay.store.db import Store

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    found = re.findall(r"^( *)```sh\n(.*?)^ *```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def run(text: str, at: Path) -> "subprocess.CompletedProcess[str]":
    (at / "bin").mkdir(exist_ok=True)
    for name, script in {"hookrelay": f'exec "{sys.executable}" -m hookrelay "$@"', "systemctl": "true"}.items():
        (at / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (at / "bin" / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{at / 'bin'}:{os.environ['PATH']}", "HOOKRELAY_API": f"unix:{at}/a.sock"}
    return subprocess.run(["bash", "-c", text], cwd=at, env=env, capture_output=True, text=True, timeout=60)


def test_the_key_file_seals_the_guard_refuses_and_keys_are_made_as_the_page_says(daemon, tmp_path):
    make_key, explain, keys = blocks("security.md")
    assert run(make_key, tmp_path).returncode == 0
    made: Daemon = daemon(settings='store.key_file = "store.key"\n').start()
    for url in re.findall(r"hookrelay explain (\S+)", explain):
        told = run(f"hookrelay explain {url}", tmp_path)
        assert (told.returncode, "refused" in told.stdout) == (1, True), url
    done = run(keys, tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"hookrelay_live_sk_\w{32}", (tmp_path / "key.txt").read_text())
    (key,) = made.get("/v1/keys").json["data"]
    assert (key["tenant"], key["role"]) == ("acme", "submit")


def test_the_way_back_from_another_schema_leads_to_the_store_as_it_was(daemon, tmp_path):
    before, restart, back, start, after = blocks("upgrading.md")
    assert restart.startswith("systemctl restart")
    assert start.startswith("systemctl start")
    path = tmp_path / "h.db"
    with pytest.MonkeyPatch.context() as patch:
        first, *_ = opening.migrations()
        patch.setattr(opening, "migrations", lambda: [first])
        old = opening.open_file(path, max_size=1 << 30, now_ms=5)
        old.writer.execute("INSERT INTO event VALUES (1, 5, 'default', 'a.b', 't', x'31', NULL, NULL, NULL, 0)")
        Store(old)._close()
    made: Daemon = daemon()
    assert run(before.replace("/etc/hookrelay", str(tmp_path)), tmp_path).returncode == 0
    made.start()
    made.submit(line(1))
    done = run(after.replace("check --diff", f"check --diff --config {made.config}"), tmp_path)
    assert (done.returncode, "reloaded" in done.stdout) == (0, True), done.stderr
    made.end()
    moved = run(
        "set -e\n" + back.replace("/var/lib/hookrelay", str(tmp_path)).replace("hookrelay.db", "h.db"), tmp_path
    )
    assert moved.returncode == 0, moved.stderr
    assert {file.name for file in (tmp_path / "newer").iterdir()} >= {"h.db", "h.db.id"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "migrations", lambda: [first])
        again = opening.open_file(path, max_size=1 << 30, now_ms=5)  # as the older version would
        assert again.writer.execute("SELECT count(*) FROM event").get == 1
        Store(again)._close()
    made.start()
    assert made.end() == 0
