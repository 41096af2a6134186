"""Which webhooks are in force: what files and customers say of them, and what has become of each.

Whatever changes there is told to ingest and dispatch without a wait in between, so that no event sees half of it. How
customers' wishes are checked and written down is `editor`'s.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import trio
from msgspec import Struct, structs

from hookrelay.audit import DAEMON, Action, Actor, Entry, Trail, webhook_entry
from hookrelay.dispatch import Dispatcher
from hookrelay.ingest import Ingest
from hookrelay.model import MISSING, LiveSecret, Refused, Webhook, WebhookFields, WebhookStatus
from hookrelay.rules.egress import target
from hookrelay.rules.match import Catalog
from hookrelay.rules.webhook import Defaults, resolve, told
from hookrelay.rules.webhook_texts import parse_retry
from hookrelay.store import audit, queue, webhooks
from hookrelay.store.db import Store
from hookrelay.telemetry.logs import Logger

CANCEL_STEP = 500
"""Deliveries that one transaction cancels: so many delay nobody's commit."""


class Prepared(NamedTuple):
    """The files' webhooks, on disk and not in force yet."""

    catalog: Catalog
    missing_ms: Mapping[int, int]
    """Of those that no file names any more, by their keys: for how long a daemon has run since."""
    removed: list[int]


class Removal(NamedTuple):
    """What is in force no more."""

    webhooks: int = 0
    deliveries: int = 0
    """That waited, and are being cancelled."""


class Made(Struct, frozen=True):
    """A webhook that was made over the API, as it was said."""

    seq: int
    id: str
    fields: WebhookFields
    secrets: tuple[LiveSecret, ...]
    """Newest first."""
    created_ms: int
    is_own: bool = False
    """Whether its tenant has made it itself."""


class Registry:
    """The one place where the webhooks in force change. `run` is its task."""

    def __init__(
        self,
        store: Store,
        log: Logger,
        wall: Callable[[], float],
        defaults: Callable[[], Defaults] = Defaults,
    ) -> None:
        self.catalog = Catalog()
        self.made: dict[int, Made] = {}
        """The webhooks of the API by their keys."""
        self._store = store
        self._log = log
        self._trail = Trail(store, log, wall)
        self._wall = wall
        self._defaults = defaults
        self.missing: dict[int, float] = {}
        """Of those that no file names any more, by their keys: since when, by the loop's clock, as if only running time
        had passed.
        """
        self.looked = trio.Event()
        """Set, and another one put here, when files have been put in force."""
        self.filing = trio.Lock()
        """Held from reading files until they are in force: meanwhile no missing webhook is removed."""
        self._ingest: Ingest
        self._dispatcher: Dispatcher
        self._changed_meanwhile: dict[int, Webhook] = {}
        self._to_cancel, self._removed = trio.open_memory_channel[int](math.inf)

    def attach(self, ingest: Ingest, dispatcher: Dispatcher) -> None:
        """Whom to tell of changes."""
        self._ingest, self._dispatcher = ingest, dispatcher

    # --- webhooks of files --------------------------------------------------------------------------------------

    async def prepare(self, said: Sequence[Webhook], reload: Entry | None = None, *, removes: bool = False) -> Prepared:
        """Write down what the files say; nothing of it is in force before `put_in_force`.

        What they name no more is held for a grace time, or with `removes` gone at once. `reload` is what the audit
        trail says of the reload that this is. Refused where the disk does not take it.
        """
        # ten thousand webhooks take a while: in a thread, for what can be done there, and not in the writer's
        news = await self._store.read(_find_news, said, removes)
        self._changed_meanwhile.clear()
        entries = await self._store.read(_entries, news, said, self.catalog.by_id)
        if reload is not None:
            entries.insert(0, reload)
        await self._trail.change_all(entries, webhooks.declare, news, self._now_ms(), is_certain=True)
        catalog, missing_ms = await self._store.read(_catalog, said, self.catalog.by_seq)
        for webhook in catalog.by_seq.values():
            if webhook.held == "discard" and webhook.status == "active" and self._was_stopped(webhook.seq):
                await self.discard(webhook.seq)
        return Prepared(catalog, missing_ms, news.removed)

    def _was_stopped(self, seq: int) -> bool:
        """Whether it was meant that it takes nothing; a file that was cut short means nothing."""
        before = self.catalog.by_seq.get(seq)
        return before is not None and before.status != "active" and not before.is_missing

    def put_in_force(self, prepared: Prepared) -> Removal:
        """From now on these are the files' webhooks, and those of the API obey the defaults of now."""
        catalog = prepared.catalog
        for made in self.made.values():
            catalog.put(self._resolve(made))
        for seq, webhook in self._changed_meanwhile.items():
            # disabled by an answer, or active again, after the row was read: as the store has it by now
            known = catalog.by_seq.get(seq)
            if known is not None and not known.is_missing and {known.status, webhook.status} == {"active", "disabled"}:
                updated_ms = max(known.updated_ms, webhook.updated_ms)
                status, reason = webhook.status, webhook.disabled_reason
                catalog.put(structs.replace(known, status=status, disabled_reason=reason, updated_ms=updated_ms))
        removal = Removal(len(prepared.removed), self.waiting_for(prepared.removed))
        self.catalog = self._ingest.catalog = catalog
        self._dispatcher.replace_webhooks(catalog.by_seq.values())
        for seq in prepared.removed:
            self._to_cancel.send_nowait(seq)
        # those that were missing before go on from where they are: what the store says of them is older
        now_s = trio.current_time()
        self.missing = {
            seq: self.missing.get(seq, now_s - used_ms / 1000) for seq, used_ms in prepared.missing_ms.items()
        }
        self.looked.set()
        self.looked = trio.Event()
        return removal

    def show_disabled(self, webhook: Webhook) -> None:
        """An answer has disabled this webhook; the dispatcher knows already."""
        self._changed_meanwhile[webhook.seq] = webhook
        self.catalog.put(webhook)

    # --- webhooks of the API ------------------------------------------------------------------------------------

    def restore(self, made: Made, status: WebhookStatus, disabled_reason: str | None, updated_ms: int) -> None:
        """At the start: a webhook that an earlier daemon wrote down. In force with `put_in_force`."""
        self.made[made.seq] = made
        webhook = resolve_made(made, self._defaults())
        self.catalog.put(
            structs.replace(webhook, status=status, disabled_reason=disabled_reason, updated_ms=updated_ms)
        )

    def put(self, made: Made, now_ms: int, *, status: WebhookStatus | None = None, is_new_said: bool = True) -> Webhook:
        """A webhook of the API as it is on disk now is in force from now on; it is returned.

        Without `status` it stays in the one it has. Not `is_new_said` where only its secrets have changed.
        """
        self.made[made.seq] = made
        webhook = structs.replace(self._resolve(made), updated_ms=now_ms)
        if status is not None:
            webhook = structs.replace(webhook, status=status, disabled_reason=None)
            self._changed_meanwhile.pop(made.seq, None)
        self.catalog.put(webhook)
        self._dispatcher.put_webhook(webhook, is_same_receiver=not is_new_said)
        return webhook

    def activate(self, seq: int, now_ms: int) -> Webhook:
        """A file's webhook that was disabled takes deliveries again; one that went missing meanwhile once it is back.

        Refused where it was removed meanwhile.
        """
        known = self.catalog.by_seq.get(seq)
        if known is None:
            raise Refused("not_found", "there is no webhook with this id: it has just been removed")
        if known.is_missing:
            return known  # its secret is not known: nothing could be signed
        webhook = structs.replace(known, status="active", disabled_reason=None, updated_ms=now_ms)
        self._changed_meanwhile[seq] = webhook
        self.catalog.put(webhook)
        self._dispatcher.put_webhook(webhook)
        return webhook

    def remove(self, seq: int) -> None:
        """This webhook of the API is deleted: nothing is stored for it any more, what waits will be cancelled."""
        del self.made[seq]
        self._take_out(seq)

    def _take_out(self, seq: int) -> None:
        self.catalog.remove(seq)
        self._dispatcher.remove_webhook(seq)
        self._to_cancel.send_nowait(seq)

    async def discard(self, seq: int) -> None:
        """Cancel what is held for a webhook, before it becomes active."""
        await self._cancel_all(seq, "its webhook became active with held = discard")

    def _resolve(self, made: Made) -> Webhook:
        """As it was said, in the status it has."""
        webhook = resolve_made(made, self._defaults())
        known = self.catalog.by_seq.get(made.seq)
        if known is None:
            return webhook
        status, reason = known.status, known.disabled_reason
        return structs.replace(webhook, status=status, disabled_reason=reason, updated_ms=known.updated_ms)

    # --- what waits for webhooks that are gone ------------------------------------------------------------------

    async def run(self) -> None:
        """End what waits for removed webhooks, those of earlier daemons first. Never returns."""
        for seq in await self._store.read(webhooks.removed_with_work, keep=True):
            self._to_cancel.send_nowait(seq)
        async with trio.open_nursery() as nursery:
            async for seq in self._removed:
                nursery.start_soon(self._cancel_removed, seq)

    # --- what no file names any more ----------------------------------------------------------------------------

    async def remove_missing(self, seqs: Sequence[int]) -> Removal:
        """Remove these, whose grace is over; what waits for them is cancelled. Refused where the disk does not take it.

        For whoever holds `filing`.
        """
        gone = [self.catalog.by_seq[seq] for seq in seqs]
        entries = [webhook_entry("webhook.deleted", DAEMON, webhook, None) for webhook in gone]
        await self._trail.change_all(entries, webhooks.remove_missing, seqs, self._now_ms(), is_certain=True)
        removal = Removal(len(seqs), self.waiting_for(seqs))
        for webhook in gone:
            del self.missing[webhook.seq]
            self._take_out(webhook.seq)
            self._log.warning(
                "webhook_removed", **told(webhook), detail="its file has not named it for delivery.removal_grace"
            )
        return removal

    def waiting_for_missing(self) -> tuple[int, int]:
        """How many webhooks no file names any more, and how many deliveries are held for them."""
        return len(self.missing), self.waiting_for(list(self.missing))

    def waiting_for(self, seqs: Sequence[int]) -> int:
        """How many deliveries wait for these webhooks."""
        backlog = self._dispatcher.backlog()
        return sum(sum(backlog[seq][:2]) for seq in seqs if seq in backlog)

    async def _cancel_removed(self, seq: int) -> None:
        """In steps that delay nobody's commit; what is in flight goes on to its end."""
        await self._dispatcher.lane_closed(seq)
        # twice: an event that still saw the webhook may be in the batch of the first look
        for _ in range(2):
            if seq not in self.catalog.by_seq:
                await self._cancel_all(seq, "their webhook was removed")
        if seq in self.catalog.by_seq:
            self._dispatcher.look_again(seq)

    async def _cancel_all(self, seq: int, why: str) -> None:
        total = 0
        told = partial(self._dispatcher.forget, seq)
        cancel = partial(self._store.change, queue.cancel_waiting, keep=True, told=told)
        while count := await cancel(seq, self._now_ms(), CANCEL_STEP):
            total += count
        if total:
            id, tenant, url = await self._store.read(webhooks.shown, seq, keep=True)
            whose = {"webhook": id, "webhook_name": target(url).host, "tenant": tenant}
            self._log.warning("deliveries_cancelled", **whose, count=total, detail=why)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)


def _find_news(conn: Any, said: Sequence[Webhook], removes: bool) -> webhooks.News:
    """A job of the store's: what is not on disk as it is said."""
    return webhooks.find_news(
        conn,
        [webhooks.Declared(w.id, w.tenant, w.source, w.status, webhooks.text_of(definition(w))) for w in said],
        removes=removes,
    )


def _entries(conn: Any, news: webhooks.News, said: Sequence[Webhook], in_force: Mapping[str, Webhook]) -> list[Entry]:
    """A job of the store's: what the audit trail says of webhooks of files that came, changed or went."""
    before = audit.defined(conn, [each.id for each in news.declared], news.removed)
    declared = {each.id: each for each in news.declared}
    entries = []
    for webhook in said:
        was, new = in_force.get(webhook.id), declared.get(webhook.id)
        if was is not None and was.is_missing:
            was = _as_far_as_kept(was, webhook)
        if was is not None and (new is not None or _is_hidden_other(was, webhook)):
            # what the daemon has made of it is not what the file says
            was = was if new is not None else structs.replace(was, status=webhook.status)
            entries.append(webhook_entry("webhook.updated", Actor(webhook.source), was, webhook))
        elif new is not None:
            # changed while no daemon ran: all that is known is what its row says
            entries.append(_entry(before.get(webhook.id), new))
    entries += [_entry(each, None) for each in before.values() if each.id not in declared]
    missing, returned = (audit.defined(conn, (), keys).values() for keys in (news.missing, news.returned))
    entries += [_told_of("webhook.disabled", each, reason=MISSING) for each in missing]
    entries += [_told_of("webhook.updated", each, "status", was=MISSING) for each in returned]
    return entries


def _told_of(action: Action, each: audit.Defined, *fields: str, **details: str) -> Entry:
    by = Actor(each.source)
    return Entry(action=action, by=by, tenant=each.tenant, object=each.id, fields=fields, details=details)


def _as_far_as_kept(was: Webhook, now: Webhook) -> Webhook:
    """A missing webhook; what is not kept of one counts as it is said now: nobody knows whether it has changed."""
    has_same_headers = [name for name, _ in was.headers] == [name for name, _ in now.headers]
    headers = now.headers if has_same_headers else was.headers
    return structs.replace(was, secrets=now.secrets, trust=now.trust, held=now.held, headers=headers)


def _is_hidden_other(was: Webhook, now: Webhook) -> bool:
    return (was.secrets, was.headers, was.trust) != (now.secrets, now.headers, now.trust)


def _entry(before: audit.Defined | None, after: webhooks.Declared | None) -> Entry:
    now = after or before
    if now is None:
        raise ValueError("a webhook that never was does not change")
    old, new = (None if each is None else json.loads(each.definition) for each in (before, after))
    url_before, url_after = (None if each is None else each["url"] for each in (old, new))
    fields = [] if old is None or new is None else [name for name in new if old.get(name) != new[name]]
    return Entry(
        action="webhook.created" if old is None else "webhook.deleted" if new is None else "webhook.updated",
        by=Actor(now.source),
        tenant=now.tenant,
        object=now.id,
        fields=[name.removesuffix("_s") for name in fields],
        url_before=url_before if url_before != url_after else None,
        url_after=url_after if url_before != url_after else None,
    )


def _catalog(conn: Any, said: Sequence[Webhook], before: Mapping[int, Webhook]) -> tuple[Catalog, dict[int, int]]:
    """A job of the store's: the files' webhooks as they stand, and those that no file names any more, with since when.

    One that is as it was `before` is the same object.
    """
    known = webhooks.known(conn)
    missing = webhooks.missing(conn)
    in_force = [_as_before(_missing(row), before) for row in missing]
    for webhook in said:
        row = known[webhook.id]
        now = structs.replace(
            webhook,
            seq=row.seq,
            status=row.status,
            disabled_reason=row.disabled_reason,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
        )
        in_force.append(_as_before(now, before))
    return Catalog(in_force), {row.seq: row.missing_ms for row in missing}


def _as_before(webhook: Webhook, before: Mapping[int, Webhook]) -> Webhook:
    was = before.get(webhook.seq)
    return was if was is not None and was == webhook else webhook


def _missing(row: webhooks.Missing) -> Webhook:
    """A webhook that no file names any more: enough to know what it wants and to show it. Nothing can be sent."""
    said = json.loads(row.definition)
    retry = said["retry"] if isinstance(said["retry"], str) else tuple(said["retry"])
    return Webhook(
        seq=row.seq,
        id=row.id,
        tenant=row.tenant,
        url=said["url"],
        events=tuple(said["events"]),
        description=said["description"],
        status="disabled",
        disabled_reason=MISSING,
        rate_limit=said["rate_limit"],
        max_in_flight=said["max_in_flight"],
        timeout_s=said["timeout_s"],
        retry=retry,
        delays=parse_retry(retry),
        headers=tuple((name, "") for name in said["headers"]),
        ordered=said["ordered"],
        metadata=said["metadata"],
        secrets=(),
        source=row.source,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
    )


def definition(webhook: Webhook) -> dict[str, Any]:
    """A webhook as it is kept beside its deliveries: no secret, and no header's value."""
    return {
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "status": webhook.status,
        "rate_limit": webhook.rate_limit,
        "max_in_flight": webhook.max_in_flight,
        "timeout_s": webhook.timeout_s,
        "retry": webhook.retry,
        "headers": [name for name, _ in webhook.headers],
        "ordered": webhook.ordered,
        "metadata": webhook.metadata,
    }


def resolve_made(made: Made, defaults: Defaults) -> Webhook:
    """The webhook in force that was made over the API: active, as none but its maker has touched it."""
    webhook = resolve(
        made.fields,
        id=made.id,
        source="api",
        defaults=defaults,
        secrets=tuple(secret.key for secret in made.secrets),
    )
    return structs.replace(webhook, seq=made.seq, created_ms=made.created_ms, updated_ms=made.created_ms)
