"""The alert rules, judged by promtool: each is raised by what it is for, and by nothing else."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import yaml

RULES = Path(__file__).parent.parent / "config" / "prometheus" / "alerts.yml"
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
COMMITS = "hookrelay_store_commit_seconds_bucket"


class Case(NamedTuple):
    """One way to raise an alert: series from minute 0 on, and what its value is written as at minute 45."""

    alert: str
    series: dict[str, str]
    value: str = ""
    labels: Mapping[str, str] = MappingProxyType({})


CASES = [
    Case("HookrelayDown", {'up{job="hookrelay", instance="a"}': "1x30 0x30"}, labels={"job": "hookrelay"}),
    Case("HookrelayBacklogOld", {'hookrelay_oldest_due_seconds{instance="a"}': "0x30 600x30"}, "10m 0s"),
    Case(
        "HookrelayEndpointDown",
        {'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x20 0x40"},
        labels={"webhook": "wh_1"},
    ),
    Case(
        "HookrelayEndpointDisabled",
        {'hookrelay_webhooks{instance="a", status="disabled"}': "0x35 1x30"},
        labels={"status": "disabled"},
    ),
    Case(
        "HookrelayStoreNearlyFull",
        {
            'hookrelay_store_size_bytes{instance="a"}': "90x60",
            'hookrelay_store_max_size_bytes{instance="a"}': "100x60",
        },
        "90%",
    ),
    Case(
        "HookrelayCommitsSlow",
        {
            f'{COMMITS}{{instance="a", le="0.25"}}': "0x60",
            f'{COMMITS}{{instance="a", le="0.75"}}': "0+60x60",
            f'{COMMITS}{{instance="a", le="+Inf"}}': "0+60x60",
        },
        "745ms",
    ),
    Case("HookrelayReloadFailed", {'hookrelay_config_last_reload_successful{instance="a"}': "1x30 0x30"}),
    Case("HookrelayLocalFaults", {'hookrelay_local_faults_total{instance="a", kind="store_full"}': "0x30 0+5x30"}),
    Case(
        "HookrelayClockJumped",
        {'hookrelay_local_faults_total{instance="a", kind="clock_jump"}': "0x35 1x30"},
        labels={"kind": "clock_jump"},
    ),
]

WELL = {
    'up{job="hookrelay", instance="a"}': "1x60",
    'up{job="other", instance="a"}': "0x60",
    'hookrelay_oldest_due_seconds{instance="a"}': "299x60",
    'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x60",
    'hookrelay_webhooks{instance="a", status="disabled"}': "3x60",
    'hookrelay_store_size_bytes{instance="a"}': "80x60",
    'hookrelay_store_max_size_bytes{instance="a"}': "100x60",
    f'{COMMITS}{{instance="a", le="0.1"}}': "0+60x60",
    f'{COMMITS}{{instance="a", le="0.5"}}': "0+60x60",
    f'{COMMITS}{{instance="a", le="+Inf"}}': "0+60x60",
    'hookrelay_config_last_reload_successful{instance="a"}': "1x60",
    'hookrelay_local_faults_total{instance="a", kind="attempt"}': "7x60",
    'hookrelay_local_faults_total{instance="a", kind="clock_jump"}': "1x60",
}
SHORT = {
    'up{job="hookrelay", instance="a"}': "1x44 0x0 1x30",
    'hookrelay_oldest_due_seconds{instance="a"}': "0x41 900x20",
    'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x35 0x30",
    'hookrelay_config_last_reload_successful{instance="a"}': "1x44 0x20",
}
"""What has not lasted long enough by minute 45."""


def promtool(tmp_path: Path, series: dict[str, str], expected: dict[str, list[Any]]) -> None:
    """Have promtool check what is firing at minute 45."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": "45m", "alertname": name, "exp_alerts": expected.get(name, [])} for name in ALERTS
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules():
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_rule_has_a_case():
    assert {case.alert for case in CASES} == set(ALERTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_what_an_alert_is_for_raises_it_alone(case, tmp_path):
    rule = ALERTS[case.alert]
    labels = {"instance": "a", **case.labels}

    def filled(text: str) -> str:
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        return re.sub(r"\{\{ \$value \| \w+ \}\}", case.value, text)

    raised = {
        "exp_labels": {**labels, **rule["labels"]},
        "exp_annotations": {name: filled(text) for name, text in rule["annotations"].items()},
    }
    promtool(tmp_path, case.series, {case.alert: [raised]})


def test_what_is_well_raises_nothing(tmp_path):
    promtool(tmp_path, WELL, {})


def test_what_is_short_raises_nothing(tmp_path):
    promtool(tmp_path, SHORT, {})
