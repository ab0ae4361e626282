"""The wheel has packages of ours and one script, and nothing that could be mistaken for what a project has itself."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from tests.support.wheel import PARTS, build

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_our_packages_and_what_its_script_needs(tmp_path: Path) -> None:
    names = build(ROOT, tmp_path)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"flame-agent": "flameagent.cli:main"}
    assert {
        "flameagent/apis.py",
        "flameagent/cli/project/.gitignore.jinja",
        "flameagent/cli/project/tests/test_agent.py.jinja",
        "flameagent/cli/__init__.py",
        "flameagent/service/process/worker.py",
        "flameagent/server/page/static/page.js",
        "flameagent/server/page/templates/chat.html.jinja",
        "flameagent/transcript/templates/page.html.jinja",
        "localflame/engine.py",
    } <= names
    assert {name.partition("/")[0] for name in names} == PARTS


def test_the_same_wheel_is_built_of_the_source_distribution(tmp_path: Path) -> None:
    sdist = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(sdist, cwd=ROOT, check=True, capture_output=True)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    assert {path.name for path in source.iterdir()} == {*named["only-include"], "PKG-INFO"}  # and nobody's sessions
    assert (source / "flameagent" / "apis.py").read_text() == (ROOT / "apis.py").read_text()
    assert build(source, tmp_path / "of-the-sdist") == build(ROOT, tmp_path / "direct")
