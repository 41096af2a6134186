"""OpenTelemetry's own environment variables, as far as hookrelay goes by them (its specification, "Environment Variable
Specification" and "OpenTelemetry Protocol Exporter"). Read only where `telemetry.otlp_endpoint` is set."""

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hookrelay.config.files import Tell
from hookrelay.config.settings import Otel
from hookrelay.model import ConfigMistake
from hookrelay.rules.wording import shown

ENVIRONMENT = "environment"
_LIBRARIES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.common")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OURS = frozenset(
    {
        *("host", "content-type", "content-length", "content-encoding", "transfer-encoding"),
        *("connection", "te", "trailer", "upgrade", "expect", "accept-encoding"),
    }
)
_SAMPLERS = ("always_on", "always_off", "traceidratio")


def is_installed() -> bool:
    """Whether what the extra `otel` brings is there. Imports none of it."""
    try:
        return all(find_spec(name) is not None for name in _LIBRARIES)
    except ImportError:
        return False


def read_otel(environ: Mapping[str, str], tell: Tell) -> Otel:
    """What the variables say; every mistake is told. Values that may be secret are not repeated."""

    def read(name: str, reader: Callable[[str], Any], default: Any) -> Any:
        text = environ.get(name, "")
        if not text.strip():
            return default  # empty is as good as none, says the specification
        try:
            return reader(_printable(text))
        except ValueError as error:
            tell(ConfigMistake(ENVIRONMENT, None, name, str(error)))
            return default

    def exporter(name: str) -> str:
        """The variable of traces where there is one, else that of all signals."""
        own = f"OTEL_EXPORTER_OTLP_TRACES_{name}"
        return own if environ.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{name}"

    resource = dict(read("OTEL_RESOURCE_ATTRIBUTES", _pairs, []))
    return Otel(
        service_name=read("OTEL_SERVICE_NAME", str, resource.pop("service.name", "hookrelay")),
        resource=tuple(resource.items()),
        headers=read(exporter("HEADERS"), _headers, ()),
        ca_file=read(exporter("CERTIFICATE"), Path, None),
        is_compressed=read(exporter("COMPRESSION"), _is_compressed, False),
        ratio=read("OTEL_TRACES_SAMPLER", lambda name: _ratio(name, environ, tell), 1.0),
    )


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a character that cannot be printed: leave it out")
    return text.strip()


def _pairs(text: str) -> list[tuple[str, str]]:
    """`a=1,b=x%20y`, as W3C Baggage writes it."""
    pairs = []
    for each in text.split(","):
        name, equals, value = each.partition("=")
        if each.strip() and not (name.strip() and equals):
            raise ValueError('is no list: write it as "name=value,other=value", with %2C for a comma in a value')
        if each.strip():
            pairs.append((name.strip(), unquote(value.strip())))
    return pairs


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    headers = tuple((name.lower(), value) for name, value in _pairs(text))
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError('has a name that no header may have: write it as "authorization=Bearer%20KEY"')
        if name in _OURS:
            raise ValueError(f"sets {name}, which is hookrelay's own: leave it out")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"gives {name} a value that is not printable ASCII: no header can have it")
    return headers


def _is_compressed(text: str) -> bool:
    if text not in ("gzip", "none"):
        raise ValueError(f"{shown(text)} is not understood: write gzip or none")
    return text == "gzip"


def _ratio(name: str, environ: Mapping[str, str], tell: Tell) -> float:
    """The share of new traces. A sampler that is not `parentbased_` is taken for the one that is."""
    kind = name.removeprefix("parentbased_")
    if kind not in _SAMPLERS:
        names = ", ".join(f"parentbased_{each}" for each in _SAMPLERS)
        raise ValueError(f"{shown(name)} is not understood: write one of {names}")
    if kind != "traceidratio":
        return float(kind == "always_on")
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        tell(ConfigMistake(ENVIRONMENT, None, "OTEL_TRACES_SAMPLER_ARG", f"{shown(text)} is not from 0 to 1"))
        return 1.0
    return ratio
