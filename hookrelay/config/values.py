"""One setting's value at a time: what TOML or the environment gave → what the daemon works with.

A reader takes the raw value and the folder that relative paths start from. It raises ValueError with what is wrong and
what would be right, or `WrongItems` where single items of a list are to blame.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hookrelay.config import key_file, pem
from hookrelay.config.settings import Tcp, Unix
from hookrelay.rules.egress import AddressRule, only_exact, written
from hookrelay.rules.egress_url import tidied
from hookrelay.rules.webhook_texts import (
    RETRY_EXAMPLE,
    check_max_in_flight,
    check_rate,
    parse_retry,
    parse_timeout,
    parse_wait,
    read_duration,
)
from hookrelay.rules.wording import got, shown
from hookrelay.units import parse_duration, parse_size

T = TypeVar("T")
Reader = Callable[[object, Path], Any]

MAX_SOCKET_PATH = 107
"""Bytes; the kernel's limit (THREATS §4)."""

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
_WEB = re.compile(r"https?://(?P<place>[^/?#@]+)(?:/[A-Za-z0-9\-._~:/@!$&'()*+,;=%]*)?")
_PROXY = re.compile(r"(?:http|socks5)://(?:(?P<user>[^/?#@]*)@)?(?P<place>[^/?#@]+)/?")
_USER = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})+")
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")


class WrongItems(ValueError):
    """Some items of a list are wrong: `(index, what is wrong and would be right)` of each."""

    def __init__(self, items: Sequence[tuple[int, str]]) -> None:
        super().__init__("; ".join(detail for _, detail in items))
        self.items = tuple(items)


# --- kinds of values --------------------------------------------------------------------------------------------


def duration(low: str, high: str, example: str) -> Reader:
    """Seconds of a duration between two others."""

    def read(value: object, base: Path) -> float:
        text = _text(value, "a duration", example)
        seconds = read_duration(text)
        if not parse_duration(low) <= seconds <= parse_duration(high):
            raise ValueError(f'{shown(text)} is out of range: from "{low}" to "{high}", such as "{example}"')
        return seconds

    return read


def size(low: str, high: str, example: str) -> Reader:
    """Bytes of a size between two others."""

    def read(value: object, base: Path) -> int:
        text = _text(value, "a size", example)
        try:
            count = parse_size(text)
        except ValueError:
            raise ValueError(
                f'{shown(text)} is not a size: write a whole number and a unit, such as "256KiB" or "10GiB"'
            ) from None
        if not parse_size(low) <= count <= parse_size(high):
            raise ValueError(f'{shown(text)} is out of range: from "{low}" to "{high}", such as "{example}"')
        return count

    return read


def count(low: int, high: int, example: int) -> Reader:
    """A whole number between two others."""

    def read(value: object, base: Path) -> int:
        number = _count(value, example)
        if not low <= number <= high:
            raise ValueError(f"{shown(number)} is out of range: from {low} to {high}, such as {example}")
        return number

    return read


def choice(*words: str) -> Reader:
    """One of a few words."""

    def read(value: object, base: Path) -> str:
        text = _text(value, "one of " + ", ".join(words), words[0])
        if text not in words:
            raise ValueError(f"{shown(text)} is none of {', '.join(words)}")
        return text

    return read


def flag(value: object, base: Path) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _expected("true or false", value)
    return value


def keys(value: object, base: Path) -> Path:
    """The absolute path of a file of keys."""
    file = path(value, base)
    key_file.check(file)
    return file


def path(value: object, base: Path) -> Path:
    """A file's absolute path."""
    text = _text(value, "a path", "/etc/hookrelay/key")
    if not text or "\0" in text:
        raise ValueError('is not a path: write one such as "/etc/hookrelay/key"')
    if text.startswith("~"):
        raise ValueError(f"{shown(text)}: ~ does not stand for a home here: write the whole path")
    return base / text


def authorities(value: object, base: Path) -> Path:
    """The path of a file of certificates."""
    path(value, base)
    return pem.check(base, str(value), pem.certificates)


def socket(value: object, base: Path) -> Path:
    """A Unix socket's path."""
    file = path(value, base)
    length = len(bytes(file))
    if length > MAX_SOCKET_PATH:
        raise ValueError(f"is {length} bytes long as {shown(str(file))}: a socket's path has at most {MAX_SOCKET_PATH}")
    return file


def mode(value: object, base: Path) -> int:
    """A file mode."""
    text = _text(value, "a file mode in quotes", "0660")
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f'{shown(text)} is not a file mode: write octal digits such as "0660" or "0600"')
    return int(text, 8)


# --- single settings --------------------------------------------------------------------------------------------


def store_path(value: object, base: Path) -> Path:
    """The database file of `store.url`. The URL is not repeated: one of another kind may hold a password."""
    right = "sqlite:///var/lib/hookrelay/hookrelay.db"
    text = tidied(_text(value, "a URL", right))
    if text.startswith(("postgresql:", "postgres:")):
        raise ValueError(f'PostgreSQL is not available yet: use a file, such as "{right}"')
    if not text.startswith("sqlite://"):
        raise ValueError(f'is not a store: write sqlite:// and a path, such as "{right}"')
    file = text.removeprefix("sqlite://")
    if "?" in file or "#" in file or "\0" in file:
        raise ValueError(f'has options, and sqlite:// takes none: write a path alone, such as "{right}"')
    if file.endswith(("/", ":memory:")) or not file:
        raise ValueError(f'names no file, and events are kept on disk: write a path, such as "{right}"')
    return base / ("/" + file.lstrip("/") if file.startswith("/") else file)


def group(value: object, base: Path) -> str:
    """A group's name or number."""
    text = _text(value, "a group's name", "booking")
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,31}", text):
        raise ValueError(f'{shown(text)} is not a group: write its name, such as "booking", or its number')
    return text


def listen(value: object, base: Path) -> tuple[Unix | Tcp, ...]:
    """Where the API listens."""
    right = '"unix:/run/hookrelay/api.sock" or "127.0.0.1:8080"'

    def one(text: str) -> Unix | Tcp:
        if text.startswith("unix:"):
            return Unix(socket(text.removeprefix("unix:"), base))
        address = _host_port(text)
        if address is None:
            raise ValueError(f"{shown(text)} is no place to listen: write {right}, and an IPv6 address as [::1]:8080")
        return address

    return _items(value, one, "a list of places", f"[{right.replace(' or ', ', ')}]")


def hosts(value: object, base: Path) -> tuple[str, ...]:
    """Names by which the API may be called."""

    def one(text: str) -> str:
        name = text.lower()
        if name.startswith("[") and name.endswith("]") and _is_address(name[1:-1], version=6):
            return name
        if not _NAME.fullmatch(name) or len(name) > 253:
            raise ValueError(f'{shown(text)} is not a host: write a name or address without port, such as "localhost"')
        return name

    return _items(value, one, "a list of hosts", '["localhost", "127.0.0.1", "[::1]"]')


def origin(value: object, base: Path) -> str:
    """Where customers reach the dashboard: a scheme, a host and maybe a port."""
    text = tidied(_text(value, "a URL", "https://hooks.example.com")).lower()
    match = _WEB.fullmatch(text.removesuffix("/") + "/")
    if match is None or not _is_place(match["place"]):
        raise ValueError(f'{shown(text)} is not an address: write one such as "https://hooks.example.com"')
    if match.end("place") < len(text.removesuffix("/")):
        raise ValueError(f"{shown(text)} has a path: write scheme, host and port alone, for paths are hookrelay's own")
    return text.removesuffix("/")


def host_of(origin: str) -> str:
    """What the `Host` header of requests to an origin says, without port."""
    match = _PLACE.fullmatch(origin.partition("://")[2])
    return "" if match is None else match["host"]


def key_prefix(value: object, base: Path) -> str:
    """What every API key starts with."""
    text = _text(value, "text", "hookrelay_live_sk_")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError(f'{shown(text)} is not a prefix: 1 to 64 of A-Z a-z 0-9 _ -, such as "hookrelay_live_sk_"')
    return text


def timeout(value: object, base: Path) -> float:
    """Seconds that an attempt may take."""
    return parse_timeout(_text(value, "a duration", "30s"))


def retry(value: object, base: Path) -> tuple[str, ...] | str:
    """A schedule, as it was written."""
    if isinstance(value, str):
        parse_retry(value)
        return value
    waits = _items(value, _wait, "a list of durations or an exponential", RETRY_EXAMPLE, repeats=True)
    parse_retry(waits)
    return waits


def max_in_flight(value: object, base: Path) -> int:
    """Attempts of one webhook at once."""
    number = _count(value, 8)
    check_max_in_flight(number)
    return number


def rate_limit(value: object, base: Path) -> str:
    """A rate, as it was written."""
    text = _text(value, "a rate", "10/s")
    check_rate(text)
    return text


def disable_after(value: object, base: Path) -> float | None:
    """Seconds of failure after which a webhook is disabled, or None for never."""
    if value == "never":
        return None
    seconds: float = duration("1s", "365d", "5d")(value, base)
    return seconds


def allow(value: object, base: Path) -> tuple[AddressRule | str, ...]:
    """Networks and names that may be called although they are not public.

    Addresses such as a cloud's metadata service are opened one by one: a network that holds them among others may
    stand here, and does not open them; one that holds nothing else would be without effect.
    """

    def one(text: str) -> AddressRule | str:
        name, colon, port = text.lower().partition(":")
        if _NAME.fullmatch(name.removeprefix("*.")) and re.search("[a-z]", name) and not port.strip("0123456789"):
            name = name.removesuffix(".")
            return f"{name}:{_port(port)}" if colon else name
        network, number = rule = _rule(text)
        if network.prefixlen == 0:
            raise ValueError(f"{shown(text)} opens every address, those of your own network too: name the ones to open")
        if (around := only_exact(network)) is not None:
            first = written((ipaddress.ip_network(network.network_address + 1), number))
            raise ValueError(f'{shown(text)} lies in {around}, where each address is opened alone, such as "{first}"')
        return rule

    return _items(value, one, "a list of networks", '["10.1.2.0/24", "127.0.0.1/32:8080"]')


def deny(value: object, base: Path) -> tuple[AddressRule, ...]:
    """Networks that may never be called."""
    return _items(value, _rule, "a list of networks", '["198.51.100.0/24"]')


def proxy(value: object, base: Path) -> str:
    """A proxy's URL. It is not repeated: it may hold a password."""
    right = (
        'a proxy is written "http://proxy.example:3128", "socks5://proxy.example:1080" or with USER:PASSWORD@ inside'
    )
    text = tidied(_text(value, "a URL", "http://proxy.example:3128"))
    if text.startswith("socks5h:"):
        raise ValueError("lets the proxy look names up, which would get round the rules of egress: write socks5://")
    if text.count("@") > 1:
        raise ValueError("has an @ too many: write one that stands in a user name or password as %40")
    match = _PROXY.fullmatch(text)
    if match is None or not _is_place(match["place"]):
        raise ValueError(f"is no proxy that can be used: {right}")
    if match["user"] is not None and not _USER.fullmatch(match["user"]):
        raise ValueError("has a user name or password with a character that no URL may hold: write it as %XX")
    return text


def endpoint(value: object, base: Path) -> str:
    """The URL of a telemetry collector."""
    text = tidied(_text(value, "a URL", "http://127.0.0.1:4318"))
    match = _WEB.fullmatch(text)
    if match is None or not _is_place(match["place"]):
        raise ValueError('is not a collector\'s address: write one such as "http://127.0.0.1:4318"')
    return text


def resolver(value: object, base: Path) -> Tcp | None:
    """The name server to ask, or None for the system's."""
    text = _text(value, "a name server", "192.0.2.53")
    if text == "system":
        return None
    if _is_address(text.strip("[]")):
        return Tcp(text.strip("[]"), 53)
    address = _host_port(text)
    if address is None or not _is_address(address.host):
        raise ValueError(f'{shown(text)} is not a name server: write "system", or an address such as "192.0.2.53:53"')
    return address


# --- parts ------------------------------------------------------------------------------------------------------


def _expected(what: str, value: object) -> ValueError:
    return ValueError(f"expected {what}, got {got(value)}")


def _text(value: object, what: str, example: str) -> str:
    if not isinstance(value, str):
        raise _expected(f'{what} such as "{example}"', value)
    return value


def _count(value: object, example: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _expected(f"a whole number such as {example}", value)
    return value


def _items(value: object, one: Callable[[str], T], what: str, example: str, *, repeats: bool = False) -> tuple[T, ...]:
    """Every item of a list of texts, each read by `one`; or every mistake in them."""
    if not isinstance(value, list | tuple):
        raise _expected(f"{what} such as {example}", value)
    items: dict[int, T] = {}
    seen: set[T] = set()
    wrong: list[tuple[int, str]] = []
    for index, text in enumerate(value):
        if not isinstance(text, str):
            wrong.append((index, str(_expected(f"text, as in {example}", text))))
            continue
        try:
            items[index] = one(text)
        except ValueError as error:
            wrong.append((index, str(error)))
            continue
        if items[index] in seen and not repeats:
            wrong.append((index, f"{shown(text)} stands there twice: once is enough"))
        seen.add(items[index])
    if wrong:
        raise WrongItems(wrong)
    return tuple(items.values())


def _host_port(text: str) -> Tcp | None:
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        return None
    if match[1] is not None:
        return Tcp(match[1], int(match[3])) if _is_address(match[1], version=6) else None
    return Tcp(match[2], int(match[3])) if _NAME.fullmatch(match[2].lower()) else None


def _is_place(text: str) -> bool:
    """Whether a URL may have this between // and its path: a host and maybe a port."""
    match = _PLACE.fullmatch(text)
    if match is None or int(match["port"] or 1) > 65535:
        return False
    host = match["host"].lower()
    return _is_address(host[1:-1], version=6) if host.startswith("[") else _NAME.fullmatch(host) is not None


def _rule(text: str) -> AddressRule:
    match = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text) or re.fullmatch(r"([^:]*)(?::([^:]*))?", text)
    network, port = match.groups() if match else (text, None)
    right = 'write one such as "10.1.2.0/24", "127.0.0.1/32:8080" or "[fd00::/64]:443"'
    if "%" in network:
        raise ValueError(f"{shown(text)} has a zone: {right}")
    try:
        exact = ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a network: {right}") from None
    if str(exact.network_address) != str(ipaddress.ip_address(network.partition("/")[0])):
        raise ValueError(f"{shown(text)} has bits beyond its mask: write {exact}, or one address as a /32 or /128")
    return exact, None if port is None else _port(port)


def _port(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text) or int(text) > 65535:
        raise ValueError(f"{shown(text)} is not a port: a number from 1 to 65535, such as 8080")
    return int(text)


def _wait(text: str) -> str:
    parse_wait(text)
    return text


def _is_address(text: str, version: int | None = None) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text and version in (None, address.version)
