"""Metrics, at `/metrics`, as Prometheus reads them: what this server was asked, and what runs on its engine.

With those of the embedded engine, where that is the server's. Neither users nor texts are in them. For admins: the
role of a user whose token Prometheus has.
"""

from __future__ import annotations

import logging
import time
from collections import Counter as Count

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flameagent.client.async_client import in_thread
from flameagent.client.errors import ClientError
from flameagent.server.agents import Agents
from flameagent.server.errors import RequestError
from flameagent.server.identity import Guard, identity_of
from flameagent.server.turn_metrics import TurnMetrics
from localflame.metrics import text

_log = logging.getLogger("flameagent.server")


class Metrics:
    """What one server counts."""

    def __init__(self, agents: Agents, guard: Guard) -> None:
        """Counts the turns of these agents, and what the guard and their limits refuse."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series beside each, which nobody reads
        self.registry = CollectorRegistry()
        self.turns = TurnMetrics(self.registry, agents.limiter.prices)
        agents.watch = self.turns.of
        refusals = Counter(
            "flame_agent_limit_refusals",
            "Requests that were refused because of a limit.",
            ("limit",),
            registry=self.registry,
        )
        for limit in ("rate_limit", "too_many_turns", "budget_reached"):
            refusals.labels(limit)
        agents.limiter.on_refusal = guard.rate.on_refusal = lambda code: refusals.labels(code).inc()
        self.requests = Counter(
            "flame_agent_http_requests",
            "Requests that were answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.first_byte = Histogram(
            "flame_agent_http_first_byte_seconds",
            "Seconds from a request to the beginning of its answer.",
            ("route", "method"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
            registry=self.registry,
        )
        self.whole = Histogram(
            "flame_agent_http_request_seconds",
            "Seconds from a request to the end of its answer; a stream takes as long as it is open.",
            ("route", "method"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 3600),
            registry=self.registry,
        )
        self.open = Gauge(
            "flame_agent_http_open_requests",
            "Requests whose answer goes on, streams of events among them.",
            registry=self.registry,
        )
        self.streams = Gauge(
            "flame_agent_http_open_streams",
            "Streams of events that are open.",
            ("route",),
            registry=self.registry,
        )
        self.tasks = Gauge(
            "flame_agent_turns",
            "Turns on the engine, of all servers and clients, that run or wait to run.",
            ("agent", "state"),
            registry=self.registry,
        )


class Measured:
    """The application, with what it is asked counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, method = time.perf_counter(), scope["method"]
        method = method if method in ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS") else "other"

        stream: Gauge | None = None

        def route() -> str:
            """A path that nobody has declared is anybody's text."""
            return getattr(scope.get("route"), "path", "none")

        async def counted(message: Message) -> None:
            nonlocal stream
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(route(), method, str(message["status"])).inc()
                self._metrics.first_byte.labels(route(), method).observe(time.perf_counter() - began)
                if _is_stream(message):
                    stream = self._metrics.streams.labels(route())
                    stream.inc()
            await send(message)

        try:
            with self._metrics.open.track_inprogress():
                await self.app(scope, receive, counted)
        finally:
            self._metrics.whole.labels(route(), method).observe(time.perf_counter() - began)
            if stream is not None:
                stream.dec()


def _is_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )


def routes(agents: Agents, metrics: Metrics) -> list[Route]:
    """The route."""

    async def show(request: Request) -> Response:
        if not identity_of(request).admin:
            raise RequestError(403, "Metrics are for admins (`users add NAME --admin`).", code="not_admin")
        counts: Count[tuple[str, str]] = Count()
        sessions = await agents.all_sessions()
        for each in sessions:
            counts[each.application, "running"] += each.running
            counts[each.application, "pending"] += each.pending
        for name in await agents.names():
            metrics.turns.begin(name)
            for state in ("running", "pending"):
                metrics.tasks.labels(name, state).set(counts[name, state])
        await metrics.turns.look_up(agents, {each.id: each.running + each.pending > 0 for each in sessions})
        told = generate_latest(metrics.registry) + await _of_engine(agents)
        return Response(told, media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", show)]


async def _of_engine(agents: Agents) -> bytes:
    """Those of an embedded engine; none where it is of a version that has none."""
    try:
        found = await in_thread(agents.engine.metrics)
    except ClientError as error:
        _log.warning("%s", error)
        return b""
    return text(found).encode() if found else b""
