"""The configuration in force as TOML tables, without secrets: read again, they give the same one."""

from pathlib import Path
from typing import Any

from hookrelay.config.keys import KEYS
from hookrelay.config.settings import Config, EventType
from hookrelay.rules.egress import written
from hookrelay.units import format_duration, format_size

MASK = "***"


def describe(config: Config) -> dict[str, Any]:
    """Every setting that is on, by section, as a person would write it."""
    tables: dict[str, Any] = {}
    for dotted, key in KEYS.items():
        value = getattr(getattr(config, key.section), key.field)
        if (text := _written(dotted, key.field, value)) is not None:
            tables.setdefault(key.section, {})[key.name] = text
    if config.event_types:
        tables["event_types"] = {each.name: _entry(each) for each in config.event_types}
    return tables


def without_password(url: str) -> str:
    """The URL with a mask for user and password."""
    scheme, _, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}://{MASK if user else ''}{at}{host}"


def _written(dotted: str, field: str, value: Any) -> Any:
    match dotted:
        case "store.url":
            return f"sqlite://{value}"
        case "events.mode" | "api.mode":
            return f"{value:04o}"
        case "delivery.disable_after" if value is None:
            return "never"
        case "egress.resolver":
            return "system" if value is None else str(value)
        case "egress.proxy" if value is not None:
            return without_password(value)
        case "egress.allow" | "egress.deny":
            return [rule if isinstance(rule, str) else written(rule) for rule in value]
        case "api.listen":
            return list(map(str, value))
    if field.endswith("_s"):
        return format_duration(value)
    if dotted.endswith("max_size"):
        return format_size(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _entry(event_type: EventType) -> dict[str, Any]:
    entry: dict[str, Any] = {"description": event_type.description}
    if event_type.example is not None:
        entry["example"] = event_type.example
    if event_type.schema is not None:
        entry["schema"] = str(event_type.schema)
    return entry
