"""Make the folder that `flmctl deploy` sends to the nodes: the tracked files that are installed there, and no others.

    uv run deploy/package.py dist/openai-agent
    flmctl deploy --name openai-agent --application dist/openai-agent --delay-release 600 --env TMPDIR=/tmp

What is installed is what pyproject.toml says of the wheel (`only-include`): add your own modules there. No tests, no
keys, no conversations; Flame itself packs whatever lies in a folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def contents(root: Path, project: dict[str, Any]) -> list[str]:
    """The files of the package, relative to `root`: tracked, and named by pyproject.toml."""
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    named = ["pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *wheel]
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


def main() -> None:
    """Make the folder, or say in one sentence why not."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(f"{(__doc__ or '').strip()}\n\nusage: uv run deploy/package.py FOLDER")
    folder = Path(sys.argv[1])
    files = contents(ROOT, tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    if folder.exists() and not folder.is_dir():
        sys.exit(f"{folder} is a file.")
    others = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - set(files)
    if others:
        sys.exit(f"{folder} holds {min(others)}, which would go up too: remove it, or choose another folder.")
    try:
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    except OSError as error:
        sys.exit(f"{error.filename} cannot be copied: {error.strerror}.")
    print(f"{folder}: {len(files)} files")


if __name__ == "__main__":
    main()
