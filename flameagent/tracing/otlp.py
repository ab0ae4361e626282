"""Spans to a collector by OTLP, with OpenTelemetry's own exporter, which the variables `OTEL_…` are for."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from flameagent.tracing import modes

if TYPE_CHECKING:
    from flameagent.tracing.recording import RecordedSpan

_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common",
)


class OtlpSink:
    """Sends spans; imports and connects in the thread that it is used in."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._exporter: Any = None
        self._wrong = ""
        self._make: Any = None

    def prepare(self) -> None:
        """Import what sends them, and read its settings."""
        if self._wrong or self._exporter is not None:
            return
        if trouble := modes.trouble(os.environ):
            self._wrong = trouble
            return
        thread = threading.get_ident()

        def is_of_others(record: logging.LogRecord) -> bool:
            return record.thread != thread

        for name in _LOGGERS:  # what goes wrong here is said in one sentence
            logging.getLogger(name).addFilter(is_of_others)
        try:
            from flameagent.tracing.readable import Readable

            self._make = Readable(self._service)
            self._exporter = _exporter(modes.protocol(os.environ))
        except Exception as error:  # a setting that is none, a certificate that cannot be read
            self._wrong = f"Traces are not sent: OpenTelemetry's exporter says {type(error).__name__}: {error}"

    def export(self, spans: list[RecordedSpan]) -> str:
        self.prepare()
        if self._exporter is None:
            return self._wrong
        result = self._exporter.export([self._make.span(each) for each in spans])
        if result.value == 0:
            return ""
        return f"Traces are not sent: the collector at {_endpoint()} does not take them."


def _exporter(protocol: str) -> Any:
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    from importlib import import_module  # of a package that few have

    return import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter()


def _endpoint() -> str:
    from flameagent.model_choice import without_credentials

    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    said = next(filter(None, (os.environ.get(name, "").strip() for name in names)), "http://localhost:4317")
    return without_credentials(said)
