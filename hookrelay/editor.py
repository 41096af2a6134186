"""What customers and operators say of webhooks over the API: checked, on disk, and only then in force.

Which webhooks are in force is `registry`'s, what is a right field `rules.webhook`'s, and who may ask `web.auth`'s.
"""

import secrets
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
import trio
from msgspec import structs

from hookrelay.audit import DAEMON, Action, Actor, Entry, Trail, webhook_entry
from hookrelay.clock import NeverAhead
from hookrelay.model import (
    FieldError,
    LiveSecret,
    Refused,
    Webhook,
    WebhookFields,
    WebhookStatus,
    random_ulid,
)
from hookrelay.registry import Made, Registry, definition, resolve_made
from hookrelay.rules.egress import Policy
from hookrelay.rules.merge import merged
from hookrelay.rules.webhook import Defaults, decode_secret, read
from hookrelay.rules.wording import shown
from hookrelay.store import webhooks
from hookrelay.store.db import Store
from hookrelay.store.events import Key
from hookrelay.store.seal import Seal
from hookrelay.telemetry.logs import Logger

MAX_SECRETS = 10
"""Live secrets of a webhook: each is a signature in every request."""
SECRET_BYTES = 32
SCRUBBED_MOST = 1 << 30
"""Bytes of a store that is written anew at the start, to be rid of what its pages still hold of plain secrets."""
LOOK_S = 60.0
"""At least so often it is looked whether a secret has ended: the wall clock may jump."""
MASK = "***"
"""How the value of a header is shown; in a patch it stands for the value that the header has."""

IsExpected = Callable[[Webhook], bool]
"""Whether the caller has seen the webhook as it is now (`If-Match`)."""


class Secret(NamedTuple):
    """A new secret, told once."""

    webhook: Webhook
    text: str
    """`whsec_…`"""
    previous_until_ms: int | None
    """When the one before stops signing; None where it has already."""


class Editor:
    """Changes of webhooks, one at a time for each. `run` is its task: it ends secrets whose time has come."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        seal: Seal,
        log: Logger,
        *,
        wall: Callable[[], float],
        defaults: Callable[[], Defaults],
        policy: Callable[[], Policy],
        webhooks_most: Callable[[], int] = lambda: 1000,
        limit_met: Callable[[str], None] = lambda limit: None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._seal = seal
        self._log = log
        self._trail = Trail(store, log, wall)
        self._wall = wall
        self._never_ahead = NeverAhead(wall)
        self._defaults = defaults
        self._policy = policy
        self._webhooks_most = webhooks_most
        self._limit_met = limit_met
        self._making: Counter[str] = Counter()
        self._locks: dict[tuple[str, int], trio.Lock] = {}
        self._rotated = trio.Event()

    async def restore(self) -> None:
        """At the start: bring back the webhooks that earlier daemons wrote down.

        `store.seal.CannotOpen` where the secrets of one cannot be read.
        """
        stale = []
        has_plain = await self._store.read(webhooks.may_hold_plain)
        for row in await self._store.read(webhooks.all_made):
            made = _opened(row, self._seal, may_be_plain=has_plain)
            status: Any = row.status
            self._registry.restore(made, status, row.disabled_reason, row.updated_ms)
            if not self._seal.is_current(row.sealed):
                stale.append(made)
        for made in stale:
            await self._store.change(webhooks.seal_anew, made.seq, self._text(made).sealed, keep=True)
        if stale:
            self._log.info("secrets_sealed_anew", webhooks=len(stale))
        await self._remove_traces()

    async def _remove_traces(self) -> None:
        """See to it that the store's files hold no secret in plain once there is a key, deleted webhooks' neither.

        What was not done, for want of room or in a crash, is done at the next start.
        """
        has_plain = await self._store.read(webhooks.may_hold_plain)
        if not self._seal.is_on:
            if not has_plain:
                await self._store.change(webhooks.note_plain, True, keep=True)
        elif has_plain:
            if await self._store.scrub(SCRUBBED_MOST):
                await self._store.change(webhooks.note_plain, False, keep=True)
            else:
                self._log.warning(
                    "plain_secrets_may_remain",
                    detail="pages of the store may still hold secrets of before it had a key: there is no room to write"
                    f" it anew, or it has over {SCRUBBED_MOST >> 30} GiB. Rotate the secrets that were made before",
                )

    def policy(self) -> Policy:
        """Where deliveries may go just now."""
        return self._policy()

    def mistakes(self, values: Mapping[str, object], by: Actor) -> list[FieldError]:
        """What is wrong with the fields of a webhook, in decoded JSON."""
        errors = read(values, policy=self._policy(), is_operator=not _is_own(by))[1]
        self._tell_refused(values, errors, by)
        return errors

    # --- changes ------------------------------------------------------------------------------------------------

    async def create(
        self, values: Mapping[str, object], key: Key | None = None, *, by: Actor = DAEMON
    ) -> tuple[Webhook, str | None]:
        """A new webhook of decoded JSON, and its secret.

        With the idempotency key of an earlier request: the webhook that this made, and its secret while it has no
        other. Refused names every wrong field.
        """
        fields = self._read(values, by)
        with self._counted(fields.tenant, by):
            if key is None:
                return await self._create(fields, None, by)
            async with self._alone("request", key.hash):
                return await self._create(fields, key, by)

    @contextmanager
    def _counted(self, tenant: str, by: Actor) -> Iterator[None]:
        """Refused where a tenant makes more webhooks than it may; those that are being made count."""
        if not _is_own(by):
            yield
            return
        most, made = self._webhooks_most(), self._registry.made
        theirs = self._registry.catalog.after(tenant, None)
        own = sum(each.seq in made and made[each.seq].is_own for each in theirs)
        if own + self._making[tenant] >= most:
            self._limit_met("webhooks_per_tenant")
            raise Refused(
                "limit_reached",
                f"the tenant has {own} webhooks of its own making, and limits.webhooks_per_tenant allows {most}: "
                "delete one, or ask the operator",
            )
        self._making[tenant] += 1
        try:
            yield
        finally:
            self._making[tenant] -= 1
            if not self._making[tenant]:
                del self._making[tenant]

    async def _create(self, fields: WebhookFields, key: Key | None, by: Actor) -> tuple[Webhook, str | None]:
        id = "wh_" + random_ulid(self._now_ms(), secrets.randbits(80))
        live = LiveSecret(secrets.token_bytes(SECRET_BYTES) if fields.secret is None else decode_secret(fields.secret))
        now_ms = self._now_ms()
        made = Made(0, id, structs.replace(fields, secret=None), (live,), now_ms, _is_own(by))
        entry = webhook_entry("webhook.created", by, None, resolve_made(made, self._defaults()))
        answer = await self._trail.change(
            entry, webhooks.make, id, fields.tenant, self._text(made), now_ms, key, made.is_own
        )
        if isinstance(answer, str):
            return self._made_before(answer)
        webhook = self._registry.put(structs.replace(made, seq=answer), now_ms)
        return webhook, _secret_text(live.key)

    def _made_before(self, answer: str) -> tuple[Webhook, str | None]:
        if answer == "conflict":
            raise Refused(
                "idempotency_conflict",
                "this Idempotency-Key was used for another webhook: send a new key with new content",
            )
        webhook = self._registry.catalog.by_id.get(answer)
        if webhook is None:
            raise Refused(
                "idempotency_conflict",
                "the webhook that was made with this Idempotency-Key is deleted: send a new key to make another",
            )
        (first, *rotated) = self._registry.made[webhook.seq].secrets
        return webhook, None if rotated or webhook.updated_ms != webhook.created_ms else _secret_text(first.key)

    async def update(
        self, webhook: Webhook, patch: Mapping[str, Any], is_expected: IsExpected, *, by: Actor = DAEMON
    ) -> Webhook:
        """The webhook after a merge patch (RFC 7396) of its fields, of `status` and of `held`.

        Refused names every wrong field; or says that it stands in a file, is gone, or is not what was expected.
        """
        patch = dict(patch)
        errors: list[FieldError] = []
        status = _taken(patch, "status", ("active", "paused"), errors)
        held = _taken(patch, "held", ("deliver", "discard"), errors)
        if held == "discard" and status != "active":
            errors.append(FieldError("held", 'says what becomes of held deliveries with "status": "active" beside it'))
        async with self._alone("webhook", webhook.seq):
            webhook = self._current(webhook, is_expected)
            made = self._registry.made.get(webhook.seq)
            if made is None:
                if patch or errors or status != "active" or webhook.status != "disabled" or webhook.is_missing:
                    raise _file_managed(webhook)
                return await self._activate(webhook, held, by)
            fields = self._patched(made, patch, errors, by)
            if status == "active" and webhook.status != "active" and held == "discard":
                await self._registry.discard(webhook.seq)
            return await self._write(webhook, structs.replace(made, fields=fields), status, "webhook.updated", by)

    async def rotate(
        self, webhook: Webhook, overlap_s: float, text: str | None, is_expected: IsExpected, *, by: Actor = DAEMON
    ) -> Secret:
        """Give the webhook another secret; the one before signs beside it for `overlap_s`."""
        key = secrets.token_bytes(SECRET_BYTES) if text is None else decode_secret(text)
        async with self._alone("webhook", webhook.seq):
            webhook = self._current(webhook, is_expected)
            made = self._registry.made.get(webhook.seq)
            if made is None:
                raise _file_managed(webhook)
            now_ms = self._now_ms()
            until_ms = now_ms + round(overlap_s * 1000)
            before = [
                structs.replace(each, until_ms=min(each.until_ms or until_ms, until_ms))
                for each in made.secrets
                if each.key != key
            ]
            live = (LiveSecret(key), *(each for each in before if (each.until_ms or 0) > now_ms))
            if len(live) > MAX_SECRETS:
                raise Refused(
                    "conflict",
                    f"{MAX_SECRETS} secrets sign already: wait until one has ended, or rotate with an overlap of 0s",
                )
            webhook = await self._write(
                webhook, structs.replace(made, secrets=live), None, "webhook.secret_rotated", by, is_new_said=False
            )
            self._rotated.set()
            return Secret(webhook, _secret_text(key), until_ms if len(live) > 1 else None)

    async def delete(self, webhook: Webhook, is_expected: IsExpected, *, by: Actor = DAEMON) -> None:
        """Delete the webhook; what waits for it is cancelled soon, its history stays."""
        async with self._alone("webhook", webhook.seq):
            webhook = self._current(webhook, is_expected)
            if webhook.seq not in self._registry.made:
                raise _file_managed(webhook)
            entry = webhook_entry("webhook.deleted", by, webhook, None)
            await self._trail.change(entry, webhooks.remove, webhook.seq, self._now_ms())
            self._registry.remove(webhook.seq)

    # --- steps --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, kind: str, number: int) -> AsyncIterator[None]:
        """One change of a webhook, or request of a key, at a time: each sees what the last one has made of it."""
        lock = self._locks.setdefault((kind, number), trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not (lock.locked() or lock.statistics().tasks_waiting):
                self._locks.pop((kind, number), None)

    def _current(self, webhook: Webhook, is_expected: IsExpected) -> Webhook:
        now = self._registry.catalog.by_seq.get(webhook.seq)
        if now is None:
            raise Refused("not_found", "there is no webhook with this id: it has just been deleted")
        if not is_expected(now):
            raise Refused(
                "precondition_failed",
                "the webhook was changed since: read it again, and send the ETag that it has now as If-Match",
            )
        return now

    def _read(self, values: Mapping[str, object], by: Actor) -> WebhookFields:
        fields, errors = read(values, policy=self._policy(), is_operator=not _is_own(by))
        errors += [_no_value(name) for name, value in (fields.headers.items() if fields else ()) if value == MASK]
        if fields is None or errors:
            self._tell_refused(values, errors, by)
            raise _wrong(errors)
        return fields

    def _tell_refused(self, values: Mapping[str, object], errors: Sequence[FieldError], by: Actor) -> None:
        """Which rule refuses a tenant's URL, and what an operator may do: for the log alone (THREATS §3)."""
        if _is_own(by) and any(error.field == "url" for error in errors):
            for error in read(values, policy=self._policy())[1]:
                if error.field == "url":
                    self._log.info("webhook_url_refused", by=by.name, detail=error.detail)

    def _patched(self, made: Made, patch: dict[str, Any], errors: list[FieldError], by: Actor) -> WebhookFields:
        before = msgspec.to_builtins(made.fields)
        for name, right in (("secret", "rotate-secret changes it"), ("tenant", "make another webhook for that tenant")):
            if name in patch and patch[name] != getattr(made.fields, name):
                errors.append(FieldError(name, f"cannot be changed: {right}"))
            patch.pop(name, None)
        if isinstance(patch.get("headers"), dict):
            patch["headers"] = _unmasked(made.fields.headers, patch["headers"], errors)
        after = merged(before, patch)
        said = after if isinstance(after, dict) else {}
        fields, wrong = read(said, policy=self._policy(), is_operator=not _is_own(by))
        if not patch.keys() & {"url"}:
            # what the egress rules of today say of the URL it has is told by its attempts
            wrong = [error for error in wrong if error.field != "url"]
            if fields is None and not wrong:
                fields = msgspec.convert(after, WebhookFields)
        if fields is None or errors:
            self._tell_refused(said, wrong, by)
            raise _wrong([*errors, *wrong])
        return fields

    async def _write(
        self,
        webhook: Webhook,
        made: Made,
        status: WebhookStatus | None,
        action: Action,
        by: Actor,
        *,
        is_new_said: bool = True,
    ) -> Webhook:
        now_ms = max(self._now_ms(), webhook.updated_ms + 1)  # every change has an ETag of its own
        has_moved = made.fields.url != webhook.url
        edit = partial(webhooks.edit, has_moved=has_moved, status=status)
        after = structs.replace(resolve_made(made, self._defaults()), status=status or webhook.status)
        entry = webhook_entry(action, by, webhook, after)
        await self._trail.change(entry, edit, made.seq, self._text(made), now_ms)
        if made.seq not in self._registry.made:
            raise Refused("not_found", "there is no webhook with this id: it has just been deleted")
        return self._registry.put(made, now_ms, status=status, is_new_said=is_new_said)

    async def _activate(self, webhook: Webhook, held: str | None, by: Actor) -> Webhook:
        if held == "discard":
            await self._registry.discard(webhook.seq)
        now_ms = max(self._now_ms(), webhook.updated_ms + 1)
        entry = webhook_entry("webhook.updated", by, webhook, structs.replace(webhook, status="active"))
        await self._trail.change(entry, webhooks.set_status, webhook.seq, "active", now_ms)
        return self._registry.activate(webhook.seq, now_ms)

    def _text(self, made: Made) -> webhooks.Text:
        """What is kept of it: its secrets and the values of its headers only sealed."""
        hidden = {
            "secrets": [[b64encode(each.key).decode(), each.until_ms] for each in made.secrets],
            "headers": made.fields.headers,
        }
        open_fields = msgspec.to_builtins(structs.replace(made.fields, headers={}, secret=None))
        return webhooks.Text(
            definition(resolve_made(made, self._defaults())),
            msgspec.json.encode(open_fields).decode(),
            self._seal.close(msgspec.json.encode(hidden), made.id),
        )

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)

    def _ended_ms(self) -> int:
        """What was to end until then has ended: a clock that is set ahead takes no secret away before its time."""
        return int(self._never_ahead() * 1000)

    # --- the end of secrets -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let secrets sign no longer than their overlap. Never returns."""
        while True:
            self._rotated = trio.Event()
            now_ms = self._ended_ms()
            wait_s = LOOK_S
            for made in list(self._registry.made.values()):
                if len(made.secrets) > 1:
                    ends_ms = min(each.until_ms for each in made.secrets if each.until_ms is not None)
                    if ends_ms <= now_ms:
                        await self._end_secrets(made.seq)
                    else:
                        wait_s = min(wait_s, (ends_ms - now_ms) / 1000)
            with trio.move_on_after(wait_s):
                await self._rotated.wait()

    async def _end_secrets(self, seq: int) -> None:
        async with self._alone("webhook", seq):
            made, now_ms = self._registry.made.get(seq), self._ended_ms()
            if made is None:
                return
            live = tuple(each for each in made.secrets if each.until_ms is None or each.until_ms > now_ms)
            made = structs.replace(made, secrets=live)
            # in force first: whatever the disk says, it does not sign any more
            self._registry.put(made, self._registry.catalog.by_seq[seq].updated_ms, is_new_said=False)
            entry = Entry(action="webhook.secret_ended", by=DAEMON, tenant=made.fields.tenant, object=made.id)
            await self._trail.change(entry, webhooks.seal_anew, seq, self._text(made).sealed, keep=True)


def _is_own(by: Actor) -> bool:
    """Whether a tenant does it itself."""
    return not by.is_operator and by is not DAEMON


def _opened(row: webhooks.Made, seal: Seal, *, may_be_plain: bool) -> Made:
    hidden = msgspec.json.decode(seal.open(row.sealed, row.id, may_be_plain=may_be_plain))
    fields = msgspec.json.decode(row.fields, type=WebhookFields)
    live = tuple(LiveSecret(b64decode(key), until_ms) for key, until_ms in hidden["secrets"])
    return Made(
        row.seq, row.id, structs.replace(fields, headers=hidden["headers"]), live, row.created_ms, bool(row.own)
    )


def _unmasked(headers: Mapping[str, str], patch: Mapping[str, object], errors: list[FieldError]) -> dict[str, object]:
    """A patch of headers in which the mask stands for the value that a header has; names differ by more than case."""
    known = {name.lower(): (name, value) for name, value in headers.items()}
    result: dict[str, object] = {}
    for name, value in patch.items():
        own, kept = known.get(name.lower(), (name, value))
        result[own] = kept if value == MASK else value
        if value == MASK and name.lower() not in known:
            errors.append(_no_value(name))
    return result


def _no_value(name: str) -> FieldError:
    return FieldError(
        f"headers.{name[:64]}", f"{MASK} stands for a value that there is already: write the value itself"
    )


def _taken(patch: dict[str, Any], name: str, words: tuple[str, str], errors: list[FieldError]) -> Any:
    """One of two words, taken out of the patch; None where it says nothing, or nothing right."""
    if name not in patch:
        return None
    value = patch.pop(name)
    if value in words:
        return value
    errors.append(FieldError(name, f'{shown(value)} is no {name}: write "{words[0]}" or "{words[1]}"'))
    return None


def _secret_text(key: bytes) -> str:
    return "whsec_" + b64encode(key).decode()


def _wrong(errors: list[FieldError]) -> Refused:
    count = "a field is" if len(errors) == 1 else f"{len(errors)} fields are"
    return Refused("invalid_field", f"{count} not right: errors says which and why", errors=errors)


def _file_managed(webhook: Webhook) -> Refused:
    file = webhook.source.removeprefix("file:")
    if webhook.is_missing:
        return Refused(
            "file_managed",
            f"the webhook was defined in {file}, which no longer names it: bring it back there, or have it removed by "
            "`hookrelay reload --remove`",
        )
    return Refused(
        "file_managed", f"the webhook is defined in {file}: change it there, and have the daemon reload its files"
    )
