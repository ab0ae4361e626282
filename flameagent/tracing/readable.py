"""Spans as OpenTelemetry's exporters read them."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
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
        # Not `Resource.create`, which asks its detectors in threads: a process that ends can begin none (1.45).
        known: dict[str, Any] = {"service.name": service, "host.name": socket.gethostname()}
        known["process.pid"] = os.getpid()
        self._resource = Resource(known).merge(OTELResourceDetector().detect())

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
