"""The modules of a project, which nobody imports to look at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from flameagent.client.modules import has_module, lacks


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("one", True),
        ("team.two", True),
        ("team", False),  # a folder without code
        ("package", True),
        ("team.three", False),
        ("one.two", False),
        ("inner", True),
        ("agents", True),
        ("agents.run", True),
        ("agents.no_such_module", False),
        ("no_such_module", False),
        ("json", True),
        ("__main__", False),
    ],
)
def test_a_module_is_found_in_the_project_its_src_and_where_packages_are(
    tmp_path: Path, name: str, there: bool
) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "src" / "package").mkdir(parents=True)
    for module in ("one.py", "team/two.py", "src/inner.py", "src/package/__init__.py"):
        (tmp_path / module).write_text("raise SystemExit('nobody imports it')")
    assert has_module(name, tmp_path) == there


@pytest.mark.parametrize(
    ("source", "wanted", "certain"),
    [
        ("desk = 1", "desk", False),
        ("desk = 1", "desk.inner", False),
        ("desk = 1", "deks", True),
        ("import a.b as desk", "desk", False),
        ("from a import desk", "desk", False),
        ("def desk(): other = 1", "desk", False),
        ("def desk(): other = 1", "other", True),
        ("class desk: other = 1", "desk", False),
        ("if x:\n    for desk, _ in y: pass", "desk", False),
        ("with x as (desk, other): pass", "other", False),
        ("print(desk)", "desk", True),
        ("from a import *", "desk", False),
        ("def __getattr__(name): return 1", "desk", False),
        ("globals()['desk'] = 1", "desk", False),
        ("def f():\n    global desk\n    desk = 1", "desk", False),
        ("this is no Python", "desk", False),
        ("\0", "desk", False),
    ],
)
def test_a_name_is_missing_only_where_that_is_certain(
    tmp_path: Path, source: str, wanted: str, certain: bool
) -> None:
    (tmp_path / "team.py").write_text(source)
    assert lacks("team", wanted, tmp_path) == certain


def test_of_a_module_that_is_not_the_projects_nothing_is_said(tmp_path: Path) -> None:
    assert not lacks("json", "no_such_name", tmp_path)
    assert not lacks("no_such_module", "x", tmp_path)
