"""Makes docs/tree.md: each module with the first line of its docstring.

uv run python docs/tree.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tree.md"
_TOP = ("agent.py", "weather.py", "apis.py", "client.py")
_PACKAGES = ("flameagent", "localflame", "flamewire")
_HEAD = """# Where everything is

Each module, with what it is about. How the parts fit together: [architecture.md](architecture.md). Made by
`uv run python docs/tree.py`.
"""


def page() -> str:
    """The page as it should be."""
    parts = [_HEAD, "```", *(_line(0, name, ROOT / name) for name in _TOP)]
    for package in _PACKAGES:
        parts += ["", *_lines(ROOT / package, 0)]
    return "\n".join([*parts, "```", ""])


def _lines(folder: Path, depth: int) -> Iterator[str]:
    yield _line(depth, f"{folder.name}/", folder / "__init__.py")
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield _line(depth + 1, path.name, path)
    for inner in sorted(folder.glob("*/__init__.py")):
        yield from _lines(inner.parent, depth + 1)


def _line(depth: int, name: str, path: Path) -> str:
    about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first = " ".join(about.partition("\n\n")[0].split())
    return f"{'  ' * depth + name:<26}{first}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
