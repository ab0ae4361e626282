"""Coming in with a browser: by the link that `serve` prints, or by a form for the token, which becomes a cookie.

Promises that the cookie is sent to this server alone, is seen by no script, and is not set by another site's form.
"""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from flameagent.server.body import read_bytes
from flameagent.server.errors import RequestError
from flameagent.server.identity import COOKIE, Guard, from_here
from flameagent.server.page.rendering import HEADERS, page

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_LIMIT = 65_536  # bytes of a form
_LASTS = 90 * 24 * 3600  # seconds for which a browser keeps the cookie


def routes(guard: Guard) -> list[Route]:
    """`/login`, with the token as `?token=…` or in a form, `/logout`, and the files that every page is made with."""

    async def login(request: Request) -> Response:
        form: dict[str, list[str]] = {}
        if request.method == "POST":
            from_here(request)
            form = parse_qs((await read_bytes(request, _LIMIT)).decode(errors="replace"))
        token = (form.get("token") or [request.query_params.get("token", "")])[0].strip()
        if not token:
            return page(request, "sign_in", problem="", next="")
        onward = _own_path((form.get("next") or [""])[0])
        try:
            await guard.with_token(token)
        except RequestError as error:
            return page(request, "sign_in", error.status, problem=str(error), next=onward)
        root = str(request.scope.get("root_path", "")).rstrip("/")
        response = RedirectResponse(root + (onward or "/"), 303, HEADERS)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, _LASTS, path=root or "/", secure=secure, httponly=True, samesite="strict")
        return response

    async def logout(request: Request) -> Response:
        from_here(request)
        root = str(request.scope.get("root_path", "")).rstrip("/")
        response = RedirectResponse(f"{root}/login", 303, HEADERS)
        response.delete_cookie(COOKIE, path=root or "/", httponly=True, samesite="strict")
        return response

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        content = (files("flameagent.server.page") / "static" / name).read_bytes() if name in _STATIC else None
        if content is None:
            raise RequestError(404, "There is no such path.", code="no_route")
        return Response(content, media_type=_STATIC[name], headers={**HEADERS, "cache-control": "no-cache"})

    return [
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/page/{name}", static),
    ]


def is_for_people(request: Request) -> bool:
    """Whether a browser asks for a page to show, and not a program for data."""
    path = request.url.path.removeprefix(str(request.scope.get("root_path", "")))
    return request.method == "GET" and (path in ("/", "/memory") or path.startswith("/chat/"))


def form(request: Request, error: RequestError) -> Response:
    """The form for the token, in place of a page that needs one."""
    onward = _own_path(request.url.path.removeprefix(str(request.scope.get("root_path", ""))))
    problem = str(error) if COOKIE in request.cookies or error.status != 401 else ""
    return page(request, "sign_in", error.status, problem=problem, next="" if onward == "/" else onward)


def _own_path(path: str) -> str:
    """The path, where it is one of this server's; "" for one that leads elsewhere."""
    is_own = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if is_own and path.isprintable() else ""
