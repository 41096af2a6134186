"""A real Prometheus watches a daemon at work: every panel of the dashboard and every alert is evaluated by it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import processes
import pytest
import yaml
from api_rig import Served, Told, free_port
from rig import answer, hook, line, wait_for

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARD = json.loads((CONFIG / "grafana/hookrelay.json").read_text())
RULES = yaml.safe_load((CONFIG / "prometheus/alerts.yml").read_text())["groups"][0]["rules"]
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
CHOSEN = {"$job": "hookrelay", "$instance": ".*", "$webhook": ".*", "$__rate_interval": "1m", "$__interval": "1m"}
RAISED = {"HookrelayEventsRefused", "HookrelayEndpointDown", "HookrelayEndpointDisabled", "HookrelayReloadFailed"}
SILENT = {"HookrelayNotScraped", "HookrelayRestarting", "HookrelayManyBehind", "HookrelayClockJumped"}


class Prometheus:
    """Debian's, on the example configuration with a short interval, until it is closed."""

    def __init__(self, at: Path, target: int) -> None:
        self._port = free_port()
        at.mkdir()
        shutil.copy(CONFIG / "prometheus/alerts.yml", at)
        said = (CONFIG / "prometheus/prometheus.yml").read_text()
        assert said.count("15s") == 2
        assert said.count('targets: ["127.0.0.1:8787"]') == 1
        (at / "prometheus.yml").write_text(said.replace("15s", "1s").replace("127.0.0.1:8787", f"127.0.0.1:{target}"))
        command = ["prometheus", f"--config.file={at}/prometheus.yml", f"--storage.tsdb.path={at}/data"]
        self._log = at / "log"
        with self._log.open("wb") as log:
            self._process = processes.start(
                [*command, f"--web.listen-address=127.0.0.1:{self._port}"], cwd=at, stdout=log, stderr=log
            )

    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=20) as reply:
                return reply.status == 200
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """What its HTTP API says. `urllib.error.HTTPError` where an expression is wrong."""
        with urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}?{urlencode(parameters)}", timeout=20) as reply:
            said = json.load(reply)
        assert said["status"] == "success", said
        return said["data"]

    def values(self, expr: str) -> list[float]:
        """Of each series."""
        return [float(row["value"][1]) for row in self.ask("query", query=expr)["result"]]

    def saw(self, expr: str, within_s: float = 60) -> None:
        """Wait until this is true of some series."""
        wait_for(lambda: self.values(expr), within_s, lambda: f"{expr}\n{self.log()}")

    def states(self) -> dict[str, str]:
        """Of every alert that is pending or firing."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.ask("alerts")["alerts"]}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[int], Prometheus]]:
    made: list[Prometheus] = []

    def make(target: int) -> Prometheus:
        made.append(Prometheus(tmp_path / "prometheus", target))
        wait_for(made[-1].is_ready, 60, made[-1].log)
        return made[-1]

    yield make
    for each in made:
        each.close()


def filled(expr: str) -> str:
    """As Grafana asks it, with everything chosen."""
    for name, value in CHOSEN.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


def choices(watcher: Prometheus) -> dict[str, list[str]]:
    """What the dashboard lets one choose from."""
    found = {}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", filled(variable["definition"])).groups()
            found[variable["name"]] = watcher.ask(f"label/{label}/values", **{"match[]": series})
    return found


def hooks(port: int) -> str:
    """One that takes all, one that fails, one that is gone, one that is paused, one with a rate limit."""
    return (
        hook("well", port)
        + hook("failing", port, retry=["0s", "1h"])
        + hook("gone", port)
        + hook("paused", port, status="paused")
        + hook("limited", port, rate_limit="1/s")
    )


def load(served: Served, watcher: Prometheus) -> None:
    """Three bursts of events, one wrong line in each, and a scrape between them."""
    for burst in range(1, 4):
        lines = [line(number) for number in range(10 * burst, 10 * burst + 10)]
        answers = served.running.submit(*lines, b'{"type":"no"}')
        assert [("error" in said) for said in answers] == [False] * 10 + [True]
        watcher.saw(f'hookrelay_events_total{{result="accepted"}} >= {10 * burst}')


def test_every_panel_shows_something_and_the_right_alerts_are_raised(
    served: Callable[..., Served], told: Told, prometheus: Callable[[int], Prometheus]
):
    told.says = {"/failing": answer(500), "/gone": answer(410)}
    house = served(hooks(told.port))
    watcher = prometheus(house.port)
    watcher.saw("up == 1")
    load(house, watcher)
    whole = house.running.config.read_text()
    house.running.config.write_text(whole + "nonsense = 1\n")
    assert house.admin.post("/-/reload").status == 422
    for settled in ("hookrelay_config_last_reload_successful == 0", 'hookrelay_webhooks{status="disabled"} == 1'):
        watcher.saw(settled)

    shown = {
        title: [watcher.values(filled(each["expr"])) for each in panel["targets"]] for title, panel in PANELS.items()
    }
    assert [title for title, found in shown.items() if not all(found)] == []
    assert [title for title, found in shown.items() if any(value != value for each in found for value in each)] == []
    assert shown["Last reload"] == [[0.0]]
    assert shown["Webhooks down"] == [[2.0]]
    assert sorted(shown["Webhooks by status"][0]) == [1.0, 1.0, 3.0]
    assert max(shown["Held"][0]) >= 30
    chosen = choices(watcher)
    assert (chosen["job"], chosen["instance"]) == (["hookrelay"], [f"127.0.0.1:{house.port}"])
    assert len(chosen["webhook"]) == 5
    (reloads,) = DASHBOARD["annotations"]["list"]
    watcher.ask("query", query=filled(reloads["expr"]))

    for rule in RULES:
        watcher.ask("query", query=rule["expr"])
    wait_for(lambda: watcher.states().keys() >= RAISED, 60, lambda: f"{watcher.states()}\n{watcher.log()}")
    assert not watcher.states().keys() & SILENT
    loaded = watcher.ask("rules")["groups"][0]["rules"]
    assert {rule["name"]: rule["health"] for rule in loaded} == {rule["alert"]: "ok" for rule in RULES}

    house.running.config.write_text(whole)
    assert house.admin.post("/-/reload").status == 200
    assert house.running.end() == 0
    wait_for(lambda: "HookrelayDown" in watcher.states(), 60, watcher.log)
