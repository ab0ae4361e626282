"""The options that commands share, each in one place: alone, or in a group that a command takes as one object.

A group is a dataclass whose fields are options with their defaults; `grouped` shows typer the fields as if the
command had them itself.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from flameagent.client.errors import UsageError

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


@dataclass(frozen=True)
class EngineOptions:
    """Which Flame it is about."""

    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The Flame to use, such as `http://127.0.0.1:8080`. Without it: `FLAME_ENDPOINT`, then "
            "`~/.flame/flame.yaml`, then the embedded engine, which starts by itself.",
            show_default=False,
        ),
    ] = None
    cache_endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Its object cache, such as `grpc://127.0.0.1:9090`. Without it: `FLAME_CACHE_ENDPOINT`, then "
            "`~/.flame/flame.yaml`, then port 9090 beside the frontend.",
            show_default=False,
        ),
    ] = None
    ca_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The authority to trust for both, in PEM. Without it: `FLAME_CA_FILE`, then `~/.flame/flame.yaml`, "
            "then the public ones.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class TurnOptions:
    """How a turn is asked, waited for and shown."""

    model: Annotated[
        str, typer.Option(metavar="NAME", help="Ask this model; `local` is the small one that needs no key.")
    ] = ""
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The model's server, on the embedded engine; otherwise `OPENAI_BASE_URL`.",
            show_default=False,
        ),
    ] = None
    api: Annotated[
        str | None,
        typer.Option(
            metavar="chat|responses",
            help="How the model's server is asked, on the embedded engine; otherwise `AGENT_API`.",
            show_default=False,
        ),
    ] = None
    window: Annotated[
        str | None,
        typer.Option(
            "--history",
            metavar="N|all",
            help="How many items the model sees at most, on the embedded engine; otherwise `AGENT_HISTORY`.",
            show_default=False,
        ),
    ] = None
    model_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long one call of the model may take, on the embedded engine; otherwise `AGENT_MODEL_TIMEOUT`.",
            show_default=False,
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="How long to wait for the answer; otherwise `FLAME_AGENT_TIMEOUT`, or 330.",
            show_default=False,
        ),
    ] = None
    no_stream: Annotated[
        bool,
        typer.Option(
            "--no-stream",
            help="Print the answer when it is complete, as `FLAME_AGENT_STREAM=0`; otherwise a terminal shows "
            "it come.",
        ),
    ] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")] = False
    as_json: Json = False

    def of_the_model(self) -> Mapping[str, object]:
        """The model's settings among them that were given, by name. Raises `UsageError`."""
        from flameagent import model_choice

        if self.base_url and not model_choice.is_address(self.base_url):
            raise UsageError(f"--base-url is an address such as {model_choice.OPENAI_URL}, not {self.base_url!r}.")
        if self.api not in (None, "chat", "responses"):
            raise UsageError(f"--api is chat or responses, not {self.api!r}.")
        if self.window is not None and not model_choice.is_window(self.window):
            raise UsageError(f"--history is a number above 0 or all, not {self.window!r}.")
        if self.model_timeout is not None and not (math.isfinite(self.model_timeout) and self.model_timeout > 0):
            raise UsageError("--model-timeout is a number of seconds above 0.")
        told = {"base_url": self.base_url, "api": self.api, "history": self.window}
        told["model_timeout"] = None if self.model_timeout is None else f"{self.model_timeout:g}"
        return {name: value for name, value in told.items() if value is not None}

    def of_waiting(self) -> Mapping[str, object]:
        """The settings among them that are the client's own, by name."""
        return {"timeout": self.timeout, "stream": "0" if self.no_stream else None}
