"""The HTTP application: routes, and what they are given."""

from collections.abc import Callable, Collection

import trio
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hookrelay.model import Refused
from hookrelay.rules.match import Catalog
from hookrelay.store.db import Store
from hookrelay.telemetry.metrics import Metrics
from hookrelay.web import problems
from hookrelay.web.api import deliveries, webhooks
from hookrelay.web.auth import Gate


class Parts(Struct, frozen=True):
    """What the routes work on. Callables where a reload replaces the value."""

    store: Store
    catalog: Callable[[], Catalog]
    metrics: Metrics
    hosts: Callable[[], Collection[str]]
    is_ready: Callable[[], bool]


def build(parts: Parts) -> Starlette:
    """The application over these parts, as an ASGI callable."""
    app = Starlette(
        routes=[
            Route("/v1/webhooks", webhooks.collection, methods=["GET"]),
            Route("/v1/webhooks/{id}", webhooks.one, methods=["GET"]),
            Route("/v1/webhooks/{id}/deliveries", deliveries.of_webhook, methods=["GET"]),
            Route("/v1/deliveries/{id}", deliveries.one, methods=["GET"]),
            Route("/metrics", _metrics, methods=["GET"]),
            Route("/-/healthy", _healthy, methods=["GET"]),
            Route("/-/ready", _ready, methods=["GET"]),
        ],
        middleware=[Middleware(Gate, hosts=parts.hosts)],
        exception_handlers={Refused: problems.refused, HTTPException: problems.http_error},
    )
    app.router.redirect_slashes = False
    app.state.parts = parts
    return app


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.parts.metrics
    text = await trio.to_thread.run_sync(metrics.render)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _ready(request: Request) -> Response:
    if request.app.state.parts.is_ready():
        return PlainTextResponse("ready\n")
    return PlainTextResponse("not ready: starting, stopping, or the store cannot be written\n", status_code=503)
