"""The supervisor: builds the parts, starts, reloads, drains. The nesting of its nurseries is the order of its end."""

import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from functools import partial
from pathlib import Path

import trio
from msgspec import structs

from hookrelay import __version__, audit, outfit, tracing
from hookrelay.checkup import Checkup
from hookrelay.clock import NeverBack
from hookrelay.config.compare import Change, changes, keep_fixed, needing_restart
from hookrelay.config.settings import Loaded, Unix
from hookrelay.copies import Copies
from hookrelay.deliver import Outside
from hookrelay.dispatch import Dispatcher
from hookrelay.editor import Editor
from hookrelay.expunge import Expunger
from hookrelay.feed import Feed
from hookrelay.grace import Grace
from hookrelay.ingest import Ingest
from hookrelay.model import ConfigError, ConfigMistake, Refused, Webhook
from hookrelay.net import lines, listen, serve, systemd
from hookrelay.net.dial import Dialer
from hookrelay.redeliver import Redeliverer
from hookrelay.registry import Registry, Removal
from hookrelay.store import open as opening
from hookrelay.store import queue, webhooks
from hookrelay.store.db import Store
from hookrelay.store.files import StoreUnusable
from hookrelay.store.seal import CannotOpen, Seal
from hookrelay.tally import Tally
from hookrelay.telemetry import logs, process
from hookrelay.telemetry.limits import LimitsMet
from hookrelay.telemetry.metrics import Metrics
from hookrelay.units import format_duration
from hookrelay.upkeep import Upkeep, watch_clock
from hookrelay.vitals import Vitals
from hookrelay.web.api import stream
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
SWITCH_INTERVAL_S = 0.0005
"""How soon the loop gets the GIL back from the writer's thread: 21 → 2.9 ms for a batch beside a busy loop."""
GC_THRESHOLDS = (20_000, 20, 20)
"""What flows through is free of cycles: Python's own thresholds cost a fifth of all CPU, looking for some."""


class Daemon:
    """One daemon over one store. `run` is all it does."""

    def __init__(
        self, loaded: Loaded, reread: Callable[[], Loaded], log: logs.Logger, manager: systemd.Manager
    ) -> None:
        self._config = loaded.config
        self._loaded = loaded
        self._reread = reread
        self._log = log
        self._manager = manager
        self._metrics = Metrics()
        self._limit_met = LimitsMet(self._metrics.limits_met, lambda: self._log)
        self._stopping = trio.Event()
        self._is_ready = False
        self._store: Store
        self._ingest: Ingest
        self._dispatcher: Dispatcher
        self._dialer: Dialer
        self._registry: Registry
        self._grace: Grace
        self._editor: Editor
        self._keyring: Keyring
        self._sessions: Sessions
        self._tally: Tally
        self._upkeep: Upkeep
        self._vitals: Vitals
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
        outfit.raise_descriptor_limit()
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
                        root.start_soon(self._grace.run)
                        root.start_soon(self._editor.run)
                        root.start_soon(self._keyring.run)
                        root.start_soon(self._tally.run)
                        root.start_soon(self._upkeep.run, self._store.last_written_ms)
                        if self._tracing is not None:
                            root.start_soon(self._tracing.run)
                        root.start_soon(watch_clock, time.time, self._log, self._count_fault)
                        root.start_soon(systemd.watch, self._manager, self._vitals.answers, self._status)
                        await self._relay(started)
                        await self._grace.finish()
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
            self._tell_missing(*self._registry.waiting_for_missing())
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
        self._upkeep = Upkeep(store, self._log, lambda: outfit.kept(self._config), time.time)
        dialer = self._dialer = Dialer(vet=partial(outfit.may_connect, config.egress.policy))
        outfit.equip(dialer, None, config)
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
        self._grace = Grace(
            registry,
            store,
            self._log,
            grace_s=lambda: self._config.delivery.removal_grace_s,
            named=self._named,
        )
        dispatcher = self._dispatcher = Dispatcher(
            outside,
            dialer,
            max_connections=outfit.connections(config, self._log),
            disabled=registry.show_disabled,
            limit_met=self._limit_met,
        )
        self._ingest = Ingest(
            store,
            registry.catalog,
            outfit.ingest_limits(config),
            offer=dispatcher.offer,
            offer_many=dispatcher.offer_many,
            limit_met=self._limit_met,
            metrics=self._metrics,
            wall=time.time,
            feed=self._feed,
            tracer=tracer,
        )
        registry.attach(self._ingest, dispatcher)
        self._vitals = Vitals(
            store, registry, dispatcher, dialer, self._metrics, lambda: self._config, self._grace.left_s
        )
        self._editor = Editor(
            registry,
            store,
            Seal(outfit.keys(config)),
            self._log,
            wall=time.time,
            defaults=lambda: self._config.delivery.defaults,
            policy=lambda: self._policy,
            webhooks_most=lambda: self._config.limits.webhooks_per_tenant,
            limit_met=self._limit_met,
        )
        self._keyring = Keyring(store, self._log, time.time)
        self._sessions = Sessions(store, self._keyring, time.time, limit_met=self._limit_met)
        try:
            self._check_folder(self._loaded, bool(await store.read(webhooks.known)))
            await self._keyring.restore()
            await self._sessions.restore()
            await self._editor.restore()
            registry.put_in_force(await registry.prepare(self._loaded.webhooks))
        except CannotOpen as error:
            raise ConfigError([ConfigMistake(str(config.store.path), None, "store.key_file", str(error))]) from error
        except Refused as refused:
            raise StoreUnusable(f"{config.store.path}: {refused.detail.partition(':')[0]}") from refused
        self._metrics.reload_at, self._metrics.started_at = time.time(), self._started_at
        self._metrics.build = {"sqlite": opening.sqlite_version()}
        self._metrics.read = self._vitals.gauges

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
                on_limit=self._limit_met,
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
        parts = self._parts()
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
                on_limit=self._limit_met,
            )
        )

    def _parts(self) -> Parts:
        """What the API and the dashboard may ask of the daemon."""
        return Parts(
            store=self._store,
            catalog=lambda: self._registry.catalog,
            editor=self._editor,
            redeliverer=Redeliverer(
                self._store, self._registry, self._dispatcher, lambda: self._dispatcher.outside, time.time
            ),
            copies=Copies(self._store, self._log, time.time),
            checkup=Checkup(self._store),
            expunger=Expunger(self._store, self._registry, self._dispatcher, self._feed, self._log, time.time),
            ingest=self._ingest,
            keyring=self._keyring,
            sessions=self._sessions,
            tally=self._tally,
            feed=self._feed,
            streams=stream.shares(),
            metrics=self._metrics,
            config=lambda: self._config,
            is_ready=lambda: self._is_ready and self._store.trouble is None,
            reload=self.reload,
            missing=self._registry.waiting_for_missing,
            preview=self.preview,
            health=self._vitals.health,
            waiting=self._vitals.waiting,
            backlog=self._dispatcher.backlog,
            tracer=None if self._tracing is None else self._tracing.tracer,
            limit_met=self._limit_met,
        )

    # --- what parts ask of the whole --------------------------------------------------------------------------------

    def _status(self) -> str:
        """One line for `systemctl status`."""
        if self._stopping.is_set():
            return f"stopping: {self._metrics.in_flight} attempts in flight"
        return self._vitals.status()

    def _count_fault(self, kind: str) -> None:
        self._metrics.local_faults[kind] += 1

    def _tenant_of(self, seq: int) -> str | None:
        webhook = self._registry.catalog.by_seq.get(seq)
        return None if webhook is None else webhook.tenant

    def _app_failed(self, error: BaseException) -> None:
        self._log.error("request_failed", exc_info=error)

    # --- signals ------------------------------------------------------------------------------------------------

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                await self.reload(audit.SIGNAL)
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

    async def reload(self, by: audit.Actor, removes: bool = False) -> tuple[list[tuple[str, str]], Removal]:
        """Read all files again, as somebody wishes: all of it applies or, after any mistake, none.

        The mistakes, as pairs of place and detail; and what is gone: with `removes` what no file names any more.
        """
        async with self._reloading, self._registry.filing:
            self._manager.notifier.reloading()
            try:
                return await self._reload(by, removes)
            finally:
                self._manager.notifier.ready(self._status())

    async def preview(self) -> tuple[list[tuple[str, str]], list[Change]]:
        """What `reload` would say and change just now. Nothing is changed."""
        try:
            loaded = await self._read_files()
        except ConfigError as error:
            return [_place_and_detail(mistake) for mistake in error.mistakes], []
        in_force = self._of_files()
        found = changes(self._config, loaded.config, in_force, loaded.webhooks)
        keys = {each.id: each.seq for each in in_force}
        return [], [
            structs.replace(each, waiting=self._registry.waiting_for([keys[each.what]]))
            if each.after is None and each.what in keys
            else each
            for each in found
        ]

    async def _reload(self, by: audit.Actor, removes: bool) -> tuple[list[tuple[str, str]], Removal]:
        try:
            loaded = await self._read_files()
        except ConfigError as error:
            for mistake in error.mistakes:
                self._log.error("config_mistake", mistake=str(mistake))
            self._log.error(
                "reload_refused", mistakes=len(error.mistakes), detail="the old configuration stays in force"
            )
            self._metrics.reload_successful = False
            return [_place_and_detail(mistake) for mistake in error.mistakes], Removal()
        try:
            settings = [change.what for change in changes(self._config, loaded.config, (), ())]
            entry = audit.Entry(action="config.reloaded", by=by, details={"settings": settings})
            prepared = await self._registry.prepare(loaded.webhooks, entry, removes=removes)
        except Refused as refused:
            self._log.error("reload_refused", detail=f"{refused.detail}; the old configuration stays in force")
            self._metrics.reload_successful = False
            return [("store.url", refused.detail)], Removal()
        self._log = logs.configure(loaded.config.log.level, loaded.config.log.format)
        before, fixed = self._config, needing_restart(self._config, loaded.config)
        self._config = keep_fixed(loaded.config, before)
        self._ingest.limits = outfit.ingest_limits(self._config)
        self._policy = self._config.egress.policy
        if (before.egress, before.delivery) != (self._config.egress, self._config.delivery):
            outfit.equip(self._dialer, before, self._config)
            self._dispatcher.restart(outfit.connections(self._config, self._log), self._config.delivery.disable_after_s)
        removal = self._registry.put_in_force(prepared)
        self._metrics.reload_successful, self._metrics.reload_at = True, time.time()
        missing, held = self._registry.waiting_for_missing()
        self._log.info(
            "reloaded",
            webhooks=len(self._registry.catalog.by_seq) - missing,
            missing=missing,
            held=held,
            removed=removal.webhooks,
            cancelled=removal.deliveries,
        )
        self._tell_missing(missing, held)
        for key in fixed:
            self._log.warning("restart_needed", key=key, detail="the new value applies after a restart")
        return [], removal

    def _of_files(self) -> list[Webhook]:
        return [each for each in self._registry.catalog.by_seq.values() if each.source.startswith("file:")]

    async def _named(self) -> set[str]:
        """The ids of the webhooks that the files name just now. ConfigError where they cannot be read."""
        return {webhook.id for webhook in (await self._read_files()).webhooks}

    async def _read_files(self) -> Loaded:
        """In a thread. ConfigError also where this host can start none."""
        has_begun = False

        def reread() -> Loaded:
            nonlocal has_begun
            has_begun = True
            return self._reread()

        try:
            loaded = await trio.to_thread.run_sync(reread)
        except (RuntimeError, MemoryError) as error:
            if has_begun and isinstance(error, RuntimeError):
                raise
            wrong = "cannot be read now (no thread or no memory): try again when this host has some"
            raise ConfigError([ConfigMistake("the files", None, "", wrong)]) from error
        self._check_folder(loaded, bool(self._of_files()))
        return loaded

    def _check_folder(self, loaded: Loaded, has_given: bool) -> None:
        """ConfigError where the folder of webhooks is gone that has given some: a mistake, and no wish to lose them."""
        if has_given and not loaded.has_folder:
            folder = loaded.config.delivery.webhooks_dir
            wrong = "there is no such folder, and webhooks of it are known: bring it back, or make an empty one"
            raise ConfigError([ConfigMistake(str(folder), None, "delivery.webhooks_dir", wrong)])

    def _tell_missing(self, missing: int, held: int) -> None:
        if missing:
            grace = format_duration(self._config.delivery.removal_grace_s)
            self._log.warning(
                "webhooks_missing",
                webhooks=missing,
                held=held,
                detail=f"no file names them any more: what waits is held for {grace} of running time, then they are"
                " removed and it is cancelled; `hookrelay reload --remove` does so at once",
            )


def _place_and_detail(mistake: ConfigMistake) -> tuple[str, str]:
    place = str(mistake)[: len(str(mistake)) - len(mistake.detail)]
    return place.removesuffix(": "), mistake.detail


def _now_ms() -> int:
    return int(time.time() * 1000)


def serve_files(path: Path | None, environ: MutableMapping[str, str], *, accept_loss: bool = False) -> None:
    """Run a daemon on what the files and the environment say, until it is told to stop.

    Raises ConfigError, and what `store.open.open_file` and `net.listen` raise; each says what to do.
    """
    is_hidden = process.hide_memory()  # before any secret is read
    manager = systemd.manager(environ, os.getpid())
    loaded = outfit.load_whole(path, environ)
    log = logs.configure(loaded.config.log.level, loaded.config.log.format)
    if not is_hidden:
        log.warning("memory_readable", detail="other processes of this user may read the daemon's memory, and dump it")
    daemon = Daemon(loaded, partial(outfit.load_whole, path, environ), log, manager)
    trio.run(partial(daemon.run, accept_loss=accept_loss))
