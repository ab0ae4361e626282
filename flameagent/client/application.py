"""An application: an agent that can be registered with Flame, as a document of `openai-agent.yaml` describes it.

The same file registers the agent with a cluster (`flmctl register -f`) and with the embedded engine. Which one a
command is about: `project`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flameagent import files
from flameagent.apis import APPLICATION
from flameagent.client.errors import UsageError
from flameagent.flame.documents import load_all, shortened

FILE = "openai-agent.yaml"
SERVICE = "flameagent.service"
"""The module that runs an agent: `python -m flameagent.service MODULE[:OBJECT]`."""

_NAME = re.compile(r"(?!\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")  # what Flame 0.6.0 takes
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Application:
    """An agent that can be registered: its name, the folder of its project, and what of it is run.

    `target` is the `MODULE[:OBJECT]` that the service runs; `folder` is None of one that only a cluster knows.
    `chosen` is the option, variable or file that chose it, and `file` the one that describes it, where one does; the
    rest is what that adds. `delay_release` is in seconds.
    """

    name: str
    folder: Path | None = None
    target: str = "agent"
    chosen: str = field(default="", compare=False)
    file: Path | None = field(default=None, compare=False)
    description: str | None = None
    labels: tuple[str, ...] = ()
    environments: dict[str, str] = field(default_factory=dict)
    delay_release: int | None = None
    max_instances: int | None = None

    @property
    def is_object(self) -> bool:
        """True of an object of a project to which no file gives a name: the name stands for what is run."""
        return self.file is None and self.folder is not None

    @property
    def variables(self) -> set[str]:
        """The environment variables that `environments` uses as `${NAME}`."""
        return {name for value in self.environments.values() for name in _VARIABLE.findall(value)}

    def resolved(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environments`, with those of these variables in it that are set."""
        return {
            name: _VARIABLE.sub(lambda found: environ.get(found[1], found[0]), value)
            for name, value in self.environments.items()
        }


def is_name(text: str) -> bool:
    """Return whether Flame takes it as the name of an application."""
    return bool(_NAME.fullmatch(text))


def target_in(arguments: object) -> str:
    """The target that a command with these arguments runs; "" where it is none of ours."""
    words = [str(word) for word in arguments] if isinstance(arguments, list | tuple) else []
    return words[words.index(SERVICE) + 1] if SERVICE in words[:-1] else ""


def read(file: Path) -> list[Application]:
    """The applications that a file describes, a document each, in their order; one at least.

    Raises `UsageError` for a file that cannot be read, or describes none.
    """
    try:
        text = files.read(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {files.why(error)}.") from error
    try:
        documents = load_all(text)
    except ValueError as error:
        raise UsageError(f"{file} is not YAML{error}.") from error
    return [_parsed(document, file) for document in documents if document is not None] or [_parsed(None, file)]


def _parsed(content: Any, file: Path) -> Application:
    metadata, spec = _mapping(content, "metadata", file), _mapping(content, "spec", file)
    name = metadata.get("name")
    if not isinstance(name, str) or not is_name(name):
        raise UsageError(
            f"{file} describes no application: metadata.name is {shortened(name)}; it looks like {APPLICATION}."
        )
    environments, labels = spec.get("environments") or {}, spec.get("labels") or []
    if not isinstance(environments, dict):
        raise UsageError(f"{file}: spec.environments is not a map of names to values.")
    if not isinstance(labels, list):
        raise UsageError(f"{file}: spec.labels is not a list.")
    description = spec.get("description")
    return Application(
        name,
        file.parent,
        target_in(spec.get("arguments")) or Application.target,
        chosen=str(file),
        file=file,
        description=None if description is None else str(description).strip(),
        labels=tuple(str(label) for label in labels),
        environments={str(key): "" if value is None else str(value) for key, value in environments.items()},
        delay_release=_count(spec, "delay_release", file),
        max_instances=_count(spec, "max_instances", file),
    )


def _mapping(content: Any, name: str, file: Path) -> dict[str, Any]:
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        raise UsageError(f"{file} describes no application: it has no `{name}`.")
    return section


def _count(spec: dict[str, Any], name: str, file: Path) -> int | None:
    value = spec.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise UsageError(f"{file}: spec.{name} is not a whole number: {shortened(value)}.")
    return value
