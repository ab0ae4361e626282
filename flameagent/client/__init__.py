"""The agent's client: what talks to Flame from outside.

::

    from flameagent.client import connect

    with connect() as client:
        reply = client.ask("who are you?")
        print(reply.answer)
        client.ask("and what did I ask?", session=reply.session_id)

Importing this package is cheap; `connect` loads gRPC and Arrow. It never loads the Agents SDK.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from flameagent.client.errors import ClientError

if TYPE_CHECKING:
    from flameagent.client.client import Client

__all__ = ["ClientError", "connect"]


def connect(
    endpoint: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    cache_endpoint: str | None = None,
    ca_file: str | None = None,
) -> Client:
    """The agent on the Flame at `endpoint`, or the one that the environment or `~/.flame/flame.yaml` names.

    Its object cache is at `cache_endpoint`, and `ca_file` has the authority of both, where they are given; otherwise
    as configured. Where nothing names a Flame: on this machine's embedded engine, which starts by itself; its turns
    get the model settings of `environ`, which is this process's environment over the settings file, unless it is
    given. Raises `UsageError` for a configuration that makes no sense.
    """
    from flameagent.client import application, engine, environment
    from flameagent.client.client import Client

    told = environment.gather(os.environ) if environ is None else environment.Environment(environ)
    told = told.over({"endpoint": endpoint, "cache_endpoint": cache_endpoint, "ca_file": ca_file})
    return Client(engine.choose(told), application.read(), told)
