"""Proxies before the server: those that the settings name are believed, and nobody else is.

Promises that a header in which a proxy says who comes, and how, counts only where the connection itself is from an
address of that list.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from flameagent.client.errors import UsageError
from flameagent.client.question import name_of

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_PROXY, _HEADER = "FLAME_AGENT_TRUSTED_PROXY", "FLAME_AGENT_TRUSTED_HEADER"
_LONGEST = 200


@dataclass(frozen=True)
class Proxies:
    """The networks whose proxies are believed, and the header in which these say who asks; "" for none."""

    networks: tuple[_Network, ...] = ()
    header: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Proxies:
        """As the variables have it. Raises `UsageError`."""
        header, networks = environ.get(_HEADER, "").strip().lower(), list[_Network]()
        for each in filter(None, (part.strip() for part in environ.get(_PROXY, "").split(","))):
            try:
                networks.append(ipaddress.ip_network(each))
            except ValueError as error:
                raise UsageError(
                    f"{_PROXY} has {each!r}, which is no address or network such as 10.0.0.0/8."
                ) from error
        if header and not networks:
            raise UsageError(f"{_HEADER} is set, and {_PROXY} does not say whose word that is.")
        return cls(tuple(networks), header)

    def believes(self, scope: Scope) -> bool:
        """Whether the connection itself is from one of them."""
        try:
            address = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:  # a socket of this machine without addresses
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.networks)

    def user(self, headers: Headers) -> str:
        """Who asks, as a proxy says it; "" where it says nothing, or names several."""
        if not self.header:
            return ""
        said = headers.getlist(self.header)
        user = name_of(said[0].encode("latin-1").decode(errors="replace")) if len(said) == 1 else ""
        return user if len(user) <= _LONGEST and user.isprintable() else ""


class Believed:
    """The application behind proxies: `scope` has what a believed one says of the user and of the way."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and self._proxies.believes(scope):
            headers = Headers(scope=scope)
            scope = {**scope, "proxied_user": self._proxies.user(headers)}
            way = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            if way in ("http", "https"):
                scope["scheme"] = way
            if came_from := _first_stranger(headers.get("x-forwarded-for", ""), self._proxies.networks):
                scope["client"] = (came_from, 0)
        await self._app(scope, receive, send)


def _first_stranger(told: str, networks: tuple[_Network, ...]) -> str:
    """The last address of the list that is none of the proxies': what stands before it anybody may have written."""
    for each in reversed(told.split(",")):
        try:
            address = ipaddress.ip_address(each.strip())
        except ValueError:
            return ""
        if not any(address in network for network in networks):
            return str(address)
    return ""
