"""What a tenant is told of why an attempt failed: nothing of what private names lead to, nor of operators' settings.

What is stored is whole. Administrators, `hookrelay explain` and the log tell the address, the rule and the remedy
(THREATS §3, "what a tenant is told").
"""

import re

from hookrelay.rules.egress import NOT_PUBLIC, Policy, is_literal, judge_address, target

_INSTEAD = {
    "egress_blocked": f"the URL {NOT_PUBLIC}",
    "proxy_refused": "the way out does not lead to this address",
    "connect_refused": "nothing listens at that address and port",
    "connect_timeout": "no answer to the connection request",
    "local_fault": "the attempt could not be made on this side: it is not the receiver's fault, and does not count",
}
"""Codes whose details name addresses or settings, and what is said in their place."""
_ADDRESSES = re.compile(r"[0-9A-Fa-f.:]{2,}")
_BUILT_IN = Policy()


def detail_for_tenants(code: str, detail: str) -> str:
    """Why an attempt failed, in words that give no address away which is not public."""
    if code in _INSTEAD:
        return _INSTEAD[code]
    if code == "connect_error" and "proxy" in detail:
        return "the receiver could not be reached"
    return _ADDRESSES.sub(_masked, detail)


def address_for_tenants(place: str | None, url: str | None) -> str | None:
    """Where an attempt to `url` went, as `203.0.113.7:443`; None where a name led to an address that is not public."""
    if place is None:
        return None
    host = place.rpartition(":")[0].strip("[]")
    is_known = url is not None and target(url).host == host
    return place if is_known or judge_address(host, 443, _BUILT_IN).is_allowed else None


def _masked(found: re.Match[str]) -> str:
    text = found[0].rstrip(".")
    # alone, at a colon of the sentence's, and before a port
    for host in (text, text.removesuffix(":"), text.rpartition(":")[0]):
        if is_literal(host) and not judge_address(host, 443, _BUILT_IN).is_allowed:
            return found[0].replace(host, "an address that is not public")
    return found[0]
