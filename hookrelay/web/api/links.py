"""`/v1/portal-links`: one-time links that open the dashboard for a platform's own customers."""

from typing import Any, Literal

from msgspec import structs

from hookrelay.config.settings import Tcp
from hookrelay.model import FieldError, Refused
from hookrelay.rules.webhook_texts import read_duration
from hookrelay.rules.wording import got, shown
from hookrelay.store.sessions import SessionRow
from hookrelay.units import format_time
from hookrelay.web import body
from hookrelay.web.api import models
from hookrelay.web.api.keys import wished_tenant
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.query import listed

ROLES = ("manage", "read", "admin")
LEAST_S, MOST_S = 60.0, 7 * 86_400.0


async def collection(call: Call) -> Answer:
    """GET: the links that can be opened yet, and the sessions that came of links, by id"""
    query = call.query("limit", "cursor")
    window = query.window("links")
    query.done()
    rows, has_more = window.cut(call.links(window.after))
    return json_answer(listed([show(row) for row in rows], "links", rows[-1].id if has_more else None))


async def create(call: Call) -> Answer:
    """POST: a new link; its address is in the answer, and nowhere else"""
    call.query().done()
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, ("tenant", "role", "for"), errors)
    tenant, role, lasts = wished_tenant(call, values, errors), values.get("role", "manage"), values.get("for", "1h")
    if role not in ROLES:
        errors.append(FieldError("role", f"{shown(role)} is no role of a link: write one of {', '.join(ROLES)}"))
    lasts_s = 0.0
    try:
        lasts_s = read_duration(lasts) if isinstance(lasts, str) else 0.0
    except ValueError as error:
        errors.append(FieldError("for", str(error)))
    else:
        if not LEAST_S <= lasts_s <= MOST_S:
            what = shown(lasts) if isinstance(lasts, str) else got(lasts)
            errors.append(FieldError("for", f'{what} is not a duration from "1m" to "7d", such as "1h"'))
    body.refuse(errors)
    call.check_key_tenant(tenant)
    base = _base(call)
    word: Any = role
    row, token = await call.parts.sessions.make_link(tenant, word, lasts_s, by=call.actor)
    return json_answer(structs.replace(show(row), url=f"{base}/dashboard/link/{token}"), 201)


async def revoke(call: Call) -> Answer:
    """DELETE: from now on the link, or the session that came of it, opens nothing"""
    call.query().done()
    await call.parts.sessions.end(call.link().id, "link.revoked", by=call.actor)
    return Answer(status=204)


def show(row: SessionRow) -> models.PortalLink:
    """A link as the API shows it."""
    role: Any = row.role
    status: Literal["unopened", "open"] = "unopened" if row.kind == "link" else "open"
    return models.PortalLink(
        id=row.id,
        tenant=row.tenant,
        role=role,
        status=status,
        created_at=format_time(row.created_ms),
        expires_at=format_time(row.ends_ms),
    )


def _base(call: Call) -> str:
    """Where customers reach the dashboard: as the configuration says, else where it listens."""
    api = call.parts.config().api
    if api.public_url is not None:
        return api.public_url
    for place in api.listen:
        if isinstance(place, Tcp):
            host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(place.host)  # noqa: S104 -- nothing is bound here
            return f"http://{host}:{place.port}" if host else f"http://{place}"
    raise Refused(
        "conflict",
        "the dashboard is served on TCP addresses, and api.listen has none: add one, such as 127.0.0.1:8080",
    )
