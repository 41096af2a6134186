"""docs/tracing.md tells the truth: its settings are taken, its tables are what the code does."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import event, outcome, webhook
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracer

from hookrelay import daemon, tracing
from hookrelay.config import otel
from hookrelay.config.load import load
from hookrelay.rules import otlp, phases
from hookrelay.rules.payload import parse
from hookrelay.rules.trace import Tracks
from hookrelay.telemetry import traces

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tracing.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def names(head: str) -> set[str]:
    """What the first column of the table names that begins so."""
    rows = PAGE.partition(f"| {head} | |")[2].partition("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in re.findall(r"`(.+?)`", row.split("|")[1])}


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_setting_on_the_page_is_taken(text: str, tmp_path: Path):
    (tmp_path / "hookrelay.toml").write_text(text)
    endpoint = load(tmp_path / "hookrelay.toml", {}).config.telemetry.otlp_endpoint
    (collector,) = map(yaml.safe_load, blocks("yaml"))
    assert endpoint == f"http://{collector['receivers']['otlp']['protocols']['http']['endpoint']}"


def test_the_app_on_the_page_puts_its_trace_into_an_event():
    (program,) = blocks("python")
    for tracer, has_trace in ((TracerProvider().get_tracer("app"), True), (NoOpTracer(), False)):
        with tracer.start_as_current_span("booking") as span:
            said: dict[str, Any] = {}
            exec(program, said)  # noqa: S102 -- the page's own text
        traceparent = parse(json.dumps(said["event"]).encode()).traceparent
        context = span.get_span_context()
        whole = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        assert traceparent == (whole if has_trace else None)


def test_the_sampler_on_the_page_is_taken():
    (said,) = [text for text in blocks("sh") if "OTEL_" in text]
    mistakes: list[object] = []
    assert otel.read_otel(dict(each.split("=") for each in said.split()), mistakes.append).ratio == 0.1
    assert mistakes == []


def test_every_variable_that_is_read_is_on_the_page():
    read: set[str] = set()

    class Noting(dict[str, str]):
        def get(self, name: str, default: object = None) -> object:  # type: ignore[override]  # only notes
            read.add(name)
            return {"OTEL_TRACES_SAMPLER": "traceidratio"}.get(name, default)

    otel.read_otel(Noting(), lambda mistake: None)
    assert {name.replace("OTLP_TRACES_", "OTLP_") for name in read} == names("variable")


def test_every_attribute_is_on_the_page():
    tracer = traces.Tracer(Tracks(b"salt"), Counter(), lambda: 0.0)
    tracer.accepted(event(), earlier="evt_1")
    tracer.accepted(event(), error="store_full")
    steps = phases.written([(step, 0.0) for step in phases.STEPS], 1.0)
    came = outcome("http_status", remote_address="192.0.2.1:443", phases=steps)
    tracer.attempted(event(test=True), webhook(), "dlv_1", 2, came, "failed")
    made = {name for span in tracer.take(9) for name in span.attributes}
    assert made - {"hookrelay.seconds.proxy", "hookrelay.seconds.tunnel"} == names("attribute")


def test_the_figures_on_the_page_are_those_of_the_code():
    text = PAGE.replace("\n", " ")
    for said in (
        f"batches of up to {tracing.BATCH}, at the latest {tracing.DELAY_S:g} s after",
        f"{traces.ROOM:,} wait in memory",
        f"up to {otlp.TRIES} times",
        f"{otlp.FIRST_WAIT_S:g} s, {2 * otlp.FIRST_WAIT_S:g} s, up to {otlp.LONGEST_WAIT_S:g} s",
        f"the last ones {daemon.FLUSH_S:g} s",
    ):
        assert said in text
