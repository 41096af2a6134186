"""`hookrelay demo`: a real daemon, a real receiver and some events, without configuration or network."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

import hookrelay
from hookrelay.cli.demo_receiver import FLAKY_FAILURES, LIMIT, Arrival, Receiver

EVENTS = 20
TIMEOUT_S = 25.0
SECRET = "whsec_ZGVtbyBzZWNyZXQsIG5vdCBmb3IgdXNlLCBldmVyIQ=="  # noqa: S105 -- shown on purpose, made for this only
PATHS = {
    "/healthy": ("takes everything", []),
    "/flaky": (f"fails {FLAKY_FAILURES} times for every event", ["1s", "1s", "2s"]),
    "/limited": (f"takes {LIMIT} a second, and answers 429 beyond", ["1s"] * 12),
}
TYPES = ("booking.created", "booking.completed", "payment.succeeded", "payment.failed")


@click.command()
@click.option("--keep", is_flag=True, help="Leave it running afterwards, until Ctrl-C.")
def command(keep: bool) -> None:
    """Show it all at work: a daemon on a temporary store, a receiver that checks every signature, and 20 events.

    Needs no configuration, no network and no rights; everything is on loopback, and removed at the end.

    \b
    Examples:
      hookrelay demo
      hookrelay demo --keep
    """
    import trio

    folder = Path(tempfile.mkdtemp(prefix="hookrelay-", dir="/tmp" if Path("/tmp").is_dir() else None))  # noqa: S108 -- mkdtemp's own folder, at a path short enough for sockets
    demo = Demo(folder)
    try:
        code = trio.run(partial(demo.run, keep=keep))
    except KeyboardInterrupt:
        code = 130
    finally:
        demo.end_daemon()
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(code)


class Demo:
    """One showing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemon: subprocess.Popen[bytes] | None = None
        self._submitted: dict[str, float] = {}
        self._screen: Any = None
        self._recent: list[Arrival] = []

    async def run(self, *, keep: bool) -> int:
        """The exit code: 0 where every delivery succeeded and every signature was right."""
        import trio

        from hookrelay.net.listen import open_tcp
        from hookrelay.net.serve import serve
        from hookrelay.rules.webhook import decode_secret

        receiver = Receiver(decode_secret(SECRET), self._show)
        stopping = trio.Event()
        (listener,) = await open_tcp("127.0.0.1", 0)
        self._write_files(listener.port or 0)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, receiver, [listener], stopping=stopping, on_error=_raise))
            self._start_daemon()
            click.echo(f"a daemon runs on a temporary store in {self._folder}, a receiver on 127.0.0.1:{listener.port}")
            with self._live():
                await trio.to_thread.run_sync(self._submit)
                with trio.move_on_after(TIMEOUT_S):
                    while not self._is_done(receiver):
                        self._refresh(receiver)
                        await trio.sleep(0.1)
                self._refresh(receiver)
            code = self._summarize(receiver)
            if keep:
                await self._stay()
            await trio.to_thread.run_sync(self.end_daemon)
            stopping.set()
        return code

    # --- the parts ----------------------------------------------------------------------------------------------

    def _write_files(self, port: int) -> None:
        import tomli_w

        config = {
            "store": {"url": f"sqlite://{self._folder}/hookrelay.db"},
            "events": {"socket": "events.sock"},
            "api": {"listen": ["unix:api.sock"]},
            "egress": {"allow_http": True, "allow": [f"127.0.0.1/32:{port}"]},
            "log": {"format": "json"},
        }
        webhooks = [
            {
                "name": path[1:],
                "url": f"http://127.0.0.1:{port}{path}",
                "events": ["booking.*", "payment.*"],
                "description": what,
                "secret": SECRET,
                **({"retry": retry} if retry else {}),
            }
            for path, (what, retry) in PATHS.items()
        ]
        (self._folder / "webhooks.d").mkdir()
        (self._folder / "hookrelay.toml").write_text(tomli_w.dumps(config))
        (self._folder / "webhooks.d" / "demo.toml").write_text(tomli_w.dumps({"webhook": webhooks}))

    def _start_daemon(self) -> None:
        command = [sys.executable, "-m", "hookrelay", "serve", "--config", str(self._folder / "hookrelay.toml")]
        # it finds us where this process did, which may have been told in a way of its own
        env = {**os.environ, "PYTHONPATH": str(Path(hookrelay.__file__).parents[1])}
        with (self._folder / "daemon.log").open("wb") as log:
            # a session of its own, so that Ctrl-C is ours to handle
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)  # noqa: S603 -- our own program

    def end_daemon(self) -> None:
        """Stop the daemon as an operator would, and wait for it."""
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            try:
                self._daemon.wait(5)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
            self._daemon = None

    def _submit(self) -> None:
        from hookrelay.net.events_client import submit

        path = self._folder / "events.sock"
        wait_until = time.monotonic() + 10
        while not path.exists():
            if time.monotonic() > wait_until or (self._daemon is not None and self._daemon.poll() is not None):
                raise click.ClickException("the daemon did not start:\n" + (self._folder / "daemon.log").read_text())
            time.sleep(0.02)
        for number in range(EVENTS):
            kind = TYPES[number % len(TYPES)]
            line = {
                "type": kind,
                "data": {"booking": 1000 + number, "amount": "89.00"},
                "idempotency_key": f"demo-{number}",
            }
            started = time.time()
            (answer,) = submit(path, [json.dumps(line).encode()])
            self._submitted[json.loads(answer)["id"]] = started

    def _is_done(self, receiver: Receiver) -> bool:
        return all(receiver.succeeded(path) >= self._submitted.keys() for path in PATHS)

    async def _stay(self) -> None:
        import trio

        at = self._folder
        click.echo(
            "\nStill running. From another terminal:\n"
            f'  echo \'{{"type":"booking.created","data":{{"booking":7}}}}\' | nc -N -U {at}/events.sock\n'
            f"  hookrelay send --socket {at}/events.sock payment.failed '{{\"booking\": 7}}'\n"
            f"  curl --unix-socket {at}/api.sock http://localhost/v1/webhooks\n"
            f"  curl --unix-socket {at}/api.sock http://localhost/metrics\n"
            f"  tail -f {at}/daemon.log\n"
            "Ctrl-C ends it and removes everything."
        )
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                return

    # --- what is seen -------------------------------------------------------------------------------------------

    def _live(self) -> Any:
        from contextlib import nullcontext

        if not sys.stdout.isatty():
            return nullcontext()
        from rich.live import Live

        self._screen = Live(refresh_per_second=10)
        return self._screen

    def _show(self, arrival: Arrival) -> None:
        self._recent = [*self._recent[-9:], arrival]
        if self._screen is None:
            click.echo(_line(arrival))

    def _refresh(self, receiver: Receiver) -> None:
        if self._screen is None:
            return
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("webhook", "what its receiver does", "delivered", "attempts", "last answer")
        for path, (what, _) in PATHS.items():
            came = [arrival for arrival in receiver.arrivals if arrival.path == path]
            last = str(came[-1].status) if came else "…"
            table.add_row(path, what, f"{len(receiver.succeeded(path))}/{EVENTS}", str(len(came)), last)
        self._screen.update(Group(table, Text("\n".join(map(_line, self._recent)))))

    def _summarize(self, receiver: Receiver) -> int:
        came = receiver.arrivals
        forged = sum(not arrival.is_verified for arrival in came)
        first: dict[str, float] = {}
        for arrival in came:
            first.setdefault(arrival.event_id, arrival.at)
        waits = [(first[event] - at) * 1000 for event, at in self._submitted.items() if event in first]
        click.echo(f"\n{len(self._submitted)} events accepted, each on disk before it was answered")
        for path, (what, _) in PATHS.items():
            attempts = sum(arrival.path == path for arrival in came)
            click.echo(
                f"  {path:9} {len(receiver.succeeded(path))} of {EVENTS} delivered in {attempts} attempts ({what})"
            )
        click.echo(f"{len(came) - forged} of {len(came)} signatures verified")
        if waits:
            click.echo(f"from the line to the receiver: {statistics.median(waits):.1f} ms (median)")
        if not self._is_done(receiver) or forged:
            click.echo(f"not everything was delivered within {TIMEOUT_S:g} s", err=True)
            return 1
        click.echo("Next: README's five minutes, or `hookrelay demo --keep` to talk to it yourself.")
        return 0


def _line(arrival: Arrival) -> str:
    mark = "signature ok" if arrival.is_verified else "FORGED"
    clock = time.strftime("%H:%M:%S", time.localtime(arrival.at))
    return f"{clock} {arrival.path:9} {arrival.event_type:18} attempt {arrival.attempt}: {arrival.status}  {mark}"


def _raise(error: BaseException) -> None:
    raise error
