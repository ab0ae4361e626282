"""Spans to a collector by OTLP, with OpenTelemetry's own exporter, which the variables `OTEL_…` are for."""

from __future__ import annotations

import logging
import os
import socket
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flameagent.model_choice import without_credentials
from flameagent.tracing import modes

if TYPE_CHECKING:
    from flameagent.tracing.recording import RecordedSpan

_LOGGERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.common",
)
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_AWAY, _THERE = 0.7, 2.0  # seconds


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
            exporter, readable = load()
            self._make = readable(self._service)
            self._exporter = exporter()
        except Exception as error:  # a setting that is none, a certificate that cannot be read
            self._wrong = f"Traces are not sent: OpenTelemetry's exporter says {type(error).__name__}: {error}"

    def export(self, spans: list[RecordedSpan]) -> str:
        self.prepare()
        if self._exporter is None:
            return self._wrong
        result = self._exporter.export([self._make.span(each) for each in spans])
        if result.value == 0:
            return ""
        return f"Traces are not sent: the collector at {without_credentials(_endpoint())} does not take them."

    def patience(self) -> float:
        """None is worth it where nobody listens: the exporter would try again and again."""
        if self._exporter is None:
            return 0.0
        if any(os.environ.get(name) for name in _PROXIES):  # then another way leads there
            return _AWAY
        address = urlsplit(_endpoint() if "//" in _endpoint() else f"//{_endpoint()}")
        try:
            host, port = address.hostname or "localhost", address.port or _port()
            socket.create_connection((host, port), _AWAY).close()
        except (OSError, ValueError):
            return 0.0
        return _THERE


def load() -> tuple[Any, Any]:
    """Import what sends spans and connect to nobody: the class of the exporter, and of what it is given."""
    from flameagent.tracing.readable import Readable

    protocol = "grpc" if modes.protocol(os.environ) == "grpc" else "http"  # whose package few have
    return import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter").OTLPSpanExporter, Readable


def _endpoint() -> str:
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    said = (os.environ.get(name, "").strip() for name in names)
    return next(filter(None, said), f"http://localhost:{_port()}")


def _port() -> int:
    return 4317 if modes.protocol(os.environ) == "grpc" else 4318
