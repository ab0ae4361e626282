"""The application, as `openai-agent.yaml` describes it.

The same file registers the agent with a cluster (`flmctl register -f`) and with the embedded engine. Where it
is missing, the agent has its built-in name and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apis import APPLICATION
from flameagent import files
from flameagent.client.errors import UsageError
from flameagent.flame.documents import load, shortened

FILE = "openai-agent.yaml"

_NAME = re.compile(r"(?!\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")  # what Flame 0.6.0 takes
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True)
class Application:
    """An agent that can be registered: its name, the folder of `agent.py`, and what the YAML adds.

    `delay_release` is in seconds.
    """

    name: str
    folder: Path
    description: str | None = None
    labels: tuple[str, ...] = ()
    environments: dict[str, str] = field(default_factory=dict)
    delay_release: int | None = None
    max_instances: int | None = None

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


def read(folder: Path | None = None) -> Application:
    """The application of a folder: by default the one that this package is in, a checkout or an installation.

    Raises `UsageError` for a file that is not an application.
    """
    folder = folder or Path(__file__).resolve().parents[2]
    file = folder / FILE
    try:
        text = files.read(file)
    except FileNotFoundError:
        return Application(APPLICATION, folder)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {files.why(error)}.") from error
    return _parsed(text, file)


def _parsed(text: str, file: Path) -> Application:
    try:
        content = load(text)
    except ValueError as error:
        raise UsageError(f"{file} is not YAML{error}.") from error
    metadata, spec = _mapping(content, "metadata", file), _mapping(content, "spec", file)
    name = metadata.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
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
