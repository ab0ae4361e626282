"""Every option that more than one command has, declared once: alone, or in a group that a command takes as one
object.

A group is a dataclass whose fields are options with their defaults; `grouped` shows typer the fields as if the
command had them itself.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import typer

from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.settings import NAMED

if TYPE_CHECKING:
    from flameagent.client.attachments import Attachment

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
    # An option that can be repeated is an empty tuple where it is not given.
    own = {name: value for name, value in context.params.items() if name in default}
    here = {name: value for name, value in own.items() if value != () and value != default[name]}
    return group(**before | here)


@functools.cache
def _hints(of: Any) -> dict[str, Any]:
    return get_type_hints(of, include_extras=True)


Json = Annotated[bool, typer.Option("--json", help="Print JSON; an error is JSON on standard error.")]

Since = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="From then on: `2h` or `3d` ago, a day such as 2026-01-31, a time such as `9:30`.",
        show_default=False,
    ),
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="Up to then; a day to its end.", show_default=False)]


def setting_option(name: str) -> Any:
    """The option of a setting, as the table of settings describes it."""
    setting = NAMED[name]
    return typer.Option(setting.option, metavar=setting.metavar, help=setting.help, show_default=False)


App = Annotated[str | None, setting_option("app")]


@dataclass(frozen=True)
class EngineOptions:
    """The agent that a command is about, and the Flame that it is on."""

    app: App = None
    endpoint: Annotated[str | None, setting_option("endpoint")] = None
    cache_endpoint: Annotated[str | None, setting_option("cache_endpoint")] = None
    ca_file: Annotated[str | None, setting_option("ca_file")] = None


User = Annotated[str | None, setting_option("user")]

Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to; without it, or with `-`, standard output.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class QuestionOptions:
    """What goes with a question beside its text."""

    user: User = None
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="NAME=TEXT|@FILE",
            help="Data for the agent's tools: a text under a name, or a file with a JSON object; repeatable.",
            show_default=False,
        ),
    ] = None

    attach: Annotated[
        list[Path] | None,
        typer.Option(
            "--attach",
            metavar="FILE",
            help="An image, a file or a text that goes with the question; `-` is standard input; repeatable.",
            show_default=False,
        ),
    ] = None

    def attachments(self, *, input_is_asked: bool) -> list[Attachment]:
        """What is attached, read and checked; `input_is_asked` where standard input has the question.

        Raises `UsageError`.
        """
        if not self.attach:
            return []
        inputs = [str(path) for path in self.attach].count("-")
        if inputs and input_is_asked:
            raise UsageError("Standard input has the question: it cannot be attached, too.")
        if inputs > 1:
            raise UsageError("Standard input can be attached once.")
        from flameagent.client.attachments import gather

        return gather(self.attach, os.environ)

    def context(self) -> dict[str, Any] | None:
        """The data as one JSON object, later ones over earlier ones; None without any. Raises `UsageError`."""
        if not self.data:
            return None
        found: dict[str, Any] = {}
        for each in self.data:
            found |= _object_in(Path(each[1:])) if each.startswith("@") else _named(each)
        return found


def _named(given: str) -> dict[str, str]:
    name, equals, text = given.partition("=")
    if not (name and equals):
        raise UsageError(f"--data is NAME=TEXT, or @ and a file with a JSON object, not {given!r}.")
    return {name: text}


def _object_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(files.read(path), parse_constant=_no_number)
    except (OSError, files.NotText) as error:
        raise UsageError(f"The data's file {path} cannot be read: {files.why(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The data's file {path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"The data's file {path} has no JSON object.")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


@dataclass(frozen=True)
class TurnOptions:
    """How a turn is asked, waited for and shown."""

    model: Annotated[str, setting_option("model")] = ""
    base_url: Annotated[str | None, setting_option("base_url")] = None
    api: Annotated[str | None, setting_option("api")] = None
    window: Annotated[str | None, setting_option("history")] = None
    model_timeout: Annotated[float | None, setting_option("model_timeout")] = None
    timeout: Annotated[float | None, setting_option("timeout")] = None
    no_stream: Annotated[bool, setting_option("stream")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the answer alone.")] = False
    as_json: Json = False

    @property
    def only_show(self) -> bool:
        """True where none is about how a question is asked."""
        return not self.model and not self.of_the_model()

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
