"""Write what is made: from the code's own definitions the example file, the JSON Schemas, the references and the man
pages; and the Grafana dashboard.

python scripts/references.py          write them
python scripts/references.py --check  exit with 1 where one of them is out of date
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grafana
import msgspec
import tomli_w
from api_reference import api_reference
from cli_reference import cli_reference
from manual import command_page, configuration_page

from hookrelay.config import about
from hookrelay.config.compare import NEEDS_RESTART
from hookrelay.config.keys import SECTIONS, Key
from hookrelay.model import WebhookFields

ROOT = Path(__file__).parent.parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"

EXAMPLES = {
    "limits.events_per_tenant": "100/s",
    "store.key_file": "store.key",
    "events.group": "bookings",
    "api.public_url": "https://hooks.example.com",
    "delivery.rate_limit": "10/s",
    "egress.ca_file": "authorities.pem",
    "egress.proxy": "http://proxy.internal:3128",
    "telemetry.otlp_endpoint": "http://127.0.0.1:4318",
}
"""Of settings that are off unless said."""
WORDS = {"log.level": ["debug", "info", "warning", "error"], "log.format": ["auto", "console", "json"]}
WEBHOOK_WORDS = {"status": ["active", "paused"], "held": ["deliver", "discard"]}
ENTRY = """# What the app tells: types with a description, an example and a schema. The dashboard offers them.
#[event_types."booking.created"]
#description = "A booking was made."
#example = { booking = 7, nights = 3 }
#schema = "schemas/booking.json"
"""


def toml(name: str, value: object) -> str:
    """`name = value`, on one line."""
    if isinstance(value, list):
        return f"{name} = [{', '.join(json.dumps(item) for item in value)}]"
    return tomli_w.dumps({name: value}).strip()


def example_file() -> str:
    """`config/hookrelay.toml`"""
    parts = [
        "#:schema hookrelay.schema.json",
        "# hookrelay's settings: each with its default, so an empty file does the same. Take the # away to change one.",
        "# `hookrelay check` says what is wrong, `hookrelay reload` has the running daemon read this again.",
        "# Write each as it stands here, such as `api.mode = ...`, above any [table] of your own.",
        "# Each can be overridden by an environment variable, such as HOOKRELAY_DELIVERY__TIMEOUT=10s.",
    ]
    for section, keys in SECTIONS.items():
        parts += ["", f"# --- {section} ---"]
        for name, key in keys.items():
            parts.append(f"# {about.KEYS[key.dotted]}")
            if key.default is None:
                parts.append(f"#{section}.{toml(name, EXAMPLES[key.dotted])}  # not set by default")
            else:
                parts.append(f"#{section}.{toml(name, key.default)}")
    return "\n".join(parts) + "\n\n" + ENTRY


def _schema_of(key: Key) -> dict[str, Any]:
    kinds: dict[type, dict[str, Any]] = {
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        str: {"type": "string"},
        type(None): {"type": "string"},
        list: {"type": "array", "items": {"type": "string"}},
    }
    schema = dict(kinds[type(key.default)])
    if key.form == "either":
        schema = {"anyOf": [schema, {"type": "string"}]}
    if key.dotted in WORDS:
        schema["enum"] = WORDS[key.dotted]
    schema["description"] = about.KEYS[key.dotted]
    if key.default is not None:
        schema["default"] = key.default
    return schema


def settings_schema() -> dict[str, Any]:
    """Of `hookrelay.toml`, for editors: types and words; `hookrelay check` knows all the rest."""
    sections: dict[str, Any] = {
        section: {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _schema_of(key) for name, key in keys.items()},
        }
        for section, keys in SECTIONS.items()
    }
    kinds = {"description": {"type": "string"}, "example": {}, "schema": {"type": "string"}}
    sections["event_types"] = {
        "type": "object",
        "description": "The catalogue.",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {**kind, "description": about.EVENT_TYPES[name]} for name, kind in kinds.items()},
        },
    }
    return {
        "$schema": DIALECT,
        "title": "hookrelay.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": sections,
    }


def webhooks_schema() -> dict[str, Any]:
    """Of a file in `webhooks.d`."""
    fields = msgspec.json.schema(WebhookFields)["$defs"]["WebhookFields"]["properties"]
    properties: dict[str, Any] = {}
    for name, text in about.WEBHOOK.items():
        schema = dict(fields.get(name, {"type": "string"}))
        kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
        if kinds:  # TOML has no null
            schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        schema.pop("default", None)
        if name in WEBHOOK_WORDS:
            schema["enum"] = WEBHOOK_WORDS[name]
        properties[name] = {**schema, "description": text}
    secrets = [{"required": [name]} for name in ("secret", "secret_file", "secret_env")]
    return {
        "$schema": DIALECT,
        "title": "a file in webhooks.d",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "webhook": {
                "type": "array",
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name", "url", "events"],
                    "oneOf": secrets,
                    "properties": properties,
                },
            }
        },
    }


_HEAD = """# Configuration

The reference of every setting, written by `make references`. [config/hookrelay.toml](../config/hookrelay.toml) is the
same as a file to begin with, and `config/*.schema.json` tell editors.

`hookrelay serve --config FILE` reads `/etc/hookrelay/hookrelay.toml` where nothing is said. Everything has a default:
an empty file runs. Durations are written `500ms`, `30s`, `5m`, `24h`, `7d`; sizes `256KiB`, `10GiB`. A path that is
not absolute starts beside the file.

```console
$ hookrelay check
$ hookrelay check --diff
$ hookrelay check --print
$ hookrelay reload
```

`check` reports every mistake as `FILE:LINE: KEY: what is wrong and what would be right` and exits with 78. `--diff`
says what a reload would change in the running daemon, `--print` what the settings come to, without secrets. A reload
is all or nothing: after any mistake the old configuration stays in force. The settings marked † need a restart, and a
reload says so. Any of them can be overridden by an environment variable: `HOOKRELAY_DELIVERY__TIMEOUT=10s`."""


def reference() -> str:
    """`docs/configuration.md`"""
    return "\n".join([*_reference()]) + "\n"


def _reference() -> Iterator[str]:
    yield _HEAD
    for section, keys in SECTIONS.items():
        yield from ("", f"## [{section}]", "", "| key | default | |", "|---|---|---|")
        for name, key in keys.items():
            default = "not set" if key.default is None else f"`{toml('x', key.default)[4:]}`"
            mark = " †" if key.dotted in NEEDS_RESTART else ""
            yield f"| `{name}`{mark} | {default} | {about.KEYS[key.dotted]} |"
    yield from ("", '## [event_types."booking.created"]', "", "| key | |", "|---|---|")
    for name, text in about.EVENT_TYPES.items():
        yield f"| `{name}` | {text} |"
    yield from (
        "",
        "## Webhooks in files",
        "",
        "Any number of `[[webhook]]` tables in any number of files in `webhooks.d/`. Over the API they are read-only.",
        "",
        "| key | |",
        "|---|---|",
    )
    for name, text in about.WEBHOOK.items():
        yield f"| `{name}` | {text} |"


def made() -> dict[Path, str]:
    """Every file that is made, and what it holds."""
    return {
        ROOT / "config/hookrelay.toml": example_file(),
        ROOT / "config/hookrelay.schema.json": json.dumps(settings_schema(), indent=2) + "\n",
        ROOT / "config/webhooks.schema.json": json.dumps(webhooks_schema(), indent=2) + "\n",
        ROOT / "docs/configuration.md": reference(),
        ROOT / "docs/cli-reference.md": cli_reference(),
        ROOT / "docs/api-reference.md": api_reference(),
        ROOT / "docs/man/hookrelay.1": command_page(),
        ROOT / "docs/man/hookrelay.toml.5": configuration_page(),
        ROOT / "config/grafana/hookrelay.json": grafana.dashboard(),
    }


def main() -> int:
    stale = 0
    for path, text in made().items():
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is out of date: run `make references`", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return stale


if __name__ == "__main__":
    sys.exit(main())
