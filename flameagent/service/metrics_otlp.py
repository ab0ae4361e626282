"""Metrics by OpenTelemetry: the instruments of a worker, and the thread that sends what they have counted.

The variables `OTEL_…` are for the SDK and its exporter. An idle worker sends nothing and does nothing: there is no
reader that wakes up, but a push soon after each turn.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

if TYPE_CHECKING:
    from flameagent.conversation.log import Appends

_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_AFTER = 0.5  # seconds from a turn to its push: a worker may be ended at any time
_PAUSE = 5.0  # seconds between two pushes at least
_MODELS = 50
_LOGGERS = ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk.metrics._internal.export")


class Meters:
    """The instruments of one process, and what sends them. Made after the process was forked."""

    def __init__(self, application: str) -> None:
        # Processes that count the same are told apart; a session is known by its worker nowhere else.
        named = {"service.instance.id": str(uuid.uuid4()), "flame.application": application}
        if not (
            os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        ):
            named["service.name"] = "flame-agent"
        self._sender = _Sender(Resource.create(named))
        meter = self._sender.provider.get_meter("flame-openai-agent")
        self._names: set[str] = set()
        self._seen: tuple[int, ...] = ()
        counter, histogram = meter.create_counter, meter.create_histogram
        self.turns = counter("flame_worker.turns", "{turn}", "Turns that have ended, by what became of them.")
        self.turn_duration = histogram(
            "flame_worker.turn.duration", "s", "How long they took.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self.tokens = counter("flame_worker.tokens", "{token}", "Tokens; cached ones are input, too.")
        self.errors = counter("flame_worker.model.errors", "{error}", "Calls of models that failed, by the error.")
        self.calls = histogram(
            "flame_worker.model.call.duration",
            "s",
            "How long calls of models took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.starts = counter("flame_worker.starts", "{process}", "Workers that ran a turn, by how they began.")
        self.deaths = counter("flame_worker.deaths", "{process}", "Workers that ended without being told to.")
        self._appends = counter("flame_worker.appends", "{record}", "Records that were to be added, by the outcome.")
        self._retries = counter("flame_worker.append.retries", "{retry}", "Attempts at these beyond the first.")

    def name(self, model: str) -> str:
        """The name of a model, as long as there are few of them."""
        if model not in self._names and len(self._names) >= _MODELS:
            return "other"
        self._names.add(model)
        return model

    @contextmanager
    def call(self, model: str) -> Iterator[None]:
        """Around a call of a model."""
        began, named = time.perf_counter(), self.name(model)
        try:
            yield
        except Exception as error:
            self.errors.add(1, {"model": named, "error": _kind(error)})
            raise
        finally:
            self.calls.record(time.perf_counter() - began, {"model": named})

    def appended(self, appends: Appends) -> None:
        """Count what has come since the last time."""
        now: tuple[int, ...] = astuple(appends)
        seen = self._seen or (0,) * len(now)
        added, conflicts, unclear, retries = (a - b for a, b in zip(now, seen, strict=True))
        for outcome, count in (("added", added), ("conflict", conflicts), ("unclear", unclear)):
            if count > 0:
                self._appends.add(count, {"outcome": outcome})
        if retries > 0:
            self._retries.add(retries)
        self._seen = now

    def send_soon(self) -> None:
        """Have what was counted sent, beside whatever else is done."""
        self._sender.wake()


def _kind(error: Exception) -> str:
    """The kind of an error: its class, of those that a model and its server have; there are few."""
    of_ours = type(error).__module__.partition(".")[0] in ("openai", "agents", "flameagent", "httpx", "httpx2")
    return type(error).__name__ if of_ours else "other"


class _Sender:
    """Sends in a thread of its own, which begins with the first push."""

    def __init__(self, resource: Resource) -> None:
        self._exporter = _Exporter()
        # Without an interval it has no thread: it reads when it is told to.
        self._reader = PeriodicExportingMetricReader(self._exporter, export_interval_millis=math.inf)
        self.provider = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        for name in _LOGGERS:  # what goes wrong is said once, by the exporter
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def wake(self) -> None:
        """Push soon."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()
        self._wanted.set()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(_AFTER)
            self._wanted.clear()
            self._reader.collect()
            time.sleep(_PAUSE - _AFTER)


class _Exporter(MetricExporter):
    """OpenTelemetry's own, made and connected with the first push; what it cannot send is said once."""

    def __init__(self) -> None:
        prefers = os.environ.get("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "").strip().casefold()
        delta: dict[type, AggregationTemporality] = {
            Counter: AggregationTemporality.DELTA,
            Histogram: AggregationTemporality.DELTA,
        }
        super().__init__(delta if prefers in ("delta", "lowmemory") else {})
        self._otlp: MetricExporter | None = None
        self._said = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send. Raises nothing."""
        try:
            self._otlp = self._otlp or _exporter()
            result = self._otlp.export(metrics_data, timeout_millis)
        except ImportError:
            self._say("for http/protobuf the package opentelemetry-exporter-otlp-proto-http is needed")
            return MetricExportResult.FAILURE
        except Exception as error:  # a variable that makes no sense, a certificate that cannot be read
            self._say(f"OpenTelemetry's exporter says {type(error).__name__}: {error}")
            return MetricExportResult.FAILURE
        if result is not MetricExportResult.SUCCESS:
            self._say(f"nobody takes them at {_endpoint()}")
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is held back."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Nothing is left open that the end of the process does not close."""

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            print(f"Metrics are not sent: {why}.", file=sys.stderr, flush=True)


def _exporter() -> MetricExporter:
    """By the protocol that OpenTelemetry's variables name. Raises `ImportError`, `ValueError`."""
    names = ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((said for name in names if (said := os.environ.get(name, "").strip())), "grpc")
    if protocol == "http/protobuf":
        over_http = import_module("opentelemetry.exporter.otlp.proto.http.metric_exporter")
        made: MetricExporter = over_http.OTLPMetricExporter()
        return made
    if protocol != "grpc":
        raise ValueError(f"{names[1]} is grpc or http/protobuf, not {protocol!r}")
    return OTLPMetricExporter()


def _endpoint() -> str:
    names = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next(filter(None, map(os.environ.get, names)), "http://localhost:4317")
