"""`/v1/audit`: who changed what."""

from typing import Any

import msgspec

from hookrelay.audit import ACTIONS, More
from hookrelay.model import Ids
from hookrelay.store import audit
from hookrelay.units import format_time
from hookrelay.web.api import models
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.query import listed

FILTERS = ("action", "actor", "object", "since", "until")


async def collection(call: Call) -> Answer:
    """GET: the records, newest first; a tenant's administrator sees those of its own tenant"""
    query = call.query("limit", "cursor", *FILTERS)
    limit, before = query.numbered_window("audit")
    now_ms = call.now_ms()
    wanted = audit.Wanted(
        action=query.word("action", ACTIONS),
        actor=query.text("actor"),
        object=query.text("object"),
        since_ms=query.moment("since", now_ms),
        until_ms=query.moment("until", now_ms),
    )
    query.done()
    page = await call.records(wanted, before, limit)
    last = None if page.next is None else str(page.next)
    return json_answer(listed([show(row, call.parts.store.ids) for row in page.rows], "audit", last))


def show(row: audit.AuditRow, ids: Ids) -> models.AuditRecord:
    """A record as the API shows it."""
    more = _more(row.more)
    action: Any = row.action
    return models.AuditRecord(
        id=ids.make("aud", row.created_ms, row.seq),
        created_at=format_time(row.created_ms),
        tenant=row.tenant,
        action=action,
        object=row.object,
        actor=row.actor,
        session=row.session,
        pid=row.pid,
        address=row.address,
        fields=more.fields,
        url_before=more.url_before,
        url_after=more.url_after,
        details=more.details,
    )


_more = msgspec.json.Decoder(More).decode
