"""The Grafana dashboard: config/grafana/hookrelay.json, which `make references` makes of grafana.toml.

The file there says what is shown; here it is put into Grafana's words.
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PANELS = Path(__file__).with_name("grafana.toml")
THIS = 'job=~"$job", instance=~"$instance"'
STANDS_FOR = {"<this>": THIS, "<each>": THIS + ', webhook=~"$webhook"', "<rate>": "[$__rate_interval]"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
WIDTH = HEIGHT = 8

Panel = dict[str, Any]
"""As grafana.toml says it."""


def filled(expr: str) -> str:
    """An expression with what its <words> stand for, on one line."""
    for word, meaning in STANDS_FOR.items():
        expr = expr.replace(word, meaning)
    return " ".join(expr.split())


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = panel.get("steps", [{"color": "green"}])
    defaults: dict[str, Any] = {
        "unit": panel["unit"],
        "color": {"mode": "palette-classic" if panel["kind"] == "timeseries" else "thresholds"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"color": step["color"], "value": step.get("from")} for step in steps],
        },
        "mappings": [_mapping(**words) for words in panel.get("words", [])],
    }
    if panel["unit"] == "percentunit":
        defaults |= {"min": 0}
        if panel["title"] != "CPU":
            defaults |= {"max": 1}
    if panel["kind"] == "timeseries":
        defaults |= {"min": 0}
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.get("is_stacked") else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.get("is_stacked") else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if "steps" in panel else "off"},
        }
    return defaults


def _mapping(value: str, text: str, color: str) -> dict[str, Any]:
    result = {"text": text, "color": color, "index": 0}
    if value == "nan":
        return {"type": "special", "options": {"match": "nan", "result": result}}
    return {"type": "value", "options": {value: result}}


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel["kind"] == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel["kind"] == "stat":
        return {
            "reduceOptions": last,
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
            "justifyMode": "auto",
        }
    if panel["kind"] == "bargauge":
        return {"reduceOptions": last, "orientation": "horizontal", "displayMode": "gradient", "showUnfilled": True}
    if panel["kind"] == "gauge":
        return {"reduceOptions": last, "showThresholdLabels": False, "showThresholdMarkers": True}
    return {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "Value", "desc": False}]}


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    if "limit" not in panel:
        return []
    look = {"custom.lineStyle": {"dash": [10, 10], "fill": "dash"}, "custom.fillOpacity": 0}
    look["color"] = {"mode": "fixed", "fixedColor": "red"}
    properties = [{"id": id, "value": value} for id, value in look.items()]
    return [{"matcher": {"id": "byName", "options": panel["limit"]}, "properties": properties}]


def _panel(id: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    is_now = panel["kind"] in ("table", "bargauge")
    made: dict[str, Any] = {
        "id": id,
        "type": panel["kind"],
        "title": panel["title"],
        "description": panel["about"].replace("\n", " "),
        "datasource": SOURCE,
        "gridPos": {"h": panel.get("height", HEIGHT), "w": panel.get("width", WIDTH), "x": x, "y": y},
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": SOURCE,
                "editorMode": "code",
                "expr": filled(query["expr"]),
                "legendFormat": query.get("legend", "__auto"),
                "instant": is_now,
                "range": not is_now,
                **({"format": "table"} if panel["kind"] == "table" else {}),
            }
            for number, query in enumerate(panel["queries"])
        ],
    }
    if panel["kind"] == "table":
        hidden = {"excludeByName": {"Time": True, **({"Value": True} if "words" not in panel else {})}}
        made["transformations"] = [{"id": "organize", "options": hidden}]
    return made


def _panels() -> Iterator[dict[str, Any]]:
    id, y = 1, 0
    for row in tomllib.loads(PANELS.read_text())["row"]:
        grid = {"h": 1, "w": COLUMNS, "x": 0, "y": y}
        yield {"id": id, "type": "row", "title": row["title"], "collapsed": False, "gridPos": grid, "panels": []}
        id, x, y, tallest = id + 1, 0, y + 1, 0
        for panel in row["panel"]:
            width, height = panel.get("width", WIDTH), panel.get("height", HEIGHT)
            if x + width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield _panel(id, panel, x, y)
            id, x, tallest = id + 1, x + width, max(tallest, height)
        y += tallest


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": "StandardVariableQuery", "qryType": 1},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
        "regex": "",
    }


def dashboard() -> str:
    """The file's text."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    source |= {"refresh": 1, "hide": 0, "options": [], "regex": "", "multi": False, "includeAll": False, "current": {}}
    annotation = {
        "name": "Reloads",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "blue",
        "expr": f"changes(hookrelay_config_last_reload_timestamp_seconds{{{THIS}}}[1m]) > 0",
        "titleFormat": "configuration read",
        "textFormat": "{{instance}}",
    }
    made = {
        "title": "hookrelay",
        "uid": "hookrelay",
        "description": "Events in, deliveries out, and what keeps them. docs/metrics.md tells of each figure.",
        "tags": ["hookrelay", "webhooks"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "links": [],
        "annotations": {"list": [annotation]},
        "templating": {
            "list": [
                source,
                _variable("job", "Job", "label_values(hookrelay_build_info, job)"),
                _variable("instance", "Instance", 'label_values(hookrelay_build_info{job=~"$job"}, instance)'),
                _variable("webhook", "Webhook", f"label_values(hookrelay_webhook_up{{{THIS}}}, webhook)"),
            ]
        },
        "panels": list(_panels()),
    }
    return json.dumps(made, indent=2) + "\n"
