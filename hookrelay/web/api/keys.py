"""`/v1/keys`: who may call over TCP."""

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from hookrelay.model import OPERATORS, FieldError
from hookrelay.rules.pattern import RESERVED, RIGHT_TENANT, is_tenant
from hookrelay.rules.wording import got, shown
from hookrelay.store.keys import KeyRow
from hookrelay.units import format_time
from hookrelay.web import body
from hookrelay.web.api import models
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.keyring import EVERYBODY
from hookrelay.web.query import listed

ROLES = ("admin", "manage", "submit", "read")
_NAME_MOST = 128


async def collection(call: Call) -> Answer:
    """GET: the keys, by id; never themselves"""
    query = call.query("limit", "cursor")
    window = query.window("keys")
    query.done()
    rows, has_more = window.cut(call.keys(window.after))
    return json_answer(listed([show(row) for row in rows], "keys", rows[-1].id if has_more else None))


async def create(call: Call) -> Answer:
    """POST: a new key; it is in the answer, and nowhere else"""
    call.query().done()
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, models.KeyWish.__struct_fields__, errors)
    tenant, role, name = wished_tenant(call, values, errors), values.get("role"), values.get("name", "")
    if role not in ROLES:
        what = "is missing" if "role" not in values else f"{shown(role)} is no role"
        errors.append(FieldError("role", f"{what}: write one of {', '.join(ROLES)}"))
    if not isinstance(name, str) or len(name) > _NAME_MOST:
        errors.append(FieldError("name", f'text of at most {_NAME_MOST} characters, such as "the booking app"'))
    body.refuse(errors)
    call.check_key_tenant(tenant)
    word: Any = role
    prefix = call.parts.config().api.key_prefix
    row, text = await call.parts.keyring.make(prefix, tenant, word, name, by=call.actor)
    return json_answer(structs.replace(show(row), key=text), 201, {"location": f"/v1/keys/{row.id}"})


async def revoke(call: Call) -> Answer:
    """DELETE: from now on it opens nothing"""
    call.query().done()
    await call.parts.keyring.revoke(call.key(), by=call.actor)
    call.parts.feed.tell_event()  # streams look whether their key still opens them
    return Answer(status=204)


def wished_tenant(call: Call, values: Mapping[str, Any], errors: list[FieldError]) -> str:
    """Whose the thing is that is to be made: a tenant, or `*` for all of them; a mistake is added to `errors`."""
    tenant = values.get("tenant", call.tenant())
    if tenant is None:
        errors.append(FieldError("tenant", 'is missing: a tenant such as "acme", or "*" for all of them'))
    elif not isinstance(tenant, str) or (tenant != EVERYBODY and not is_tenant(tenant)):
        what = shown(tenant) if isinstance(tenant, str) else got(tenant)
        errors.append(FieldError("tenant", f'{what} is not a tenant: {RIGHT_TENANT}, or "*" for all'))
    elif tenant == OPERATORS:
        errors.append(FieldError("tenant", RESERVED))
    return str(tenant)


def show(row: KeyRow) -> models.Key:
    """A key as the API shows it."""
    role: Any = row.role
    return models.Key(
        id=row.id,
        tenant=row.tenant,
        role=role,
        name=row.name,
        hint=row.hint,
        created_at=format_time(row.created_ms),
        last_used_at=None if row.last_used_ms is None else format_time(row.last_used_ms),
    )
