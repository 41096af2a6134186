"""Every setting: its key, its default as a person would write it, and who reads its value."""

from typing import Literal

from msgspec import Struct

from hookrelay.config import values
from hookrelay.config.values import Reader
from hookrelay.rules.webhook import DEFAULT_RETRY


class Key(Struct, frozen=True):
    """One setting."""

    section: str
    name: str
    field: str
    """Its name in the section's Struct, with the unit where the value has one."""
    read: Reader
    default: object
    """Raw, as in a file; None where the setting is off unless said."""
    form: Literal["text", "toml", "either"] = "text"
    """How its environment variable is written: as bare text, as a TOML value, or either."""

    @property
    def dotted(self) -> str:
        """`delivery.timeout`"""
        return f"{self.section}.{self.name}"


def _keys() -> tuple[Key, ...]:
    duration, size, count, choice = values.duration, values.size, values.count, values.choice
    return (
        Key("store", "url", "path", values.store_path, "sqlite:///var/lib/hookrelay/hookrelay.db"),
        Key("store", "retention", "retention_s", duration("1m", "3650d", "30d"), "30d"),
        Key("store", "audit_retention", "audit_retention_s", duration("1m", "3650d", "365d"), "365d"),
        Key("store", "max_size", "max_size", size("16MiB", "16TiB", "10GiB"), "10GiB"),
        Key("store", "key_file", "key_file", values.keys, None),
        Key("events", "socket", "socket", values.socket, "/run/hookrelay/events.sock"),
        Key("events", "mode", "mode", values.mode, "0660"),
        Key("events", "group", "group", values.group, None),
        Key("events", "max_size", "max_size", size("1KiB", "16MiB", "256KiB"), "256KiB"),
        Key("events", "idempotency_window", "idempotency_window_s", duration("1s", "365d", "7d"), "7d"),
        Key("events", "closed_catalogue", "closed_catalogue", values.flag, False, "toml"),
        Key("api", "listen", "listen", values.listen, ["unix:/run/hookrelay/api.sock"], "toml"),
        Key("api", "hosts", "hosts", values.hosts, ["localhost", "127.0.0.1", "[::1]"], "toml"),
        Key("api", "public_url", "public_url", values.origin, None),
        Key("api", "key_prefix", "key_prefix", values.key_prefix, "hookrelay_live_sk_"),
        Key("api", "mode", "mode", values.mode, "0600"),
        Key("delivery", "timeout", "timeout_s", values.timeout, "30s"),
        Key("delivery", "retry", "retry", values.retry, list(DEFAULT_RETRY), "either"),
        Key("delivery", "max_in_flight", "max_in_flight", values.max_in_flight, 8, "toml"),
        Key("delivery", "rate_limit", "rate_limit", values.rate_limit, None),
        Key("delivery", "disable_after", "disable_after_s", values.disable_after, "5d"),
        Key("delivery", "max_connections", "max_connections", count(1, 100_000, 1000), 1000, "toml"),
        Key("delivery", "removal_grace", "removal_grace_s", duration("0s", "30d", "10m"), "10m"),
        Key("delivery", "webhooks_dir", "webhooks_dir", values.path, "webhooks.d"),
        Key("egress", "allow", "allow", values.allow, [], "toml"),
        Key("egress", "deny", "deny", values.deny, [], "toml"),
        Key("egress", "allow_http", "allow_http", values.flag, False, "toml"),
        Key("egress", "ca_file", "ca_file", values.authorities, None),
        Key("egress", "proxy", "proxy", values.proxy, None),
        Key("egress", "resolver", "resolver", values.resolver, "system"),
        Key("limits", "webhooks_per_tenant", "webhooks_per_tenant", count(0, 1_000_000, 1000), 1000, "toml"),
        Key("limits", "events_per_tenant", "events_per_tenant", values.rate_limit, None),
        Key("log", "level", "level", choice("debug", "info", "warning", "error"), "info"),
        Key("log", "format", "format", choice("auto", "console", "json"), "auto"),
        Key("metrics", "per_webhook_limit", "per_webhook_limit", count(0, 100_000, 1000), 1000, "toml"),
        Key("metrics", "webhook_info", "webhook_info", values.flag, False, "toml"),
        Key("telemetry", "otlp_endpoint", "otlp_endpoint", values.endpoint, None),
    )


KEYS = {key.dotted: key for key in _keys()}
SECTIONS: dict[str, dict[str, Key]] = {}
for _key in KEYS.values():
    SECTIONS.setdefault(_key.section, {})[_key.name] = _key
