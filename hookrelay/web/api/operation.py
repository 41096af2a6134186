"""`/v1/status`, `/-/reload`, `/metrics` and health: what operators ask."""

import platform
import resource

from hookrelay import __version__
from hookrelay.model import FieldError, Refused
from hookrelay.registry import Removal
from hookrelay.units import format_duration
from hookrelay.web.call import Call
from hookrelay.web.http import Answer, json_answer


async def status(call: Call) -> Answer:
    """GET: how the daemon does, on one page"""
    call.query().done()
    check_operator(call)
    metrics = call.parts.metrics
    return json_answer(
        {
            "version": __version__,
            "ready": call.parts.is_ready(),
            **call.parts.health(),
            "in_flight": metrics.in_flight,
            "events": dict(metrics.events),
            "deliveries": dict(metrics.deliveries),
            "attempts": dict(metrics.attempts),
            "runtime": {
                "python": platform.python_version(),
                "sqlite": metrics.build.get("sqlite"),
                "open_files_limit": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
                "max_connections": call.parts.config().delivery.max_connections,
            },
        }
    )


async def reload(call: Call) -> Answer:
    """POST: read all files again, or say what that would change"""
    query = call.query("dry_run", "remove")
    is_dry = query.word("dry_run", ("true", "false")) == "true"
    removes = query.word("remove", ("true", "false")) == "true"
    query.done()
    check_operator(call)
    changes, removal = None, Removal()
    if is_dry:
        mistakes, changes = await call.parts.preview()
    else:
        mistakes, removal = await call.parts.reload(call.actor, removes)
    if mistakes:
        raise Refused(
            "invalid_configuration",
            "the old configuration stays in force: errors says what to mend",
            errors=[FieldError(*mistake) for mistake in mistakes],
        )
    webhooks = len(call.parts.catalog().by_seq)
    if changes is not None:
        return json_answer({"reloaded": False, "webhooks": webhooks, "changes": changes})
    missing, held = call.parts.missing()
    grace = format_duration(call.parts.config().delivery.removal_grace_s)
    told = {"webhooks": missing, "held": held, "removal_grace": grace}
    gone = {"webhooks": removal.webhooks, "cancelled": removal.deliveries}
    return json_answer({"reloaded": True, "webhooks": webhooks - missing, "missing_from_files": told, "removed": gone})


def plain(text: str, status: int = 200) -> Answer:
    """A line of text."""
    return Answer(text.encode(), status=status, media_type="text/plain; charset=utf-8")


def check_operator(call: Call) -> None:
    """Refused for whoever is not an administrator of all tenants."""
    if call.caller.tenant is not None:
        raise Refused("forbidden", 'this takes a key with the role admin for all tenants ("*")')


async def metrics(call: Call) -> Answer:
    """GET: Prometheus text"""
    text = await call.parts.metrics.text()
    if text is None:
        raise Refused("rate_limited", "many others wait for the metrics already: ask again in a moment")
    return Answer(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def healthy(call: Call) -> Answer:
    """GET: whether the process answers"""
    return plain("ok\n")


async def ready(call: Call) -> Answer:
    """GET: whether it takes events"""
    if call.parts.is_ready():
        return plain("ready\n")
    return plain("not ready: starting, stopping, or the store cannot be written\n", 503)
