"""docs/metrics.md tells the truth: its tables are what the daemon says, its commands are run."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from api_rig import Served, Told
from prometheus_client.parser import text_string_to_metric_families
from rig import Daemon, answer, hook, line, wait_for

from hookrelay.cli.main import main
from hookrelay.config.keys import KEYS, SECTIONS
from hookrelay.rules.lane import Why

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
RULES = yaml.safe_load((ROOT / "config/prometheus/alerts.yml").read_text())["groups"][0]["rules"]


def table(head: str) -> list[list[str]]:
    """The cells of the table that begins so."""
    rows = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`(.+?)`", text))


def test_every_metric_is_on_the_page_with_its_type_and_labels(served: Callable[..., Served], told: Told):
    told.says = {"/failing": answer(500)}
    webhooks = hook("failing", told.port) + hook("well", told.port)
    house = served(webhooks, "metrics.webhook_info = true\n")
    house.running.submit(line(1))
    wait_for(lambda: house.running.metric('hookrelay_attempts_total{outcome="http_status"}') == 1)
    text = house.admin.get("/metrics").body.decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" * (family.type == "counter")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, labels - {"le"})
    told_of = {name.strip("`"): (type, quoted(labels)) for name, type, labels, _ in table("metric | type | labels")}
    assert list(told_of) != []
    assert {name: row for name, row in told_of.items() if found.get(name) != row} == {}
    assert set(found) == set(told_of)


def test_the_values_of_a_label_that_the_page_names_are_those_that_there_are(served: Callable[..., Served]):
    text = served().admin.get("/metrics").body.decode()
    series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(family.name, set()).update(value for value in sample.labels.values())
    said = {name.strip("`"): quoted(about) for name, _, _, about in table("metric | type | labels")}
    assert series["hookrelay_events"] <= said["hookrelay_events_total"]
    assert series["hookrelay_deliveries"] <= said["hookrelay_deliveries_total"]
    assert series["hookrelay_webhooks"] <= said["hookrelay_webhooks"]
    assert series["hookrelay_local_faults"] <= said["hookrelay_local_faults_total"]
    (count,) = re.findall(r"Without webhooks there are (\d+) series", PAGE)
    assert int(count) == len([row for row in text.splitlines() if not row.startswith("#")])


def test_no_label_holds_a_text_of_a_customer_and_over_the_limit_no_webhook_has_a_series(
    served: Callable[..., Served], told: Told
):
    house = served(settings="metrics.per_webhook_limit = 2\n")
    made = [
        house.admin.make(told.url("/spicy"), tenant="spicy", description="spicy", metadata={"spicy": "spicy"})
        for _ in range(2)
    ]
    house.admin.post("/v1/events", {"type": "spicy.event", "data": "spicy", "tenant": "spicy"})
    wait_for(lambda: house.running.metric('hookrelay_attempts_total{outcome="success"}') == 2)
    text = house.admin.get("/metrics").body.decode()
    assert "spicy" not in text
    each = [row for row in text.splitlines() if "wh_" in row]
    assert len(each) == 2 * 4
    assert all(
        re.fullmatch(r'hookrelay_webhook_\w+\{(outcome="success",)?webhook="wh_[0-9A-Z]{26}"\} \S+', row)
        for row in each
    )

    house.admin.make(told.url("/more"), tenant="spicy")
    assert "wh_" not in house.admin.get("/metrics").body.decode()
    assert house.admin.delete(f"/v1/webhooks/{made[0]['id']}").status == 204
    text = house.admin.get("/metrics").body.decode()
    assert made[0]["id"] not in text
    assert f'hookrelay_webhook_attempts_total{{outcome="success",webhook="{made[1]["id"]}"}} 1.0' in text


def test_who_wants_it_has_tenant_and_name_of_each_webhook_to_join_by(served: Callable[..., Served], told: Told):
    file = "[[webhook]]\nname = 'crm'\ntenant = 'acme'\nurl = 'http://127.0.0.1:{port}/t0ken'\nevents = ['*']\n"
    secret = "secret = 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='\n"
    house = served(file.format(port=told.port) + secret, "metrics.webhook_info = true\nmetrics.per_webhook_limit = 2\n")
    made = house.admin.make(told.url("/t0ken"), tenant="shop")["id"]
    family = {family.name: family for family in families(house)}["hookrelay_webhook_info"]
    labels = [sample.labels for sample in family.samples]
    crm = next(each["id"] for each in house.admin.data("/v1/webhooks") if each["source"] != "api")
    assert {tuple(sorted(each.items())) for each in labels} == {
        (("name", "crm"), ("tenant", "acme"), ("webhook", crm)),
        (("name", "127.0.0.1"), ("tenant", "shop"), ("webhook", made)),
    }
    assert "t0ken" not in house.admin.get("/metrics").body.decode()
    house.admin.make(told.url("/more"))
    assert "hookrelay_webhook_info" not in house.admin.get("/metrics").body.decode()


def families(house: Served) -> Iterator[Any]:
    yield from text_string_to_metric_families(house.admin.get("/metrics").body.decode())


def test_every_alert_has_its_part_and_its_severity():
    parts = dict(re.findall(r"^### (\w+)\n(\w+):", PAGE, re.MULTILINE))
    assert parts == {rule["alert"]: rule["labels"]["severity"] for rule in RULES}


def _logged() -> dict[str, set[str]]:
    """Every event that the daemon's code logs, with the levels that it has."""
    found: dict[str, set[str]] = {}
    levels = {20: "info", 30: "warning"}
    for path in (ROOT / "hookrelay").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
                continue
            if ast.unparse(call.func.value).rpartition(".")[2] not in ("log", "_log") or call.func.attr == "msg":
                continue
            if call.func.attr != "log":
                found.setdefault(ast.literal_eval(call.args[0]), set()).add(call.func.attr)
                continue
            level, event = call.args
            assert isinstance(level, ast.IfExp)
            assert isinstance(event, ast.IfExp)
            for number, name in ((level.body, event.body), (level.orelse, event.orelse)):
                found.setdefault(ast.literal_eval(name), set()).add(levels[ast.literal_eval(number)])
    return found


def test_every_event_that_is_logged_is_on_the_page_with_its_level():
    assert {event.strip("`"): {level} for event, level, _ in table("event | level")} == _logged()


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, Daemon, int], str]:
    """Runs a block of the page beside a daemon; the journal is a stand-in that holds its log."""
    for path in ("bin", "prometheus", "node-exporter"):
        (tmp_path / path).mkdir()
    shutil.copy(ROOT / "config/prometheus/prometheus.yml", tmp_path / "prometheus")
    journal = tmp_path / "bin/journalctl"
    journal.write_text(f'#!/bin/sh\ncase "$1 $2" in "-u hookrelay") cat "{tmp_path}/log" ;; *) exit 1 ;; esac\n')
    journal.chmod(0o755)

    def run(text: str, port: int) -> str:
        for place, here in {
            "/run/hookrelay/api.sock": f"{tmp_path}/a.sock",
            "127.0.0.1:8787": f"127.0.0.1:{port}",
            "/etc/prometheus": f"{tmp_path}/prometheus",
            "/var/lib/prometheus/node-exporter": f"{tmp_path}/node-exporter",
            "hookrelay.prom.new": f"{tmp_path}/hookrelay.prom.new",
        }.items():
            text = text.replace(place, here)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=ROOT, env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, (text, done.stdout, done.stderr)
        return done.stdout

    return run


def test_the_commands_on_the_page_do_what_it_says(
    served: Callable[..., Served], told: Told, shell: Callable[..., str], tmp_path: Path
):
    told.says = {"/failing": answer(500)}
    house = served(hook("failing", told.port, retry=["0s"]))
    house.running.submit(line(1))
    house.running.logged("delivery_failed")
    scrape, promtool, textfile, health, journal = (shell(text, house.port) for text in blocks("sh"))
    assert scrape.splitlines()[-1].startswith("hookrelay_build_info{")
    assert "SUCCESS" in promtool
    assert "1 rule files found" in promtool
    assert textfile == ""
    assert "hookrelay_events_total" in (tmp_path / "node-exporter/hookrelay.prom").read_text()
    assert health == "ready\nok\n"
    assert '"event": "delivery_failed"' in journal.splitlines()[-1]


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_setting_on_the_page_is_one_that_check_accepts(text: str, tmp_path: Path):
    (tmp_path / "hookrelay.toml").write_text(text)
    command = [sys.executable, "-m", "hookrelay", "check", "--config", str(tmp_path / "hookrelay.toml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TEXTS = " ".join([PAGE.replace("\n", " "), *(rule["annotations"]["description"] for rule in RULES)])
NAMED = {words for words in quoted(TEXTS) if re.match(r"hookrelay [a-z]", words)}


@pytest.mark.parametrize("words", sorted(NAMED))
def test_every_command_of_hookrelays_own_that_the_page_names_exists(words: str):
    command: Any = main
    for word in words.split()[1:]:
        if word.startswith("--"):
            assert word in {option for parameter in command.params for option in parameter.opts}
        elif isinstance(command, click.Group):
            command = command.get_command(click.Context(main), word)
            assert command is not None
    assert not isinstance(command, click.Group)


def test_every_setting_that_the_page_names_exists():
    named = {word for word in quoted(PAGE) if re.fullmatch(rf"(?:{'|'.join(SECTIONS)})\.\w+", word)}
    assert {"api.listen", "metrics.per_webhook_limit"} <= named <= set(KEYS)


def test_the_page_names_what_a_webhook_may_wait_for():
    part = PAGE.partition("### HookrelayBacklogOld")[2].partition("###")[0]
    assert {*Why.__args__} - {"empty", "not_due"} <= quoted(part)
