"""`hookrelay explain`: would a delivery to this URL go out, and which rule decides? Connects to no receiver."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import click

from hookrelay.config.load import DEFAULT_PATH, find, load
from hookrelay.config.settings import EgressSettings, Loaded
from hookrelay.config.show import without_password
from hookrelay.model import ConfigError, Trust
from hookrelay.rules.egress import Policy, Target, is_literal, judge_address, judge_name, target
from hookrelay.rules.egress_url import as_stored, check_text, tidied

EX_CONFIG = 78
REFUSED_EARLY = (
    "a webhook with this URL is refused when it is made or its file is loaded, and sends nothing if it exists"
)


class _No(Exception):
    """No delivery would go out; says what would happen instead."""


def explain(url: str, config: Path | None, addresses: Sequence[str]) -> int:
    """Print every step of a delivery to `url` and the verdict; returns the exit code.

    With `addresses` these are judged, and no name is looked up.
    """
    try:
        loaded = load(find(config), os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            click.echo(str(mistake), err=True)
        return EX_CONFIG
    egress = loaded.config.egress
    policy = egress.policy
    try:
        ascii_url, where = _read_text(url, policy)
        _judge_name(where, policy)
        found = _look_up(where, egress, addresses)
        _judge_addresses(where, found, policy)
        _say_route(egress)
        _check_trust(ascii_url, where, loaded)
    except _No as no:
        click.echo(f"verdict: no: {no}")
        return 1
    click.echo("verdict: yes: a delivery would go out")
    return 0


# --- steps ------------------------------------------------------------------------------------------------------


def _read_text(url: str, policy: Policy) -> tuple[str, Target]:
    try:
        ascii_url = as_stored(url)
        wrong = check_text(ascii_url, policy)
    except ValueError as error:
        wrong = str(error)
    if wrong is not None:
        _step("1 text", f"wrong: {wrong}")
        raise _No(REFUSED_EARLY)
    where = target(ascii_url)
    # path and query may carry a token
    typed = "" if ascii_url == tidied(url) else f" ({re.split('[/?#:]', tidied(url))[3]} as typed)"
    _step("1 text", f"right: {where.scheme} to {where.host}{typed}, port {where.port}")
    return ascii_url, where


def _judge_name(where: Target, policy: Policy) -> None:
    if is_literal(where.host):
        _step("2 name", f"none: {where.host} is an address")
        return
    ruling = judge_name(where.host, where.port, policy)
    _step("2 name", f"{where.host}: {_said(ruling.is_allowed, ruling.rule, ruling.remedy)}")
    if not ruling.is_allowed:
        raise _No(REFUSED_EARLY)


def _look_up(where: Target, egress: EgressSettings, addresses: Sequence[str]) -> Sequence[str]:
    if is_literal(where.host):
        _step("3 look-up", "none")
        return [where.host]
    if addresses:
        _step("3 look-up", f"none: taken from --address: {', '.join(addresses)}")
        return addresses
    import trio

    from hookrelay.net.failure import AttemptFailure
    from hookrelay.net.resolve import Resolver

    server = egress.resolver
    resolver = Resolver(None if server is None else (server.host, server.port))
    asked = "the system's resolver" if server is None else f"egress.resolver {server}"
    try:
        found = [address.ip for address in trio.run(resolver.look_up, where.host, where.port)]
    except AttemptFailure as failure:
        _step("3 look-up", f"failed, by {asked}: {failure.detail}")
        raise _No(f"an attempt would end now as {failure.code}") from None
    _step("3 look-up", f"{', '.join(found)}, by {asked}")
    return found


def _judge_addresses(where: Target, found: Sequence[str], policy: Policy) -> None:
    name = None if is_literal(where.host) else where.host
    rulings = {address: judge_address(address, where.port, policy, name) for address in found}
    said = [f"{address}: {_said(ruling.is_allowed, ruling.rule, ruling.remedy)}" for address, ruling in rulings.items()]
    _step("4 address", *said)
    if not all(ruling.is_allowed for ruling in rulings.values()):
        more = ": one refused address refuses all" if len(rulings) > 1 else ""
        raise _No(REFUSED_EARLY if name is None else f"an attempt would end as egress_blocked{more}")


def _say_route(egress: EgressSettings) -> None:
    if egress.proxy is None:
        _step("5 route", "direct: egress.proxy is not set")
    else:
        _step("5 route", f"through egress.proxy {without_password(egress.proxy)}")


def _check_trust(url: str, where: Target, loaded: Loaded) -> None:
    if where.scheme == "http":
        _step("6 trust", "none: http is neither encrypted nor authenticated; egress.allow_http = true allows it")
        return
    from hookrelay.net.trust import check

    own = {webhook.trust: webhook for webhook in loaded.webhooks if webhook.url == url}
    ca_file = loaded.config.egress.ca_file
    said, wrong = [], []
    for trust, webhook in own.items() or [(None, None)]:
        whose = "" if webhook is None else f"webhook {webhook.id} ({webhook.source}): "
        mistake = check(None if ca_file is None else str(ca_file), trust)
        wrong += [mistake] if mistake else []
        said.append(f"{whose}{mistake or _rests_on(ca_file, trust)}")
    _step("6 trust", *said)
    if wrong:
        raise _No("an attempt would end as local_fault")


def _rests_on(ca_file: Path | None, trust: Trust | None) -> str:
    trust = trust or Trust()
    authorities = ["the system's authorities"]
    authorities += [f"those of {file}" for file in (ca_file, trust.ca_file) if file is not None]
    shows = "" if trust.cert_file is None else f"; the certificate of {trust.cert_file} is shown"
    return f"TLS 1.2 or newer, verified against {' and '.join(authorities)}{shows}"


# --- words ------------------------------------------------------------------------------------------------------


def _said(is_allowed: bool, rule: str, remedy: str) -> str:
    return f"allowed: {rule}" if is_allowed else f"refused by {rule}; {remedy}"


def _step(title: str, *lines: str) -> None:
    for line in lines:
        # a name server's words, or a mistyped URL's
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        click.echo(f"{title:<10} {shown}")
        title = ""


@click.command(name="explain", short_help="Say where deliveries to a URL would go, and which rule decides.")
@click.argument("url")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help=f"The configuration file.  [default: {DEFAULT_PATH}, or built-in settings where that does not exist]",
)
@click.option("--address", "addresses", multiple=True, help="Judge this address, and look no name up. May be repeated.")
@click.pass_context
def command(context: click.Context, url: str, config: Path | None, addresses: tuple[str, ...]) -> None:
    """Say step by step what would become of a delivery to URL, and which rule decides.

    Reads the same files as the daemon and looks the host's name up, but connects to no receiver.

    \b
    Exit codes: 0 a delivery would go out, 1 none would, 2 usage, 78 a mistake in the configuration.

    \b
    Examples:
      hookrelay explain https://hooks.example.com/in
      hookrelay explain https://billing.internal/ --config ./hookrelay.toml
      hookrelay explain https://hooks.example.com/ --address 10.1.2.3 --address 2001:db8::1
    """
    for address in addresses:
        if not is_literal(address):
            raise click.BadParameter(f"{address!r} is not an address: write one such as 203.0.113.7 or 2001:db8::1")
    context.exit(explain(url, config, addresses))
