"""Signing in with a key or by a one-time link, and out."""

import re
from math import ceil

from hookrelay.audit import Actor
from hookrelay.model import Refused
from hookrelay.web.auth import network_of
from hookrelay.web.dashboard import pages
from hookrelay.web.dashboard.door import COOKIE, Visit, redirect, set_cookie
from hookrelay.web.http import Answer
from hookrelay.web.sessions import LASTS_S

_GONE = "This link was opened before, or its time has passed. Ask whoever gave it to you for a new one."


async def sign_in_page(visit: Visit) -> Answer:
    """GET: where a key is asked for"""
    if visit.is_known:
        return redirect("/dashboard")
    return _entrance(visit, next=visit.request.parameter("next") or "")


async def sign_in(visit: Visit) -> Answer:
    """POST: a session for the holder of a key"""
    next, parts = visit.field("next"), visit.parts
    key = visit.field("key").encode("utf-8", "replace")
    caller = parts.keyring.check(key)
    if caller is None:
        wait_s = visit.house.throttle.wait_s(network_of(visit.request.scope["client"]))
        if wait_s is not None:
            wrong = f"Too many wrong keys came from your address: wait {ceil(wait_s)} seconds, then try again."
            return _entrance(visit, next=next, status=429, wrong=wrong)
        if key:
            parts.sessions.refused(visit.request.address)
        wrong = "This key opens nothing: it may be mistyped, or revoked." if key else "Enter a key."
        return _entrance(visit, next=next, status=401, wrong=wrong)
    if caller.role == "submit":
        wrong = "This key may only submit events. The dashboard takes one with the role read, manage or admin."
        return _entrance(visit, next=next, status=403, wrong=wrong)
    by = Actor(str(caller.key_id), caller.tenant is None, address=visit.request.address)
    token = await parts.sessions.sign_in(caller, by=by)
    return redirect(_onward(next), **{"set-cookie": set_cookie(visit, token, LASTS_S)})


async def sign_out(visit: Visit) -> Answer:
    """POST: the session's end"""
    if visit.caller.session_id is not None:
        await visit.parts.sessions.end(visit.caller.session_id, "session.signed_out", by=visit.actor)
    return redirect("/dashboard/sign-in", **{"set-cookie": f"{COOKIE}=; Path=/dashboard; Max-Age=0; HttpOnly"})


async def link(visit: Visit) -> Answer:
    """GET: a session for whoever opens the link first"""
    request = visit.request
    if request.scope["method"] == "HEAD" or "prefetch" in (request.header(b"sec-purpose") or ""):
        return Answer(status=204, headers={"cache-control": "no-store"})  # somebody looks where it leads
    token = await visit.parts.sessions.open_link(request.id, request.address)
    if token is None:
        visit.house.throttle.wait_s(network_of(request.scope["client"]))
        return visit.page("link_gone.html", status=410, reason=_GONE)
    kept = {"set-cookie": set_cookie(visit, token, LASTS_S)}
    if request.header(b"sec-fetch-site") in (None, "none", "same-origin"):
        return redirect("/dashboard", **kept)
    # A browser that follows a link of another site sends no strict cookie to where that leads: a page of ours leads on.
    reply = visit.page("link_opened.html")
    reply.headers.append((b"set-cookie", kept["set-cookie"].encode()))
    return reply


async def static(visit: Visit) -> Answer:
    """GET: a file that pages need; its address changes with it"""
    name = visit.request.id
    if name not in pages.FILES:
        raise Refused("not_found", "there is no such file")
    plain, packed, mark = pages.file(name)
    is_packed = "gzip" in (visit.request.header(b"accept-encoding") or "")
    is_marked = visit.request.scope["query_string"] == mark.encode()
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if is_marked else "no-cache",
        "vary": "accept-encoding",
        **({"content-encoding": "gzip"} if is_packed else {}),
    }
    return Answer(packed if is_packed else plain, media_type=pages.FILES[name], headers=headers)


def _entrance(visit: Visit, *, next: str, status: int = 200, wrong: str = "") -> Answer:
    return visit.page("sign_in.html", status=status, next=_onward(next), wrong=wrong)


_OWN_PAGE = re.compile(r"/dashboard(?:/(?!\.{1,2}(?:[/?]|\Z))[A-Za-z0-9._~-]+)*(?:\?[A-Za-z0-9._~!$&()*+,;=:@/?%-]*)?")
"""A normalised path of the dashboard (RFC 3986 §6.2.2.3), none of it escaped, and a query."""


def _onward(path: str) -> str:
    """Where to go after signing in: one of our own pages, whatever was asked for."""
    return path if _OWN_PAGE.fullmatch(path) else "/dashboard"
