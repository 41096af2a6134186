"""Is a webhook's URL one that hookrelay may call, as far as its text says?

The same text means the same host to every reader: what resolvers and browsers read in different ways is refused. What
is wrong is said without path and query, which may carry a token.
"""

import re
from ipaddress import IPv4Address, IPv6Address

import idna

from hookrelay.rules.egress import (
    DEFAULT_PORTS,
    NOT_PUBLIC,
    Policy,
    Ruling,
    Target,
    is_literal,
    judge_address,
    judge_name,
    target,
)
from hookrelay.rules.wording import shown

MAX_URL = 2048
BROWSERS_BLOCK = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
)
"""Ports from 1024 on where no web server is to be expected: the Fetch standard's list of bad ports."""

_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?]*)(?:[/?].*)?")
_INTERNATIONAL = re.compile(r"(https?://)([^/?#@\\:\[\]]*)((?::[^/?#@]*)?(?:[/?#].*)?)", re.DOTALL)
_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]*")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^\[\]:]*)(?P<port>:[^:]*)?")
_PORT = re.compile(r":[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_EXAMPLE = '"https://example.com:8443/hooks"'
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:")
_PASTED = " \t\r\n\v\f\u00a0\u2028\u2029\u200b\ufeff"
"""What comes along before and behind a text that is copied from a page, a mail or a terminal."""


def check_url(url: str, policy: Policy, *, is_operator: bool = True) -> str | None:
    """What is wrong with a URL, and how an operator may allow it where that is possible; None where nothing is.

    Whoever is none is told neither what a name leads to nor what operators have set (THREATS §3).
    """
    wrong = check_text(url, policy, is_operator=is_operator)
    if wrong is not None:
        return wrong
    where = target(url)
    ruling = judge_host(where, policy)
    if ruling.is_allowed:
        return None
    if not is_operator:
        return f"{shown(where.host)} {NOT_PUBLIC}"
    return f"{shown(where.host)} is refused by {ruling.rule}; {ruling.remedy}"


def judge_host(where: Target, policy: Policy) -> Ruling:
    """Whether what a URL names may be called: an address, or a name whose addresses are judged at every connection."""
    if is_literal(where.host):
        return judge_address(where.host, where.port, policy)
    return judge_name(where.host, where.port, policy)


def check_text(url: str, policy: Policy, *, is_operator: bool = True) -> str | None:
    """What is wrong with a URL whatever its host may be; None where nothing is.

    Ports are 443, 80 for http, and those from 1024 on but `BROWSERS_BLOCK`. A rule of `egress.allow` that covers the
    host and names the port opens any other; for a name that is a rule about the name, as its addresses are not known.
    """
    if len(url) > MAX_URL:
        return f"is {len(url)} characters long: at most {MAX_URL}"
    if "#" in url:
        return "has a fragment: a receiver never sees what follows #, leave it out"
    if (good := _CHARACTERS.match(url)) is not None and good.end() < len(url):
        return _odd_character(url, good.end())
    match = _URL.fullmatch(url)
    if match is None:
        return 'is not a webhook\'s address: it starts with https:// and a host, such as "https://example.com/hooks"'
    authority = match["authority"]
    if "@" in authority:
        return "holds a user name or password: leave them out and use `headers` to authenticate"
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        return f"has no proper host: a name, or an address (IPv6 in brackets), and maybe a port, such as {_EXAMPLE}"
    if parts["port"] is not None and (not _PORT.fullmatch(parts["port"]) or int(parts["port"][1:]) > 65535):
        return f"has no proper port: after the host's colon stands a number from 1 to 65535, such as {_EXAMPLE}"
    if (wrong := _host_mistake(parts["host"].lower())) is not None:
        return wrong
    if match["scheme"] == "http" and not policy.allow_http:
        if not is_operator:
            return "is plain http: use https://"
        return (
            "is plain http, which egress.allow_http = false refuses: use https://, "
            "or an operator may set egress.allow_http = true"
        )
    wrong = _port_mistake(target(url), policy)
    return wrong if wrong is None or is_operator else f"has port {target(url).port}: use 443 or 8443"


def tidied(url: str) -> str:
    """The URL without the blanks it was pasted with, its scheme in lower case (RFC 3986 §3.1); all else as it is.

    Phones begin what is typed with a capital, and copying takes a space or the line's end along.
    """
    url = url.strip(_PASTED)
    scheme = _SCHEME.match(url)
    return url if scheme is None else scheme[0].lower() + url[scheme.end() :]


def as_stored(url: str) -> str:
    """The URL as it is kept and called: tidied, an international host name in ASCII as IDNA 2008 writes it (`xn--…`).

    ValueError where the name is none that IDNA 2008 knows. Nothing is mapped, for a reader would then see another name
    than the one that is called: no circled digits, no ideographic full stops, no upper case beyond ASCII.
    """
    url = tidied(url)
    match = None if url.isascii() or len(url) > MAX_URL else _INTERNATIONAL.fullmatch(url)
    if match is None or match[2].isascii():
        return url
    labels = []
    for label in match[2].split("."):
        try:
            # upper case in ASCII alone: `str.lower` makes plain letters of some signs
            labels.append(label if label.isascii() else idna.alabel(_lower_ascii(label)).decode())
        except UnicodeError:
            raise ValueError(
                f"has {shown(label)} in its host, which IDNA 2008 does not know: write the name in lower-case letters "
                "and digits, or as its xn-- form"
            ) from None
    return match[1] + ".".join(labels) + match[3]


# --- parts ------------------------------------------------------------------------------------------------------


def _host_mistake(host: str) -> str | None:
    if not host:
        return f"has no host: write a name or an address after https://, such as {_EXAMPLE}"
    if host.startswith("["):
        return _v6_mistake(host[1:-1])
    if "%" in host:
        return "has % in its host: write the host's name as it is, an international one in its xn-- form"
    if host.endswith("."):
        return "has a dot at the end of its host: leave it out"
    if len(host) > 253:
        return f"has a host of {len(host)} characters: a name has at most 253"
    labels = host.split(".")
    for label in labels:
        if not label:
            return "has two dots in a row in its host, or one at its start: leave one out"
        if len(label) > 63:
            return f"has a part of {len(label)} characters in its host: at most 63 stand between two dots"
        if not _LABEL.fullmatch(label):
            return f"has {shown(label)} in its host: letters, digits and - (not at either end), such as {_EXAMPLE}"
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        try:
            IPv4Address(host)
        except ValueError:
            return (
                f"has the host {shown(host)}, which some would read as an address: write a name, or an IPv4 address "
                'as four decimal numbers without leading zeros, such as "203.0.113.7"'
            )
    return None


def _v6_mistake(literal: str) -> str | None:
    if "%" in literal:
        return "has an address with a zone id (%): no receiver can be told by one, write the address alone or a name"
    try:
        IPv6Address(literal)
    except ValueError:
        return 'has no IPv6 address in its brackets: write one such as "https://[2001:db8::1]:8443/hooks", or a name'
    return None


def _port_mistake(where: Target, policy: Policy) -> str | None:
    _, host, port, _ = where
    if port == DEFAULT_PORTS["https"] or port == DEFAULT_PORTS[where.scheme]:
        return None
    if port >= 1024 and port not in BROWSERS_BLOCK:
        return None
    if not is_literal(host):
        entry = f"{host}:{port}"
        if policy.name_rule(host, port, port_named=True) is not None:
            return None
    elif ":" in host:
        entry = f"[{host}/128]:{port}"
        if policy.allowed.find(IPv6Address(host), port, port_named=True) is not None:
            return None
    else:
        entry = f"{host}/32:{port}"
        if policy.allowed.find(IPv4Address(host), port, port_named=True) is not None:
            return None
    if port == DEFAULT_PORTS["http"]:
        said = "80 is for http"
    elif port < 1024:
        said = "below 1024 there are 443 and, for http, 80"
    else:
        said = "browsers block it, for it belongs to another protocol"
    remedy = f'use 443 or 8443, or an operator may add "{entry}" to egress.allow'
    return f"has port {port}, refused by built-in: {said}; {remedy}"


def _lower_ascii(text: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in text)


def _odd_character(url: str, at: int) -> str:
    character = url[at]
    if " " < character <= "~":
        said = f"the character {character}"
    else:
        said = "a space" if character == " " else f"the character U+{ord(character):04X}"
    if character < " " or character == "\x7f":
        right = "leave it out"
    elif character == "\\":
        right = "write / between the parts of a URL"
    else:
        right = "write it as %XX, and an international host name in its xn-- form"
    return f"has {said} at character {at + 1}: {right}"
