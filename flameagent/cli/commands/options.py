"""Every option that more than one command has, declared once: alone, or in a group that a command takes as one
object.

A group is a dataclass whose fields are options with their defaults; `grouped` shows typer the fields as if the
command had them itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from flameagent.client.errors import UsageError
from flameagent.settings import NAMED

Group = TypeVar("Group")


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Have typer see the options of each group that a command takes, and the command be given the groups."""
    hints = _hints(command)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    seen = {"context": Parameter("context", Parameter.KEYWORD_ONLY, annotation=typer.Context)}
    for name, parameter in inspect.signature(command).parameters.items():
        group = groups.get(name)
        for option in fields(group) if group else [parameter]:
            annotation = (_hints(group) if group else hints)[option.name]
            seen[option.name] = Parameter(
                option.name, Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation
            )

    def run(context: typer.Context, **values: Any) -> None:
        values |= {"context": context, **{name: given(context, group) for name, group in groups.items()}}
        command(**{name: values[name] for name in hints if name != "return"})

    functools.update_wrapper(run, command, ("__module__", "__name__", "__qualname__", "__doc__"))
    run.__annotations__ = {}  # its own, whose names typer would look for in the command's module
    run.__signature__ = inspect.Signature(list(seen.values()))  # type: ignore[attr-defined]
    return run


def given(context: Any, group: type[Group]) -> Group:
    """A group's options as they were given to this command, or before it."""
    if context is None:
        return group()
    default, before = vars(group()), vars(given(context.parent, group))
    here = {name: value for name, value in context.params.items() if name in default and value != default[name]}
    return group(**before | here)


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of, include_extras=True)


Json = Annotated[bool, typer.Option("--json", help="Print JSON; an error is JSON on standard error.")]


def _option(name: str) -> Any:
    """The option of a setting, as the table of settings describes it."""
    setting = NAMED[name]
    return typer.Option(setting.option, metavar=setting.metavar, help=setting.help, show_default=False)


@dataclass(frozen=True)
class EngineOptions:
    """The Flame that a command is about."""

    endpoint: Annotated[str | None, _option("endpoint")] = None
    cache_endpoint: Annotated[str | None, _option("cache_endpoint")] = None
    ca_file: Annotated[str | None, _option("ca_file")] = None


@dataclass(frozen=True)
class TurnOptions:
    """How a turn is asked, waited for and shown."""

    model: Annotated[str, _option("model")] = ""
    base_url: Annotated[str | None, _option("base_url")] = None
    api: Annotated[str | None, _option("api")] = None
    window: Annotated[str | None, _option("history")] = None
    model_timeout: Annotated[float | None, _option("model_timeout")] = None
    timeout: Annotated[float | None, _option("timeout")] = None
    no_stream: Annotated[bool, _option("stream")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")] = False
    as_json: Json = False

    def of_the_model(self) -> Mapping[str, object]:
        """The model's settings among them that were given, by name. Raises `UsageError`."""
        seconds = None if self.model_timeout is None else f"{self.model_timeout:g}"
        values = {"base_url": self.base_url, "api": self.api, "history": self.window, "model_timeout": seconds}
        given = {name: value for name, value in values.items() if value is not None}
        for name, value in given.items():
            if complaint := NAMED[name].complaint(value):
                raise UsageError(f"{NAMED[name].option} {complaint}.")
        return given

    def of_waiting(self) -> Mapping[str, object]:
        """The settings among them that are the client's own, by name."""
        return {"timeout": self.timeout, "stream": "0" if self.no_stream else None}
