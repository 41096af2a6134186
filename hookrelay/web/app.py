"""The HTTP application: which path is what, and who may call it."""

from hookrelay.net.asgi import App, Receive, Scope, Send
from hookrelay.rules.wording import shown
from hookrelay.web import http
from hookrelay.web.api import audit, deliveries, documents, events, keys, links, operation, store, stream, webhooks
from hookrelay.web.auth import SERVER, Gate, is_dashboard
from hookrelay.web.call import (
    ADMINISTRATORS,
    ANYONE,
    MANAGERS,
    OPEN,
    READERS,
    SUBMITTERS,
    Answer,
    Parts,
    Resource,
    Roles,
)
from hookrelay.web.dashboard.door import session_of
from hookrelay.web.problems import Problem

ROUTES: dict[str, dict[str, tuple[Answer, Roles | None]]] = {
    "/v1/webhooks": {"GET": (webhooks.collection, READERS), "POST": (webhooks.create, MANAGERS)},
    "/v1/webhooks/{id}": {
        "GET": (webhooks.one, READERS),
        "PATCH": (webhooks.update, MANAGERS),
        "DELETE": (webhooks.delete, MANAGERS),
    },
    "/v1/webhooks/{id}/test": {"POST": (webhooks.test, MANAGERS)},
    "/v1/webhooks/{id}/rotate-secret": {"POST": (webhooks.rotate, MANAGERS)},
    "/v1/webhooks/{id}/deliveries": {"GET": (deliveries.of_webhook, READERS)},
    "/v1/webhooks/{id}/replay": {"POST": (webhooks.replay, MANAGERS)},
    "/v1/deliveries": {"GET": (deliveries.collection, READERS)},
    "/v1/deliveries/{id}": {"GET": (deliveries.one, READERS)},
    "/v1/deliveries/{id}/retry": {"POST": (deliveries.retry, MANAGERS)},
    "/v1/deliveries/{id}/cancel": {"POST": (deliveries.cancel, MANAGERS)},
    "/v1/events": {"GET": (events.collection, READERS), "POST": (events.submit, SUBMITTERS)},
    "/v1/events/stream": {"GET": (stream.stream, READERS)},
    "/v1/events/purge": {"POST": (events.purge, ADMINISTRATORS)},
    "/v1/events/{id}": {"GET": (events.one, READERS)},
    "/v1/event-types": {"GET": (events.types, ANYONE)},
    "/v1/keys": {"GET": (keys.collection, ADMINISTRATORS), "POST": (keys.create, ADMINISTRATORS)},
    "/v1/keys/{id}": {"DELETE": (keys.revoke, ADMINISTRATORS)},
    "/v1/portal-links": {"GET": (links.collection, ADMINISTRATORS), "POST": (links.create, ADMINISTRATORS)},
    "/v1/portal-links/{id}": {"DELETE": (links.revoke, ADMINISTRATORS)},
    "/v1/audit": {"GET": (audit.collection, ADMINISTRATORS)},
    "/v1/status": {"GET": (operation.status, ADMINISTRATORS)},
    "/v1/backup": {"POST": (store.backup, ADMINISTRATORS)},
    "/v1/check": {"POST": (store.check, ADMINISTRATORS)},
    "/-/reload": {"POST": (operation.reload, ADMINISTRATORS)},
    "/metrics": {"GET": (operation.metrics, OPEN)},
    "/-/healthy": {"GET": (operation.healthy, OPEN)},
    "/-/ready": {"GET": (operation.ready, OPEN)},
    "/openapi.json": {"GET": (documents.openapi, OPEN)},
    "/docs": {"GET": (documents.docs_page, OPEN)},
    "/docs/style.css": {"GET": (documents.style, OPEN)},
}
"""Each path's methods: what answers, and for which roles; None for everybody, with or without a key."""
METHODS = ", ".join(sorted({method for methods in ROUTES.values() for method in methods} | {"HEAD", "OPTIONS"}))
"""What `OPTIONS *` tells: those that there are anywhere (RFC 9110 §9.3.7)."""


def build(parts: Parts, dashboard: App) -> App:
    """The application over these parts, as an ASGI callable; what is below `/dashboard` is another."""
    return Gate(
        Router(parts, dashboard),
        hosts=lambda: parts.config().api.hosts,
        keyring=parts.keyring,
        limit_met=parts.limit_met,
        session_of=lambda scope: session_of(scope, parts.sessions),
    )


class Router:
    """Finds what answers a path. Every path has at most one part that varies, always the third: no search is needed."""

    def __init__(self, parts: Parts, dashboard: App) -> None:
        self._dashboard = dashboard
        self._resources = {path: Resource(parts, methods) for path, methods in ROUTES.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have it answered, or answer 404 or 405."""
        path = scope["path"]
        if path == SERVER:
            await http.Answer(status=204, headers={"allow": METHODS})(scope, receive, send)
            return
        if is_dashboard(path):
            await self._dashboard(scope, receive, send)
            return
        resource = self._resources.get(path)
        if resource is None:
            steps = path.split("/")
            if len(steps) > 3 and steps[3]:
                scope["path_params"] = {"id": steps[3]}
                steps[3] = "{id}"
                resource = self._resources.get("/".join(steps))
        if resource is None:
            problem = Problem("not_found", f"there is nothing at {shown(path)}")
            await problem(scope, receive, send)
        else:
            await resource(scope, receive, send)
