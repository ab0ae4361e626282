"""The library beside others: the lowest versions that it allows, and the ones that it was tried with, are installed
from a registry, and every module of it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REAL_MODEL  # has the way to the registry, too

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not os.environ.get("TEST_REGISTRY"), reason="needs a package registry: set TEST_REGISTRY=1"
)

_IMPORTS_ALL = """
import importlib, pkgutil
for package in ("flamewire", "localflame", "flameagent"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
"""


def installed(folder: Path, *options: str, inside: Path) -> dict[str, str]:
    """Versions by name in a fresh environment with this project, whose modules can all be imported there."""

    def run(*command: str | Path, where: Path = folder) -> str:
        environ = {name: value for name, value in (os.environ | REAL_MODEL).items() if name != "VIRTUAL_ENV"}
        ran = subprocess.run(command, cwd=where, env=environ, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    python = folder / ".venv" / "bin" / "python"
    run("uv", "venv", "--quiet", "--python", sys.executable, python.parents[1])
    run(
        "uv",
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        *options,
        f"{ROOT}[serve,embeddings,otel]",
        where=inside,
    )
    run(python, "-c", _IMPORTS_ALL)
    listed = json.loads(run("uv", "pip", "list", "--python", python, "--format", "json"))
    return {package["name"]: package["version"] for package in listed}


def test_the_lowest_versions_that_are_allowed_are_enough(tmp_path: Path) -> None:
    # Away from the project's folder, whose pyproject.toml would constrain them.
    versions = installed(tmp_path, "--resolution", "lowest-direct", inside=tmp_path)
    assert versions["flamepy"] == "0.6.0"


def test_the_versions_that_were_tried_are_a_set(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tried = dict(pin.split("==") for pin in project["tool"]["uv"]["constraint-dependencies"])
    versions = installed(tmp_path, inside=ROOT)
    versions.pop("flame-openai-agent")
    assert versions == {name: tried.get(name) for name in versions}
