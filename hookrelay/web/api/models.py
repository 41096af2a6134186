"""What the API shows, as it is shown: the shapes of contract §4, from which the OpenAPI document is made too."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from hookrelay.audit import Action
from hookrelay.model import WebhookStatus

DeliveryStatus = Literal["pending", "held", "succeeded", "failed", "cancelled"]


class Webhook(Struct, kw_only=True):
    """A webhook. Times are RFC 3339 in UTC; the values of `headers` are never shown."""

    id: str
    tenant: str
    url: str
    events: tuple[str, ...]
    description: str
    status: WebhookStatus
    disabled_reason: str | None
    rate_limit: str | None
    max_in_flight: int
    timeout: str
    retry: tuple[str, ...] | str
    headers: dict[str, str]
    ordered: bool
    metadata: dict[str, Any]
    secret_hint: str
    """The secret's last four characters."""
    source: str
    """`api`, or `file:NAME.toml`."""
    created_at: str
    updated_at: str
    secret: str | UnsetType = UNSET
    """Only in the answers that make it: it is shown once."""
    previous_secret_until: str | UnsetType | None = UNSET
    """Only after a rotation: how long the secret before signs, too."""
    waiting: "Waiting | UnsetType" = UNSET
    """Only where it was asked for by `include=waiting`."""


class Waiting(Struct):
    """What waits for a webhook just now, and what it is waiting for."""

    pending: int
    held: int
    why: str | None
    until: str | None


class Fault(Struct):
    """What an attempt ended as, and more of it in words."""

    code: str
    detail: str


class Delivery(Struct, kw_only=True):
    """One event for one webhook; the response fields are its last attempt's."""

    id: str
    event_id: str
    event_type: str
    webhook_id: str
    tenant: str
    status: DeliveryStatus
    attempt_count: int
    response_code: int | None
    response_time_ms: float | None
    error: Fault | None
    next_attempt_at: str | None
    created_at: str
    completed_at: str | None
    test: bool
    payload: Raw | UnsetType = UNSET
    """The event's `data`; only where one delivery is asked for."""
    purged_at: str | UnsetType = UNSET
    """Only where one delivery is asked for whose payload was purged, and what its receiver answered with it."""
    payload_damaged: bool | UnsetType = UNSET
    """Only where it is true: the payload is not what was accepted, and is shown as null."""
    attempts: "list[Attempt] | UnsetType" = UNSET
    """Oldest first; only where one delivery is asked for."""


class Attempt(Struct, kw_only=True):
    """One HTTP POST of a delivery."""

    id: str
    number: int
    started_at: str
    duration_ms: float
    response_code: int | None
    response_headers: dict[str, str] | None
    response_body: str | None
    """At most its first 4 KiB."""
    request_headers: dict[str, str] | None
    remote_address: str | None
    error: Fault | None


class Event(Struct, kw_only=True):
    """An event as it was accepted."""

    id: str
    type: str
    tenant: str
    timestamp: str
    idempotency_key: str | None
    ordering_key: str | None
    test: bool
    created_at: str
    purged_at: str | UnsetType = UNSET
    """Only where its payload was purged: `data` is null, and the keys are gone."""
    payload_damaged: bool | UnsetType = UNSET
    """Only where it is true: the payload is not what was accepted, and `data` is shown as null."""
    data: Raw | UnsetType = UNSET
    """Only where one event is asked for, and in the stream."""
    delivery_count: int | UnsetType = UNSET
    """Only where one event is asked for."""
    deliveries: list[Delivery] | UnsetType = UNSET
    """The first 250; only where one event is asked for."""


class EventType(Struct, omit_defaults=True):
    """One entry of the catalogue."""

    name: str
    description: str
    schema: Any = UNSET
    example: Any = UNSET


class Key(Struct, kw_only=True):
    """A key of the API; `hint` is its last four characters."""

    id: str
    tenant: str
    role: Literal["admin", "manage", "submit", "read"]
    name: str
    hint: str
    created_at: str
    last_used_at: str | None
    key: str | UnsetType = UNSET
    """Only in the answer that makes it: it is shown once."""


class PortalLink(Struct, kw_only=True):
    """A link that opens the dashboard once, or the session that came of it."""

    id: str
    tenant: str
    role: Literal["admin", "manage", "read"]
    status: Literal["unopened", "open"]
    created_at: str
    expires_at: str
    """Until when it can be opened; of an open one, when its session ends."""
    url: str | UnsetType = UNSET
    """Only in the answer that makes it: it is shown once."""


class AuditRecord(Struct, kw_only=True):
    """One change, and who made it. No secret and no header's value is in it."""

    id: str
    created_at: str
    tenant: str
    """Whose the object is; `*` for what concerns all tenants."""
    action: Action
    object: str | None
    """The id of what was changed."""
    actor: str
    """The id of a key or a link; `file:NAME.toml`; `uid:NUMBER` of a process at the Unix socket; `signal:SIGHUP`;
    `daemon` where nobody asked for it. Tenants are shown `operator` for what operators did.
    """
    session: str | None
    """The session of the dashboard in which it was done."""
    pid: int | None
    """The process at the Unix socket."""
    address: str | None
    """Where the call came from over TCP."""
    fields: list[str]
    """What changed of the object, by name."""
    url_before: str | None
    url_after: str | None
    details: dict[str, Any]
    """Figures, a role, a status: what else there is to say of the action."""


class Replayed(Struct):
    """How many deliveries match, or are being made anew."""

    count: int


class Purged(Struct):
    """How many events' payloads match, or are gone, and how many deliveries were cancelled for it."""

    events: int
    cancelled: int


class Checked(Struct):
    """How many rows of how many tables were read, and what was wrong with them."""

    rows: int
    tables: int
    damaged_payloads: int
    """Events whose payload is not what was accepted; `faults` says so, too."""
    faults: list[str]


class Accepted(Struct):
    """An event that is on disk."""

    id: str
    deliveries: int
    duplicate: bool | UnsetType = msgspec.UNSET
    """True where the same event came before with the same idempotency key."""


# --- what is asked for ------------------------------------------------------------------------------------------


class TrialWish(Struct, forbid_unknown_fields=True):
    """A test event: its type, and its data (any JSON)."""

    type: str | UnsetType = UNSET
    data: Any = UNSET


class RotateWish(Struct, forbid_unknown_fields=True):
    """How long the secret before goes on signing (`"24h"`), and the new one where it is not to be made up."""

    overlap: str = "24h"
    secret: str | None = None


class ReplayWish(Struct, forbid_unknown_fields=True):
    """Which deliveries: of events accepted since and before two times, that ended so."""

    since: str
    until: str | None = None
    status: list[Literal["failed", "cancelled", "succeeded"]] = msgspec.field(default_factory=lambda: ["failed"])
    type: str | None = None
    dry_run: bool = False


class PurgeWish(Struct, forbid_unknown_fields=True):
    """Whose payloads are to go: those of the event `id`, or of all events of `tenant` accepted before a time."""

    id: str | None = None
    tenant: str | None = None
    before: str | None = None
    dry_run: bool = False


class LinkWish(Struct, forbid_unknown_fields=True):
    """Whose webhooks the link shows (`*` for all tenants), what whoever opens it may do, and how long (`"1h"`).

    The link can be opened once, within that time; the session that it begins lasts as long, 12 hours at most.
    """

    tenant: str
    role: Literal["manage", "read", "admin"] = "manage"
    lasts: str = msgspec.field(default="1h", name="for")


class KeyWish(Struct, forbid_unknown_fields=True):
    """Whose key (`*` for all tenants), and what it may do."""

    tenant: str
    role: Literal["admin", "manage", "submit", "read"]
    name: str = ""
