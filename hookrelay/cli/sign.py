"""`hookrelay sign`: what a delivery of a payload would be signed with. Asks no daemon."""

import os
import sys
import time
from pathlib import Path

import click

from hookrelay.cli.api import EX_IO, EX_USAGE, fail
from hookrelay.cli.shown import echo_json

SECRET_VARIABLE = "HOOKRELAY_SECRET"  # noqa: S105 -- the variable's name, no secret


def read_key(file: str | None) -> bytes:
    """The key of the secret in a file (- is standard input), or in HOOKRELAY_SECRET: others can read a command line."""
    from hookrelay.rules.webhook_texts import decode_secret

    if file is not None:
        text = read_bytes(file).decode("ascii", "replace").strip().splitlines()[:1]
        secret = text[0] if text else ""
    else:
        secret = os.environ.get(SECRET_VARIABLE, "")
        if not secret:
            raise click.UsageError(
                f"give the secret by --secret-file FILE (- for standard input), or in {SECRET_VARIABLE}"
            )
    try:
        return decode_secret(secret)
    except ValueError as error:
        fail(EX_USAGE, f"the secret {error}")


def read_bytes(file: str) -> bytes:
    """All of a file, or of standard input where it is -."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(EX_IO, f"{file}: {error.strerror}")


@click.command(name="sign", short_help="Sign a payload as deliveries are signed.")
@click.option("--secret-file", metavar="FILE", help="Holds the secret, whsec_…; - is standard input.")
@click.option("--id", "id", required=True, help="The webhook-id: the event's id.")
@click.option("--timestamp", type=int, help="Unix seconds.  [default: now]")
@click.option("--body", "body", metavar="FILE", default="-", help="The payload.  [default: standard input]")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="json: stable, for scripts.")
def command(secret_file: str | None, id: str, timestamp: int | None, body: str, output: str) -> None:
    """Print the headers that prove that a payload is from whoever knows the secret (Standard Webhooks 1.0.0).

    \b
    The secret is read from --secret-file, or from HOOKRELAY_SECRET.
    Exit codes: 0 signed, 2 usage, 74 a file cannot be read.

    \b
    Examples:
      HOOKRELAY_SECRET=whsec_... hookrelay sign --id evt_1 --body payload.json
      hookrelay sign --secret-file secret.txt --id evt_1 --timestamp 1795456294 < payload.json
    """
    from hookrelay.rules.sign import Signer

    if [secret_file, body] == ["-", "-"]:
        raise click.UsageError("--secret-file and --body both read standard input: name a file for one of them")
    key = read_key(secret_file)
    moment = int(time.time()) if timestamp is None else timestamp
    signature = Signer([key]).signature(id, moment, read_bytes(body)).decode()
    headers = {"webhook-id": id, "webhook-timestamp": str(moment), "webhook-signature": signature}
    if output == "json":
        echo_json(headers)
    else:
        for name, value in headers.items():
            click.echo(f"{name}: {value}")
