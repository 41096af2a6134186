"""The dashboard's pages: which path is what, and who may open it."""

from hookrelay.web.call import ADMINISTRATORS, MANAGERS, OPEN, READERS
from hookrelay.web.dashboard import delivery, endpoint, entrance, history, overview, replay, webhooks
from hookrelay.web.dashboard.door import Routes

ROUTES: Routes = {
    "/dashboard": {"GET": (webhooks.collection, READERS)},
    "/dashboard/live": {"GET": (webhooks.live, READERS)},
    "/dashboard/sign-in": {"GET": (entrance.sign_in_page, OPEN), "POST": (entrance.sign_in, OPEN)},
    "/dashboard/sign-out": {"POST": (entrance.sign_out, OPEN)},
    "/dashboard/link/{id}": {"GET": (entrance.link, OPEN)},
    "/dashboard/static/{id}": {"GET": (entrance.static, OPEN)},
    "/dashboard/new": {"GET": (webhooks.new, MANAGERS), "POST": (webhooks.create, MANAGERS)},
    "/dashboard/check-url": {"GET": (webhooks.check, MANAGERS)},
    "/dashboard/webhooks/{id}": {"GET": (endpoint.page, READERS)},
    "/dashboard/webhooks/{id}/live": {"GET": (endpoint.live, READERS)},
    "/dashboard/webhooks/{id}/edit": {"GET": (endpoint.edit, MANAGERS), "POST": (endpoint.change, MANAGERS)},
    "/dashboard/webhooks/{id}/move": {"POST": (endpoint.move, MANAGERS)},
    "/dashboard/webhooks/{id}/pause": {"POST": (endpoint.pause, MANAGERS)},
    "/dashboard/webhooks/{id}/resume": {"POST": (endpoint.resume, MANAGERS)},
    "/dashboard/webhooks/{id}/rotate": {"GET": (endpoint.rotate_page, MANAGERS), "POST": (endpoint.rotate, MANAGERS)},
    "/dashboard/webhooks/{id}/delete": {"GET": (endpoint.delete_page, MANAGERS), "POST": (endpoint.delete, MANAGERS)},
    "/dashboard/webhooks/{id}/test": {"POST": (endpoint.test, MANAGERS)},
    "/dashboard/webhooks/{id}/replay": {"GET": (replay.page, MANAGERS), "POST": (replay.start, MANAGERS)},
    "/dashboard/webhooks/{id}/replays": {"GET": (replay.progress, MANAGERS)},
    "/dashboard/webhooks/{id}/replays-live": {"GET": (replay.live, MANAGERS)},
    "/dashboard/deliveries": {"GET": (history.collection, READERS)},
    "/dashboard/deliveries/live": {"GET": (history.live, READERS)},
    "/dashboard/deliveries/{id}": {"GET": (delivery.page, READERS)},
    "/dashboard/deliveries/{id}/live": {"GET": (delivery.live, READERS)},
    "/dashboard/deliveries/{id}/body": {"GET": (delivery.body, READERS)},
    "/dashboard/deliveries/{id}/retry": {"POST": (delivery.retry, MANAGERS)},
    "/dashboard/deliveries/{id}/cancel": {"POST": (delivery.cancel, MANAGERS)},
    "/dashboard/overview": {"GET": (overview.page, ADMINISTRATORS)},
    "/dashboard/overview/live": {"GET": (overview.live, ADMINISTRATORS)},
}
"""Each path's methods: what answers, and for which roles; None for everybody, signed in or not."""
