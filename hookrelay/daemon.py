"""The supervisor: builds the parts, starts, reloads, drains. The nesting of its nurseries is the order of its end."""

import gc
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio

from hookrelay import __version__, tracing
from hookrelay.checkup import Checkup
from hookrelay.clock import NeverBack
from hookrelay.config.compare import Change, changes, keep_fixed, needing_restart
from hookrelay.config.load import load
from hookrelay.config.settings import Config, Loaded, Unix
from hookrelay.copies import Copies
from hookrelay.deliver import Outside
from hookrelay.dispatch import Dispatcher
from hookrelay.editor import Editor
from hookrelay.expunge import Expunger
from hookrelay.feed import Feed
from hookrelay.ingest import Ingest
from hookrelay.ingest import Limits as IngestLimits
from hookrelay.model import ConfigError, ConfigMistake, Refused, Webhook
from hookrelay.net import lines, listen, serve, systemd, trust
from hookrelay.net.dial import Dialer, Origin
from hookrelay.net.resolve import Address, Resolver
from hookrelay.net.trust import Trusts
from hookrelay.redeliver import Redeliverer
from hookrelay.registry import Registry
from hookrelay.rules.egress import Policy, Vetted, vet
from hookrelay.rules.egress_url import check_url
from hookrelay.rules.key_text import read_keys
from hookrelay.rules.schema import compile_schema
from hookrelay.store import open as opening
from hookrelay.store import queue
from hookrelay.store.chains import BLOCKED_MS
from hookrelay.store.db import Store
from hookrelay.store.files import StoreUnusable
from hookrelay.store.seal import CannotOpen, Seal
from hookrelay.tally import Tally
from hookrelay.telemetry import logs
from hookrelay.telemetry.metrics import Metrics, Reading
from hookrelay.units import format_time
from hookrelay.upkeep import Limits, Upkeep, watch_clock
from hookrelay.web.app import build
from hookrelay.web.call import Parts
from hookrelay.web.dashboard.door import Dashboard
from hookrelay.web.dashboard.routes import ROUTES
from hookrelay.web.keyring import Keyring
from hookrelay.web.sessions import Sessions

DRAIN_S = 25.0
"""How long attempts in flight may take to end after SIGTERM (contract §8)."""
DOORS_S = 2.0
"""How long answers that are owed to clients may take."""
HURRY_S = 0.5
"""After a second SIGTERM."""
FLUSH_S = 1.0
"""How long the last spans may take to get to their collector."""
SAVING_S = 1.0
"""How long an editor may take from emptying a file to having it whole again."""
DESCRIPTORS_KEPT = 600
"""For clients of the sockets (256 each of two doors), the store, look-ups and files."""
SWITCH_INTERVAL_S = 0.0005
"""How soon the loop gets the GIL back from the writer's thread: 21 → 2.9 ms for a batch beside a busy loop."""
DISABLED_SHOWN = 20
STUCK_S = 20.0
"""A batch that has been under way for so long has the watchdog end the daemon: its restart loses nothing."""
BREATH = 250
"""Lanes that the metrics look at in one go: 1 ms."""
BEHIND_SHOWN = 10
"""Webhooks that `/v1/status` names."""
GC_THRESHOLDS = (20_000, 20, 20)
"""What flows through is free of cycles: Python's own thresholds cost a fifth of all CPU, looking for some."""


class Daemon:
    """One daemon over one store. `run` is all it does."""

    def __init__(
        self, loaded: Loaded, reread: Callable[[], Loaded], log: logs.Logger, manager: systemd.Manager
    ) -> None:
        self._config = loaded.config
        self._files_say = loaded.webhooks
        self._reread = reread
        self._log = log
        self._manager = manager
        self._metrics = Metrics()
        self._stopping = trio.Event()
        self._is_ready = False
        self._store: Store
        self._ingest: Ingest
        self._dispatcher: Dispatcher
        self._dialer: Dialer
        self._registry: Registry
        self._editor: Editor
        self._keyring: Keyring
        self._sessions: Sessions
        self._tally: Tally
        self._upkeep: Upkeep
        self._tracing: tracing.Tracing | None = None
        self._is_in_hurry = False
        self._feed = Feed()
        self._policy = loaded.config.egress.policy
        self._started_at = time.time()
        self._doors_scope: trio.CancelScope | None = None
        self._reloading = trio.Lock()

    async def run(self, *, accept_loss: bool = False) -> None:
        """Serve until SIGTERM or SIGINT, then drain and return. Raises what keeps it from starting."""
        started = time.monotonic()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.freeze()  # what was imported stays: no collection need look at it again
        gc.set_threshold(*GC_THRESHOLDS)
        gc.enable()
        _raise_descriptor_limit()
        settings = self._config.store
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            opened = opening.open_file(
                settings.path, max_size=settings.max_size, now_ms=_now_ms(), accept_loss=accept_loss
            )
            self._store = Store(opened)
            self._store.stats.commit_seconds = self._metrics.commit_seconds.observe
            self._store.stats.troubled = self._count_fault
            async with trio.open_nursery() as keeping:
                await keeping.start(self._store.run)
                try:
                    async with trio.open_nursery() as root:
                        await self._prepare()
                        root.start_soon(self._obey, signals)
                        root.start_soon(self._registry.run)
                        root.start_soon(self._editor.run)
                        root.start_soon(self._keyring.run)
                        root.start_soon(self._tally.run)
                        root.start_soon(self._upkeep.run, self._store.last_written_ms)
                        if self._tracing is not None:
                            root.start_soon(self._tracing.run)
                        root.start_soon(watch_clock, time.time, self._log, self._count_fault)
                        root.start_soon(systemd.watch, self._manager, self._answers, self._status)
                        await self._relay(started)
                        if self._tracing is not None:
                            await self._tracing.finish(HURRY_S if self._is_in_hurry else FLUSH_S)
                        root.cancel_scope.cancel()
                finally:
                    self._store.close()
        self._log.info("stopped")

    async def _relay(self, started: float) -> None:
        backlogs = await self._store.read(queue.backlogs)
        standings = await self._store.read(queue.standings)
        async with trio.open_nursery() as relay:
            run = partial(self._dispatcher.run, last_written_ms=self._store.last_written_ms)
            await relay.start(run, backlogs, standings)
            async with trio.open_nursery() as doors:
                self._doors_scope = doors.cancel_scope
                await self._open_doors(doors)
                self._is_ready = True
                self._manager.notifier.ready(self._status())
                self._log.info(
                    "ready",
                    version=__version__,
                    events=str(self._config.events.socket),
                    api=[str(place) for place in self._config.api.listen],
                    webhooks=len(self._registry.catalog.by_seq),
                    pending=self._dispatcher.pending(),
                    took_s=round(time.monotonic() - started, 3),
                )
                await self._stopping.wait()
                self._is_ready = False
                self._manager.notifier.stopping("stopping: attempts in flight end first")
            self._dispatcher.stop(DRAIN_S)

    async def _prepare(self) -> None:
        config, store = self._config, self._store
        self._tally = Tally(store, self._tenant_of, time.time)
        self._tracing = tracing.begin(config, store.salt, self._metrics, self._log, time.time)
        tracer = None if self._tracing is None else self._tracing.tracer
        self._upkeep = Upkeep(store, self._log, lambda: _kept(self._config), time.time)
        dialer = self._dialer = Dialer(vet=partial(_vet, config.egress.policy))
        _equip(dialer, None, config)
        outside = Outside(
            store=store,
            metrics=self._metrics,
            log=self._log,
            wall=time.time,
            due=NeverBack(time.time),
            announce=lambda type, data: self._ingest.announce(type, data),
            feed=self._feed,
            tally=self._tally,
            disable_after_s=config.delivery.disable_after_s,
            tracer=tracer,
        )
        registry = self._registry = Registry(store, self._log, time.time, lambda: self._config.delivery.defaults)
        dispatcher = self._dispatcher = Dispatcher(
            outside, dialer, max_connections=_connections(config, self._log), disabled=registry.show_disabled
        )
        self._ingest = Ingest(
            store,
            registry.catalog,
            _ingest_limits(config),
            offer=dispatcher.offer,
            metrics=self._metrics,
            wall=time.time,
            feed=self._feed,
            tracer=tracer,
        )
        registry.attach(self._ingest, dispatcher)
        self._editor = Editor(
            registry,
            store,
            Seal(_keys(config)),
            self._log,
            wall=time.time,
            defaults=lambda: self._config.delivery.defaults,
            policy=lambda: self._policy,
        )
        self._keyring = Keyring(store, time.time)
        self._sessions = Sessions(store, self._keyring, time.time)
        try:
            await self._keyring.restore()
            await self._sessions.restore()
            await self._editor.restore()
            registry.put_in_force(await registry.prepare(self._files_say))
        except CannotOpen as error:
            raise ConfigError([ConfigMistake(str(config.store.path), None, "store.key_file", str(error))]) from error
        except Refused as refused:
            raise StoreUnusable(f"{config.store.path}: {refused.detail.partition(':')[0]}") from refused
        self._metrics.reload_at, self._metrics.started_at = time.time(), self._started_at
        self._metrics.build = {"sqlite": opening.sqlite_version()}
        self._metrics.read = self._read_gauges

    async def _read_gauges(self) -> Reading:
        """For the metrics: a look at every lane, and at every webhook where each is told of. Others run between."""
        dispatcher, stats, catalog = self._dispatcher, self._store.stats, self._registry.catalog
        waiting: dict[int, tuple[int, float]] = {}
        for number, (webhook, pending, overdue) in enumerate(dispatcher.overdue(), 1):
            waiting[webhook.seq] = (pending, overdue)
            if not number % BREATH:
                await trio.lowlevel.checkpoint()
        webhooks, told = list(catalog.by_seq.values()), []
        if len(webhooks) <= self._config.metrics.per_webhook_limit:
            for number, webhook in enumerate(webhooks, 1):
                told.append((webhook.id, *waiting.get(webhook.seq, (0, 0.0)), dispatcher.is_up(webhook)))
                if not number % BREATH:
                    await trio.lowlevel.checkpoint()
        by_status = _by_status(webhooks)
        await trio.lowlevel.checkpoint()
        return Reading(
            {
                "hookrelay_pending_deliveries": dispatcher.pending(),
                "hookrelay_held_deliveries": dispatcher.held(),
                "hookrelay_oldest_due_seconds": max((overdue for _, overdue in waiting.values()), default=0.0),
                "hookrelay_open_connections": self._dialer.open_connections,
                "hookrelay_store_size_bytes": stats.size_bytes,
                "hookrelay_store_max_size_bytes": self._config.store.max_size,
                "hookrelay_store_free_bytes": stats.free_bytes,
            },
            by_status,
            told,
            catalog.by_id,
        )

    async def _open_doors(self, doors: trio.Nursery) -> None:
        events, places = self._config.events, self._config.api.listen
        handed_in = systemd.adopt(
            self._manager.handed_in,
            events.socket,
            [place.path if isinstance(place, Unix) else (place.host, place.port) for place in places],
        )
        listener = handed_in.events or listen.open_unix(events.socket, events.mode, events.group)
        await doors.start(
            partial(
                lines.serve,
                listener,
                self._ingest.submit,
                room=self._ingest.room,
                stopping=self._stopping,
                limits=lambda: lines.Limits(line=self._ingest.limits.max_size),
                on_trouble=lambda: self._count_fault("accept"),
            )
        )
        listeners = list(handed_in.api)
        held = {(each.path or each.socket.getsockname()[:2]) for each in listeners}
        for place in places:
            if (place.path if isinstance(place, Unix) else (place.host, place.port)) in held:
                continue
            if isinstance(place, Unix):
                listeners.append(listen.open_unix(place.path, self._config.api.mode))
            else:
                listeners += await listen.open_tcp(place.host, place.port)
        parts = Parts(
            store=self._store,
            catalog=lambda: self._registry.catalog,
            editor=self._editor,
            redeliverer=Redeliverer(
                self._store, self._registry, self._dispatcher, lambda: self._dispatcher.outside, time.time
            ),
            copies=Copies(self._store, self._log),
            checkup=Checkup(self._store),
            expunger=Expunger(self._store, self._registry, self._dispatcher, self._feed, self._log, time.time),
            ingest=self._ingest,
            keyring=self._keyring,
            sessions=self._sessions,
            tally=self._tally,
            feed=self._feed,
            metrics=self._metrics,
            config=lambda: self._config,
            is_ready=lambda: self._is_ready and self._store.trouble is None,
            reload=self.reload,
            preview=self.preview,
            health=self._health,
            waiting=self._waiting,
            backlog=self._dispatcher.backlog,
            tracer=None if self._tracing is None else self._tracing.tracer,
        )
        dashboard = Dashboard(parts, ROUTES)
        doors.start_soon(dashboard.run, self._stopping)
        app = build(parts, dashboard)
        await doors.start(
            partial(
                serve.serve,
                app,
                listeners,
                stopping=self._stopping,
                on_error=self._app_failed,
                on_trouble=lambda: self._count_fault("accept"),
            )
        )

    # --- what the API asks of all of it -------------------------------------------------------------------------

    def _health(self) -> dict[str, Any]:
        """What `/v1/status` says beside the numbers of the metrics."""
        webhooks = self._registry.catalog.by_seq.values()
        stats, trouble = self._store.stats, self._store.trouble
        overdue = sorted(self._dispatcher.overdue(), key=lambda row: -row[2])
        disabled = [webhook for webhook in webhooks if webhook.status == "disabled"]
        return {
            "started_at": format_time(int(self._started_at * 1000)),
            "trouble": None if trouble is None else f"{trouble.kind}: {trouble.detail}",
            "webhooks": _by_status(webhooks),
            "pending": self._dispatcher.pending(),
            "held": self._dispatcher.held(),
            "oldest_due_seconds": round(max((row[2] for row in overdue), default=0.0), 3),
            "open_connections": self._dialer.open_connections,
            "store": {"size_bytes": stats.size_bytes, "is_low": self._store.is_low},
            "reload": {
                "successful": self._metrics.reload_successful,
                "at": format_time(int(self._metrics.reload_at * 1000)),
            },
            "disabled": [
                {
                    "id": webhook.id,
                    "tenant": webhook.tenant,
                    "url": webhook.url,
                    "disabled_reason": webhook.disabled_reason,
                    "updated_at": format_time(webhook.updated_ms),
                }
                for webhook in sorted(disabled, key=lambda webhook: -webhook.updated_ms)[:DISABLED_SHOWN]
            ],
            "behind": [
                {
                    "id": webhook.id,
                    "tenant": webhook.tenant,
                    "url": webhook.url,
                    "pending": pending,
                    "overdue_seconds": round(seconds, 3),
                    "why": self._waiting(webhook)["why"],
                }
                for webhook, pending, seconds in overdue[:BEHIND_SHOWN]
                if pending and seconds > 0
            ],
        }

    def _waiting(self, webhook: Webhook) -> dict[str, Any]:
        """How many deliveries wait for a webhook, and what for until when."""
        pending, held, wait = self._dispatcher.why_waiting(webhook.seq)
        until_ms = None if wait is None else wait.until_ms
        if wait is not None and wait.until_s is not None:
            until_ms = _now_ms() + round((wait.until_s - trio.current_time()) * 1000)
        return {
            "pending": pending,
            "held": held,
            "why": None if wait is None or wait.why == "empty" else wait.why,
            "until": None if until_ms is None or until_ms >= BLOCKED_MS else format_time(until_ms),
        }

    def _count_fault(self, kind: str) -> None:
        self._metrics.local_faults[kind] += 1

    async def _answers(self) -> bool:
        """For the watchdog."""
        return await self._store.answers(STUCK_S)

    def _status(self) -> str:
        """One line for `systemctl status`."""
        if self._stopping.is_set():
            return f"stopping: {self._metrics.in_flight} attempts in flight"
        if self._store.trouble is not None:
            return f"cannot write the store: {self._store.trouble.detail}"
        counts = _by_status(self._registry.catalog.by_seq.values())
        webhooks = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
        refused = "" if self._metrics.reload_successful else "the last reload was refused (see the journal); "
        return (
            f"{refused}webhooks: {webhooks}; deliveries: {self._dispatcher.pending()} pending,"
            f" {self._dispatcher.held()} held, {self._metrics.in_flight} in flight"
        )

    def _tenant_of(self, seq: int) -> str | None:
        webhook = self._registry.catalog.by_seq.get(seq)
        return None if webhook is None else webhook.tenant

    def _app_failed(self, error: BaseException) -> None:
        self._log.error("request_failed", exc_info=error)

    # --- signals ------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                await self.reload()
            elif not self._stopping.is_set():
                self._log.info("stopping", signal=signal.Signals(number).name, drain_s=DRAIN_S)
                self._stopping.set()
                if self._doors_scope is not None:
                    self._doors_scope.deadline = trio.current_time() + DOORS_S
            else:
                self._log.warning("stopping_at_once", signal=signal.Signals(number).name)
                self._is_in_hurry = True
                self._dispatcher.stop(HURRY_S)
                if self._doors_scope is not None:
                    self._doors_scope.deadline = trio.current_time() + HURRY_S

    # --- what the files say -------------------------------------------------------------------------------------

    async def reload(self) -> list[tuple[str, str]]:
        """Read all files again: all of it applies or, after any mistake, none.

        The mistakes, as pairs of place and detail.
        """
        async with self._reloading:
            self._manager.notifier.reloading()
            try:
                return await self._reload()
            finally:
                self._manager.notifier.ready(self._status())

    async def preview(self) -> tuple[list[tuple[str, str]], list[Change]]:
        """What `reload` would say and change just now. Nothing is changed."""
        try:
            loaded = await self._read_files()
        except ConfigError as error:
            return [_place_and_detail(mistake) for mistake in error.mistakes], []
        in_force = [each for each in self._registry.catalog.by_seq.values() if each.source.startswith("file:")]
        return [], changes(self._config, loaded.config, in_force, loaded.webhooks)

    async def _reload(self) -> list[tuple[str, str]]:
        try:
            loaded = await self._read_files()
            if self._has_emptied_file(loaded):
                await trio.sleep(SAVING_S)
                loaded = await self._read_files()
        except ConfigError as error:
            for mistake in error.mistakes:
                self._log.error("config_mistake", mistake=str(mistake))
            self._log.error(
                "reload_refused", mistakes=len(error.mistakes), detail="the old configuration stays in force"
            )
            self._metrics.reload_successful = False
            return [_place_and_detail(mistake) for mistake in error.mistakes]
        try:
            prepared = await self._registry.prepare(loaded.webhooks)
        except Refused as refused:
            self._log.error("reload_refused", detail=f"{refused.detail}; the old configuration stays in force")
            self._metrics.reload_successful = False
            return [("store.url", refused.detail)]
        self._log = logs.configure(loaded.config.log.level, loaded.config.log.format)
        before, fixed = self._config, needing_restart(self._config, loaded.config)
        self._config = keep_fixed(loaded.config, before)
        self._ingest.limits = _ingest_limits(self._config)
        self._policy = self._config.egress.policy
        if (before.egress, before.delivery) != (self._config.egress, self._config.delivery):
            _equip(self._dialer, before, self._config)
            self._dispatcher.restart(_connections(self._config, self._log), self._config.delivery.disable_after_s)
        self._registry.put_in_force(prepared)
        self._metrics.reload_successful, self._metrics.reload_at = True, time.time()
        self._log.info("reloaded", webhooks=len(self._registry.catalog.by_seq), removed=len(prepared.removed))
        for key in fixed:
            self._log.warning("restart_needed", key=key, detail="the new value applies after a restart")
        return []

    async def _read_files(self) -> Loaded:
        """In a thread. ConfigError also where this host can start none."""
        has_begun = False

        def reread() -> Loaded:
            nonlocal has_begun
            has_begun = True
            return self._reread()

        try:
            return await trio.to_thread.run_sync(reread)
        except (RuntimeError, MemoryError) as error:
            if has_begun and isinstance(error, RuntimeError):
                raise
            wrong = "cannot be read now (no thread or no memory): try again when this host has some"
            raise ConfigError([ConfigMistake("the files", None, "", wrong)]) from error

    def _has_emptied_file(self, loaded: Loaded) -> bool:
        """Whether a file that gave webhooks gives none now: it may be on its way to disk, and would cost them all."""
        given = {webhook.source for webhook in loaded.webhooks}
        files = {f"file:{file.name}" for file in loaded.files}
        return any(
            webhook.source in files and webhook.source not in given
            for webhook in self._registry.catalog.by_seq.values()
        )


def _place_and_detail(mistake: ConfigMistake) -> tuple[str, str]:
    place = str(mistake)[: len(str(mistake)) - len(mistake.detail)]
    return place.removesuffix(": "), mistake.detail


def _by_status(webhooks: Iterable[Webhook]) -> dict[str, int]:
    return {"active": 0, "paused": 0, "disabled": 0, **Counter(webhook.status for webhook in webhooks)}


def _keys(config: Config) -> Sequence[bytes]:
    """The keys that secrets are sealed with; none where they are kept open."""
    file = config.store.key_file
    return () if file is None else read_keys(file.read_bytes())


def _kept(config: Config) -> Limits:
    """How long what has ended is kept, and idempotency keys: never shorter than their events can be seen."""
    retention_s = config.store.retention_s
    return Limits(retention_s, max(config.events.idempotency_window_s, retention_s), config.store.max_size)


def _now_ms() -> int:
    return int(time.time() * 1000)


# --- the way out ------------------------------------------------------------------------------------------------


def _equip(dialer: Dialer, before: Config | None, config: Config) -> None:
    """Give the dialer what the settings say; connections from now on obey them."""
    egress = config.egress
    dialer.vet = partial(_vet, egress.policy)
    if before is None or before.egress.resolver != egress.resolver:  # it remembers which names it has found
        dialer.resolver = Resolver(None if egress.resolver is None else (egress.resolver.host, egress.resolver.port))
    dialer.trusts = Trusts(None if egress.ca_file is None else str(egress.ca_file))
    dialer.proxy = egress.proxy


def _vet(policy: Policy, origin: Origin, addresses: Sequence[Address]) -> Vetted:
    """Whether the egress rules of this moment let a connection go there: the URL's origin, then every address."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    wrong = check_url(f"{origin.scheme}://{host}:{origin.port}/", policy)
    if wrong is not None:
        return Vetted(f"the URL {wrong}", frozenset())
    return vet(origin.host, origin.port, [address.ip for address in addresses], policy)


def _connections(config: Config, log: logs.Logger) -> int:
    """The budget of connections: what was asked for, as far as this process may have so many descriptors."""
    asked = config.delivery.max_connections
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(1, limit - DESCRIPTORS_KEPT)
    if asked > most:
        log.warning(
            "connections_limited",
            asked=asked,
            limit=most,
            detail=f"raise this process's limit of open files ({limit}) above delivery.max_connections by"
            f" {DESCRIPTORS_KEPT}: LimitNOFILE= in the systemd unit, or ulimit -n",
        )
    return min(asked, most)


def _ingest_limits(config: Config) -> IngestLimits:
    events = config.events
    known = frozenset(event_type.name for event_type in config.event_types) if events.closed_catalogue else None
    # a key is never forgotten while its event can still be seen
    window_s = max(events.idempotency_window_s, config.store.retention_s)
    validators = {
        event_type.name: compile_schema(event_type.schema_text)
        for event_type in config.event_types
        if event_type.schema is not None
    }
    return IngestLimits(events.max_size, window_s, known, validators)


def _raise_descriptor_limit() -> None:
    """As many descriptors as the host allows: every connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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


def serve_files(path: Path | None, environ: MutableMapping[str, str], *, accept_loss: bool = False) -> None:
    """Run a daemon on what the files and the environment say, until it is told to stop.

    Raises ConfigError, and what `store.open.open_file` and `net.listen` raise; each says what to do.
    """
    manager = systemd.manager(environ, os.getpid())
    loaded = load_whole(path, environ)
    log = logs.configure(loaded.config.log.level, loaded.config.log.format)
    daemon = Daemon(loaded, partial(load_whole, path, environ), log, manager)
    trio.run(partial(daemon.run, accept_loss=accept_loss))
