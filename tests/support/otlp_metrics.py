"""A collector: a gRPC server that takes metrics by OTLP, as OpenTelemetry's own protocol describes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as service_grpc

_PATIENCE = 90.0


class MetricsCollector:
    """The server, running inside `with`, at `url`."""

    def __init__(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_grpc.add_MetricsServiceServicer_to_server(_Service(self), self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._newest: dict[tuple[str, str, frozenset[tuple[str, Any]]], float] = {}
        self._change = threading.Condition()
        self.resources: list[dict[str, Any]] = []
        self.sent = b""

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def value(self, name: str, **attributes: str) -> float:
        """The sum over all processes of what they said last: of a histogram how often it was recorded."""
        with self._change:
            return self._value(name, attributes)

    def wait(self, value: float, name: str, **attributes: str) -> None:
        """Wait until that is its value."""
        self.wait_until(lambda: self._value(name, attributes) == value)

    def wait_until(self, true: Callable[[], Any]) -> None:
        """Wait until it is true."""
        deadline = time.monotonic() + _PATIENCE
        with self._change:
            while not true():
                assert self._change.wait(max(deadline - time.monotonic(), 0)), f"not true of {self._newest}"

    def _value(self, name: str, attributes: dict[str, str]) -> float:
        found = [
            value
            for (_, of, known), value in self._newest.items()
            if of == name and attributes.items() <= dict(known).items()
        ]
        return sum(found)

    def take(self, request: Any) -> None:
        """Take what somebody sends; cumulative sums replace what the same process has sent before."""
        with self._change:
            self.sent += request.SerializeToString()
            for of_resource in request.resource_metrics:
                resource = _attributes(of_resource.resource)
                self.resources.append(resource)
                for metric in (each for scope in of_resource.scope_metrics for each in scope.metrics):
                    kind = metric.WhichOneof("data")
                    for point in getattr(metric, kind).data_points:
                        key = str(resource["service.instance.id"]), metric.name, frozenset(_attributes(point).items())
                        self._newest[key] = point.count if kind == "histogram" else point.as_int or point.as_double
            self._change.notify_all()


def _attributes(of: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in of.attributes}


class _Service(service_grpc.MetricsServiceServicer):
    def __init__(self, collector: MetricsCollector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self._collector.take(request)
        return service.ExportMetricsServiceResponse()
