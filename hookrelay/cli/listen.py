"""`hookrelay listen`: new events, posted to a server on this machine as they come. No public tunnel is needed."""

import base64
import json
import re
import secrets
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from hookrelay.cli.api import Target, options
from hookrelay.cli.shown import clean
from hookrelay.cli.sign import read_key

if TYPE_CHECKING:
    from hookrelay.net.api_client import ApiClient, Message
    from hookrelay.net.forward import Forwarder

EX_INTERRUPTED = 130
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


class _Listener:
    def __init__(
        self, client: "ApiClient", url: str, forwarder: "Forwarder", key: bytes, query: dict[str, Any], *, is_json: bool
    ) -> None:
        self._client = client
        self._url = url
        self._forwarder = forwarder
        self._key = key
        self._query = query
        self._is_json = is_json
        self._last_id: str | None = None
        self._was_there = False
        self.counts = {"accepted": 0, "refused": 0}

    def run(self) -> None:
        """Never returns. Raises Problem, and Unreachable where the daemon was not there to begin with."""
        from hookrelay.net.api_client import Problem, Unreachable

        wait_s = FIRST_WAIT_S
        while True:
            seen = self._last_id
            try:
                self._listen_once()
                why = "the daemon ended the stream"
            except Unreachable as error:
                if not self._was_there or error.is_forbidden:
                    raise
                why = str(error)
            except Problem as problem:
                if not self._was_there or problem.status not in (429, 502, 503, 504):
                    raise
                why = problem.detail
            wait_s = FIRST_WAIT_S if self._last_id != seen else wait_s
            click.echo(f"hookrelay: {clean(why)}: asking again in {wait_s:g} s", err=True)
            time.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _listen_once(self) -> None:
        with self._client.stream("/v1/events/stream", self._query, self._last_id) as messages:
            # only now: what happens from here on is told, what happened before is not
            if self._was_there:
                click.echo("hookrelay: connected again, nothing was missed", err=True)
            else:
                click.echo(f"posting new events to {self._url}; Ctrl-C ends it", err=True)
            self._was_there = True
            for message in messages:
                if message.kind == "event":
                    self._forward(message)
                self._last_id = message.id or self._last_id

    def _forward(self, message: "Message") -> None:
        import msgspec

        from hookrelay import __version__
        from hookrelay.model import Event
        from hookrelay.rules.payload import body
        from hookrelay.rules.sign import Signer

        said = msgspec.json.decode(message.data, type=dict[str, msgspec.Raw])
        text = {name: msgspec.json.decode(raw) for name, raw in said.items() if name != "data"}
        event = Event(
            0, 0, text["id"], text["type"], text["tenant"], text["timestamp"], bytes(said["data"]), test=text["test"]
        )
        content, now = body(event), int(time.time())
        headers = [
            ("content-type", "application/json"),
            ("user-agent", f"hookrelay/{__version__}"),
            ("webhook-id", event.id),
            ("idempotency-key", event.id),
            ("webhook-timestamp", str(now)),
            ("webhook-signature", Signer([self._key]).signature(event.id, now, content).decode()),
            ("webhook-attempt", "1"),
            ("accept", "*/*"),
            ("accept-encoding", "identity"),
        ]
        answer = self._forwarder.post(headers, content)
        is_accepted = answer.status is not None and 200 <= answer.status < 300
        self.counts["accepted" if is_accepted else "refused"] += 1
        if self._is_json:
            shown = {"id": event.id, "type": event.type, "status": answer.status, "error": answer.error}
            click.echo(json.dumps({**shown, "duration_ms": round(answer.duration_ms, 1)}))
        else:
            came = answer.status if answer.error is None else clean(answer.error)
            click.echo(f"{event.id}  {event.type}  →  {came}  {answer.duration_ms:.0f} ms")


def _whole(text: str) -> str:
    """The URL that is meant: `3000`, `:3000/hooks` and `localhost:3000` are servers of this machine, by plain http."""
    from hookrelay.rules.egress_url import tidied

    url = tidied(text)
    url = f"localhost:{url}" if re.match(r"[0-9]{1,5}(?:/|$)", url) else f"localhost{url}" if url[:1] == ":" else url
    if "://" not in url:
        if not _HERE.match(url):
            raise _no_url(text, "and with http:// or https:// before it where it is not on this machine")
        url = f"http://{url}"
    try:
        place = urlsplit(url)
        is_whole = place.scheme in ("http", "https") and bool(place.hostname) and (place.port or 80) > 0
        is_whole = is_whole and not place.netloc.endswith(":")
    except ValueError:
        is_whole = False
    if not is_whole:
        raise _no_url(text, "or a port of this machine, such as 3000")
    return url


_HERE = re.compile(r"(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?=[:/?]|$)", re.IGNORECASE)


def _no_url(text: str, more: str) -> click.BadParameter:
    said = f"{text!r} is no URL: write one such as http://localhost:3000/webhooks, {more}"
    return click.BadParameter(said, param_hint="--forward-to")


@click.command(name="listen", short_help="Post events to a server on your machine as they come: for development.")
@click.option("--forward-to", "url", required=True, metavar="URL", help="Such as localhost:3000/webhooks, or 3000.")
@click.option("--events", "types", multiple=True, metavar="TYPE", help="Only these: a type, or booking.*; repeatable.")
@click.option("--tenant", help="Only events of this tenant.  [default: the key's, or all]")
@click.option("--secret-file", metavar="FILE", help="Sign with the secret in it; else one is made up and printed.")
@options
def command(target: Target, url: str, types: Sequence[str], tenant: str | None, secret_file: str | None) -> None:
    """Post every new event to URL, signed as a delivery is, and print what it answers.

    Goes on after a break of the connection where it was. Ends with Ctrl-C.

    \b
    Exit codes: 2 usage, 69 the daemon cannot be reached, 77 not permitted, 130 ended by Ctrl-C.

    \b
    Examples:
      hookrelay listen --forward-to localhost:3000/webhooks
      hookrelay listen --forward-to http://localhost:3000/webhooks --events 'booking.*' --tenant acme
    """
    url = _whole(url)
    from hookrelay.net.forward import Forwarder

    key = secrets.token_bytes(32) if secret_file is None else read_key(secret_file)
    if secret_file is None:
        click.echo(f"signed with whsec_{base64.b64encode(key).decode()}: give it to what verifies", err=True)
    query = {"types": ",".join(types) or None, "tenant": tenant}
    with target.client() as client, Forwarder(url) as forwarder:
        listener = _Listener(client, url, forwarder, key, query, is_json=target.is_json)
        try:
            listener.run()
        except KeyboardInterrupt:
            click.echo(f"\n{listener.counts['accepted']} accepted, {listener.counts['refused']} not", err=True)
            sys.exit(EX_INTERRUPTED)
