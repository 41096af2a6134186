"""The alert rules, judged by promtool: each is raised by what it is for, and by nothing else."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml

RULES = Path(__file__).parent.parent / "config" / "prometheus" / "alerts.yml"
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
METRICS_PAGE = RULES.parent.parent.parent / "docs" / "metrics.md"
COMMITS = "hookrelay_store_commit_seconds_bucket"


class Case(NamedTuple):
    """One way to raise an alert: series from minute 0 on, and what its value is written as at minute 45."""

    alert: str
    series: dict[str, str]
    value: str = ""
    labels: Mapping[str, str] = MappingProxyType({})


UP = {'up{job="hookrelay", instance="a"}': "1x60"}
ATTEMPTS = 'hookrelay_attempts_total{instance="a", outcome='
FAULTS = 'hookrelay_local_faults_total{instance="a", kind='
BEHIND = 'hookrelay_webhook_oldest_due_seconds{instance="a", webhook='


def behind(late: int, of: int, seconds: int) -> dict[str, str]:
    """So many webhooks of so many are behind from minute 20 on."""
    return {f'{BEHIND}"wh_{n}"}}': f"0x20 {seconds if n < late else 0}x40" for n in range(of)}


CASES = [
    Case("HookrelayDown", {'up{job="hookrelay", instance="a"}': "1x30 0x30"}, labels={"job": "hookrelay"}),
    Case("HookrelayNotScraped", {'up{job="hookrelay", instance="a"}': "1x30"}, labels={"job": "hookrelay"}),
    Case(
        "HookrelayRestarting",
        {'process_start_time_seconds{job="hookrelay", instance="a"}': "1x38 2 2 3 4 4 4 4x20"},
        "3",
        {"job": "hookrelay"},
    ),
    Case("HookrelayBacklogOld", {'hookrelay_oldest_due_seconds{instance="a"}': "0x30 600x30"}, "10m 0s"),
    Case("HookrelayManyBehind", behind(5, 20, 600), "25%"),
    Case(
        "HookrelayMostAttemptsFail",
        {
            f'{ATTEMPTS}"success"}}': "0+4x60",
            f'{ATTEMPTS}"dns_error"}}': "0+4x60",
            f'{ATTEMPTS}"http_status"}}': "0+2x60",
        },
        "60%",
    ),
    Case(
        "HookrelayEventsRefused",
        {'hookrelay_events_total{instance="a", result="refused"}': "0x40 1x20"},
        labels={"result": "refused"},
    ),
    Case(
        "HookrelayEndpointDown",
        {'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x20 0x40"},
        labels={"webhook": "wh_1"},
    ),
    Case(
        "HookrelayEndpointDown",
        {
            'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x20 0x40",
            'hookrelay_webhook_info{instance="a", webhook="wh_1", tenant="acme", name="crm"}': "1x60",
            'hookrelay_webhook_info{instance="a", webhook="wh_2", tenant="acme", name="shop"}': "1x60",
        },
        "(crm of acme)",
        {"webhook": "wh_1", "tenant": "acme", "name": "crm"},
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
    Case("HookrelayDiskNearlyFull", {'hookrelay_store_free_bytes{instance="a"}': "419430400x60"}, "400Mi"),
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
    Case("HookrelayLocalFaults", {f'{FAULTS}"store_full"}}': "0x30 0+5x30"}),
    Case("HookrelayClockJumped", {f'{FAULTS}"clock_jump"}}': "0x35 1x30"}, labels={"kind": "clock_jump"}),
]

WELL = {
    **UP,
    'up{job="other", instance="a"}': "0x60",
    'process_start_time_seconds{job="hookrelay", instance="a"}': "1x38 2 3 3x20",
    'process_start_time_seconds{job="other", instance="a"}': "1+1x60",
    'hookrelay_oldest_due_seconds{instance="a"}': "299x60",
    **behind(4, 4, 600),
    f'{ATTEMPTS}"success"}}': "0+50x60",
    f'{ATTEMPTS}"http_status"}}': "0+49x60",
    f'{ATTEMPTS}"interrupted"}}': "0+500x60",
    'hookrelay_events_total{instance="a", result="refused"}': "5x60",
    'hookrelay_events_total{instance="a", result="duplicate"}': "0+5x60",
    'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x60",
    'hookrelay_webhooks{instance="a", status="disabled"}': "3x60",
    'hookrelay_webhooks{instance="a", status="paused"}': "0x35 1x30",
    'hookrelay_store_size_bytes{instance="a"}': "80x60",
    'hookrelay_store_max_size_bytes{instance="a"}': "100x60",
    'hookrelay_store_free_bytes{instance="a"}': "1073741824x60",
    f'{COMMITS}{{instance="a", le="0.1"}}': "0+60x60",
    f'{COMMITS}{{instance="a", le="0.5"}}': "0+60x60",
    f'{COMMITS}{{instance="a", le="+Inf"}}': "0+60x60",
    'hookrelay_config_last_reload_successful{instance="a"}': "1x60",
    f'{FAULTS}"attempt"}}': "7x60",
    f'{FAULTS}"clock_jump"}}': "1x60",
}
FEW = {
    **UP,
    **behind(19, 100, 600),
    f'{ATTEMPTS}"success"}}': "0x60",
    f'{ATTEMPTS}"http_status"}}': "0+4x60",
}
"""A few of very many, and failures of very few attempts."""
SHORT = {
    'up{job="hookrelay", instance="a"}': "1x40 _x3 0x0 1x30",
    'hookrelay_oldest_due_seconds{instance="a"}': "0x41 900x20",
    'hookrelay_webhook_up{instance="a", webhook="wh_1"}': "1x35 0x30",
    'hookrelay_config_last_reload_successful{instance="a"}': "1x44 0x20",
    'hookrelay_store_free_bytes{instance="a"}': "1073741824x42 0x20",
}
"""What has not lasted long enough by minute 45."""


def promtool(tmp_path: Path, series: dict[str, str], expected: dict[str, list[Any]]) -> None:
    """Have promtool check what is firing at minute 45."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in (UP | series).items()],
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
    labels = {**case.labels} if case.alert == "HookrelayNotScraped" else {"instance": "a", **case.labels}

    def filled(text: str) -> str:
        named = r"\{\{ with \$labels\.name \}\}(.*?)\{\{ end \}\}"
        text = re.sub(
            named, lambda found: found[1].replace("{{ . }}", labels["name"]) if "name" in labels else "", text
        )
        text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        return re.sub(r"\{\{ \$value( \| \w+)? \}\}", case.value, text)

    raised = {
        "exp_labels": {**labels, **rule["labels"]},
        "exp_annotations": {name: filled(text) for name, text in rule["annotations"].items()},
    }
    promtool(tmp_path, case.series, {case.alert: [raised]})


def test_what_is_well_raises_nothing(tmp_path):
    """Whatever a rule looks at is there: it is silent for what it sees."""
    seen = {re.match(r"\w+", name)[0] for name in WELL}
    for rule in ALERTS.values():
        looked_at = set(re.findall(r"\b(?:hookrelay_\w+|process_\w+|up)\b(?=[{\[ )])", rule["expr"]))
        assert looked_at
        assert looked_at <= seen, rule["expr"]
    promtool(tmp_path, WELL, {})


@pytest.mark.parametrize("series", [FEW, SHORT], ids=["few", "short"])
def test_what_is_few_or_short_raises_nothing(series, tmp_path):
    promtool(tmp_path, series, {})


def test_every_rule_says_how_bad_it_is_and_what_to_do():
    for name, rule in ALERTS.items():
        assert rule["labels"].keys() == {"severity"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        url = urlsplit(rule["annotations"]["runbook_url"])
        assert (url.scheme, url.path) == ("file", "/usr/share/doc/hookrelay/docs/metrics.md")
        assert url.fragment == name.lower()
        assert f"\n### {name}\n" in METRICS_PAGE.read_text()


def test_promtool_finds_nothing_wrong_with_the_example_of_a_scrape():
    done = subprocess.run(
        ["promtool", "check", "config", str(RULES.parent / "prometheus.yml")],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 rule files found" in done.stdout
