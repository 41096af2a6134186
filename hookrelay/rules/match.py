"""Which webhooks want an event? An immutable index over the webhooks in force; a reload builds a new one."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy

from hookrelay.model import Webhook


class Catalog:
    """The webhooks in force, paused and disabled ones included: what matches those is kept for them."""

    def __init__(self, webhooks: Sequence[Webhook]) -> None:
        self.by_seq: Mapping[int, Webhook] = {webhook.seq: webhook for webhook in webhooks}
        self.by_id: Mapping[str, Webhook] = {webhook.id: webhook for webhook in webhooks}
        tenants: dict[str, list[Webhook]] = {}
        for webhook in webhooks:
            tenants.setdefault(webhook.tenant, []).append(webhook)
        self._wishes = {tenant: _Wishes(theirs) for tenant, theirs in tenants.items()}

    def with_status(self, webhook: Webhook) -> "Catalog":
        """The same webhooks with one of them in another status, which is no part of what it wants."""
        catalog = copy(self)
        catalog.by_seq = {**self.by_seq, webhook.seq: webhook}
        catalog.by_id = {**self.by_id, webhook.id: webhook}
        return catalog

    def wanting(self, tenant: str, type: str) -> tuple[Webhook, ...]:
        """The tenant's webhooks that want events of `type`: each once, in the catalogue's order."""
        wishes = self._wishes.get(tenant)
        return () if wishes is None else wishes.wanting(type)


class _Wishes:
    """One tenant's webhooks by the patterns of their `events`.

    The most specific pattern that a type matches implies the others that it matches, so that answers are kept by
    pattern: a caller with ever new types adds nothing to them.
    """

    def __init__(self, webhooks: list[Webhook]) -> None:
        self._webhooks = webhooks
        self._positions: dict[str, list[int]] = {}
        for position, webhook in enumerate(webhooks):
            for pattern in webhook.events:
                self._positions.setdefault(pattern, []).append(position)
        self._kept: dict[str, tuple[Webhook, ...]] = {}
        # every pattern with all its webhooks could be much: answers take a few times the memory of the index, not more
        self._room = self._most = 4 * (1024 + sum(map(len, self._positions.values())))

    def wanting(self, type: str) -> tuple[Webhook, ...]:
        pattern = head = type
        while pattern not in self._positions:
            head, dot, _ = head.rpartition(".")
            if not dot:
                pattern = "*"
                break
            pattern = head + ".*"
        found = self._kept.get(pattern)
        return self._find(type, pattern) if found is None else found

    def _find(self, type: str, pattern: str) -> tuple[Webhook, ...]:
        positions = {position for each in _patterns(type) for position in self._positions.get(each, ())}
        found = tuple(self._webhooks[position] for position in sorted(positions))
        self._room -= len(found)
        if self._room < 0:
            self._kept.clear()
            self._room = self._most - len(found)
        self._kept[pattern] = found
        return found


def _patterns(type: str) -> Iterator[str]:
    """All that a webhook may say to get events of `type`, the most specific first."""
    yield type
    head = type
    while "." in head:
        head = head.rpartition(".")[0]
        yield head + ".*"
    yield "*"
