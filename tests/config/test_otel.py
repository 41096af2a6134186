import os
import subprocess
import sys
from pathlib import Path

import pytest

from hookrelay.config.load import load
from hookrelay.config.otel import is_installed, read_otel
from hookrelay.config.settings import Otel
from hookrelay.model import ConfigError, ConfigMistake
from hookrelay.outfit import load_whole


def read(**environ: str) -> tuple[Otel, list[str]]:
    mistakes: list[ConfigMistake] = []
    return read_otel(environ, mistakes.append), [str(mistake) for mistake in mistakes]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, Otel()),
        ({"OTEL_SERVICE_NAME": " ", "OTEL_TRACES_SAMPLER": ""}, Otel()),
        ({"OTEL_SERVICE_NAME": "shop-webhooks"}, Otel(service_name="shop-webhooks")),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop, a.b=x%2Cy%20z,"},
            Otel(service_name="shop", resource=(("a.b", "x,y z"),)),
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop", "OTEL_SERVICE_NAME": "goes before"},
            Otel(service_name="goes before"),
        ),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20abc=,x-a=b"},
            Otel(headers=(("authorization", "Bearer abc="), ("x-a", "b"))),
        ),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "a=all", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=traces"},
            Otel(headers=(("a", "traces"),)),
        ),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/ca.pem"}, Otel(ca_file=Path("/etc/ca.pem"))),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, Otel(is_compressed=True)),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "none"}, Otel()),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, Otel(ratio=0.0)),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, Otel()),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, Otel(ratio=0.25)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, Otel()),
    ],
)
def test_opentelemetrys_variables_are_gone_by(environ: dict[str, str], said: Otel):
    assert read(**environ) == (said, [])


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("OTEL_RESOURCE_ATTRIBUTES", "secret", "name=value,other=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=secret", "name=value,other=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: secret", "name=value,other=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "bad name=secret", "authorization=Bearer%20KEY"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "host=secret", "leave it out"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=secret%0d%0ab", "printable ASCII"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret\u00e4", "printable ASCII"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=secret\udcff", "leave it out"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli", "write gzip or none"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote", "parentbased_traceidratio"),
        ("OTEL_SERVICE_NAME", "a\nb", "leave it out"),
    ],
)
def test_a_mistake_names_the_variable_says_what_is_right_and_shows_no_secret(name: str, value: str, right: str):
    said, (told,) = read(**{name: value})
    assert said == Otel()
    assert told.startswith(f"environment: {name}: ")
    assert right in told
    assert "secret" not in told


@pytest.mark.parametrize("share", ["2", "-0.1", "nan", "half"])
def test_a_share_that_is_none_is_a_mistake(share: str):
    said, (told,) = read(OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG=share)
    assert said == Otel()
    assert told == f'environment: OTEL_TRACES_SAMPLER_ARG: "{share}" is not from 0 to 1'


def test_without_an_endpoint_nothing_is_read_of_them(tmp_path: Path):
    file = tmp_path / "hookrelay.toml"
    wrong = {"OTEL_TRACES_SAMPLER": "nonsense"}
    file.write_text("")
    assert load(file, wrong).config.telemetry.otel == Otel()
    file.write_text("telemetry.otlp_endpoint = 'http://127.0.0.1:4318'")
    with pytest.raises(ConfigError, match="environment: OTEL_TRACES_SAMPLER: "):
        load(file, wrong)
    assert load(file, {"OTEL_SERVICE_NAME": "a"}).config.telemetry.otel == Otel(service_name="a")


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto"])
def test_what_the_extra_brings_is_missed(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert is_installed()
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert not is_installed()
    file = tmp_path / "hookrelay.toml"
    file.write_text("\ntelemetry.otlp_endpoint = 'http://127.0.0.1:4318'")
    with pytest.raises(ConfigError) as told:
        load(file, {})
    assert str(told.value) == (
        f"{file}:2: telemetry.otlp_endpoint: needs OpenTelemetry's libraries, which are not installed:"
        " pip install 'hookrelay[otel]'"
    )
    with pytest.raises(ConfigError, match="environment: HOOKRELAY_TELEMETRY__OTLP_ENDPOINT: needs OpenTelemetry"):
        load(None, {"HOOKRELAY_TELEMETRY__OTLP_ENDPOINT": "http://127.0.0.1:4318"})


def test_a_file_of_authorities_that_cannot_be_read_is_a_mistake(tmp_path: Path):
    file = tmp_path / "hookrelay.toml"
    file.write_text("telemetry.otlp_endpoint = 'https://127.0.0.1:4318'")
    with pytest.raises(ConfigError) as told:
        load_whole(file, {"OTEL_EXPORTER_OTLP_CERTIFICATE": f"{tmp_path}/gone.pem"})
    assert str(told.value).startswith(f"environment: OTEL_EXPORTER_OTLP_CERTIFICATE: {tmp_path}/gone.pem: No such file")


def test_a_variable_that_the_libraries_cannot_read_is_a_mistake(tmp_path: Path):
    (tmp_path / "hookrelay.toml").write_text("telemetry.otlp_endpoint = 'https://127.0.0.1:4318'")
    done = subprocess.run(
        [sys.executable, "-m", "hookrelay", "check", "--config", str(tmp_path / "hookrelay.toml")],
        env={**os.environ, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 78
    assert done.stderr.startswith("environment: OTEL_...: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be")
