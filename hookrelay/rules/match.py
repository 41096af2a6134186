"""Which webhooks want an event? An index over the webhooks in force."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import islice

from hookrelay.model import Webhook
from hookrelay.rules.pattern import covers, is_simple, parts, simple_patterns

TYPES_KEPT = 64
"""Types of a tenant whose answer is found in one look: most platforms have fewer."""


class Catalog:
    """The webhooks in force, paused and disabled ones included: what matches those is kept for them.

    A reload builds a new one; single webhooks are put in and taken out where they are, which no reader sees half done.
    """

    def __init__(self, webhooks: Iterable[Webhook] = ()) -> None:
        self.by_seq: dict[int, Webhook] = {}
        self.by_id: dict[str, Webhook] = {}
        self._ids: list[str] = []
        self._ids_of: dict[str, list[str]] = {}
        self._wishes: dict[str, _Wishes] = {}
        for webhook in sorted(webhooks, key=lambda webhook: webhook.id):
            self.put(webhook)

    def put(self, webhook: Webhook) -> None:
        """From now on this is the webhook of its key."""
        before = self.by_seq.get(webhook.seq)
        if before is not None and (before.tenant, before.events) != (webhook.tenant, webhook.events):
            self.remove(webhook.seq)
            before = None
        self.by_seq[webhook.seq] = self.by_id[webhook.id] = webhook
        if before is not None:
            self._wishes[webhook.tenant].replace(webhook)
            return
        if webhook.tenant not in self._wishes:
            self._wishes[webhook.tenant], self._ids_of[webhook.tenant] = _Wishes(), []
        insort(self._ids, webhook.id)
        insort(self._ids_of[webhook.tenant], webhook.id)
        self._wishes[webhook.tenant].put(webhook)

    def remove(self, seq: int) -> None:
        """From now on there is no such webhook."""
        webhook = self.by_seq.pop(seq)
        del self.by_id[webhook.id]
        theirs = self._ids_of[webhook.tenant]
        for ids in (self._ids, theirs):
            del ids[bisect_right(ids, webhook.id) - 1]
        self._wishes[webhook.tenant].remove(webhook)
        if not theirs:
            del self._ids_of[webhook.tenant], self._wishes[webhook.tenant]

    def after(self, tenant: str | None, id: str | None) -> Iterator[Webhook]:
        """The webhooks of a tenant, or of all, in the order of their ids, from the first beyond `id`."""
        ids = self._ids if tenant is None else self._ids_of.get(tenant, [])
        start = 0 if id is None else bisect_right(ids, id)
        return (self.by_id[each] for each in islice(ids, start, None))

    def before(self, tenant: str | None, id: str | None) -> Iterator[Webhook]:
        """The same the other way round: from the last below `id`."""
        ids = self._ids if tenant is None else self._ids_of.get(tenant, [])
        end = len(ids) if id is None else bisect_left(ids, id)
        return (self.by_id[ids[index]] for index in range(end - 1, -1, -1))

    def count(self, tenant: str | None) -> int:
        """How many webhooks a tenant has, or all have."""
        return len(self._ids if tenant is None else self._ids_of.get(tenant, ()))

    def tenants(self) -> list[str]:
        """All tenants that have a webhook, in the order of their names."""
        return sorted(self._ids_of)

    def wanting(self, tenant: str, type: str) -> tuple[Webhook, ...]:
        """The tenant's webhooks that want events of `type`: each once, the longest known first."""
        wishes = self._wishes.get(tenant)
        return () if wishes is None else wishes.wanting(type)


class _Wishes:
    """One tenant's webhooks by the patterns of their `events`.

    Answers are kept by the patterns that a type matches: a caller with ever new types adds nothing to them.
    """

    def __init__(self) -> None:
        self._webhooks: dict[int, Webhook] = {}
        self._seqs: dict[str, dict[int, None]] = {}
        self._intricate: dict[str, list[str]] = {}
        """The patterns that are not found by what a type begins or ends with, in parts."""
        self._kept: dict[tuple[str, ...], tuple[Webhook, ...]] = {}
        self._of_type: dict[str, tuple[Webhook, ...]] = {}
        self._room = 0
        self._entries = 0

    def put(self, webhook: Webhook) -> None:
        self._webhooks[webhook.seq] = webhook
        for pattern in webhook.events:
            if pattern not in self._seqs:
                self._seqs[pattern] = {}
                if not is_simple(pattern):
                    self._intricate[pattern] = parts(pattern)
            self._seqs[pattern][webhook.seq] = None
        self._forget(len(webhook.events))

    def replace(self, webhook: Webhook) -> None:
        """It wants what it wanted."""
        self._webhooks[webhook.seq] = webhook
        self._forget(0)

    def remove(self, webhook: Webhook) -> None:
        del self._webhooks[webhook.seq]
        for pattern in set(webhook.events):
            seqs = self._seqs[pattern]
            del seqs[webhook.seq]
            if not seqs:
                del self._seqs[pattern]
                self._intricate.pop(pattern, None)
        self._forget(-len(webhook.events))

    def _forget(self, more_entries: int) -> None:
        self._entries += more_entries
        self._kept.clear()
        self._of_type.clear()
        # all patterns that a type matches, with all their webhooks, could be much: answers take a few times the memory
        # of the index, not more
        self._room = 4 * (1024 + self._entries)

    def wanting(self, type: str) -> tuple[Webhook, ...]:
        found = self._of_type.get(type)
        return self._look(type) if found is None else found

    def _look(self, type: str) -> tuple[Webhook, ...]:
        matched = [pattern for pattern in simple_patterns(type) if pattern in self._seqs]
        if self._intricate:
            split = parts(type)
            matched += [pattern for pattern, each in self._intricate.items() if covers(each, split)]
        patterns = tuple(matched)
        found = self._kept.get(patterns)
        if found is None:
            found = self._find(patterns)
        if len(self._of_type) >= TYPES_KEPT:
            self._of_type.clear()
        self._of_type[type] = found
        return found

    def _find(self, patterns: tuple[str, ...]) -> tuple[Webhook, ...]:
        seqs = {seq for each in patterns for seq in self._seqs[each]}
        found = tuple(self._webhooks[seq] for seq in sorted(seqs))
        self._room -= len(found)
        if self._room < 0:
            self._forget(0)
            self._room -= len(found)
        self._kept[patterns] = found
        return found


def matches(patterns: Iterable[str], type: str) -> bool:
    """Whether one of the patterns (`"booking.created"`, `"booking.*"`, `"*"`) lets events of `type` through."""
    split = parts(type)
    return any(covers(parts(pattern), split) for pattern in patterns)
