"""Proxies: whose word counts about who comes, and how."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from flameagent.client.errors import UsageError
from flameagent.server.proxies import Believed, Proxies


async def seen(address: str, headers: dict[str, str], **variables: str) -> dict[str, Any]:
    """What the application sees of a request that comes from that address."""
    found: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.update(scope)

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        pass

    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "client": (address, 5000), "headers": given, "scheme": "http", "path": "/"}
    environ = {f"FLAME_AGENT_TRUSTED_{name}": value for name, value in variables.items()}
    await Believed(app, Proxies.of(environ))(scope, receive, send)
    return found


TOLD = {"X-User": "ada", "X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4, 9.9.9.9, 10.0.0.7"}


async def test_a_proxy_that_is_named_says_who_comes_and_how() -> None:
    found = await seen("10.0.0.9", TOLD, PROXY="127.0.0.1, 10.0.0.0/8", HEADER="X-User")
    assert (found["proxied_user"], found["scheme"], found["client"]) == ("ada", "https", ("9.9.9.9", 0))
    mapped = await seen("::ffff:10.0.0.9", {**TOLD, "X-User": "Zoë"}, PROXY="10.0.0.0/8", HEADER="X-User")
    assert mapped["proxied_user"] == "Zoë"


async def test_nobody_else_does() -> None:
    for variables in ({"PROXY": "10.0.0.0/8", "HEADER": "X-User"}, {}):
        found = await seen("11.0.0.9", TOLD, **variables)
        assert "proxied_user" not in found
        assert (found["scheme"], found["client"]) == ("http", ("11.0.0.9", 5000))


async def test_a_proxy_without_a_header_for_it_names_nobody() -> None:
    assert (await seen("10.0.0.9", TOLD, PROXY="10.0.0.0/8"))["proxied_user"] == ""


@pytest.mark.parametrize("headers", [{}, {"X-User": " "}, {"X-User": "a" * 201}, {"X-Forwarded-For": "no address"}])
async def test_what_it_does_not_say_is_nothing(headers: dict[str, str]) -> None:
    found = await seen("10.0.0.9", headers, PROXY="10.0.0.9", HEADER="X-User")
    assert (found["proxied_user"], found["scheme"], found["client"]) == ("", "http", ("10.0.0.9", 5000))


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"PROXY": "proxy.example"}, "no address or network"),
        ({"PROXY": "10.0.0.1/8"}, "no address or network"),
        ({"HEADER": "X-User"}, "does not say whose word"),
    ],
)
def test_settings_that_make_no_sense_are_named(variables: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Proxies.of({f"FLAME_AGENT_TRUSTED_{name}": value for name, value in variables.items()})
