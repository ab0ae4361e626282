"""The target of an instance: what `MODULE[:OBJECT]` names, as a `FlameInstance` that answers.

An `Agent` is enough: it is given the entrypoint that everyone would write.
"""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flameagent.service.entrypoint import FlameInstance


class TargetError(Exception):
    """It names nothing that answers. The message is a sentence for the user, with what there is instead."""


def load(target: str) -> FlameInstance:
    """The instance that a target names; without an object, the module's only `FlameInstance`, else its only `Agent`.

    The module is looked for in the working directory and its `src`, then among what is installed. Raises
    `TargetError`, and what the module raises while it is imported.
    """
    name, _, wanted = target.partition(":")
    module = _import(name)
    from flameagent.service.entrypoint import FlameInstance

    # A module that has made an agent has imported the SDK.
    agent_type = getattr(sys.modules.get("agents"), "Agent", None)
    instances = _named(module, FlameInstance)
    agents = _named(module, agent_type) if agent_type else {}
    if wanted:
        found = _attribute(module, wanted, instances | agents)
    elif len(instances) == 1 or (not instances and len(agents) == 1):
        (found,) = (instances or agents).values()
    elif names := [*(instances or agents)]:
        kind = "FlameInstances" if instances else "agents"
        raise TargetError(f"{name} has {_and(names)} as {kind}: name one of them, such as {name}:{names[0]}.")
    else:
        raise TargetError(f"{name} has no Agent and no FlameInstance.")
    if isinstance(found, FlameInstance):
        return found
    if agent_type and isinstance(found, agent_type):
        return _instance_of(found)
    raise TargetError(f"{target} is {_a(type(found).__name__)}, and no Agent. {_what_there_is(name, agents)}")


def _instance_of(agent: Any) -> FlameInstance:
    from flameagent.apis import Answer, Question
    from flameagent.service.entrypoint import FlameInstance

    instance = FlameInstance()

    @instance.entrypoint
    async def ask(question: Question) -> Answer:
        return await instance.answer(agent, question)

    return instance


def _import(name: str) -> ModuleType:
    here = Path.cwd()
    sys.path[:0] = [str(here), *([str(here / "src")] if (here / "src").is_dir() else [])]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(f"There is no module {name} in {here}, and none is installed.") from error
        raise


def _attribute(module: ModuleType, wanted: str, there_is: dict[str, Any]) -> Any:
    try:
        return attrgetter(wanted)(module)
    except AttributeError as error:
        name = module.__name__
        raise TargetError(f"{name} has no {wanted}. {_what_there_is(name, there_is)}") from error


def _named(module: ModuleType, kind: type) -> dict[str, Any]:
    """The module's objects of a kind by name, each once, without private ones."""
    found = {id(value): name for name, value in reversed(vars(module).items()) if isinstance(value, kind)}
    return {name: getattr(module, name) for name in reversed(found.values()) if not name.startswith("_")}


def _what_there_is(module: str, named: dict[str, Any]) -> str:
    there_is = [f"{module}:{name}" for name in named]
    return f"There is {_and(there_is)}." if there_is else f"There is none in {module}."


def _and(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _a(name: str) -> str:
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
