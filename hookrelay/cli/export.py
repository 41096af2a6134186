"""`hookrelay export`: webhooks as TOML, to be kept, compared, and read by `hookrelay import`."""

from pathlib import Path
from typing import Any

import click

from hookrelay.cli.api import EX_IO, Target, fail, options

FIELDS = (
    "url",
    "events",
    "description",
    "tenant",
    "status",
    "rate_limit",
    "max_in_flight",
    "timeout",
    "retry",
    "headers",
    "ordered",
    "metadata",
)
"""What a person may say of a webhook. Its secrets are never shown, and of its headers only the names."""


def said_of(webhook: dict[str, Any]) -> dict[str, Any]:
    """A webhook of the API as a table: its id, and whatever TOML can say (it has no null)."""
    said = {"id": webhook["id"]} | {name: webhook[name] for name in FIELDS}
    if said["status"] == "disabled":
        said["status"] = "active"  # nobody asked for that
    return {name: value for name, value in said.items() if value not in (None, "", {}, False)}


@click.command(name="export", short_help="Write webhooks as TOML.")
@click.option("--tenant", help="Only those of this tenant.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="Where to.  [default: standard output]")
@options
def command(target: Target, tenant: str | None, file: Path | None) -> None:
    """Write the webhooks that were made over the API as TOML, one [[webhook]] table each.

    Secrets are not in it, and headers have *** for their values: `hookrelay import` leaves both as they are. Webhooks
    of files are left out: they stand in files already.

    \b
    Exit codes: 0 written, 69 the daemon cannot be reached, 74 the file cannot be written, 77 not permitted.

    \b
    Examples:
      hookrelay export > webhooks.toml
      hookrelay export --tenant acme --file acme.toml
    """
    import tomli_w

    with target.client() as client:
        found = [each for each in client.pages("/v1/webhooks", {"tenant": tenant}) if each["source"] == "api"]
    if target.is_json:
        from hookrelay.cli.shown import echo_json

        echo_json([said_of(each) for each in found])
        return
    text = tomli_w.dumps({"webhook": [said_of(each) for each in found]}, multiline_strings=False)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text)
    except OSError as error:
        fail(EX_IO, f"{file}: {error.strerror}")
    click.echo(f"{len(found)} {'webhook' if len(found) == 1 else 'webhooks'} in {file}", err=True)
