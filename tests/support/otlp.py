"""A collector: a gRPC server that takes spans by OTLP, as OpenTelemetry's own protocol describes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc

_PATIENCE = 90.0


@dataclass(frozen=True)
class Span:
    """A span as it was sent; `service` is the name of the process that it is of."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    failed: bool
    message: str
    service: str


class Collector:
    """The server, running inside `with`, at `url`."""

    def __init__(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_grpc.add_TraceServiceServicer_to_server(_Service(self), self._server)  # type: ignore[no-untyped-call]
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._spans: list[Span] = []
        self._change = threading.Condition()
        self.bytes: list[bytes] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    @property
    def spans(self) -> list[Span]:
        """Those that have come."""
        with self._change:
            return list(self._spans)

    def of(self, session_id: str) -> list[Span]:
        """Those of the traces in which a session is named."""
        spans = self.spans
        traces = {span.trace_id for span in spans if span.attributes.get("session.id") == session_id}
        return [span for span in spans if span.trace_id in traces]

    def wait(self, true: Callable[[list[Span]], Any]) -> list[Span]:
        """Wait until it is true of the spans that have come; those."""
        deadline = time.monotonic() + _PATIENCE
        with self._change:
            while not true(self._spans):
                names = sorted(span.name for span in self._spans)
                assert self._change.wait(max(deadline - time.monotonic(), 0)), f"it did not come true of {names}"
            return list(self._spans)

    def take(self, request: Any, headers: dict[str, str]) -> None:
        """Take what somebody sends."""
        with self._change:
            self.bytes.append(request.SerializeToString())
            self.headers.append(headers)
            self._spans += _read(request)
            self._change.notify_all()


class _Service(service_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self._collector.take(request, dict(context.invocation_metadata()))
        return service.ExportTraceServiceResponse()


def _read(request: Any) -> Iterator[Span]:
    for resource in request.resource_spans:
        named = {each.key: _value(each.value) for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.kind,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {each.key: _value(each.value) for each in span.attributes},
                    span.status.code == 2,
                    span.status.message,
                    str(named.get("service.name")),
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
