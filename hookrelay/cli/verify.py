"""`hookrelay verify`: is this payload from whoever knows the secret? Asks no daemon."""

import time

import click

from hookrelay.cli.api import EX_NO
from hookrelay.cli.shown import echo_json
from hookrelay.cli.sign import read_bytes, read_key

TOLERANCE_S = 300
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


@click.command(name="verify", short_help="Check the signature of a delivery.")
@click.option("--secret-file", metavar="FILE", help="Holds the secret, whsec_…; - is standard input.")
@click.option("--headers", "headers", metavar="FILE", help="The request's header lines; others than ours are ignored.")
@click.option("--id", "id", help="The header webhook-id, where there is no --headers.")
@click.option("--timestamp", help="The header webhook-timestamp.")
@click.option("--signature", help="The header webhook-signature.")
@click.option("--body", "body", metavar="FILE", default="-", help="The payload's bytes.  [default: standard input]")
@click.option("--tolerance", type=int, default=TOLERANCE_S, show_default=True, help="Seconds it may be old, or early.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="json: stable, for scripts.")
@click.pass_context
def command(
    context: click.Context,
    /,
    secret_file: str | None,
    headers: str | None,
    body: str,
    tolerance: int,
    output: str,
    **given: str | None,
) -> None:
    """Say whether a request's signature is right, and where it is not, why.

    \b
    The secret is read from --secret-file, or from HOOKRELAY_SECRET.
    Exit codes: 0 it is right, 1 it is not, 2 usage, 74 a file cannot be read.

    \b
    Examples:
      HOOKRELAY_SECRET=whsec_... hookrelay verify --headers headers.txt --body payload.json
      hookrelay verify --secret-file secret.txt --id evt_1 --timestamp 1795456294 --signature 'v1,...' < payload.json
    """
    if [secret_file, headers, body].count("-") > 1:
        raise click.UsageError("only one of --secret-file, --headers and --body can read standard input")
    key = read_key(secret_file)
    named = {f"webhook-{name}": value for name, value in given.items()}
    said = (
        _lines(read_bytes(headers)) | {name: value for name, value in named.items() if value is not None}
        if headers
        else named
    )
    missing = [name for name in _NAMES if not said.get(name)]
    why = f"{missing[0]} is missing" if missing else _why_not(key, said, read_bytes(body), tolerance)
    if output == "json":
        echo_json({"verified": why is None, "reason": why})
    else:
        click.echo("verified" if why is None else f"not verified: {why}")
    context.exit(0 if why is None else EX_NO)


def _lines(content: bytes) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in content.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        found[name.strip().lower()] = value.strip()
    return found


def _why_not(key: bytes, said: dict[str, str | None], payload: bytes, tolerance_s: int) -> str | None:
    """What is wrong with the headers; None where nothing is."""
    from hookrelay.rules.sign import verify

    id, text, signature = (said[name] or "" for name in _NAMES)
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        return f"webhook-timestamp is not a number of unix seconds: {text[:40]!r}"
    if not any(each.startswith("v1,") for each in signature.split(" ")):
        return "webhook-signature holds no v1 signature: it looks like v1, and base64"
    timestamp, now_s = int(text), time.time()
    if not verify([key], id, timestamp, payload, signature, now_s=float(timestamp)):
        return "the signature is of another secret, id, time or payload: these bytes were not signed with it"
    ahead_s = timestamp - now_s
    if abs(ahead_s) > tolerance_s:
        return f"the signature is right, but {abs(ahead_s):.0f} s {'ahead of our clock' if ahead_s > 0 else 'old'}"
    return None
