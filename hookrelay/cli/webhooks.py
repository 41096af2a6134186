"""`hookrelay webhooks`: everything about webhooks that the HTTP API offers."""

import sys
from collections.abc import Callable
from typing import Any

import click

from hookrelay.cli.api import (
    EX_NO,
    WEBHOOK,
    Target,
    confirm,
    options,
    options_where,
    paging,
    read_json,
    read_secret,
    read_text,
    show_list,
)
from hookrelay.cli.exchange import show_exchange
from hookrelay.cli.misspelt import Group
from hookrelay.cli.shown import echo_json, facts

_RESETTABLE = (*("description", "headers", "max-in-flight", "metadata", "ordered", "rate-limit", "retry", "timeout"),)
_UNREADABLE = "74 a file cannot be read"


@click.group(cls=Group, short_help="List, make, change, test and delete webhooks.")
def command() -> None:
    """Manage webhooks over the daemon's HTTP API.

    Over the daemon's Unix socket whoever may open it is an administrator; over TCP a key is needed, in HOOKRELAY_KEY.

    \b
    Examples:
      hookrelay webhooks list
      hookrelay webhooks create --url https://hooks.example.com/in --event 'booking.*'
      hookrelay webhooks test wh_01HQ3K5M7N8P9QRSTVWXYZ0123
    """


def fields(*, for_new: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options that say what a webhook is."""
    given = [
        click.option("--url", required=for_new, help="Where deliveries are posted."),
        click.option(
            "--event", "events", multiple=True, required=for_new, help="A type, 'booking.*' or '*'. May be repeated."
        ),
        click.option("--description", help="A note for people."),
        click.option("--rate-limit", help="At most so many attempts, such as 10/s, 600/m or '10/s burst 50'."),
        click.option("--max-in-flight", type=int, help="At most so many attempts at once.  [default: 8]"),
        click.option("--timeout", help="How long one attempt may take, such as 30s."),
        click.option(
            "--retry",
            multiple=True,
            help="A wait before the next attempt, such as 5m (may be repeated); 'exponential(1s, 2, 1h, 12)'; or none.",
        ),
        click.option(
            "--header",
            "headers",
            multiple=True,
            metavar="'NAME: VALUE'",
            help="A header of every delivery. May be repeated. Other processes can see the value: see --header-file.",
        ),
        click.option(
            "--header-file",
            "header_files",
            multiple=True,
            metavar="NAME=FILE",
            help="A header whose value stands in FILE (- is standard input). May be repeated.",
        ),
        click.option("--ordered/--no-ordered", default=None, help="Deliver one after the other, in order."),
        click.option("--metadata", metavar="JSON", help="An object of your own; @FILE reads it from a file."),
    ]

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(given):
            command = option(command)
        return command

    return give


# --- looking ----------------------------------------------------------------------------------------------------


@command.command("list")
@click.option("--status", type=click.Choice(["active", "paused", "disabled"]), help="Only these.")
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--search", metavar="TEXT", help="Only those with this text in their id, URL or description.")
@paging
@options
def list_(target: Target, status: str | None, tenant: str | None, search: str | None, limit: int | None) -> None:
    """List webhooks, by id.

    \b
    Examples:
      hookrelay webhooks list --status disabled
      hookrelay webhooks list --tenant acme --output json
    """
    show_list(
        target,
        "/v1/webhooks",
        {"status": status, "tenant": tenant, "q": search},
        {
            "id": lambda row: row["id"],
            "status": lambda row: row["status"],
            "url": lambda row: row["url"],
            "events": lambda row: row["events"],
            "tenant": lambda row: row["tenant"],
            "source": lambda row: row["source"],
        },
        limit=limit,
        nothing="No webhooks: `hookrelay webhooks create --help` says how one is made.",
    )


@command.command("show")
@click.argument("webhook", type=WEBHOOK)
@options
def show(target: Target, webhook: str) -> None:
    """Show a webhook, and what waits for it.

    \b
    Example:
      hookrelay webhooks show wh_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        found = client.call("GET", f"/v1/webhooks/{webhook}", query={"include": "waiting"})
    _show(target, found)


# --- changing ---------------------------------------------------------------------------------------------------


@command.command("create")
@fields(for_new=True)
@click.option("--tenant", help="Whose it is.  [default: default, or the key's]")
@click.option(
    "--secret-file", metavar="FILE", help="Sign with the secret in FILE (- is standard input), not a new one."
)
@click.option("--idempotency-key", help="With the same key again, the same webhook is shown and none is made.")
@options_where("the daemon refuses", _UNREADABLE)
def create(
    target: Target, tenant: str | None, secret_file: str | None, idempotency_key: str | None, **given: Any
) -> None:
    """Make a webhook, and print its secret: this once only.

    \b
    Examples:
      hookrelay webhooks create --url https://hooks.example.com/in --event booking.created --event 'payment.*'
      hookrelay webhooks create --url https://hooks.example.com/in --event '*' --tenant acme \\
        --rate-limit 10/s --retry 5s --retry 5m --retry 2h --header 'x-source: shop'
      hookrelay webhooks create --url https://hooks.example.com/in --event '*' --header-file authorization=token.txt
    """
    body = _body(given)
    if tenant is not None:
        body["tenant"] = tenant
    if secret_file is not None:
        body["secret"] = read_secret(secret_file)
    headers = None if idempotency_key is None else {"idempotency-key": idempotency_key}
    with target.client() as client:
        made = client.call("POST", "/v1/webhooks", body=body, headers=headers)
    _show(target, made)
    _say_once(target, made)


@command.command("update")
@click.argument("webhook", type=WEBHOOK)
@fields(for_new=False)
@click.option("--remove-header", "removed", multiple=True, metavar="NAME", help="Send this header no more.")
@click.option("--reset", multiple=True, type=click.Choice(_RESETTABLE), help="Back to the default. May be repeated.")
@options_where("the daemon refuses", _UNREADABLE)
def update(target: Target, webhook: str, removed: tuple[str, ...], reset: tuple[str, ...], **given: Any) -> None:
    """Change what is given, and leave the rest as it is.

    --event and --retry replace all that were there. --header adds to the headers, --metadata to the metadata's keys
    (null takes one away).

    \b
    Examples:
      hookrelay webhooks update wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --url https://hooks.example.com/new
      hookrelay webhooks update wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --event 'booking.*' --event payment.failed
      hookrelay webhooks update wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --reset retry --remove-header x-source
    """
    body = _body(given)
    if removed:
        body["headers"] = body.get("headers", {}) | dict.fromkeys(removed)
    for name in reset:
        field = name.replace("-", "_")
        if field in body:
            raise click.UsageError(f"--reset {name} and a new value for it cannot both be meant: leave one out.")
        body[field] = None
    if not body:
        raise click.UsageError("Nothing to change was given: `hookrelay webhooks update --help` lists what can be.")
    with target.client() as client:
        changed = client.call("PATCH", f"/v1/webhooks/{webhook}", body=body)
    _show(target, changed)


@command.command("delete")
@click.argument("webhook", type=WEBHOOK)
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def delete(target: Target, webhook: str, yes: bool) -> None:
    """Delete a webhook. What waits for it is cancelled; its history stays until its retention ends.

    \b
    Example:
      hookrelay webhooks delete wh_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        if not yes:
            found = client.call("GET", f"/v1/webhooks/{webhook}", query={"include": "waiting"})
            confirm(f"Delete {webhook} ({found['url']}) and cancel {_waiting(found)}?", yes)
        client.call("DELETE", f"/v1/webhooks/{webhook}")
    if not target.is_json:
        click.echo(f"{webhook} is deleted")


@command.command("pause")
@click.argument("webhook", type=WEBHOOK)
@options
def pause(target: Target, webhook: str) -> None:
    """Attempt no deliveries to a webhook until it is resumed: its events are kept.

    \b
    Example:
      hookrelay webhooks pause wh_01HQ3K5M7N8P9QRSTVWXYZ0123
    """
    with target.client() as client:
        changed = client.call("PATCH", f"/v1/webhooks/{webhook}", body={"status": "paused"})
    if target.is_json:
        echo_json(changed)
    else:
        click.echo(f"{webhook} is paused: `hookrelay webhooks resume {webhook}` delivers what is held until then")


@command.command("resume")
@click.argument("webhook", type=WEBHOOK)
@click.option("--discard", is_flag=True, help="Cancel what was held meanwhile, instead of delivering it.")
@click.option("--yes", is_flag=True, help="Do not ask before anything is cancelled.")
@options
def resume(target: Target, webhook: str, discard: bool, yes: bool) -> None:
    """Make a paused or disabled webhook active again.

    \b
    Examples:
      hookrelay webhooks resume wh_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay webhooks resume wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --discard
    """
    body = {"status": "active"} | ({"held": "discard"} if discard else {})
    with target.client() as client:
        if discard and not yes:
            found = client.call("GET", f"/v1/webhooks/{webhook}", query={"include": "waiting"})
            confirm(f"Resume {webhook} ({found['url']}) and cancel {_waiting(found)}?", yes)
        changed = client.call("PATCH", f"/v1/webhooks/{webhook}", body=body)
    if target.is_json:
        echo_json(changed)
    else:
        click.echo(f"{webhook} is active: what was held is {'cancelled' if discard else 'delivered now'}")


@command.command("rotate-secret")
@click.argument("webhook", type=WEBHOOK)
@click.option("--overlap", metavar="DURATION", help="How long the old secret signs as well.  [default: 24h]")
@click.option("--secret-file", metavar="FILE", help="Take the secret in FILE (- is standard input), not a new one.")
@options_where("the daemon refuses", _UNREADABLE)
def rotate_secret(target: Target, webhook: str, overlap: str | None, secret_file: str | None) -> None:
    """Give a webhook a new secret, and print it: this once only.

    Until the overlap ends deliveries carry two signatures, so that the receiver can change over in peace.

    \b
    Examples:
      hookrelay webhooks rotate-secret wh_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay webhooks rotate-secret wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --overlap 0s
    """
    body = {} if overlap is None else {"overlap": overlap}
    if secret_file is not None:
        body["secret"] = read_secret(secret_file)
    with target.client() as client:
        rotated = client.call("POST", f"/v1/webhooks/{webhook}/rotate-secret", body=body)
    if target.is_json:
        echo_json(rotated)
    else:
        facts(
            {
                "id": webhook,
                "url": rotated["url"],
                "secret": rotated["secret"],
                "old secret until": rotated["previous_secret_until"] or "now: it signs no more",
            }
        )
    _say_once(target, rotated)


# --- trying -----------------------------------------------------------------------------------------------------


@command.command("test")
@click.argument("webhook", type=WEBHOOK)
@click.option("--type", "event_type", metavar="TYPE", help="The test event's type.  [default: the daemon chooses]")
@click.option("--data", metavar="JSON", help="Its data; @FILE reads it from a file, - from standard input.")
@options_where("the receiver did not accept it, or the daemon refuses", _UNREADABLE)
def test(target: Target, webhook: str, event_type: str | None, data: str | None) -> None:
    """Send a test event now, once, and print what went out and what came back.

    It carries "test": true. Works for paused and disabled webhooks too, and counts towards nothing.

    \b
    Examples:
      hookrelay webhooks test wh_01HQ3K5M7N8P9QRSTVWXYZ0123
      hookrelay webhooks test wh_01HQ3K5M7N8P9QRSTVWXYZ0123 --type booking.created --data '{"booking": 7}'
    """
    body: dict[str, Any] = {} if event_type is None else {"type": event_type}
    if data is not None:
        body["data"] = read_json("--data", data)
    with target.client() as client:
        delivery = client.call("POST", f"/v1/webhooks/{webhook}/test", body=body)
    if target.is_json:
        echo_json(delivery)
    else:
        show_exchange(delivery)
    if delivery["status"] != "succeeded":
        sys.exit(EX_NO)


# --- words ------------------------------------------------------------------------------------------------------


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The fields that were given, as the API takes them."""
    headers, header_files = given.pop("headers"), given.pop("header_files")
    retry, events, metadata = given.pop("retry"), given.pop("events"), given.pop("metadata")
    body = {name: value for name, value in given.items() if value is not None}
    if events:
        body["events"] = list(events)
    if retry:
        body["retry"] = _retry(retry)
    if metadata is not None:
        body["metadata"] = read_json("--metadata", metadata)
    if headers or header_files:
        body["headers"] = _headers(headers, header_files)
    return body


def _retry(given: tuple[str, ...]) -> str | list[str]:
    if given == ("none",):
        return []
    return given[0] if len(given) == 1 and given[0].startswith("exponential") else list(given)


def _headers(headers: tuple[str, ...], files: tuple[str, ...]) -> dict[str, str]:
    said: dict[str, str] = {}
    for text in headers:
        name, colon, value = text.partition(":")
        if not colon:
            # its text stays unsaid: it may be a password
            raise click.UsageError("--header is a name, a colon and a value, such as 'x-source: shop'.")
        said[name.strip()] = value.strip()
    for text in files:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise click.UsageError("--header-file is a name, = and a file, such as authorization=token.txt.")
        said[name.strip()] = read_text(file).strip()
    return said


def _show(target: Target, webhook: dict[str, Any]) -> None:
    if target.is_json:
        echo_json(webhook)
        return
    shown = {name.replace("_", " "): value for name, value in webhook.items() if name != "waiting"}
    if "waiting" in webhook:
        shown["waiting"] = _waiting(webhook) + _why(webhook["waiting"])
    facts(shown)


def _waiting(webhook: dict[str, Any]) -> str:
    waiting = webhook["waiting"]
    return f"{waiting['pending']} pending and {waiting['held']} held deliveries"


_WHY = {
    "in_flight": "as many as max_in_flight allows are under way",
    "rate_limit": "its rate limit says when the next may go",
    "held": "its receiver asked for a pause",
    "slowed": "its receiver is overloaded, so it is called less often",
    "not_due": "the next attempt is not due yet",
}


def _why(waiting: dict[str, Any]) -> str:
    if waiting["why"] is None:
        return ""
    until = f", until {waiting['until']}" if waiting["until"] else ""
    return f": {_WHY.get(waiting['why'], waiting['why'])}{until}"


def _say_once(target: Target, webhook: dict[str, Any]) -> None:
    if target.is_json:
        return
    if "secret" in webhook:
        said = "The secret is shown this once: give it to the receiver, who checks signatures with it."
    else:
        said = f"Its secret has changed since: `hookrelay webhooks rotate-secret {webhook['id']}` makes another."
    click.echo(said, err=True)
