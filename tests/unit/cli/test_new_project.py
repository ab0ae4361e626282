"""A new project: whole or not at all, and taking this program from where it came from."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from flameagent.cli import new_project
from flameagent.client.application import FILE, Application, read
from flameagent.client.errors import UsageError

FILES = {".gitignore", "README.md", "agent.py", FILE, "pyproject.toml", "tests/test_agent.py"}


class Installed:
    """The distribution, from wherever a test says."""

    version = "0.9.1"
    requires = ("openai-agents>=0.24.0,<0.25", "rich", "httpx2[http2]>=2; python_version > '3'")

    def __init__(self, told: str | None = None) -> None:
        self._told = told

    def read_text(self, name: str) -> str | None:
        return self._told if name == "direct_url.json" else None


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def come_from(told: Any = None) -> None:
        text = told if told is None or isinstance(told, str) else json.dumps(told)
        monkeypatch.setattr(new_project, "_distribution", lambda: Installed(text))

    come_from()
    return come_from


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _pyproject(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def test_it_is_a_project_that_flame_and_python_know(installed: Any, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "My Desk: 'ö'"
    assert new_project.create(folder) == "my-desk"
    assert _files(folder) == FILES and [each.name for each in folder.parent.iterdir()] == [folder.name]
    (application,) = read(folder / FILE)
    assert application == Application(
        "my-desk",
        folder,
        "agent:agent",
        description=application.description,
        environments={"TMPDIR": "/tmp"},
        delay_release=600,
    )
    import yaml

    assert yaml.safe_load((folder / FILE).read_text())["spec"]["working_directory"] == str(folder)
    project = _pyproject(folder)
    assert project["project"]["name"] == "my-desk"
    assert project["project"]["dependencies"] == ["flame-openai-agent>=0.9.1"]
    for file in ("agent.py", "tests/test_agent.py"):
        compile((folder / file).read_text(), file, "exec")
    assert not any("{{" in (folder / file).read_text() for file in FILES)


@pytest.mark.parametrize(
    ("told", "source"),
    [
        (None, None),
        ({"url": "file:///w/x%20y.whl", "archive_info": {}}, {"path": "/w/x y.whl"}),
        ({"url": "file:///src", "dir_info": {"editable": True}}, {"path": "/src", "editable": True}),
        ({"url": "file:///src", "dir_info": {}}, {"path": "/src"}),
        ({"url": "https://host/x.whl", "archive_info": {}}, {"url": "https://host/x.whl"}),
        (
            {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "a"},
            {"git": "https://host/x.git", "rev": "abc", "subdirectory": "a"},
        ),
        ("no JSON", None),
    ],
)
def test_it_takes_this_program_from_where_it_came_from(
    installed: Any, tmp_path: Path, told: Any, source: Any
) -> None:
    installed(told)
    new_project.create(tmp_path / "desk")
    sources = _pyproject(tmp_path / "desk")["tool"]["uv"].get("sources")
    assert sources == (source and {"flame-openai-agent": source})


def test_what_is_there_already_is_left_alone(installed: Any, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.py").write_text("x")
    (tmp_path / "file").write_text("x")
    for taken in ("full", "file"):
        with pytest.raises(UsageError, match="is there already"):
            new_project.create(tmp_path / taken)
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        new_project.create(tmp_path / "file" / "desk")
    assert _files(tmp_path) == {"full/mine.py", "file"}


def test_an_empty_folder_is_filled(installed: Any, tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    new_project.create(tmp_path / "desk")
    assert _files(tmp_path / "desk") == FILES


@pytest.mark.parametrize(("folder", "name"), [("---", "my-agent"), ("ÄÖ", "my-agent"), ("a.b_C", "a-b-c")])
def test_its_name_is_one_that_python_and_flame_take(installed: Any, tmp_path: Path, folder: str, name: str) -> None:
    assert new_project.create(tmp_path / folder) == name


@pytest.mark.parametrize("name", ["flame-openai-agent", "rich", "HTTPX2"])
def test_the_name_of_a_package_that_it_needs_is_refused(installed: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is the name of a package that the project needs"):
        new_project.create(tmp_path / name)
    assert not any(tmp_path.iterdir())
