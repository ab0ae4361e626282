"""The plan of an instance: its command, its folder and its environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Variables that say where temporary files are to be: an instance has a folder of its own for them.
TEMPORARIES = ("TMPDIR", "TEMP", "TMP")
_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """All that decides what process an instance is: two equal plans need no restart between them.

    Variables in the command and its arguments are expanded at the launch, over the instance's whole environment.
    """

    application: str
    command: str
    arguments: tuple[str, ...]
    directory: str | None
    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def make(
        cls,
        application: str,
        spec: Any,
        base: Mapping[str, str],
        settings: Mapping[str, str],
        installed: Mapping[str, str] | None = None,
    ) -> Plan:
        """The plan of an application: `spec` is its ApplicationSpec.

        The environment is `base`, over it the application's own with that of its package (`installed`), over both the
        `settings`.
        """
        known = {**base, **settings}
        own = {variable.name: expand(variable.value, known, strict=True) for variable in spec.environments}
        for name, text in (installed or {}).items():
            if name in _PATHS and name in own:
                own[name] = f"{text}:{own[name]}"
            else:
                own.setdefault(name, text)
        level = known.get("RUST_LOG", "info")
        inherited = {name: text for name, text in base.items() if name not in TEMPORARIES}
        environment = {**inherited, **own, **settings, "RUST_LOG": level, "FLAME_LOG": level}
        return cls(
            application=application,
            command=spec.command,
            arguments=tuple(spec.arguments),
            directory=spec.working_directory or None,
            environment=environment,
            secrets=tuple(value for name, value in settings.items() if _SECRET.search(name) and len(value) > 5),
        )


def expand(text: str, variables: Mapping[str, str], strict: bool = False) -> str:
    """Expand `$NAME`, `${NAME}` and `${NAME:-default}` as the shellexpand crate.

    An unknown variable stays as it is; with `strict`, so does the whole text then.
    """
    unknown = False

    def value(match: re.Match[str]) -> str:
        nonlocal unknown
        inner = match["braced"] or match["bare"]
        if inner is None:
            return "$"
        name, default = inner, None
        if match["braced"] is not None and inner.find(":-") > 0:
            name, _, default = inner.partition(":-")
        if name in variables and (variables[name] or default is None):
            return variables[name]
        if default is not None:
            return default
        unknown = True
        return match[0]

    expanded = re.sub(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<bare>\w+)|\$)?", value, text)
    return text if strict and unknown else expanded
