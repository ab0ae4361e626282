"""Metrics, at `/metrics`, as Prometheus reads them: what this server was asked, and what runs on its engine.

Neither users nor texts are in them. For admins: the role of a user whose token Prometheus has.
"""

from __future__ import annotations

import time
from collections import Counter as Count

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flameagent.server.agents import Agents
from flameagent.server.errors import RequestError
from flameagent.server.identity import identity_of


class Metrics:
    """What one server counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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
        self.open = Gauge(
            "flame_agent_http_open_requests",
            "Requests whose answer goes on, streams of events among them.",
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

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A path that nobody has declared is anybody's text.
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.requests.labels(route, method, str(message["status"])).inc()
                self._metrics.first_byte.labels(route, method).observe(time.perf_counter() - began)
            await send(message)

        with self._metrics.open.track_inprogress():
            await self.app(scope, receive, counted)


def routes(agents: Agents, metrics: Metrics) -> list[Route]:
    """The route."""

    async def show(request: Request) -> Response:
        if not identity_of(request).admin:
            raise RequestError(403, "Metrics are for admins (`users add NAME --admin`).", code="not_admin")
        counts: Count[tuple[str, str]] = Count()
        for each in await agents.all_sessions():
            counts[each.application, "running"] += each.running
            counts[each.application, "pending"] += each.pending
        for name in await agents.names():
            for state in ("running", "pending"):
                metrics.tasks.labels(name, state).set(counts[name, state])
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [Route("/metrics", show)]
