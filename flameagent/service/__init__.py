"""The inside of a Flame instance: the instance that Flame starts, and the worker that runs the agent.

`FlameInstance` is flamepy's, with the same decorator: a service written for flamepy changes one import.
It is imported when it is asked for, because the instance has to bind its socket before anything heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flameagent.service.entrypoint import FlameInstance

__all__ = ["FlameInstance"]


def __getattr__(name: str) -> Any:
    if name == "FlameInstance":
        from flameagent.service.entrypoint import FlameInstance

        return FlameInstance
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
