"""The agent's client: what talks to Flame from outside.

::

    from flameagent.client import connect

    with connect() as client:
        reply = client.ask("who are you?")
        print(reply.answer)
        client.ask("and what did I ask?", session=reply.session_id)

    async with connect_async() as client:
        async for event in client.turn("and now?", session=reply.session_id):
            print(event)

Importing this package is cheap; connecting loads gRPC and Arrow. It never loads the Agents SDK.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flameagent.client.arguments import checked
from flameagent.client.errors import ClientError

if TYPE_CHECKING:
    from flameagent.client.async_client import AsyncClient
    from flameagent.client.client import Client

__all__ = ["ClientError", "connect", "connect_async"]


@checked
def connect(
    endpoint: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    app: str | None = None,
    cache_endpoint: str | None = None,
    ca_file: str | None = None,
) -> Client:
    """The agent on the Flame at `endpoint`, or the one that the environment or `~/.flame/flame.yaml` names.

    Its object cache is at `cache_endpoint`, and `ca_file` has the authority of both, where they are given; otherwise
    as configured. Where nothing names a Flame: on this machine's embedded engine, which starts by itself; its turns
    get the model settings of `environ`, which is this process's environment over the settings file, unless it is
    given. The agent is `app`, as `MODULE:OBJECT` or the name of an application; else that of `FLAME_AGENT_APP`, or
    of the project that the working directory is in. Raises `UsageError` for a configuration that makes no sense.
    """
    from flameagent.client import engine, environment, project
    from flameagent.client.client import Client

    told = environment.gather(os.environ) if environ is None else environment.Environment(environ)
    told = told.over({"app": app, "endpoint": endpoint, "cache_endpoint": cache_endpoint, "ca_file": ca_file})
    chosen = engine.choose(told)
    return Client(chosen, project.choose(told, chosen), told)


def connect_async(
    endpoint: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    app: str | None = None,
    cache_endpoint: str | None = None,
    ca_file: str | None = None,
) -> AsyncClient:
    """The same for code that runs on an event loop."""
    from flameagent.client.async_client import AsyncClient

    return AsyncClient(connect(endpoint, environ, app=app, cache_endpoint=cache_endpoint, ca_file=ca_file))
