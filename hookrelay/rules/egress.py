"""Where a delivery may go: what a URL names, and which names and addresses it may lead to.

Whether a URL's text is well-formed is `rules.egress_url`'s question; looking names up and connecting is `net`'s.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from msgspec import Struct

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]/?#@]+\]|[^\[\]:/?#@]+)(?::(?P<port>[0-9]{1,5}))?(?P<path>[/?].*)?"
)
DEFAULT_PORTS = {"https": 443, "http": 80}


class Target(NamedTuple):
    """What a webhook's URL names. `path` is the request target, query included (RFC 9112 §3.2.1)."""

    scheme: str
    host: str
    """A name or an address literal, in lower case, without brackets."""
    port: int
    path: str


def target(url: str) -> Target:
    """Take a URL apart. ValueError where `rules.egress_url.check_url` would not have let it through."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("a URL without scheme, host and path: rules.egress_url.check_url refuses these")
    path = match["path"] or "/"
    port = int(match["port"] or DEFAULT_PORTS[match["scheme"]])
    return Target(match["scheme"], match["host"].strip("[]").lower(), port, path if path[0] == "/" else f"/{path}")


# --- what an operator says --------------------------------------------------------------------------------------

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
AddressRule = tuple[IPNetwork, int | None]
"""A network, and the one port that the rule is about (None: every port)."""


class Policy(Struct, frozen=True, dict=True):
    """What `egress.*` says of where deliveries may go. Judging takes the same time with a thousand rules."""

    allow: tuple[AddressRule | str, ...] = ()
    """Networks, and host names in lower case: `billing.internal`, `*.internal`, `localhost:8080`."""
    deny: tuple[AddressRule, ...] = ()
    allow_http: bool = False

    @cached_property
    def allowed(self) -> "_Networks":
        """The networks of `allow`."""
        return _Networks(rule for rule in self.allow if not isinstance(rule, str))

    @cached_property
    def allowed_names(self) -> frozenset[str]:
        """The names of `allow`."""
        return frozenset(rule for rule in self.allow if isinstance(rule, str))

    @cached_property
    def denied(self) -> "_Networks":
        """The networks of `deny`."""
        return _Networks(self.deny)

    def name_rule(self, name: str, port: int, *, port_named: bool = False) -> str | None:
        """The name of `allow` that covers `name` and `port`; with `port_named` only one that names the port."""
        rules = self.allowed_names
        if not rules:
            return None
        labels = name.split(".")
        for pattern in (name, *(f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels)))):
            if f"{pattern}:{port}" in rules:
                return f"{pattern}:{port}"
            if pattern in rules and not port_named:
                return pattern
        return None


class _Networks:
    """Rules about networks, found in one step for each length of prefix that occurs among them."""

    def __init__(self, rules: Iterable[AddressRule]) -> None:
        by_length: dict[int, dict[int, dict[int, dict[int | None, AddressRule]]]] = {4: {}, 6: {}}
        self._ports: set[int | None] = set()
        for rule in rules:
            network, port = rule
            prefix = int(network.network_address) >> network.max_prefixlen - network.prefixlen
            by_length[network.version].setdefault(network.prefixlen, {}).setdefault(prefix, {})[port] = rule
            self._ports.add(port)
        self._steps = {version: sorted(lengths.items(), reverse=True) for version, lengths in by_length.items()}

    def find(self, ip: IPAddress, port: int, *, exact: bool = False, port_named: bool = False) -> AddressRule | None:
        """The narrowest rule that holds `ip` and `port`.

        With `exact` only one about that address alone, with `port_named` only one that names the port.
        """
        number, bits = int(ip), ip.max_prefixlen
        for length, networks in self._steps[ip.version]:
            if exact and length < bits:
                return None
            ports = networks.get(number >> bits - length)
            if ports is not None:
                rule = ports.get(port)
                if rule is None and not port_named:
                    rule = ports.get(None)
                if rule is not None:
                    return rule
        return None

    def speak_of(self, port: int) -> bool:
        """Whether any rule at all is about `port`."""
        return port in self._ports or None in self._ports


def written(rule: AddressRule) -> str:
    """A rule as configuration files write it: `127.0.0.1/32:8080`, `[fd00::/64]:443`."""
    network, port = rule
    if port is None:
        return str(network)
    return f"[{network}]:{port}" if network.version == 6 else f"{network}:{port}"


# --- what is refused unless an operator says otherwise ----------------------------------------------------------


class _Range(NamedTuple):
    first: int
    last: int
    said: str
    only_exact: bool
    """Whether each address of it is opened by a rule about that address alone, and by nothing wider."""


def _ranges(rows: Sequence[tuple[str, str]], *, only_exact: bool) -> tuple[_Range, ...]:
    networks = [(ip_network(text), f"{text} ({why})") for text, why in rows]
    return tuple(
        _Range(int(network.network_address), int(network.broadcast_address), said, only_exact)
        for network, said in networks
    )


# the first that holds an address gives its reason: narrow ones stand before those around them
_BLOCKED: dict[int, tuple[_Range, ...]] = {
    4: (
        *_ranges(
            (
                ("0.0.0.0/8", "this host, RFC 1122"),
                ("169.254.169.254/32", "cloud metadata"),
                ("169.254.0.0/16", "link-local, RFC 3927"),
                ("168.63.129.16/32", "cloud metadata, Azure"),
                ("100.100.100.200/32", "cloud metadata, Alibaba"),
                ("192.0.0.192/32", "cloud metadata, Oracle"),
                ("224.0.0.0/4", "multicast, RFC 5771"),
                ("255.255.255.255/32", "broadcast, RFC 919"),
            ),
            only_exact=True,
        ),
        *_ranges(
            (
                ("10.0.0.0/8", "private, RFC 1918"),
                ("100.64.0.0/10", "shared by carriers, RFC 6598"),
                ("127.0.0.0/8", "loopback, RFC 1122"),
                ("172.16.0.0/12", "private, RFC 1918"),
                ("192.0.0.0/24", "protocol assignments, RFC 6890"),
                ("192.0.2.0/24", "documentation, RFC 5737"),
                ("192.31.196.0/24", "AS112, RFC 7535"),
                ("192.52.193.0/24", "AMT, RFC 7450"),
                ("192.88.99.0/24", "6to4 relays, RFC 7526"),
                ("192.168.0.0/16", "private, RFC 1918"),
                ("192.175.48.0/24", "AS112, RFC 7534"),
                ("198.18.0.0/15", "benchmarking, RFC 2544"),
                ("198.51.100.0/24", "documentation, RFC 5737"),
                ("203.0.113.0/24", "documentation, RFC 5737"),
                ("240.0.0.0/4", "reserved, RFC 1112"),
            ),
            only_exact=False,
        ),
    ),
    6: (
        *_ranges(
            (
                ("::/128", "this host, RFC 4291"),
                ("fe80::/10", "link-local, RFC 4291"),
                ("ff00::/8", "multicast, RFC 4291"),
                ("fd00:ec2::/32", "cloud metadata, Amazon"),
                ("fd20:ce::254/128", "cloud metadata, Google"),
                ("fd00:42::42/128", "cloud metadata, Scaleway"),
            ),
            only_exact=True,
        ),
        *_ranges(
            (
                ("2001::/23", "protocol assignments, RFC 2928"),
                ("2001:db8::/32", "documentation, RFC 3849"),
                ("2002::/16", "6to4, RFC 3056"),
                ("2620:4f:8000::/48", "AS112, RFC 7534"),
                ("3fff::/20", "documentation, RFC 9637"),
                # refused already by lying outside of 2000::/3: here to say what they are
                ("::1/128", "loopback, RFC 4291"),
                ("::ffff:0:0/96", "IPv4-mapped, RFC 4291"),
                ("::ffff:0:0:0/96", "IPv4-translated, RFC 2765"),
                ("::/96", "IPv4-compatible, RFC 4291"),
                ("64:ff9b::/96", "NAT64, RFC 6052"),
                ("64:ff9b:1::/48", "NAT64, RFC 8215"),
                ("100::/64", "discarded, RFC 6666"),
                ("fc00::/7", "unique local, RFC 4193"),
                ("fec0::/10", "site-local, RFC 3879"),
            ),
            only_exact=False,
        ),
    ),
}
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_OUTSIDE = _Range(0, 0, "outside of 2000::/3, the only public part of IPv6 (RFC 4291)", False)
_TUNNEL = _Range(0, 0, "ISATAP, which leads to an IPv4 address (RFC 5214)", False)


def only_exact(network: IPNetwork) -> str | None:
    """The range inside which `network` lies and of which a rule opens one address at a time; None where it may."""
    if network.prefixlen == network.max_prefixlen:
        return None
    first, last = int(network.network_address), int(network.broadcast_address)
    for each in _BLOCKED[network.version]:
        if each.only_exact and each.first <= first and last <= each.last:
            return each.said
    return None


def _blocked(ip: IPAddress) -> _Range | None:
    number = int(ip)
    for each in _BLOCKED[ip.version]:
        if each.first <= number <= each.last:
            return each
    if ip.version == 6:
        if number >> 125 != 0b001:
            return _OUTSIDE
        if number >> 32 & 0xFFFF_FFFF in _ISATAP:
            return _TUNNEL
    return None


def _inner(ip: IPAddress) -> IPv4Address | None:
    """The IPv4 address to which the kernel or a gateway on the way would carry what is sent to this IPv6 one."""
    if ip.version == 4:
        return None
    number = int(ip)
    if (
        number >> 32 in (0xFFFF, 0xFFFF_0000, 0x0064_FF9B << 64)  # mapped, translated, NAT64
        or number >> 80 == 0x0064_FF9B_0001
        or number >> 32 & 0xFFFF_FFFF in _ISATAP
        or 1 < number < 1 << 32  # compatible; `::` and `::1` are none
    ):
        return IPv4Address(number & 0xFFFF_FFFF)
    return IPv4Address(number >> 80 & 0xFFFF_FFFF) if number >> 112 == 0x2002 else None


# --- rulings ----------------------------------------------------------------------------------------------------


class Ruling(NamedTuple):
    """Whether a name or an address may be called, and who says so."""

    is_allowed: bool
    rule: str
    """The one that decides: `built-in: 10.0.0.0/8 (private, RFC 1918)`, `egress.allow: 127.0.0.1/32:8080`, `public`."""
    remedy: str = ""
    """How an operator may allow it; empty where it is allowed."""
    is_opened: bool = False
    """Whether it is a rule of `egress.allow` that allows it."""


def judge_address(address: str, port: int, policy: Policy, name: str | None = None) -> Ruling:
    """Whether a connection may be made to `address` and `port`, for the host called `name` where it has one.

    `egress.deny` comes first, then `egress.allow`, then the built-in list. An address that carries an IPv4 one inside
    is denied where that is, and as hard to open.
    """
    ip = _parsed(address)
    if ip is None:
        kind = "a zone id" if "%" in address else "no address"
        return Ruling(False, f"built-in: {kind}", "no rule of egress.allow can open it")
    inner = _inner(ip)
    denied = policy.denied.find(ip, port) or (inner and policy.denied.find(inner, port))
    if denied:
        text = written(denied)
        return Ruling(False, f"egress.deny: {text}", f'an operator may take "{text}" out of egress.deny')
    blocked = _blocked(ip)
    is_hard = blocked is not None and blocked.only_exact
    if inner is not None:
        around = _blocked(inner)
        is_hard = is_hard or (around is not None and around.only_exact)
    allowed = policy.allowed.find(ip, port, exact=is_hard)
    if allowed is not None:
        return Ruling(True, f"egress.allow: {written(allowed)}", is_opened=True)
    if name is not None and not is_hard and (covering := policy.name_rule(name, port)) is not None:
        return Ruling(True, f"egress.allow: {covering}", is_opened=True)
    if blocked is None:
        return Ruling(True, "public")
    entry = f'"{written((ip_network(ip), port))}"'
    only = ", and only as this one address" if is_hard else ""
    return Ruling(False, f"built-in: {blocked.said}", f"an operator may add {entry} to egress.allow{only}")


_LOOPBACKS = (IPv4Address("127.0.0.1"), IPv6Address("::1"))
_OWN_NAMES = {
    "localhost": "RFC 6761",
    "internal": "reserved for private networks by ICANN",
    "local": "multicast DNS, RFC 6762",
    "localdomain": "a network's own domain by custom",
    "home.arpa": "home networks, RFC 8375",
}


def judge_name(host: str, port: int, policy: Policy) -> Ruling:
    """Whether the name `host` may be looked up for a delivery. The addresses found are judged at every connection.

    A name of the operator's own network needs a rule of `egress.allow`: one about the name, or one about addresses
    that it may well have.
    """
    covering = policy.name_rule(host, port)
    if covering is not None:
        return Ruling(True, f"egress.allow: {covering}", is_opened=True)
    own = next((own for own in _OWN_NAMES if host == own or host.endswith(f".{own}")), None)
    if own is None and "." in host:
        return Ruling(True, "public")
    if own == "localhost":
        found = next((rule for ip in _LOOPBACKS if (rule := policy.allowed.find(ip, port))), None)
        if found is not None:
            return Ruling(True, f"egress.allow: {written(found)}", is_opened=True)
    elif policy.allowed.speak_of(port):
        return Ruling(True, "egress.allow opens addresses that it may have", is_opened=True)
    if own is None:
        said = "names without a dot are those of a private network"
    else:
        said = f"{own if host == own else f'*.{own}'} ({_OWN_NAMES[own]})"
    return Ruling(False, f"built-in: {said}", f'an operator may add "{host}:{port}" to egress.allow')


NOT_PUBLIC = "leads to an address that is not public"
"""All that a tenant is told of where a name leads (THREATS §3)."""


class Vetted(NamedTuple):
    """What is thought of all the addresses that a name has."""

    refusal: str | None
    """Why none of them may be dialled, as tenants are told it. None where all may."""
    opened: frozenset[str] = frozenset()
    """Those that a rule of `egress.allow` opens."""
    reason: str = ""
    """Why not, for operators: host, address, rule and remedy."""


def vet(host: str, port: int, addresses: Sequence[str], policy: Policy) -> Vetted:
    """Judge every address that was found for `host`: one that is refused refuses all."""
    name = None if _parsed(host) else host
    opened = []
    for address in addresses:
        ruling = judge_address(address, port, policy, name)
        if not ruling.is_allowed:
            where = host if name is None else f"{host} leads to {address}, which"
            return Vetted(f"{host} {NOT_PUBLIC}", reason=f"{where} is refused by {ruling.rule}; {ruling.remedy}")
        if ruling.is_opened:
            opened.append(address)
    return Vetted(None, frozenset(opened))


def _parsed(address: str) -> IPAddress | None:
    # a name, as most are: a failure of `ip_address` takes longer than all else that is asked of a URL
    is_name = ":" not in address and not address[-1:].isdigit()
    if is_name or "%" in address:
        return None
    try:
        return ip_address(address)
    except ValueError:
        return None


def is_literal(host: str) -> bool:
    """Whether `host` is an address and no name."""
    return _parsed(host) is not None
