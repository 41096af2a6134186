"""`/v1/webhooks`: the webhooks in force."""

from base64 import b64encode
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hookrelay.model import Refused, Webhook
from hookrelay.units import format_duration, format_time
from hookrelay.web.api import paging


async def collection(request: Request) -> Response:
    """GET /v1/webhooks"""
    page = paging.asked(request, "webhooks")
    tenant = request.query_params.get("tenant")
    found = sorted(
        (
            webhook
            for webhook in request.app.state.parts.catalog().by_seq.values()
            if (tenant is None or webhook.tenant == tenant) and (page.after is None or webhook.id > page.after)
        ),
        key=lambda webhook: webhook.id,
    )
    rows = found[: page.limit]
    last = rows[-1].id if len(found) > page.limit else None
    return json_answer(paging.answer([shown(webhook) for webhook in rows], "webhooks", last))


async def one(request: Request) -> Response:
    """GET /v1/webhooks/:id"""
    return json_answer(shown(find(request)))


def find(request: Request) -> Webhook:
    """The webhook that the path names. Refused("not_found") where there is none."""
    webhook: Webhook | None = request.app.state.parts.catalog().by_id.get(request.path_params["id"])
    if webhook is None:
        raise Refused("not_found", "there is no webhook with this id")
    return webhook


def shown(webhook: Webhook) -> dict[str, Any]:
    """A webhook as the API shows it: no secret, and no header's value."""
    return {
        "id": webhook.id,
        "tenant": webhook.tenant,
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "status": webhook.status,
        "disabled_reason": webhook.disabled_reason,
        "rate_limit": webhook.rate_limit,
        "max_in_flight": webhook.max_in_flight,
        "timeout": format_duration(webhook.timeout_s),
        "retry": webhook.retry,
        "headers": {name: "***" for name, _ in webhook.headers},
        "ordered": webhook.ordered,
        "metadata": webhook.metadata,
        "secret_hint": b64encode(webhook.secrets[0]).decode()[-4:],
        "source": webhook.source,
        "created_at": format_time(webhook.created_ms),
        "updated_at": format_time(webhook.updated_ms),
    }


def json_answer(content: object) -> Response:
    """A JSON answer that no cache keeps."""
    return Response(msgspec.json.encode(content), media_type="application/json", headers={"cache-control": "no-store"})
