"""Agents of the OpenAI Agents SDK, hosted on Flame, with conversations that last.

::

    from flameagent import connect

    with connect() as client:
        print(client.ask("who are you?"))

A service's module needs no more than an `Agent`; who wants an entrypoint of their own makes a `FlameInstance`.
`flameagent.conversation` is what a conversation is and how it is kept in Flame's CommonData; `flameagent.service`
runs inside a Flame instance; `flameagent.client` talks to Flame from outside; `flameagent.flame` is the one place
that knows Flame's protocol and its traps. Importing this package is cheap: each name is loaded when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flameagent.apis import Answer, Decision, MyContext, Question
    from flameagent.client import ClientError, connect, connect_async
    from flameagent.service import FlameInstance

__all__ = ["Answer", "ClientError", "Decision", "FlameInstance", "MyContext", "Question", "connect", "connect_async"]

_WHERE = {
    "Answer": "apis",
    "ClientError": "client",
    "Decision": "apis",
    "FlameInstance": "service",
    "MyContext": "apis",
    "Question": "apis",
    "connect": "client",
    "connect_async": "client",
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"flameagent.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
