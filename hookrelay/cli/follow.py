"""Follows the daemon's stream of deliveries, over breaks, until Ctrl-C."""

import json
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from hookrelay.cli.api import Target
from hookrelay.cli.exchange import error_text
from hookrelay.cli.shown import clean, coloured

if TYPE_CHECKING:
    from hookrelay.net.api_client import ApiClient

EX_INTERRUPTED = 130
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


def follow(target: Target, query: Mapping[str, object], status: str | None) -> None:
    """Print every delivery that the stream tells of, of those with `status` where it is given; ends with Ctrl-C."""
    try:
        with target.client() as client:
            _Follower(client, query, status, target.is_json).run()
    except KeyboardInterrupt:
        sys.exit(EX_INTERRUPTED)


class _Follower:
    def __init__(self, client: "ApiClient", query: Mapping[str, object], status: str | None, is_json: bool) -> None:
        self._client = client
        self._query = query
        self._status = status
        self._is_json = is_json
        self._wait_s = FIRST_WAIT_S
        self._was_there = False

    def run(self) -> None:
        """Never returns. Raises Problem, and Unreachable where the daemon was not there to begin with."""
        from hookrelay.net.api_client import Problem, Unreachable

        while True:
            try:
                self._follow_once()
                why = "the daemon ended the stream"
            except Unreachable as error:
                if not self._was_there or error.is_forbidden:
                    raise
                why = str(error)
            except Problem as problem:
                # too many streams, or a daemon that starts or stops: that passes
                if not self._was_there or problem.status not in (429, 502, 503, 504):
                    raise
                why = problem.detail
            click.echo(f"hookrelay: {clean(why)}: asking again in {self._wait_s:g} s", err=True)
            time.sleep(self._wait_s)
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def _follow_once(self) -> None:
        with self._client.stream("/v1/events/stream", self._query) as messages:
            if self._was_there:
                click.echo(
                    "hookrelay: connected again; `hookrelay deliveries list` shows what passed meanwhile", err=True
                )
            self._was_there = True
            self._wait_s = FIRST_WAIT_S
            for message in messages:
                if message.kind == "delivery":
                    self._show(json.loads(message.data))

    def _show(self, delivery: dict[str, Any]) -> None:
        if self._status is not None and delivery["status"] != self._status:
            return
        click.echo(json.dumps(delivery) if self._is_json else _line(delivery))


def _line(delivery: dict[str, Any]) -> str:
    """What an attempt of a delivery came to."""
    took = delivery["response_time_ms"]
    parts = [
        f"{datetime.now():%H:%M:%S}",
        coloured(delivery["status"], width=9),
        f"{delivery['response_code'] or '-':>3}",
        f"{'-' if took is None else f'{took:.0f} ms':>8}",
        clean(delivery["event_type"]),
        delivery["id"],
        f"to {delivery['webhook_id']}",
        f"attempt {delivery['attempt_count']}",
    ]
    if delivery["error"] is not None:
        parts.append(clean(error_text(delivery["error"])))
    return "  ".join(parts)
