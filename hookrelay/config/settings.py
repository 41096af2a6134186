"""The settings in force: every default filled in, every text turned into its value. Swapped whole at a reload."""

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from hookrelay.model import Webhook
from hookrelay.rules.egress import AddressRule, Policy
from hookrelay.rules.webhook import Defaults


class Unix(Struct, frozen=True):
    """A Unix socket to listen on."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Tcp(Struct, frozen=True):
    """A TCP address to listen on, or to ask. `host` is a name or an address, IPv6 without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class StoreSettings(Struct, frozen=True):
    """`[store]`"""

    path: Path
    """The database file of `store.url`."""
    retention_s: float
    audit_retention_s: float
    max_size: int
    key_file: Path | None


class EventsSettings(Struct, frozen=True):
    """`[events]`"""

    socket: Path
    mode: int
    group: str | None
    max_size: int
    idempotency_window_s: float
    closed_catalogue: bool


class ApiSettings(Struct, frozen=True):
    """`[api]`"""

    listen: tuple[Unix | Tcp, ...]
    hosts: tuple[str, ...]
    """What a `Host` header may say, in lower case and without port; IPv6 in brackets."""
    public_url: str | None
    """Scheme, host and port as customers reach it, such as `https://hooks.example.com`; no slash at the end."""
    key_prefix: str
    mode: int


class DeliverySettings(Struct, frozen=True):
    """`[delivery]`"""

    timeout_s: float
    retry: tuple[str, ...] | str
    """As it was written; `rules.webhook.parse_retry` turns it into delays."""
    max_in_flight: int
    rate_limit: str | None
    disable_after_s: float | None
    """None where a failing webhook is never disabled."""
    max_connections: int
    removal_grace_s: float
    """Running time for which a webhook that its file no longer names is held."""
    webhooks_dir: Path

    @property
    def defaults(self) -> Defaults:
        """What a webhook that does not say gets."""
        return Defaults(
            timeout_s=self.timeout_s, retry=self.retry, max_in_flight=self.max_in_flight, rate_limit=self.rate_limit
        )


class EgressSettings(Struct, frozen=True):
    """`[egress]`"""

    allow: tuple[AddressRule | str, ...]
    """Networks, and host names in lower case, `*.internal` or `localhost:8080` among them."""
    deny: tuple[AddressRule, ...]
    allow_http: bool
    ca_file: Path | None
    """None for the system's."""
    proxy: str | None
    """May hold a password: never shown."""
    resolver: Tcp | None
    """None for the system's."""

    @property
    def policy(self) -> Policy:
        """Where deliveries may go. Made anew each time: keep it, for it learns its rules by heart."""
        return Policy(allow=self.allow, deny=self.deny, allow_http=self.allow_http)


class LimitsSettings(Struct, frozen=True):
    """`[limits]`"""

    webhooks_per_tenant: int
    """Made with a tenant's own key, link or session; files and administrators are not counted."""
    events_per_tenant: str | None
    """A rate, as it was written."""


class LogSettings(Struct, frozen=True):
    """`[log]`"""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "console", "json"]


class EventType(Struct, frozen=True):
    """One entry of the catalogue, `[event_types."booking.created"]`."""

    name: str
    description: str = ""
    example: Any = None
    schema: Path | None = None
    schema_text: Any = None
    """The decoded schema; None where there is none."""


class MetricsSettings(Struct, frozen=True):
    """`[metrics]`"""

    per_webhook_limit: int
    webhook_info: bool


class Otel(Struct, frozen=True):
    """What OpenTelemetry's own environment variables say of traces."""

    service_name: str = "hookrelay"
    resource: tuple[tuple[str, str], ...] = ()
    """What spans say of the process beside its service's name and version."""
    headers: tuple[tuple[str, str], ...] = ()
    """For the collector; may hold credentials: never shown."""
    ca_file: Path | None = None
    """Certificate authorities that are trusted for the collector beside the others."""
    is_compressed: bool = False
    ratio: float = 1.0
    """The share of events without a `traceparent` for which a trace is begun."""


class TelemetrySettings(Struct, frozen=True):
    """`[telemetry]`"""

    otlp_endpoint: str | None
    otel: Otel = Otel()


class Config(Struct, frozen=True):
    """All settings in force."""

    store: StoreSettings
    events: EventsSettings
    api: ApiSettings
    delivery: DeliverySettings
    egress: EgressSettings
    limits: LimitsSettings
    log: LogSettings
    metrics: MetricsSettings
    telemetry: TelemetrySettings
    event_types: tuple[EventType, ...] = ()


class Loaded(Struct, frozen=True):
    """Everything that the files and the environment say."""

    config: Config
    webhooks: tuple[Webhook, ...]
    files: tuple[Path, ...]
    """The files of `webhooks_dir` that were read."""
    has_folder: bool = True
    """Whether `webhooks_dir` is there."""
