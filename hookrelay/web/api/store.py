"""`/v1/backup` and `/v1/check`: the store as a file, whole and verified, and whether it is sound."""

import trio

from hookrelay.model import FieldError, Refused
from hookrelay.net.asgi import Receive, Scope, Send
from hookrelay.web import body
from hookrelay.web.api.operation import check_operator
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer
from hookrelay.web.problems import problem_of

SQLITE = "application/vnd.sqlite3"
PART = 1 << 18
"""Bytes that are in memory at once."""


async def backup(call: Call) -> Answer:
    """POST: a copy of all that is committed, as a file"""
    await _read_nothing(call)
    return _Copied(call)


async def check(call: Call) -> Answer:
    """POST: read every row"""
    await _read_nothing(call)
    return json_answer(await call.unless_gone(call.parts.checkup.look()))


async def _read_nothing(call: Call) -> None:
    call.query().done()
    check_operator(call)
    values = await body.read_object(call.request)
    errors: list[FieldError] = []
    body.check_known(values, (), errors)
    body.refuse(errors)


class _Copied(Answer):
    """A copy of the store: made while the client waits for the answer's head, and given up where it goes away."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._make_and_send, scope, receive, send, nursery.cancel_scope)
            await self._call.request.gone()
            nursery.cancel_scope.cancel()

    async def _make_and_send(self, scope: Scope, receive: Receive, send: Send, whole: trio.CancelScope) -> None:
        last = b""
        try:
            async with self._call.parts.copies.make(by=self._call.actor) as (path, facts):
                head = {
                    "content-type": SQLITE,
                    "content-length": str(facts.size),
                    "content-disposition": 'attachment; filename="hookrelay.db"',
                    "cache-control": "no-store",
                    "hookrelay-store": facts.store_id,
                    "hookrelay-commits": str(facts.commits),
                    "hookrelay-schema": str(facts.schema),
                }
                fields = [(name.encode(), value.encode()) for name, value in head.items()]
                await send({"type": "http.response.start", "status": 200, "headers": fields})
                async with await trio.open_file(path, "rb") as file:
                    while part := await file.read(PART):
                        if last:
                            await send({"type": "http.response.body", "body": last, "more_body": True})
                        last = part
            # whoever has all of it finds the copy gone, and may ask for another
            await send({"type": "http.response.body", "body": last})
        except Refused as refused:
            await problem_of(refused)(scope, receive, send)
        whole.cancel()
