"""The folder that goes up with `flmctl deploy`: all that a node needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.support.wheel import PARTS, build

ROOT = Path(__file__).parents[3]


def package(folder: Path) -> subprocess.CompletedProcess[str]:
    script = ROOT / "deploy" / "package.py"
    return subprocess.run([sys.executable, script, folder], capture_output=True, text=True)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_package_is_a_project_whose_only_script_is_the_agent(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    made = package(folder)
    assert made.returncode == 0, made.stderr
    listed = subprocess.run(
        ["git", "ls-files", *PARTS, ":(glob)*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    installed = set(listed.stdout.split())
    assert {"agent.py", "weather.py", "flameagent/apis.py"} <= installed
    assert files(folder) == installed | {"pyproject.toml", "LICENSE"}
    assert made.stdout == f"{folder}: {len(installed) + 2} files\n"
    assert not any(path.is_symlink() for path in folder.rglob("*"))

    assert build(folder, tmp_path / "wheel") == installed
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (scripts,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(scripts).decode().split("\n") == ["[console_scripts]", "openai-agent = agent:main", ""]
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        assert archive.read(metadata).decode().count("Requires-Dist: ") == len(ours)

    assert package(folder).returncode == 0  # again, over itself


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=secret")
    made = package(tmp_path)
    assert made.returncode == 1
    assert made.stderr == f"{tmp_path} holds .env, which would go up too: remove it, or choose another folder.\n"
    assert files(tmp_path) == {".env"}
