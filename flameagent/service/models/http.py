"""The options of an HTTP client that goes the way that the environment names, and reads nothing else of it."""

from __future__ import annotations

import os
import ssl
from typing import Any

import httpx2

from flameagent.network import route_to


def client_options(url: str) -> dict[str, Any]:
    """Return the options of an httpx2 client for the server at this URL.

    Raises `ModelError` where there is no route to it.
    """
    found = route_to(url, os.environ)
    context: ssl.SSLContext | None = None
    if found.ca_file or found.ca_path:
        context = ssl.create_default_context(cafile=found.ca_file, capath=found.ca_path)
    proxy = None
    if found.proxy:
        proxy = httpx2.Proxy(found.proxy, ssl_context=context if found.proxy.startswith("https:") else None)
    return {"trust_env": False, "proxy": proxy, "verify": context or True}
