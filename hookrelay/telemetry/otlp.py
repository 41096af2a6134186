"""Spans as OTLP has them, by OpenTelemetry's own encoder. Imported only where spans are sent (extra `otel`)."""

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from hookrelay import __version__
from hookrelay.telemetry.traces import Span

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_UNSET = Status(StatusCode.UNSET)


class Encoder:
    """Writes spans of one resource, a few at a time, into one request."""

    def __init__(self, resource: Mapping[str, str]) -> None:
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope("hookrelay", __version__)
        self._request = ExportTraceServiceRequest()

    def add(self, spans: Sequence[Span]) -> None:
        """Takes 50 µs a span."""
        more = encode_spans([self._readable(span) for span in spans])
        if not self._request.resource_spans:
            self._request = more
        else:
            # one resource and one scope: the spans alone are news
            self._request.resource_spans[0].scope_spans[0].spans.extend(more.resource_spans[0].scope_spans[0].spans)

    def finish(self) -> bytes:
        """The request with all that was added; the next one begins empty."""
        body: bytes = self._request.SerializeToString()
        self._request = ExportTraceServiceRequest()
        return body

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id, flags = int(span.trace_id, 16), TraceFlags(span.flags)
        parent = None
        if span.parent_id is not None:
            parent = SpanContext(trace_id, int(span.parent_id, 16), span.is_parent_remote, flags)
        start_ns = span.start_ms * 1_000_000
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace_id, int(span.span_id, 16), False, flags),
            parent=parent,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            instrumentation_scope=self._scope,
            status=_UNSET if span.error is None else Status(StatusCode.ERROR, _text(span.error)),
            start_time=start_ns,
            end_time=start_ns + max(0, int(span.duration_s * 1e9)),
        )


def _text(detail: str) -> str | None:
    """The host's and receivers' own words, as far as UTF-8 can say them."""
    return detail.encode("utf-8", "backslashreplace").decode() or None


def refused(body: bytes) -> tuple[int, str]:
    """How many spans a collector that answered 2xx did not want all the same, and why ("partial success")."""
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return 0, ""  # some answer in JSON, or with a page: 2xx is what counts
    return partial.rejected_spans, partial.error_message
