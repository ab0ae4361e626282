"""The modules of a project, looked at as files.

Promises to import and run nothing: what only an import shows, the service says.
"""

from __future__ import annotations

import importlib.util
import re
import symtable
from pathlib import Path

from flameagent import files

# With these a module may have names that no line of it shows.
_HIDDEN = re.compile(r"import\s*\*|__getattr__|__dict__|globals\(|setattr\(|exec\(|\bglobal\s")


def has_module(name: str, folder: Path) -> bool:
    """Return whether the service of a project will find the module: in its folder, in `src`, or installed."""
    if _source(name, folder):
        return True
    first, *rest = name.split(".")
    try:
        found = importlib.util.find_spec(first)
    except (ImportError, ValueError):
        return False
    if found is None or not rest:
        return found is not None and found.origin is not None
    return any(_code(Path(place).joinpath(*rest)) for place in found.submodule_search_locations or ())


def lacks(name: str, wanted: str, folder: Path) -> bool:
    """Return whether it is certain that this module of the project has no object `wanted`, which may have dots."""
    source = _source(name, folder)
    if source is None or source.suffix != ".py":
        return False
    try:
        text = files.read(source)
        symbols = symtable.symtable(text, str(source), "exec").get_symbols()
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return False
    if _HIDDEN.search(text):
        return False
    names = {each.get_name() for each in symbols if each.is_assigned() or each.is_imported() or each.is_namespace()}
    return wanted.partition(".")[0] not in names


def _source(name: str, folder: Path) -> Path | None:
    parts = name.split(".")
    return _code(folder.joinpath(*parts)) or _code((folder / "src").joinpath(*parts))


def _code(path: Path) -> Path | None:
    """The file with the code of a module: a folder without any has nothing that could answer."""
    files_of = (path / "__init__.py", path.with_name(f"{path.name}.py"), *path.parent.glob(f"{path.name}.*.so"))
    return next((file for file in files_of if file.is_file()), None)
