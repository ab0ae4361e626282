"""The wheel has all that its two scripts need, and nothing of the tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.support.wheel import PARTS, build

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_modules_of_its_scripts_and_no_tests(tmp_path: Path) -> None:
    names = build(ROOT, tmp_path)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"openai-agent", "flame-agent"}
    for target in scripts.values():
        module = target.partition(":")[0].replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & names
    assert {
        "apis.py",
        "openai-agent.yaml",
        "flameagent/service/process/worker.py",
        "flameagent/transcript/templates/page.html.jinja",
        "localflame/engine.py",
    } <= names
    assert {name.partition("/")[0] for name in names} == PARTS
