"""The project whose agents are asked, and which of them a command is about.

Promises that nobody is surprised by who answers: the agent that `--app` or `FLAME_AGENT_APP` names, else the first of
the project that the working directory is in, else the one beside the program that was started (such as `client.py`
of this program's repository), else none, with a sentence. Nothing of a project is imported for that.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flameagent import files
from flameagent.client.application import FILE, Application, is_name, read
from flameagent.client.errors import UsageError
from flameagent.client.modules import has_module, lacks
from flameagent.settings import NAMED

if TYPE_CHECKING:
    from flameagent.client.engine import Engine
    from flameagent.client.environment import Environment

OTHERS = "openai-agent-*.yaml"
"""Files beside `openai-agent.yaml` that describe more applications of a project."""

_PYPROJECT = "pyproject.toml"
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?")
_NAME_LIMIT = 253
_FOR_EVERYONE = stat.S_ISVTX | stat.S_IWOTH


def choose(environ: Environment, engine: Engine | None) -> Application:
    """The application that a command is about; the engine knows names of others.

    Raises `UsageError` where nothing names one, or what is named is not there.
    """
    variable = NAMED["app"].variable
    if wanted := environ.get(variable, "").strip():
        return _named(wanted, environ.source(variable), engine)
    if folder := _described_folder():
        return applications(folder)[0]
    where = _here()
    raise UsageError(
        f"Nothing says which agent is asked: there is no {FILE} in {where or 'this folder'} or above it. Name one: "
        "--app MODULE:OBJECT; or begin a project: the command `new FOLDER`."
    )


def served(environ: Environment, engine: Engine) -> list[Application]:
    """The applications that a server is about: the one that is named, else all of the project, else none.

    Raises `UsageError`.
    """
    variable = NAMED["app"].variable
    if environ.get(variable, "").strip():
        return [choose(environ, engine)]
    folder = _described_folder()
    return applications(folder) if folder else []


def applications(folder: Path) -> list[Application]:
    """The applications of a project, those of `openai-agent.yaml` first. Raises `UsageError`."""
    found = [each for file in (folder / FILE, *sorted(folder.glob(OTHERS))) for each in read(file)]
    seen: dict[str, Application] = {}
    for each in found:
        if (other := seen.setdefault(each.name, each)) is not each:
            files_of = " and ".join(dict.fromkeys((str(other.file), str(each.file))))
            raise UsageError(f"Two applications of this project have the name {each.name} ({files_of}): rename one.")
    return found


def _named(wanted: str, source: str, engine: Engine | None) -> Application:
    folder = _described_folder()
    own = applications(folder) if folder else []
    named = [each for each in own if wanted in (each.name, each.target)]
    of_the_module = [each for each in own if each.target.partition(":")[0] == wanted]
    if found := named or (of_the_module if len(of_the_module) == 1 else []):
        return replace(found[0], chosen=source)
    project = _project_folder()
    is_target = bool(_TARGET.fullmatch(wanted))
    module, _, thing = wanted.partition(":")
    if is_target and project and has_module(module, project):
        if thing and lacks(module, thing, project):
            raise UsageError(f"{source} is {wanted}, and {module} has no {thing}.")
        name = _name_for(wanted, project)
        if taken := next((each for each in own if each.name == name), None):
            raise UsageError(
                f"{source} is {wanted}, whose name would be {name}, and that is {taken.target} in {taken.file}."
            )
        return Application(name, project, wanted, chosen=source)
    if engine and is_name(wanted) and (known := engine.find_application(wanted, source)):
        return known
    there_are = f" This project has {', '.join(each.name for each in own)}." if own else ""
    if is_target and ":" in wanted:
        raise UsageError(f"{source} is {wanted}, and there is no module {module} in {project}.{there_are}")
    if is_target or is_name(wanted):
        raise UsageError(
            f"{source} is {wanted}, and neither an application has that name nor a module in {project}.{there_are}"
        )
    raise UsageError(
        f"{source} is the name of an application, or MODULE:OBJECT as in desk.agents:desk, not {wanted!r}."
    )


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _upwards() -> Iterator[Path]:
    here = _here()
    return iter((here, *here.parents) if here else ())


def _described_folder() -> Path | None:
    """The nearest folder with an `openai-agent.yaml`, of those above, else that of the program."""
    program = Path(sys.argv[0]) if sys.argv and sys.argv[0] else None
    beside = [program.resolve().parent] if program and program.is_file() else []
    return next((folder for folder in (*_upwards(), *beside) if _has(folder, FILE)), None)


def _project_folder() -> Path | None:
    """The folder in which modules are named: the nearest one that says that it is a project, else this one."""
    marks = (FILE, _PYPROJECT)
    return next((folder for folder in _upwards() if any(_has(folder, mark) for mark in marks)), _here())


def _has(folder: Path, mark: str) -> bool:
    """Whether it has the file: not one that another user left in a folder for everyone, such as /tmp."""
    try:
        place, file = folder.stat(), (folder / mark).stat()
    except OSError:
        return False
    return place.st_mode & _FOR_EVERYONE != _FOR_EVERYONE or file.st_uid == os.getuid()


def _name_for(target: str, folder: Path) -> str:
    """`<project>-<object>`, made such that Flame takes it; the same each time."""
    module, _, named = target.partition(":")
    words = f"{_project_name(folder)}-{named or module.rpartition('.')[2]}"
    words = re.sub(r"[^A-Za-z0-9_.-]+", "-", words)
    return re.sub(r"\.{2,}", ".", words).lstrip(".-")[:_NAME_LIMIT]


def _project_name(folder: Path) -> str:
    file = folder / _PYPROJECT
    if not file.exists():
        return folder.name
    import tomllib

    try:
        name = tomllib.loads(files.read(file)).get("project", {}).get("name")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        reason = files.why(error) if isinstance(error, OSError | ValueError) else str(error)
        raise UsageError(f"{file} cannot be read: {reason}.") from error
    return name if isinstance(name, str) and name else folder.name
