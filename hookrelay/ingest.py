"""A submission in, a receipt out: the receipt means that the event, its deliveries and its key are on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from math import ceil

import msgspec
import trio

from hookrelay.feed import Feed
from hookrelay.model import OPERATORS, Delivery, Event, Refused, Submission, Webhook
from hookrelay.rules.match import Catalog
from hookrelay.rules.payload import parse
from hookrelay.rules.rate import Rate
from hookrelay.rules.schema import Schema, checked
from hookrelay.rules.tenants import Paces
from hookrelay.store import events
from hookrelay.store.chains import BLOCKED_MS, WHOLE
from hookrelay.store.db import Store
from hookrelay.telemetry.metrics import Metrics
from hookrelay.telemetry.traces import Tracer
from hookrelay.units import format_size, format_time

UNSTORED_LIMIT = 32 << 20
"""Bytes of submissions on their way to the disk, over all clients, above which none is read."""

AT_ONCE = 64
"""Deliveries of an event that are offered as soon as it is stored; those of more are offered in slices."""
OFFER_BYTES = 256
"""What a delivery that is still to be offered counts in UNSTORED_LIMIT."""

Offer = Callable[[int, Delivery], None]
"""`offer(webhook, delivery)`: tell the lane of a delivery that has just been stored."""
OfferMany = Callable[[int, range, Iterator[tuple[int, Delivery]]], None]
"""`offer_many(event, numbers, deliveries)`: the same of all of an event's, in slices that delay nobody."""


Adapt = Callable[[Submission], Submission]
"""What a caller's key or headers make of a submission. May raise Refused."""


class Limits(msgspec.Struct, frozen=True):
    """Settings that a reload can change."""

    max_size: int = 256 * 1024
    window_s: float = 7 * 86400.0
    """How long an idempotency key counts; at least as long as its event is kept."""
    known_types: frozenset[str] | None = None
    """A closed catalogue, or None: any well-formed type will do."""
    schemas: Mapping[str, Schema] = {}
    """What the data of some event types must be."""
    rate: Rate | None = None
    """At which each tenant may submit."""


class Ingest:
    """Takes events for the webhooks of `catalog`, which a reload replaces by assignment."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        limits: Limits,
        *,
        offer: Offer,
        offer_many: OfferMany,
        metrics: Metrics,
        wall: Callable[[], float],
        feed: Feed,
        tracer: Tracer | None = None,
        limit_met: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self.catalog = catalog
        self._paces: Paces | None = None
        self.limits = limits
        self._store = store
        self._offer = offer
        self._offer_many = offer_many
        self._metrics = metrics
        self._wall = wall
        self._feed = feed
        self._tracer = tracer
        self._limit_met = limit_met
        self._unstored = 0
        self._drained = trio.Event()
        self._now_ms = 0
        self._now_text = ""

    @property
    def limits(self) -> Limits:
        """What a reload can change."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        if limits.rate is None:
            self._paces = None
        elif self._paces is None or self._paces.rate != limits.rate:
            self._paces = Paces(limits.rate)

    async def room(self) -> None:
        """Wait until there is room for more submissions."""
        while self._unstored > UNSTORED_LIMIT:
            await self._drained.wait()

    async def take(self, lines: Sequence[bytes | None], adapt: Adapt) -> bytes:
        """The answer lines of events that came in over HTTP; `adapt` has the last word on each."""
        await self.room()
        answers: list[bytes] = []
        answered = trio.Event()

        def done(text: bytes) -> None:
            answers.append(text)
            answered.set()

        self.submit(lines, done, adapt)
        await answered.wait()
        return answers[0]

    def submit(
        self, lines: Sequence[bytes | None], answered: Callable[[bytes], None], adapt: Adapt | None = None
    ) -> None:
        """Take lines of events.sock; `answered` gets all of their answers at once, in order (`net.lines.Submit`)."""
        answers: list[bytes] = []
        places: list[int] = []
        entries: list[events.Entry] = []
        now_ms = int(self._wall() * 1000)
        for line in lines:
            try:
                submission = self._parse(line)
                if adapt is not None:
                    submission = adapt(submission)
                self._check_room()
                if self._paces is not None:
                    self._check_pace(self._paces, submission.tenant)
                entry = self._entry(submission, now_ms)
            except Refused as refused:
                self._metrics.events["refused"] += 1
                answers.append(error_line(refused))
            else:
                places.append(len(answers))
                answers.append(b"")
                entries.append(entry)

        def stored(results: Sequence[events.Receipt | Refused] | Refused) -> None:
            outcomes = [results] * len(entries) if isinstance(results, Refused) else results
            for place, entry, outcome in zip(places, entries, outcomes, strict=True):
                answers[place] = self._answer(entry, outcome)
            answered(b"".join(answers))

        if entries:
            self._write(entries, stored)
        else:
            answered(b"".join(answers))

    def _check_room(self) -> None:
        if self._store.is_low:
            raise Refused("store_full", "the disk has too little room left: send the event again when there is some")

    def _check_pace(self, paces: Paces, tenant: str) -> None:
        wait_s = paces.wait_s(tenant, trio.current_time())
        if wait_s:
            self._limit_met("events_per_tenant")
            after = f"send the event again in {max(1, ceil(wait_s))} s"
            raise Refused("rate_limited", f"the tenant submits faster than limits.events_per_tenant allows: {after}")

    def _parse(self, line: bytes | None) -> Submission:
        limits = self.limits
        if line is None:
            raise Refused(
                "too_large", f"the line is over {format_size(limits.max_size)}: events.max_size sets the limit"
            )
        submission = parse(line, max_size=limits.max_size, known_types=limits.known_types)
        if limits.schemas:
            checked(submission, limits.schemas)
        return submission

    def _entry(self, submission: Submission, now_ms: int) -> events.Entry:
        tenant, event_type = submission.tenant, submission.type
        wanting = self.catalog.wanting(tenant, event_type)
        webhooks = tuple([webhook.seq for webhook in wanting])
        seq, first = self._store.take_numbers(len(webhooks))
        if now_ms != self._now_ms:
            self._now_ms, self._now_text = now_ms, format_time(now_ms)
        event = Event(
            seq,
            now_ms,
            self._store.ids.make("evt", now_ms, seq),
            event_type,
            tenant,
            submission.timestamp or self._now_text,
            submission.data,
            submission.ordering_key,
            submission.traceparent,
            submission.test,
        )
        key = None
        if submission.idempotency_key is not None:
            key = events.idempotency_key(
                self._store.salt,
                tenant,
                submission.idempotency_key,
                event_type,
                submission.data,
                self._store.running_ms(),
                round(self.limits.window_s * 1000),
            )
        return events.Entry(event, key, webhooks, first, _chains(wanting, submission))

    def _write(
        self,
        entries: Sequence[events.Entry],
        stored: Callable[[Sequence[events.Receipt | Refused] | Refused], None],
    ) -> None:
        size = sum([len(entry.event.data) for entry in entries])
        self._unstored += size

        def done(results: Sequence[events.Receipt | Refused] | BaseException) -> None:
            self._release(size)
            if isinstance(results, BaseException) and not isinstance(results, Refused):
                raise results
            stored(results)

        self._store.enqueue(events.insert, entries, done)

    def _release(self, size: int) -> None:
        self._unstored -= size
        if self._unstored <= UNSTORED_LIMIT:
            self._drained.set()
            self._drained = trio.Event()

    def _answer(self, entry: events.Entry, outcome: events.Receipt | Refused) -> bytes:
        if isinstance(outcome, Refused):
            self._metrics.events["refused"] += 1
            if self._tracer is not None:
                self._tracer.accepted(entry.event, error=outcome.code)
            return error_line(outcome)
        if outcome.duplicate:
            self._metrics.events["duplicate"] += 1
            event_id = self._store.ids.make("evt", outcome.created_ms, outcome.seq)
            if self._tracer is not None:
                self._tracer.accepted(entry.event, deliveries=outcome.deliveries, earlier=event_id)
            return b'{"id":"%b","deliveries":%d,"duplicate":true}\n' % (event_id.encode(), outcome.deliveries)
        self._metrics.events["accepted"] += 1
        if self._feed.watchers:
            self._feed.tell_event()
        event = entry.event
        if self._tracer is not None:
            self._tracer.accepted(event, deliveries=outcome.deliveries)
        if len(entry.webhooks) > AT_ONCE:
            numbers = range(entry.first_delivery, entry.first_delivery + len(entry.webhooks))
            self._offer_many(event.seq, numbers, self._kept(entry, outcome))
        elif entry.chains is None:
            for number, webhook in enumerate(entry.webhooks, entry.first_delivery):
                self._offer(webhook, Delivery(number, event, 0, 0, event.created_ms))
        else:
            for webhook, delivery in _deliveries(entry, outcome):
                self._offer(webhook, delivery)
        return b'{"id":"%b","deliveries":%d}\n' % (event.id.encode(), outcome.deliveries)

    def _kept(self, entry: events.Entry, receipt: events.Receipt) -> Iterator[tuple[int, Delivery]]:
        """An event's deliveries, which count towards what is taken in at most until the last one is offered."""
        size = len(entry.webhooks) * OFFER_BYTES
        self._unstored += size
        yield from _deliveries(entry, receipt)
        self._release(size)

    # --- what hookrelay itself has to tell ----------------------------------------------------------------------

    def announce(self, type: str, data: Mapping[str, object]) -> None:
        """Tell operators by an event of the tenant `hookrelay`, where they have a webhook that wants it.

        What is announced in the same turn of the loop as its cause is stored in the same commit.
        """
        if self.catalog.wanting(OPERATORS, type):
            entry = self._entry(Submission(type, msgspec.json.encode(data), OPERATORS), int(self._wall() * 1000))

            def stored(results: Sequence[events.Receipt | Refused] | BaseException) -> None:
                if isinstance(results, BaseException):
                    raise results
                self._answer(entry, results[0])

            self._store.enqueue(events.insert, [entry], stored, keep=True)


def _deliveries(entry: events.Entry, receipt: events.Receipt) -> Iterator[tuple[int, Delivery]]:
    """Each webhook of an event that has just been stored, and its delivery."""
    event, blocked = entry.event, frozenset(receipt.blocked)
    chains = entry.chains or repeat(None, len(entry.webhooks))
    for number, (webhook, chain) in enumerate(zip(entry.webhooks, chains, strict=True), entry.first_delivery):
        due_ms = BLOCKED_MS + number if number in blocked else event.created_ms
        yield webhook, Delivery(number, event, 0, 0, due_ms, chain)


def _chains(wanting: Sequence[Webhook], submission: Submission) -> tuple[str | None, ...] | None:
    """What each delivery may not overtake; None where that is nothing."""
    key = submission.ordering_key
    if key is None:
        for webhook in wanting:
            if webhook.ordered:
                break
        else:
            return None
    return tuple([WHOLE if webhook.ordered else key for webhook in wanting])


def error_line(refused: Refused) -> bytes:
    """The answer to a line that was refused (contract §2.1)."""
    error = {"code": refused.code, "detail": refused.detail}
    if refused.field is not None:
        error["field"] = refused.field
    return msgspec.json.encode({"error": error}) + b"\n"
