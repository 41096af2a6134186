"""Why an attempt failed, why a delivery waits and why a webhook is disabled: in words that say what to do."""

ERRORS = {
    "dns_error": "The name in the URL could not be found. Check its spelling, and that it has a public DNS record.",
    "egress_blocked": "The URL leads to an address that deliveries may not go to, such as one of a private network. "
    "Use a public address.",
    "connect_refused": "Nothing listens at that address and port. Check that the server runs, and that its firewall "
    "lets connections in.",
    "connect_timeout": "The server did not answer when the connection was opened. A firewall may drop connections, or "
    "the server is down.",
    "connect_error": "The server could not be reached over the network.",
    "tls_error": "No secure connection could be agreed on. Check that the certificate is valid, complete with its "
    "intermediate ones, and made out for this host name.",
    "timeout": "The server took too long. Answer with 2xx at once, and do the work afterwards.",
    "reset": "The server closed the connection before it had answered.",
    "protocol_error": "What came back was not an HTTP answer. Check that the URL leads to a web server, and not to "
    "another kind.",
    "interrupted": "hookrelay was stopped during the attempt. It does not count, and is made again.",
    "local_fault": "The trouble was on hookrelay's side, not on the receiver's. The attempt does not count.",
    "payload_damaged": "What hookrelay has stored is not what was submitted, so nothing was sent. The event must be "
    "submitted again.",
}
NAMES = {
    "dns_error": "Name not found",
    "egress_blocked": "Address not allowed",
    "connect_refused": "Connection refused",
    "connect_timeout": "No connection in time",
    "connect_error": "Not reachable",
    "tls_error": "TLS failed",
    "timeout": "Timed out",
    "reset": "Connection closed",
    "protocol_error": "Not HTTP",
    "interrupted": "Interrupted here",
    "local_fault": "Trouble here",
    "payload_damaged": "Payload damaged here",
}
"""Error codes in a word or two."""
STATUSES = {
    301: "The URL has moved, and redirects are never followed. Change the endpoint's URL to the new address.",
    302: "The server redirects, and redirects are never followed. Change the endpoint's URL to the final address.",
    303: "The server redirects, and redirects are never followed. Change the endpoint's URL to the final address.",
    307: "The server redirects, and redirects are never followed. Change the endpoint's URL to the final address.",
    308: "The URL has moved, and redirects are never followed. Change the endpoint's URL to the new address.",
    400: "The server did not accept the request. Its answer below may say why.",
    401: "The server wants to know who calls. Check the signature with this endpoint's secret, or set the header that "
    "it expects under Settings.",
    403: "The server refuses the request. A firewall may be why, or a check of the signature with another secret.",
    404: "There is nothing at this path of the server. Check the endpoint's URL.",
    405: "The server does not take POST at this URL. Check the path, and which methods it handles.",
    408: "The server gave up waiting for the request.",
    410: "The server says that this address is gone for good: the endpoint was disabled.",
    413: "The payload is larger than the server accepts. Raise its limit for request bodies.",
    415: "The server does not accept application/json here.",
    422: "The server understood the request and refused its content. Its answer below may say why.",
    429: "The server asks for fewer requests. A rate limit on this endpoint keeps deliveries below what it can take.",
    500: "The server failed while it handled the request. Its own log will tell why.",
    502: "A proxy before the server got no answer from it. Is the application behind it running?",
    503: "The server is not available at the moment.",
    504: "A proxy before the server waited too long for it.",
}
WAITS = {
    "not_due": "the next attempt is not due yet",
    "in_flight": "as many attempts as it allows are under way",
    "held": "its server has asked to be left alone for a while",
    "slowed": "it slows down, because its server is struggling",
    "rate_limit": "its rate limit lets no more through just now",
}
DISABLED = {
    "gone": "Its server answered 410 Gone, which says: send nothing more here.",
    "missing_from_files": "Its file no longer names it: events are kept for a while, then it is removed.",
    "failing": "All attempts have failed for so long that hookrelay has stopped trying.",
}
STATES = {
    "pending": "Waiting",
    "held": "Held",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "active": "Active",
    "paused": "Paused",
    "disabled": "Disabled",
}


def of_attempt(code: str | None, status: int | None) -> str:
    """What an error code or a status of a receiver means, and what helps; empty where nothing is wrong."""
    if code is None:
        return ""
    if code != "http_status" or status is None:
        return ERRORS.get(code, "")
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return "Only an answer of 200 to 299 counts as delivered."
    return "The server refused the request." if status < 500 else "The server failed to handle the request."


def short(code: str | None, status: int | None) -> str:
    """The same in a word or two, for a table."""
    if code is None:
        return "" if status is None else str(status)
    return f"HTTP {status}" if code == "http_status" and status is not None else NAMES.get(code, code.replace("_", " "))
