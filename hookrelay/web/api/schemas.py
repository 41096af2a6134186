"""Schemas of the OpenAPI document: those of the models, and those that no model tells."""

from collections.abc import Mapping
from typing import Any

import msgspec

from hookrelay.config import about
from hookrelay.model import WebhookFields
from hookrelay.rules.pattern import EVENT_TYPE, PATTERN
from hookrelay.rules.pattern import TENANT as TENANT_TEXT
from hookrelay.web.api import models
from hookrelay.web.problems import TITLES

TEXT: dict[str, Any] = {"type": "string"}
TENANT: dict[str, Any] = {"type": "string", "pattern": f"^{TENANT_TEXT.pattern}$", "examples": ["acme"]}
TYPE: dict[str, Any] = {
    "type": "string",
    "pattern": f"^{EVENT_TYPE.pattern}$",
    "maxLength": 128,
    "examples": ["booking.created"],
}
DURATION = r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,3})?(ms|s|m|h|d)"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
MOMENT: dict[str, Any] = {
    "type": "string",
    "pattern": f"^({_DATE}|{DURATION})$",
    "description": "An RFC 3339 time, or how long ago, such as `24h`.",
    "examples": ["2026-02-26T10:00:00Z", "24h"],
}


def id_of(prefix: str) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{prefix}_[0-9A-HJKMNP-TV-Z]{{26}}$"}


_EVENTS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 1000,
    "uniqueItems": True,
    "items": {"type": "string", "pattern": f"^{PATTERN.pattern}$", "maxLength": 128},
    "examples": [["booking.created", "payment.*"]],
}
_SECRET: dict[str, Any] = {
    "pattern": "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$",
    "examples": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
}
_FIELDS: Mapping[str, dict[str, Any]] = {
    "url": {"format": "uri", "pattern": "^https?://", "examples": ["https://example.com/hooks"]},
    "events": _EVENTS,
    "description": {"maxLength": 1024},
    "tenant": TENANT,
    "rate_limit": {
        "pattern": "^[1-9][0-9]{0,5}/[smh]( burst [1-9][0-9]{0,5})?$",
        "examples": ["10/s", "600/m", "10/s burst 50"],
    },
    "max_in_flight": {"minimum": 1, "maximum": 1000, "examples": [8]},
    "timeout": {"pattern": f"^{DURATION}$", "examples": ["30s"]},
    "retry": {"examples": [["5s", "5m", "2h"], "exponential(1s, 2, 1h, 12)"]},
    "headers": {"examples": [{"x-source": "bookings"}]},
    "metadata": {"examples": [{"team": "billing"}]},
    "secret": _SECRET,
}


def schemas() -> dict[str, Any]:
    types = (
        WebhookFields,
        models.Webhook,
        models.Delivery,
        models.Event,
        models.EventType,
        models.Key,
        models.KeyWish,
        models.PortalLink,
        models.LinkWish,
        models.TrialWish,
        models.RotateWish,
        models.ReplayWish,
        models.AuditRecord,
        models.Replayed,
        models.PurgeWish,
        models.Purged,
        models.Checked,
        models.Accepted,
    )
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    fields = schemas["WebhookFields"]["properties"]
    for name, more in _FIELDS.items():
        fields[name] |= more
    for name, schema in [*fields.items(), *schemas["Webhook"]["properties"].items()]:
        if name in about.WEBHOOK:
            schema.setdefault("description", about.WEBHOOK[name])
    patch = {name: _nullable(schema) for name, schema in fields.items() if name not in ("secret", "tenant")}
    patch |= {"status": {"enum": ["active", "paused"]}, "held": {"enum": ["deliver", "discard"]}}
    schemas["WebhookPatch"] = {
        "title": "WebhookPatch",
        "description": "What is to change; null sets a field back to its default.",
        "type": "object",
        "properties": patch,
        "required": [],
        "additionalProperties": False,
    }
    for name in ("since", "until"):
        schemas["ReplayWish"]["properties"][name] |= {"examples": MOMENT["examples"], "pattern": MOMENT["pattern"]}
    schemas["ReplayWish"]["properties"]["status"] |= {"minItems": 1}
    for wish in ("ReplayWish", "TrialWish"):
        schemas[wish]["properties"]["type"] |= {name: told for name, told in TYPE.items() if name != "type"}
    schemas["PurgeWish"]["properties"]["before"] |= {"examples": ["24h"]}
    schemas["PurgeWish"]["properties"]["tenant"] |= {"examples": ["acme"]}
    schemas["RotateWish"]["properties"]["secret"] |= _SECRET
    schemas["RotateWish"]["properties"]["overlap"] |= {"examples": ["24h"], "pattern": f"^{DURATION}$"}
    schemas["KeyWish"]["properties"]["tenant"] |= {
        "examples": ["acme", "*"],
        "pattern": rf"^(\*|{TENANT_TEXT.pattern})$",
        "description": "Whose; `?tenant=` may say it instead.",
    }
    schemas["LinkWish"]["properties"]["tenant"] |= schemas["KeyWish"]["properties"]["tenant"]
    schemas["LinkWish"]["required"] = []
    schemas["LinkWish"]["properties"]["for"] |= {"examples": ["1h", "30m", "7d"], "pattern": f"^{DURATION}$"}
    schemas["KeyWish"]["properties"]["name"] |= {"maxLength": 128}
    schemas["KeyWish"]["required"] = ["role"]
    return {**schemas, **_WRITTEN}


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in schema.items() if name != "default"}
    if isinstance(told.get("type"), str):
        return {**told, "type": [told["type"], "null"]}
    return told


_WRITTEN: dict[str, Any] = {
    "NoWish": {
        "title": "NoWish",
        "description": "Nothing is asked for: an empty object.",
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    },
    "Submission": {
        "title": "Submission",
        "description": "One event.",
        "type": "object",
        "properties": {
            "type": TYPE,
            "data": {"description": "Any JSON; its bytes are delivered as they are.", "examples": [{"booking": 7}]},
            "tenant": TENANT,
            "idempotency_key": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened; default now."},
            "ordering_key": {"type": "string", "minLength": 1, "maxLength": 255},
            "traceparent": {
                "type": "string",
                "description": "W3C trace context.",
                "pattern": "^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$",
            },
        },
        "required": ["type", "data"],
        "additionalProperties": False,
    },
    "Problem": {
        "title": "Problem",
        "description": "What is wrong and what would be right (RFC 9457).",
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": list(TITLES)},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
                    "required": ["field", "detail"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "code", "errors"],
    },
    "Reloaded": {
        "title": "Reloaded",
        "type": "object",
        "properties": {
            "reloaded": {"type": "boolean"},
            "webhooks": {"type": "integer"},
            "missing_from_files": {
                "type": "object",
                "properties": {
                    "webhooks": {"type": "integer"},
                    "held": {"type": "integer"},
                    "removal_grace": {"type": "string"},
                },
                "required": ["webhooks", "held", "removal_grace"],
            },
            "removed": {
                "type": "object",
                "description": "What is gone at once with `remove`, and how many deliveries waited for it.",
                "properties": {"webhooks": {"type": "integer"}, "cancelled": {"type": "integer"}},
                "required": ["webhooks", "cancelled"],
            },
            "changes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "what": {"type": "string"},
                        "before": {},
                        "after": {},
                        "needs_restart": {"type": "boolean"},
                        "waiting": {
                            "type": ["integer", "null"],
                            "description": "Deliveries that would be held, and cancelled when it is removed.",
                        },
                    },
                    "required": ["what", "before", "after", "needs_restart"],
                },
            },
        },
        "required": ["reloaded", "webhooks"],
    },
    "Status": {
        "title": "Status",
        "description": "How the daemon does; counters run since its start.",
        "type": "object",
        "properties": {
            "version": {"type": "string"},
            "ready": {"type": "boolean"},
            "started_at": {"type": "string", "format": "date-time"},
            "trouble": {"type": ["string", "null"]},
            "pending": {"type": "integer"},
            "held": {"type": "integer"},
            "missing_from_files": {
                "type": "object",
                "description": "Webhooks that no file names any more, and the deliveries that are held for them.",
                "properties": {
                    "webhooks": {"type": "integer"},
                    "held": {"type": "integer"},
                    "removal_in_seconds": {
                        "type": ["number", "null"],
                        "description": "The running time in which the first of them is removed.",
                    },
                },
                "required": ["webhooks", "held", "removal_in_seconds"],
            },
            "in_flight": {"type": "integer"},
            "oldest_due_seconds": {"type": "number"},
            "open_connections": {"type": "integer"},
            "webhooks": {"type": "object", "additionalProperties": {"type": "integer"}},
            "events": {"type": "object", "additionalProperties": {"type": "integer"}},
            "deliveries": {"type": "object", "additionalProperties": {"type": "integer"}},
            "attempts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "store": {"type": "object"},
            "runtime": {"type": "object"},
            "reload": {"type": "object"},
            "disabled": {"type": "array", "items": {"type": "object"}},
            "behind": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["version", "ready", "trouble", "pending", "held"],
    },
}
