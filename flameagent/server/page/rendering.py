"""The templates of the page, and the whole answers that are made of them.

Promises that no text of others is more than text: the templates escape all of it, what turns characters around or
hides them is shown as a sign, and the browser is told to run, load and send nothing but what is the page's own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from flameagent.transcript.sanitize import sanitize

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # without any, forms would not say where they come from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def page(request: Request, template: str, status: int = 200, **named: Any) -> Response:
    """A whole page, or a part of one; in the template `root` is where the server is below its address."""
    root = str(request.scope.get("root_path", "")).rstrip("/")
    return HTMLResponse(render(template, root=root, **named), status, HEADERS)


def render(template: str, **named: Any) -> str:
    """HTML in which everything that was given is text."""
    return sanitize(_environment().get_template(f"{template}.html.jinja").render(**named).replace("\r\n", "\n"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("flameagent.server.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
