"""The Grafana dashboard as a file: it can be imported anywhere, and says what an operator should do."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "config/grafana/hookrelay.json").read_text()
METRICS = (ROOT / "docs/metrics.md").read_text()
DASHBOARD = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_it_names_no_data_source_of_anybodys_but_lets_one_choose():
    assert '"uid": "${datasource}"' in TEXT
    sources = set(re.findall(r'"uid": "([^"]+)"', TEXT)) - {DASHBOARD["uid"]}
    assert sources == {"${datasource}"}
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "job", "instance", "webhook"]
    assert "__inputs" not in DASHBOARD
    assert "id" not in DASHBOARD


def test_panels_have_ids_and_places_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [pair for pair in combinations(places, 2) if overlap(*pair)] == []
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert titles == ["Overview", "Delivery", "Webhooks", "Store", "Daemon"]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_to_do_in_what_unit_for_whom_and_asks_for_the_chosen_ones(panel: dict[str, Any]):
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        assert 'job=~"$job", instance=~"$instance"' in target["expr"]
    legends = [target["legendFormat"] for target in panel["targets"]]
    assert len(set(legends)) == len(legends)
    assert panel["type"] != "timeseries" or "__auto" not in legends


def test_every_metric_that_there_is_is_on_it():
    names = re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) ", METRICS, re.MULTILINE)
    assert len(names) > 25
    opt_in = {"hookrelay_webhook_info"}  # a panel that joins it would be empty where it is off
    assert [name for name in names if name not in TEXT and name not in opt_in] == []
