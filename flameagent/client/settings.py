"""The settings file: what a user would otherwise export in every shell, or give as an option every time.

Promises that an option wins over the environment and the environment over the file, and that a file which cannot be
read, or has something in it that is no setting, is named with the line to mend.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path

from flameagent import files
from flameagent.client import places
from flameagent.client.errors import UsageError
from flameagent.flame.documents import shortened

VARIABLES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "model": ("AGENT_MODEL", (str,)),
    "base_url": ("OPENAI_BASE_URL", (str,)),
    "api": ("AGENT_API", (str,)),
    "history": ("AGENT_HISTORY", (int, str)),
    "model_timeout": ("AGENT_MODEL_TIMEOUT", (int, float)),
    "endpoint": ("FLAME_ENDPOINT", (str,)),
    "cache_endpoint": ("FLAME_CACHE_ENDPOINT", (str,)),
    "ca_file": ("FLAME_CA_FILE", (str,)),
    "timeout": ("FLAME_AGENT_TIMEOUT", (int, float)),
    "stream": ("FLAME_AGENT_STREAM", (bool,)),
}
"""Each setting of the file: the variable that it stands for, and what it may be."""

TIMEOUT = 330.0
"""Seconds to wait for an answer: somewhat more than the agent gives itself."""

_LONGEST = 65_536  # characters
_DOTS = 100  # in a line
_KINDS = {str: "a text in quotes", int: "a number", float: "a number", bool: "true or false"}


def file() -> Path | None:
    """Where the settings are, or would be; None for a user without a home."""
    folder = places.configuration()
    return folder and folder / "settings.toml"


class Environment(dict[str, str]):
    """The variables that count, whoever set them.

    `sources` are those that no variable of the process set: an option, or a line of the settings file.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.sources: dict[str, str] = dict(environ.sources) if isinstance(environ, Environment) else {}

    def source(self, variable: str) -> str:
        """Who set it, as a sentence names them."""
        return self.sources.get(variable, variable)

    def over(self, options: Mapping[str, object]) -> Environment:
        """These, and over them what options set, each by the name of its setting; None is not given."""
        told = Environment(self)
        for name, value in options.items():
            if value not in (None, ""):
                variable, _ = VARIABLES[name]
                told[variable] = str(value)
                told.sources[variable] = "--no-stream" if name == "stream" else f"--{name.replace('_', '-')}"
        return told


def environment(
    environ: Mapping[str, str], options: Mapping[str, object] | None = None, wrong: list[UsageError] | None = None
) -> Environment:
    """These variables, for those that are not set the file's, and options over both.

    Raises `UsageError` for a file that is none, or puts what is wrong with it into `wrong`, where that is given, and
    has the rest of it count.
    """
    told = Environment(environ)
    for name, value in (read() if wrong is None else _read(wrong)).items():
        variable, _ = VARIABLES[name]
        if not told.get(variable, "").strip():
            told[variable] = value
            told.sources[variable] = f"{name} in {file()}"
    return told.over(options or {})


def timeout(environ: Environment) -> float:
    """How long to wait for an answer, in seconds. Raises `UsageError`."""
    source, value = environ.source("FLAME_AGENT_TIMEOUT"), environ.get("FLAME_AGENT_TIMEOUT", "").strip()
    try:
        seconds = float(value) if value else TIMEOUT
    except ValueError as error:
        raise UsageError(f"{source} is a number of seconds, not {value!r}.") from error
    if not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"{source} is a number of seconds above 0.")
    return seconds


def stream(environ: Environment) -> bool:
    """Whether a terminal shows an answer while it comes. Raises `UsageError`."""
    source, value = environ.source("FLAME_AGENT_STREAM"), environ.get("FLAME_AGENT_STREAM", "").strip()
    if value not in ("", "0", "1"):
        raise UsageError(f"{source} is 1 or 0, not {value!r}.")
    return value != "0"


def read() -> dict[str, str]:
    """What the file sets, as a variable would; nothing where there is no file. Raises `UsageError`."""
    wrong: list[UsageError] = []
    found = _read(wrong)
    if wrong:
        raise wrong[0]
    return found


def _read(wrong: list[UsageError]) -> dict[str, str]:
    path = file()
    if path is None:
        return {}
    try:
        text = files.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        wrong.append(UsageError(f"The settings in {path} cannot be read: {files.why(error)}."))
        return {}
    import tomllib

    try:
        lines = tomllib.loads(_measured(text))
    except (ValueError, RecursionError) as error:
        wrong.append(UsageError(f'The settings in {path} are not TOML: {error}. A line looks like: model = "…"'))
        return {}
    found = {}
    for name, value in lines.items():
        try:
            found[name] = _checked(path, name, value)
        except UsageError as error:
            wrong.append(error)
    return found


def _measured(text: str) -> str:
    """The text. Raises `ValueError` where it cannot be settings: tomllib takes minutes for a key of many parts."""
    if len(text) > _LONGEST or any(line.count(".") > _DOTS for line in text.splitlines() if line.lstrip()[:1] != "#"):
        raise ValueError("they are too long, or a key has too many parts")
    return text


def _checked(path: Path, name: str, value: object) -> str:
    if name not in VARIABLES:
        close = difflib.get_close_matches(name, VARIABLES, 1)
        meant = f"Did you mean {close[0]}?" if close else f"These are: {', '.join(VARIABLES)}."
        raise UsageError(f"{path}: there is no setting {shortened(name)[1:-1]}. {meant}")
    _, kinds = VARIABLES[name]
    if type(value) not in kinds:
        wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
        raise UsageError(f"{path}: {name} is {wanted}, not {shortened(value)}.")
    try:
        return str(int(value)) if isinstance(value, bool) else str(value)
    except ValueError:
        raise UsageError(f"{path}: {name} is {shortened(value)}.") from None
