"""Make the folder that `flmctl deploy` sends to the nodes: the agent and what runs it, and nothing else.

    uv run deploy/package.py dist/openai-agent
    flmctl deploy --name openai-agent --application dist/openai-agent --delay-release 600 --env TMPDIR=/tmp

It is a project of its own, made of this one: the packages of the wheel, the tracked modules beside `agent.py` (put
your own there), and one script, which Flame runs, whatever the application is called. No tests, no keys, no
conversations; Flame itself packs whatever lies in a folder.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = "pyproject.toml"


def contents(root: Path, project: dict[str, Any]) -> list[str]:
    """The files that are copied, relative to `root`: tracked ones of the packages, and the modules at the top."""
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    named = [*project["project"]["license-files"], ":(glob)*.py", *packages]
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--error-unmatch", "--", *named],  # noqa: S607
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        sys.exit(f"The package cannot be made: {listed.stderr.strip().splitlines()[0].removeprefix('error: ')}.")
    return sorted(name for name in listed.stdout.split("\0") if name)


def pyproject(project: dict[str, Any], files: list[str]) -> str:
    """The package's own `pyproject.toml`: what it depends on and is built with is this project's."""
    ours = project["project"]
    lines = {
        "project": {
            "name": "openai-agent",
            "version": ours["version"],
            "requires-python": ours["requires-python"],
            "license-files": ours["license-files"],
            "dependencies": ours["dependencies"],
        },
        "project.scripts": {"openai-agent": "agent:main"},
        "build-system": project["build-system"],
        "tool.hatch.build.targets.wheel": {
            "only-include": sorted({name.partition("/")[0] for name in files} - {*ours["license-files"]})
        },
    }
    # What JSON and TOML write alike: texts, and lists of them.
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for table, values in lines.items()
    )


def main() -> None:
    """Make the folder, or say in one sentence why not."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"{(__doc__ or '').strip()}\n\nusage: uv run deploy/package.py FOLDER")
    folder = Path(sys.argv[1])
    project = tomllib.loads((ROOT / PYPROJECT).read_text(encoding="utf-8"))
    files = contents(ROOT, project)
    if folder.exists() and not folder.is_dir():
        sys.exit(f"{folder} is a file.")
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    if others := held - {*files, PYPROJECT}:
        sys.exit(f"{folder} holds {min(others)}, which would go up too: remove it, or choose another folder.")
    try:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / PYPROJECT).write_text(pyproject(project, files), encoding="utf-8")
    except OSError as error:
        sys.exit(f"{error.filename} cannot be copied: {error.strerror}.")
    print(f"{folder}: {len(files) + 1} files")


if __name__ == "__main__":
    main()
