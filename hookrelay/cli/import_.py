"""`hookrelay import`: make and change webhooks as a TOML file says."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hookrelay.cli.api import EX_IO, EX_NO, Target, confirm, fail, options
from hookrelay.cli.export import FIELDS, said_of
from hookrelay.cli.shown import clean

if TYPE_CHECKING:
    from hookrelay.config.files import Document
    from hookrelay.net.api_client import ApiClient

MAX_FILE = 16 << 20
MASK = "***"


class Change(NamedTuple):
    """What is to be done about one table of the file, or one webhook that is not in it."""

    kind: str
    """`create`, `update` or `delete`."""
    id: str | None
    said: dict[str, Any]
    """For `update` only what differs; None where a field is to be as it is by default."""
    before: dict[str, Any]
    place: int | None = None
    """The table's place in the file."""


def _read(file: Path) -> tuple["Document", list[dict[str, Any]]]:
    """The file's tables, or every mistake in them and the end of the command."""
    from hookrelay.config.files import read_toml
    from hookrelay.model import ConfigMistake

    mistakes: list[ConfigMistake] = []
    document = read_toml(file, MAX_FILE, mistakes.append)
    tables: list[dict[str, Any]] = []
    if document is not None:
        found = document.tree.get("webhook", [])
        for key in document.tree:
            if key != "webhook":
                document.wrong((key,), "is unknown: a file holds [[webhook]] tables, as `hookrelay export` writes them")
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            document.wrong(("webhook",), "is no list of tables: write its header as [[webhook]], with two brackets")
        else:
            tables = found
            _check(document, tables)
    if mistakes:
        for mistake in mistakes:
            click.echo(clean(str(mistake)), err=True)
        sys.exit(EX_NO)
    assert document is not None  # noqa: S101 -- without one there was a mistake
    return document, tables


def _check(document: "Document", tables: Sequence[dict[str, Any]]) -> None:
    """Tell of every mistake that can be seen without the daemon. What its egress rules say of a URL, it says itself."""
    from ipaddress import IPv4Network, IPv6Network

    from hookrelay.rules.egress import Policy
    from hookrelay.rules.webhook import read

    everywhere = ((IPv4Network("0.0.0.0/0"), None), (IPv6Network("::/0"), None))
    policy = Policy(allow=everywhere, deny=(), allow_http=True)
    seen: dict[str, int] = {}
    for index, table in enumerate(tables):
        _, errors = read(
            {name: value for name, value in table.items() if name != "secret"}, policy=policy, also=("id", "status")
        )
        for error in errors:
            key, _, rest = error.field.partition(".")
            inner: Sequence[str | int] = [int(rest) if isinstance(table.get(key), list) else rest] if rest else []
            document.wrong(("webhook", index, key, *inner), error.detail)
        if "secret" in table:
            document.wrong(("webhook", index, "secret"), "does not belong here: `webhooks rotate-secret` sets it")
        if table.get("status", "active") not in ("active", "paused"):
            document.wrong(("webhook", index, "status"), 'is neither "active" nor "paused"')
        id = table.get("id")
        if id is not None and (not isinstance(id, str) or not id.startswith("wh_")):
            document.wrong(("webhook", index, "id"), "is not a webhook's id: leave it out, and one is made")
        elif isinstance(id, str) and seen.setdefault(id, index) != index:
            document.wrong(("webhook", index, "id"), "stands there twice: every webhook has one table")


def _changes(tables: Sequence[dict[str, Any]], known: Mapping[str, dict[str, Any]], *, prune: bool) -> Iterator[Change]:
    """What it takes to make the API's webhooks those of the file.

    A table means the webhook with its `id`; one without means that of the same tenant and URL, where there is just one.
    """
    named = {table["id"] for table in tables if "id" in table}
    met: set[str] = set()
    for index, table in enumerate(tables):
        said = {name: value for name, value in table.items() if name != "id"}
        webhook = known.get(table.get("id", "")) or _alike(said, known, named | met)
        if webhook is None:
            yield Change("create", None, said, {}, index)
            continue
        met.add(webhook["id"])
        before = said_of(webhook)
        after = {"tenant": "default", "status": "active", **said}
        patch = {
            name: after.get(name)
            for name in FIELDS
            if after.get(name) != before.get(name) and _differs(name, after, webhook)
        }
        if patch:
            yield Change("update", webhook["id"], patch, before, index)
    if prune:
        for id, webhook in known.items():
            if id not in met:
                yield Change("delete", id, {}, said_of(webhook))


def _differs(name: str, after: Mapping[str, Any], webhook: Mapping[str, Any]) -> bool:
    """What a file leaves out says nothing, but for what it can say only by leaving it out."""
    if name not in after:
        return name in ("description", "headers", "ordered", "metadata") and bool(webhook[name])
    if name == "headers":
        return {key.lower(): MASK for key in after[name]} != {key.lower(): MASK for key in webhook[name]} or any(
            value != MASK for value in after[name].values()
        )
    return True


def _alike(said: Mapping[str, Any], known: Mapping[str, dict[str, Any]], taken: set[str]) -> dict[str, Any] | None:
    place = (said.get("tenant", "default"), said.get("url"))
    found = [each for id, each in known.items() if (each["tenant"], each["url"]) == place and id not in taken]
    return found[0] if len(found) == 1 else None


def _show(change: Change) -> None:
    """The difference, field by field."""
    if change.kind == "update":
        click.echo(f"~ {change.id}  {clean(change.before['url'])}")
        for name, value in change.said.items():
            before = change.before.get(name)
            if before is not None:
                click.secho(f"    - {name} = {clean(before)}", fg="red")
            if value is not None:
                click.secho(f"    + {name} = {clean(value)}", fg="green")
    elif change.kind == "create":
        click.secho(f"+ {clean(change.said['url'])}", fg="green")
        for name, value in change.said.items():
            if name != "url":
                click.secho(f"    + {name} = {clean(value)}", fg="green")
    else:
        click.secho(f"- {change.id}  {clean(change.before['url'])}", fg="red")


def _apply(client: "ApiClient", change: Change) -> dict[str, Any] | None:
    """Carry it out; the webhook, where it was made."""
    if change.kind == "delete":
        client.call("DELETE", f"/v1/webhooks/{change.id}")
        return None
    if change.kind == "update":
        patch = change.said
        if "headers" in patch:
            gone = dict.fromkeys(change.before.get("headers", {}))
            patch = {**patch, "headers": {**gone, **(patch["headers"] or {})}}
        client.call("PATCH", f"/v1/webhooks/{change.id}", body=patch)
        return None
    status = change.said.get("status", "active")
    said = {name: value for name, value in change.said.items() if name != "status"}
    made: dict[str, Any] = client.call("POST", "/v1/webhooks", body=said)
    if status != "active":
        client.call("PATCH", f"/v1/webhooks/{made['id']}", body={"status": status})
    return made


class _Secrets:
    """Where the secrets of new webhooks go: each is shown once."""

    def __init__(self, file: Path | None) -> None:
        self._out = None
        if file is not None:
            try:
                self._out = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
            except OSError as error:
                fail(EX_IO, f"{file}: {error.strerror}: name a file that does not exist yet")

    def tell(self, made: dict[str, Any]) -> None:
        line = f"{made['id']}  {made['secret']}  {clean(made['url'])}"
        if self._out is None:
            click.echo(line)
        else:
            self._out.write(line + "\n")
            self._out.flush()


@click.command(name="import", short_help="Make and change webhooks as a TOML file says.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
@click.option("--prune", is_flag=True, help="Delete webhooks that are not in the file.")
@click.option("--tenant", help="With --prune: only of this tenant.")
@click.option("--secrets-file", type=click.Path(path_type=Path), help="Where secrets of new webhooks go, mode 0600.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options
def command(
    target: Target,
    file: Path,
    dry_run: bool,
    prune: bool,
    tenant: str | None,
    secrets_file: Path | None,
    yes: bool,
) -> None:
    """Make the webhooks of the API those that FILE describes, as `hookrelay export` writes them.

    A table with an id means that webhook; one without means the one of the same tenant and URL, or a new one. What a
    table leaves out stays as it is, but for description, headers, ordered and metadata. A header with *** keeps its
    value. Webhooks of webhooks.d are left alone.

    \b
    Exit codes: 0 done, or no difference; 1 a mistake in the file, or refused; 2 usage; 69 the daemon cannot be
    reached; 74 a file cannot be read or written; 77 not permitted.

    \b
    Examples:
      hookrelay import webhooks.toml --dry-run
      hookrelay import webhooks.toml --yes --secrets-file new-secrets.txt
    """
    from hookrelay.net.api_client import Problem

    document, tables = _read(file)
    with target.client() as client:
        everything = {each["id"]: each for each in client.pages("/v1/webhooks", {"tenant": tenant})}
        known = {id: each for id, each in everything.items() if each["source"] == "api"}
        _check_ids(document, tables, everything)
        changes = list(_changes(tables, known, prune=prune))
        for change in changes:
            _show(change)
        kinds = [change.kind for change in changes]
        counts = ", ".join(f"{kinds.count(kind)} to {kind}" for kind in ("create", "update", "delete"))
        click.echo(counts if changes else "no difference", err=True)
        if dry_run or not changes:
            return
        confirm("Make these changes?", yes)
        secrets = _Secrets(secrets_file)
        with _progress(len(changes)) as advance:
            for change in changes:
                try:
                    made = _apply(client, change)
                except Problem as problem:
                    _tell_where(document, change, problem)
                    raise
                if made is not None:
                    secrets.tell(made)
                advance()


def _check_ids(document: "Document", tables: Sequence[dict[str, Any]], known: Mapping[str, dict[str, Any]]) -> None:
    """End the command where an id means no webhook that may be changed."""
    is_wrong = False
    for index, table in enumerate(tables):
        if "id" not in table:
            continue
        webhook = known.get(table["id"])
        if webhook is None:
            wrong = "is no webhook's id: leave it out, and one is made"
        elif webhook["source"] != "api":
            wrong = f"is defined in {webhook['source'].removeprefix('file:')}: leave it out here"
        elif table.get("tenant", "default") != webhook["tenant"]:
            wrong = f"belongs to the tenant {webhook['tenant']}: no webhook moves to another"
        else:
            continue
        is_wrong = True
        line = document.line(("webhook", index, "id"))
        click.echo(f"{document.file}:{line}: webhook[{index}].id: {clean(table['id'])} {wrong}", err=True)
    if is_wrong:
        sys.exit(EX_NO)


def _tell_where(document: "Document", change: Change, problem: Any) -> None:
    """Where in the file the daemon's refusal has its cause."""
    if change.place is not None:
        for field, _ in problem.errors:
            key = field.partition(".")[0]
            click.echo(f"{document.file}:{document.line(('webhook', change.place, key))}: {clean(field)}:", err=True)


class _progress:
    """A bar where somebody watches and it takes a while."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: Any = None

    def __enter__(self) -> Any:
        if sys.stderr.isatty() and self._total > 20:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True))
            self._bar.start()
            task = self._bar.add_task("importing", total=self._total)
            return lambda: self._bar.advance(task)
        return lambda: None

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
