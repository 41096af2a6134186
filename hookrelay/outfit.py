"""What the settings come to for each part of the daemon, at the start and after every reload."""

import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from hookrelay import tracing
from hookrelay.config.load import load
from hookrelay.config.settings import Config, Loaded
from hookrelay.ingest import Limits as IngestLimits
from hookrelay.model import ConfigError, ConfigMistake
from hookrelay.net import trust
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.resolve import Address, Resolver
from hookrelay.net.trust import Trusts
from hookrelay.rules.egress import Policy, Vetted, vet
from hookrelay.rules.egress_url import check_url
from hookrelay.rules.key_text import read_keys
from hookrelay.rules.rate import parse_rate
from hookrelay.rules.schema import compile_schema
from hookrelay.telemetry import logs
from hookrelay.upkeep import Limits

DESCRIPTORS_KEPT = 1200
"""For clients of the sockets (512 of events.sock, 256 of each of two addresses of the API), the store, and files."""


def load_whole(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """What the files say (`config.load.load`), once TLS can rest on the certificates they name. Raises ConfigError."""
    loaded = load(path, environ)
    ca_file = None if loaded.config.egress.ca_file is None else str(loaded.config.egress.ca_file)
    wrong = trust.check(ca_file, None)
    if wrong is not None:
        raise ConfigError([ConfigMistake("egress.ca_file", None, "", wrong)])
    first = {webhook.trust: webhook for webhook in reversed(loaded.webhooks) if webhook.trust is not None}
    mistakes = [
        ConfigMistake(webhook.source.removeprefix("file:"), None, f"webhook {webhook.id}", wrong)
        for own, webhook in first.items()
        if (wrong := trust.check(None, own)) is not None
    ]
    mistakes += tracing.mistakes(loaded.config)
    if mistakes:
        raise ConfigError(mistakes)
    return loaded


def keys(config: Config) -> Sequence[bytes]:
    """The keys that secrets are sealed with; none where they are kept open."""
    file = config.store.key_file
    return () if file is None else read_keys(file.read_bytes())


def kept(config: Config) -> Limits:
    """How long what has ended is kept, and idempotency keys: never shorter than their events can be seen."""
    retention_s = config.store.retention_s
    window_s = max(config.events.idempotency_window_s, retention_s)
    return Limits(retention_s, window_s, config.store.max_size, config.store.audit_retention_s)


def equip(dialer: Dialer, before: Config | None, config: Config) -> None:
    """Give the dialer what the settings say; connections from now on obey them."""
    egress = config.egress
    dialer.vet = partial(may_connect, egress.policy)
    if before is None or before.egress.resolver != egress.resolver:  # it remembers which names it has found
        dialer.resolver = Resolver(None if egress.resolver is None else (egress.resolver.host, egress.resolver.port))
    dialer.trusts = Trusts(None if egress.ca_file is None else str(egress.ca_file))
    dialer.proxy = egress.proxy


def may_connect(policy: Policy, origin: Origin, addresses: Sequence[Address]) -> Vetted:
    """Whether the egress rules of this moment let a connection go there: the URL's origin, then every address."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    url = f"{origin.scheme}://{host}:{origin.port}/"
    wrong = check_url(url, policy)
    if wrong is not None:
        return Vetted(f"the URL {check_url(url, policy, is_operator=False)}", reason=f"the URL {wrong}")
    return vet(origin.host, origin.port, [address.ip for address in addresses], policy)


def connections(config: Config, log: logs.Logger) -> int:
    """The budget of connections: what was asked for, as far as this process may have so many descriptors."""
    asked = config.delivery.max_connections
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(limit - DESCRIPTORS_KEPT, limit * 2 // 5, 1)
    if asked > most:
        log.warning(
            "connections_limited",
            asked=asked,
            limit=most,
            detail=f"raise this process's limit of open files ({limit}) above delivery.max_connections by"
            f" {DESCRIPTORS_KEPT}: LimitNOFILE= in the systemd unit, or ulimit -n",
        )
    return min(asked, most)


def ingest_limits(config: Config) -> IngestLimits:
    events = config.events
    known = frozenset(event_type.name for event_type in config.event_types) if events.closed_catalogue else None
    # a key is never forgotten while its event can still be seen
    window_s = max(events.idempotency_window_s, config.store.retention_s)
    schemas = {
        event_type.name: compile_schema(event_type.schema_text)
        for event_type in config.event_types
        if event_type.schema is not None
    }
    pace = config.limits.events_per_tenant
    return IngestLimits(events.max_size, window_s, known, schemas, None if pace is None else parse_rate(pace))


def raise_descriptor_limit() -> None:
    """As many descriptors as the host allows: every connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
