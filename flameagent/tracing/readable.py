"""Spans as OpenTelemetry's exporters read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

if TYPE_CHECKING:
    from flameagent.tracing.recording import RecordedSpan

_SCOPE = InstrumentationScope("flame-openai-agent")


class Readable:
    """Makes them, for a process that is called `service`, unless OpenTelemetry's variables name it."""

    def __init__(self, service: str) -> None:
        named = bool(os.environ.get("OTEL_SERVICE_NAME", "").strip())
        named = named or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        self._resource = Resource.create({} if named else {"service.name": service})

    def span(self, span: RecordedSpan) -> ReadableSpan:
        """One span."""
        attributes: dict[str, Any] = span.attributes
        return ReadableSpan(
            name=span.name,
            context=_context(span.trace_id, span.span_id),
            parent=_context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind[span.kind.upper()],
            status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
            start_time=span.started,
            end_time=span.ended,
            instrumentation_scope=_SCOPE,
        )


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(1))
