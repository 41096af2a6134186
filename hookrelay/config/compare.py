"""What a reload would change: the settings and webhooks in force beside those that the files say now."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, structs

from hookrelay.config.settings import Config
from hookrelay.config.show import MASK, describe
from hookrelay.model import Webhook
from hookrelay.units import format_duration

NEEDS_RESTART: Mapping[str, Callable[[Config], object]] = {
    "store.url": lambda config: config.store.path,
    "store.max_size": lambda config: config.store.max_size,
    "store.key_file": lambda config: config.store.key_file,
    "events.socket": lambda config: config.events.socket,
    "events.mode": lambda config: config.events.mode,
    "events.group": lambda config: config.events.group,
    "api.listen": lambda config: config.api.listen,
    "api.mode": lambda config: config.api.mode,
    "telemetry.otlp_endpoint": lambda config: config.telemetry.otlp_endpoint,
}
"""Settings that a running daemon keeps as they were at its start."""

_SECRET = ("secrets", "headers", "trust")
"""Fields of a webhook that are never shown."""
_SHOWN = (
    *("url", "events", "description", "tenant", "rate_limit", "max_in_flight", "timeout_s", "retry", "ordered"),
    *("metadata", "held", "source"),
)


class Change(Struct, frozen=True):
    """One thing that a reload would change."""

    what: str
    """A setting's key, or a webhook's id, and the field where only that changes: `wh_….url`."""
    before: Any
    """None where there was nothing; `***` where it is secret."""
    after: Any
    """None where there will be nothing."""
    needs_restart: bool = False
    waiting: int | None = None
    """Of a webhook that no file names any more: deliveries that are held, and cancelled when it is removed."""


def needing_restart(before: Config, after: Config) -> list[str]:
    """The keys of settings that differ and that only a restart puts in force."""
    return [key for key, value in NEEDS_RESTART.items() if value(before) != value(after)]


def keep_fixed(after: Config, before: Config) -> Config:
    """The new settings with those that only a restart can change as they are."""
    old_store, old_events, old_api = before.store, before.events, before.api
    store = structs.replace(after.store, path=old_store.path, max_size=old_store.max_size, key_file=old_store.key_file)
    events = structs.replace(after.events, socket=old_events.socket, mode=old_events.mode, group=old_events.group)
    api = structs.replace(after.api, listen=old_api.listen, mode=old_api.mode)
    return structs.replace(after, store=store, events=events, api=api, telemetry=before.telemetry)


def changes(
    before: Config, after: Config, webhooks_before: Sequence[Webhook], webhooks_after: Sequence[Webhook]
) -> list[Change]:
    """All that differs: settings by key, then webhooks of files by id. No secret is in it."""
    return [*_settings(before, after), *_webhooks(webhooks_before, webhooks_after)]


def _settings(before: Config, after: Config) -> Iterator[Change]:
    fixed = needing_restart(before, after)
    old, new = _flat(describe(before)), _flat(describe(after))
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key):
            yield Change(key, old.get(key), new.get(key), key in fixed)
        elif key in ("egress.proxy", "store.key_file") and _raw(before, key) != _raw(after, key):
            yield Change(key, MASK, MASK, key in fixed)  # a password's change does not show
    schemas_before = {each.name: each.schema_text for each in before.event_types}
    for each in after.event_types:
        if each.name in schemas_before and each.schema_text != schemas_before[each.name]:
            yield Change(f"event_types.{each.name}.schema", "the file as it was", "the file as it is")


def _raw(config: Config, key: str) -> object:
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def _flat(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, table in tables.items() for name, value in table.items()}


def _webhooks(before: Sequence[Webhook], after: Sequence[Webhook]) -> Iterator[Change]:
    old, new = {each.id: each for each in before}, {each.id: each for each in after}
    for id, webhook in old.items():
        if id not in new:
            yield Change(id, f"{webhook.url} ({webhook.source})", None)
    for id, webhook in new.items():
        was = old.get(id)
        if was is None or was.is_missing:
            yield Change(id, None, f"{webhook.url} ({webhook.source})")
            continue
        for field in (*_SHOWN, *_SECRET):
            one, other = getattr(was, field), getattr(webhook, field)
            if one != other:
                is_secret = field in _SECRET
                name = field.removesuffix("_s") if field != "secrets" else "secret"
                yield Change(
                    f"{id}.{name}", *((MASK, MASK) if is_secret else (_shown(field, one), _shown(field, other)))
                )
        # one that the daemon has disabled stays so until its table changes
        if was.status != webhook.status and "disabled" not in (was.status, webhook.status):
            yield Change(f"{id}.status", was.status, webhook.status)


def _shown(field: str, value: Any) -> Any:
    if field.endswith("_s"):
        return format_duration(value)
    return list(value) if isinstance(value, tuple) else value
