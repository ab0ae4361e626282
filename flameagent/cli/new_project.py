"""A new project: a folder with an agent, its description for Flame, and a test.

Promises that the folder is there whole or not at all, and that its `pyproject.toml` takes this program from where it
came from: a wheel, a folder, a git repository, or an index.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flameagent import files
from flameagent.client.errors import UsageError

DISTRIBUTION = "flame-openai-agent"
_TEMPLATES = Path(__file__).parent / "project"
_SUFFIX = ".jinja"


def create(folder: Path) -> str:
    """Write the project; its name. Raises `UsageError` where something is there already, or it cannot be written."""
    try:
        folder = folder.resolve()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already: name a folder that is not, or that is empty.")
        ours = _distribution()
        name = _name(folder, ours)
        # Beside it, so that nothing half is there under its name, whatever happens.
        fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
        fresh.mkdir(parents=True)
        try:
            _write(fresh, name=name, place=str(folder), version=ours.version if ours else "0", source=_source(ours))
            fresh.rename(folder)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error) if isinstance(error, RuntimeError) else files.why(error)
        raise UsageError(f"{folder} cannot be written: {reason}.") from error
    return name


def _write(folder: Path, **values: str) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Nothing in these files is markup.
    pages = Environment(  # noqa: S701
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    pages.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    for template in sorted(pages.list_templates(extensions=[_SUFFIX.removeprefix(".")])):
        file = folder / template.removesuffix(_SUFFIX)
        file.parent.mkdir(exist_ok=True)
        file.write_text(pages.get_template(template).render(values), encoding="utf-8")


def _distribution() -> Distribution | None:
    try:
        return distribution(DISTRIBUTION)
    except PackageNotFoundError:  # a copy of the source that nobody has installed
        return None


def _name(folder: Path, ours: Distribution | None) -> str:
    """The project's and the application's: the folder's, as Python's packages and Flame take it."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:100].strip("-") or "my-agent"
    needed = {DISTRIBUTION, *(re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in (ours and ours.requires) or [])}
    if name in needed:
        raise UsageError(
            f"{name} is the name of a package that the project needs: choose another name for the folder."
        )
    return name


def _source(ours: Distribution | None) -> str:
    """Where this program came from, as uv's `sources` have it (PEP 610); "" of one that came from an index."""
    try:
        told: dict[str, Any] = json.loads((ours and ours.read_text("direct_url.json")) or "{}")
    except ValueError:
        return ""
    url = told.get("url", "")
    parts = urlsplit(url)
    values: dict[str, str | bool] = {}
    if "vcs_info" in told:
        values = {"git": url, "rev": told["vcs_info"]["commit_id"]}
    elif parts.scheme == "file":
        values["path"] = os.path.normpath(unquote(parts.path))
        if told.get("dir_info", {}).get("editable"):
            values["editable"] = True
    elif url:
        values["url"] = url
    if values and "subdirectory" in told:
        values["subdirectory"] = told["subdirectory"]
    # What JSON and TOML write alike.
    return f"{{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in values.items())} }}" if values else ""
