"""The wheel has all that its two scripts need, and nothing of the tests."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_modules_of_its_scripts_and_no_tests(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"openai-agent", "flame-agent"}
    for target in scripts.values():
        module = target.partition(":")[0].replace(".", "/")
        assert {f"{module}.py", f"{module}/__init__.py"} & set(names)
    assert {
        "apis.py",
        "openai-agent.yaml",
        "flameagent/service/process/worker.py",
        "flameagent/transcript/templates/page.html.jinja",
        "localflame/engine.py",
    } <= set(names)
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {
        "flameagent",
        "flamewire",
        "localflame",
        "agent.py",
        "apis.py",
        "client.py",
        "weather.py",
        "openai-agent.yaml",
    }
