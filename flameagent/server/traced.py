"""Requests as spans: a turn that is asked over HTTP is a part of its request, and that of its caller's trace."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flameagent import tracing


class Traced:
    """The application, with a span for each request in which something is asked, below that of its `traceparent`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        recorder = tracing.recorder()
        if recorder is None or scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method, caller = scope["method"], tracing.read(Headers(scope=scope).get("traceparent", ""))
        span = recorder.begin(method, {"http.request.method": method}, kind="server", parent=caller)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.set({"http.response.status_code": message["status"]})
                if message["status"] >= 500:
                    span.fail(str(message["status"]))
            await send(message)

        try:
            with span.entered():
                await self.app(scope, receive, noted)
        finally:
            if span.used:
                route = getattr(scope.get("route"), "path", "")  # a path that nobody has declared is anybody's text
                span.name = f"{method} {route}".strip()
                span.set({"http.route": route})
                span.end()
            else:
                recorder.discard(span)
