"""`/openapi.json` and `/docs`: the API, told to machines and to people."""

from functools import lru_cache
from importlib import resources

import msgspec

from hookrelay.web import docs
from hookrelay.web.api.openapi import document
from hookrelay.web.call import Call
from hookrelay.web.http import Answer

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def openapi(call: Call) -> Answer:
    """GET: OpenAPI 3.1"""
    return Answer(_openapi(), media_type="application/json")


async def docs_page(call: Call) -> Answer:
    """GET: the same as a page"""
    headers = {"content-security-policy": CSP, "referrer-policy": "no-referrer"}
    return Answer(_page(), media_type="text/html; charset=utf-8", headers=headers)


async def style(call: Call) -> Answer:
    """GET: how the page looks"""
    return Answer(_style(), media_type="text/css; charset=utf-8")


@lru_cache(1)
def _openapi() -> bytes:
    return msgspec.json.encode(document())


@lru_cache(1)
def _page() -> bytes:
    return docs.render(document()).encode()


@lru_cache(1)
def _style() -> bytes:
    content: bytes = (resources.files("hookrelay.web") / "static" / "docs.css").read_bytes()
    return content
