"""The OpenAPI 3.1 document: made from the models that requests are read with and answers are written from."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hookrelay import __version__
from hookrelay.audit import ACTIONS
from hookrelay.web.api.schemas import MOMENT, TENANT, TEXT, TYPE, id_of, schemas
from hookrelay.web.problems import TITLES

_PARAMETERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # name: where, what for, schema
    "tenant": ("query", "Whose; only an administrator of all tenants may name another than its own.", TENANT),
    "limit": ("query", "Rows of a page.", {"type": "integer", "minimum": 1, "maximum": 250, "default": 50}),
    "cursor": (
        "query",
        "`next_cursor` of the page before. A page may be short, or empty, before the last.",
        {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
    ),
    "status": ("query", "Only these.", {"enum": ["pending", "held", "succeeded", "failed", "cancelled"]}),
    "webhook_status": ("query", "Only these.", {"enum": ["active", "paused", "disabled"]}),
    "type": ("query", "Only events of this type.", TYPE),
    "since": ("query", "Accepted then or later.", MOMENT),
    "until": ("query", "Accepted before then.", MOMENT),
    "response_code": ("query", "Only with this status.", {"type": "integer", "minimum": 100, "maximum": 599}),
    "webhook": ("query", "Only of this webhook.", id_of("wh")),
    "event": ("query", "Only of this event.", id_of("evt")),
    "q": ("query", "Only webhooks with this text in id, URL or description.", TEXT),
    "include_waiting": ("query", "Also tell what waits.", {"enum": ["waiting"]}),
    "remove": ("query", "Remove at once what no file names any more, and cancel what waits.", {"type": "boolean"}),
    "dry_run": ("query", "Only say what would change.", {"type": "boolean"}),
    "include": ("query", "`events`, `deliveries`, or both with a comma between.", TEXT),
    "types": ("query", "Types and patterns, with commas between: `booking.*,payment.failed`.", TEXT),
    "last_event_id": ("query", "Go on behind this event; stands for the header Last-Event-ID.", id_of("evt")),
    "action": ("query", "Only these changes, such as `webhook.updated`.", {"enum": list(ACTIONS)}),
    "actor": ("query", "Only what was done by this key, link, session, file or user (`uid:0`).", TEXT),
    "object": ("query", "Only what was done to the object with this id.", TEXT),
    "audit_since": ("query", "Done then or later.", MOMENT),
    "audit_until": ("query", "Done before then.", MOMENT),
    "id": ("path", "", TEXT),
    "If-Match": ("header", "The ETag that the webhook must have; else 412.", TEXT),
    "If-None-Match": ("header", "The ETag that is known; then 304.", TEXT),
    "Idempotency-Key": ("header", "The same request again makes nothing new.", {"type": "string", "maxLength": 255}),
    "Last-Event-ID": ("header", "Go on behind this event.", TEXT),
}
_NAMES = {
    "webhook_status": "status",
    "include_waiting": "include",
    "audit_since": "since",
    "audit_until": "until",
}
_PAGE = ("limit", "cursor", "tenant")
_FILTERS = ("status", "type", "since", "until", "response_code")


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path."""

    path: str
    method: str
    name: str
    """`operationId`"""
    tag: str
    summary: str
    description: str = ""
    parameters: Sequence[str] = ("tenant",)
    body: str | None = None
    """A schema's name."""
    patch: bool = False
    status: int = 200
    answer: str | None = None
    """A schema's name; `[X]` is a list of them, `X[]` an array; None: no body."""
    media: str = "application/json"
    problems: Sequence[int] = ()
    """Beside 401, 403 and 422, which nearly all have."""
    is_open: bool = False


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        path="/v1/webhooks", method="get", name="listWebhooks", tag="Webhooks", summary="List webhooks",
        parameters=(*_PAGE, "webhook_status", "q"), answer="[Webhook]",
    ),
    Operation(
        path="/v1/webhooks", method="post", name="createWebhook", tag="Webhooks", summary="Make a webhook",
        description="The answer holds the secret that signs its requests: it is shown this once.",
        parameters=("tenant", "Idempotency-Key"), body="WebhookFields", status=201, answer="Webhook", problems=(409,),
    ),
    Operation(
        path="/v1/webhooks/{id}", method="get", name="getWebhook", tag="Webhooks", summary="Show a webhook",
        parameters=("id", "tenant", "include_waiting", "If-None-Match"), answer="Webhook", problems=(404,),
    ),
    Operation(
        path="/v1/webhooks/{id}", method="patch", name="updateWebhook", tag="Webhooks", summary="Change a webhook",
        description="A JSON merge patch (RFC 7396): null sets a field back to its default. `status` pauses a webhook"
        " or makes it active again; then what was held is delivered, or cancelled with `held` = `discard`.",
        parameters=("id", "tenant", "If-Match"), body="WebhookPatch", patch=True, answer="Webhook",
        problems=(404, 409, 412),
    ),
    Operation(
        path="/v1/webhooks/{id}", method="delete", name="deleteWebhook", tag="Webhooks", summary="Delete a webhook",
        description="What waits is cancelled; the history stays until its retention ends.",
        parameters=("id", "tenant", "If-Match"), status=204, problems=(404, 409, 412),
    ),
    Operation(
        path="/v1/webhooks/{id}/test", method="post", name="testWebhook", tag="Webhooks", summary="Send a test event",
        description="One attempt now, answered with all that was exchanged, whatever the receiver said.",
        parameters=("id", "tenant"), body="TrialWish", answer="Delivery", problems=(404,),
    ),
    Operation(
        path="/v1/webhooks/{id}/rotate-secret", method="post", name="rotateSecret", tag="Webhooks",
        summary="Give a webhook another secret",
        description="The secret before signs beside it until the overlap ends.",
        parameters=("id", "tenant", "If-Match"), body="RotateWish", answer="Webhook", problems=(404, 409, 412),
    ),
    Operation(
        path="/v1/webhooks/{id}/deliveries", method="get", name="listDeliveriesOfWebhook", tag="Deliveries",
        summary="List a webhook's deliveries", description="Newest first.",
        parameters=("id", *_PAGE, *_FILTERS), answer="[Delivery]", problems=(404,),
    ),
    Operation(
        path="/v1/webhooks/{id}/replay", method="post", name="replay", tag="Deliveries",
        summary="Make past deliveries anew", description="With `dry_run` nothing happens but counting.",
        parameters=("id", "tenant"), body="ReplayWish", answer="Replayed", problems=(404,),
    ),
    Operation(
        path="/v1/deliveries", method="get", name="listDeliveries", tag="Deliveries", summary="List deliveries",
        description="Newest first; `status=failed` are the dead letters; tests are none.",
        parameters=(*_PAGE, *_FILTERS, "webhook", "event"), answer="[Delivery]",
    ),
    Operation(
        path="/v1/deliveries/{id}", method="get", name="getDelivery", tag="Deliveries", summary="Show a delivery",
        description="With its payload and every attempt.",
        parameters=("id", "tenant"), answer="Delivery", problems=(404,),
    ),
    Operation(
        path="/v1/deliveries/{id}/retry", method="post", name="retryDelivery", tag="Deliveries",
        summary="Try a delivery again now", description="One that has ended gets one attempt.",
        parameters=("id", "tenant"), status=202, answer="Delivery", problems=(404, 409),
    ),
    Operation(
        path="/v1/deliveries/{id}/cancel", method="post", name="cancelDelivery", tag="Deliveries",
        summary="Call a delivery off", parameters=("id", "tenant"), answer="Delivery", problems=(404, 409),
    ),
    Operation(
        path="/v1/events", method="get", name="listEvents", tag="Events", summary="List events",
        description="Newest first.", parameters=(*_PAGE, "type", "since", "until"), answer="[Event]",
    ),
    Operation(
        path="/v1/events", method="post", name="submitEvent", tag="Events", summary="Submit an event",
        description="It is on disk before it is answered. With `application/x-ndjson` every line is an event, and the"
        " answer (200) has a line for each.",
        parameters=("tenant", "Idempotency-Key"), body="Submission", status=202, answer="Accepted",
        problems=(409, 413, 503),
    ),
    Operation(
        path="/v1/events/{id}", method="get", name="getEvent", tag="Events", summary="Show an event",
        description="With its data and its deliveries.", parameters=("id", "tenant"), answer="Event", problems=(404,),
    ),
    Operation(
        path="/v1/events/stream", method="get", name="streamEvents", tag="Events", summary="Watch what happens",
        description="Server-sent events: `event` for each new event, `delivery` after each attempt.",
        parameters=("tenant", "types", "include", "webhook", "last_event_id", "Last-Event-ID"), answer="Stream",
        media="text/event-stream", problems=(429,),
    ),
    Operation(
        path="/v1/events/purge", method="post", name="purgeEvents", tag="Events", summary="Expunge payloads",
        description="Of the event `id`, or of all events of a tenant: their data and keys, and what receivers answered."
        " What waits of them is cancelled first, and attempts in flight are waited for. The history stays, with"
        " `purged_at`; answered when the bytes are in no file of the store. With `dry_run` nothing happens but"
        " counting. Takes the role admin.",
        body="PurgeWish", answer="Purged", problems=(404,),
    ),
    Operation(
        path="/v1/event-types", method="get", name="listEventTypes", tag="Events", summary="List the event types",
        answer="EventType[]",
    ),
    Operation(
        path="/v1/keys", method="get", name="listKeys", tag="Keys", summary="List keys", parameters=_PAGE,
        answer="[Key]",
    ),
    Operation(
        path="/v1/keys", method="post", name="createKey", tag="Keys", summary="Make a key",
        description="The answer holds the key: it is shown this once.", body="KeyWish", status=201, answer="Key",
    ),
    Operation(
        path="/v1/keys/{id}", method="delete", name="revokeKey", tag="Keys", summary="Revoke a key",
        parameters=("id", "tenant"), status=204, problems=(404,),
    ),
    Operation(
        path="/v1/portal-links", method="get", name="listPortalLinks", tag="Dashboard", summary="List links",
        description="Those that can be opened yet, and sessions that came of links.", parameters=_PAGE,
        answer="[PortalLink]",
    ),
    Operation(
        path="/v1/portal-links", method="post", name="createPortalLink", tag="Dashboard",
        summary="Make a link that opens the dashboard once",
        description="The answer holds its address: it is shown this once.", body="LinkWish", status=201,
        answer="PortalLink", problems=(409,),
    ),
    Operation(
        path="/v1/portal-links/{id}", method="delete", name="revokePortalLink", tag="Dashboard",
        summary="End a link, or the session that came of it", parameters=("id", "tenant"), status=204,
        problems=(404,),
    ),
    Operation(
        path="/v1/status", method="get", name="getStatus", tag="Operation", summary="Show how the daemon does",
        description="Takes an administrator of all tenants.", answer="Status",
    ),
    Operation(
        path="/v1/backup", method="post", name="backUp", tag="Operation", summary="Copy the store",
        description="All that is committed, as one file that is whole and verified; deliveries go on meanwhile. The"
        " answer begins when the copy is made. Takes an administrator of all tenants.",
        body="NoWish", answer="File", media="application/vnd.sqlite3", problems=(409, 500),
    ),
    Operation(
        path="/v1/check", method="post", name="checkStore", tag="Operation", summary="Read all of the store",
        description="Every row, whether every index finds it, and whether payloads are what was accepted, in small"
        " steps; `faults` is empty where all is well."
        " Takes an administrator of all tenants.",
        body="NoWish", answer="Checked", problems=(409,),
    ),
    Operation(
        path="/v1/audit", method="get", name="listAudit", tag="Operation", summary="List who changed what",
        description="Newest first. Takes the role admin: of all tenants for all records, of one tenant for its own.",
        parameters=(*_PAGE, "action", "actor", "object", "audit_since", "audit_until"), answer="[AuditRecord]",
    ),
    Operation(
        path="/-/reload", method="post", name="reload", tag="Operation", summary="Read the files again",
        description="All of it applies or, after any mistake, none; with `dry_run` nothing does, and `changes` says"
        " what would. Webhooks that no file names any more are held for `delivery.removal_grace`, then removed; with"
        " `remove` at once. Takes an administrator of all tenants.",
        parameters=("tenant", "dry_run", "remove"), answer="Reloaded",
    ),
    Operation(
        path="/metrics", method="get", name="getMetrics", tag="Operation", summary="Prometheus metrics",
        parameters=(), answer="Text", media="text/plain", is_open=True,
    ),
    Operation(
        path="/-/healthy", method="get", name="isHealthy", tag="Operation", summary="Does the process answer?",
        parameters=(), answer="Text", media="text/plain", is_open=True,
    ),
    Operation(
        path="/-/ready", method="get", name="isReady", tag="Operation", summary="Does it take events?",
        description="503 while it starts, stops, or cannot write its store.",
        parameters=(), answer="Text", media="text/plain", is_open=True,
    ),
)  # fmt: skip


def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hookrelay",
            "version": __version__,
            "description": "Webhooks, their deliveries, and the events that they are made of.",
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of the API."}},
            "schemas": schemas(),
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Done."}
    if operation.answer is not None:
        answer["content"] = {operation.media: {"schema": _answer(operation.answer)}}
    responses = {str(operation.status): answer}
    if operation.name == "submitEvent":
        responses["200"] = {"description": "A line for each line.", "content": {"application/x-ndjson": {"schema": {}}}}
    if "If-None-Match" in operation.parameters:
        responses["304"] = {"description": "It is as it was."}
    refusals = set(operation.problems)
    if operation.body is not None:
        refusals |= {400, 413, 415}
    if not operation.is_open:
        refusals |= {401, 403, 421, 422, 429, 503}
    for status in sorted(refusals):
        responses[str(status)] = _problem(status)
    if operation.name == "isReady":
        responses["503"] = {**answer, "description": "Not ready."}
    told: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": [_parameter(name) for name in operation.parameters],
        "responses": responses,
    }
    if operation.description:
        told["description"] = operation.description
    if operation.is_open:
        told["security"] = []
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body}"}
        types = ["application/json", *(["application/merge-patch+json"] if operation.patch else [])]
        content: dict[str, Any] = {type: {"schema": schema} for type in types}
        if operation.name == "submitEvent":
            content["application/x-ndjson"] = {"schema": {}}
        is_needed = operation.body in ("WebhookFields", "KeyWish", "ReplayWish", "Submission")
        told["requestBody"] = {"required": is_needed, "content": content}
    return told


def _answer(name: str) -> dict[str, Any]:
    if name.startswith("["):
        rows = {"type": "array", "items": _reference(name[1:-1])}
        return {
            "type": "object",
            "properties": {"data": rows, "next_cursor": {"type": ["string", "null"]}},
            "required": ["data", "next_cursor"],
        }
    if name.endswith("[]"):
        return {"type": "array", "items": _reference(name[:-2])}
    if name in ("Text", "Stream"):
        return {"type": "string"}
    if name == "File":
        return {"type": "string", "format": "binary"}
    return _reference(name)


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameter(key: str) -> dict[str, Any]:
    where, text, schema = _PARAMETERS[key]
    told = {"name": _NAMES.get(key, key), "in": where, "required": where == "path", "schema": schema}
    return {**told, "description": text} if text else told


def _problem(status: int) -> dict[str, Any]:
    titles = [title for code, (each, title) in TITLES.items() if each == status]
    return {
        "description": "; ".join(titles) + ".",
        "content": {"application/problem+json": {"schema": _reference("Problem")}},
    }
