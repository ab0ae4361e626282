"""The variables that count: those of the process over the settings file, and options over both.

The settings file has what a user would otherwise export in every shell, or give as an option every time. Promises
that an option wins over the environment and the environment over the file, and that a file which cannot be read, or
has something in it that is no setting, is named with the line to mend.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path

from flameagent import files
from flameagent.client import places
from flameagent.client.errors import UsageError
from flameagent.flame.documents import shortened
from flameagent.flame.resources import Resources
from flameagent.settings import NAMED, TIMEOUT

_LONGEST = 65_536  # characters
_DOTS = 100  # in a line
_KINDS = {str: "a text in quotes", int: "a number", float: "a number", bool: "true or false", dict: "a table"}


def settings_file() -> Path | None:
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
                setting = NAMED[name]
                told[setting.variable] = str(value)
                told.sources[setting.variable] = setting.option
        return told


def gather(
    environ: Mapping[str, str], options: Mapping[str, object] | None = None, wrong: list[UsageError] | None = None
) -> Environment:
    """These variables, for those that are not set the file's, and options over both.

    Raises `UsageError` for a file that is none, or puts what is wrong with it into `wrong`, where that is given, and
    has the rest of it count.
    """
    told = Environment(environ)
    for name, value in (read_settings_file() if wrong is None else _lines(wrong)).items():
        variable = NAMED[name].variable
        if not told.get(variable, "").strip():
            told[variable] = value
            told.sources[variable] = f"{name} in {settings_file()}"
    return told.over(options or {})


def timeout(environ: Environment) -> float:
    """The seconds to wait for an answer. Raises `UsageError`."""
    return float(_checked(environ, "timeout") or TIMEOUT)


def stream(environ: Environment) -> bool:
    """True where a terminal shows an answer while it comes. Raises `UsageError`."""
    return _checked(environ, "stream") != "0"


def resources(environ: Environment) -> Resources | None:
    """What a new session asks a cluster for, None where the cluster's configuration says. Raises `UsageError`."""
    text = _checked(environ, "resreq")
    return Resources.parse(text) if text else None


def _checked(environ: Environment, name: str) -> str:
    """The value of a setting, "" where it is not set. Raises `UsageError` for one that makes no sense."""
    setting = NAMED[name]
    value = environ.get(setting.variable, "").strip()
    if value and (complaint := setting.complaint(value)):
        raise UsageError(f"{environ.source(setting.variable)} {complaint}.")
    return value


def read_settings_file() -> dict[str, str]:
    """The lines of the file, each as a variable would have it; none where there is no file. Raises `UsageError`."""
    wrong: list[UsageError] = []
    found = _lines(wrong)
    if wrong:
        raise wrong[0]
    return found


def _lines(wrong: list[UsageError]) -> dict[str, str]:
    path = settings_file()
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
            found[name] = _line(path, name, value)
        except UsageError as error:
            wrong.append(error)
    return found


def _measured(text: str) -> str:
    """The text. Raises `ValueError` where it cannot be settings: tomllib takes minutes for a key of many parts."""
    if len(text) > _LONGEST or any(line.count(".") > _DOTS for line in text.splitlines() if line.lstrip()[:1] != "#"):
        raise ValueError("they are too long, or a key has too many parts")
    return text


def _line(path: Path, name: str, value: object) -> str:
    if name not in NAMED:
        close = difflib.get_close_matches(name, NAMED, 1)
        meant = f"Did you mean {close[0]}?" if close else f"These are: {', '.join(NAMED)}."
        raise UsageError(f"{path}: there is no setting {shortened(name)[1:-1]}. {meant}")
    kinds = NAMED[name].kinds
    if type(value) not in kinds:
        wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
        raise UsageError(f"{path}: {name} is {wanted}, not {shortened(value)}.")
    try:
        if isinstance(value, dict):
            return json.dumps(value)
        return str(int(value)) if isinstance(value, bool) else str(value)
    except (TypeError, ValueError):  # TypeError: a table with a date in it
        raise UsageError(f"{path}: {name} is {shortened(value)}.") from None
