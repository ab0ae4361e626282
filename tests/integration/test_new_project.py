"""A new project is killed while it is made, and passes its own test when it is there."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from flameagent.cli import new_project

KILLED = """
import os, signal
from pathlib import Path
from flameagent.cli import new_project
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
new_project.create(Path("desk"))
"""


def test_one_that_is_killed_when_all_is_written_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path)
    assert (ran.returncode, (tmp_path / "desk").exists()) == (-signal.SIGKILL, False)
    new_project.create(tmp_path / "desk")
    assert (tmp_path / "desk" / "tests" / "test_agent.py").exists()


def test_it_passes_its_own_test(tmp_path: Path) -> None:
    new_project.create(tmp_path / "desk")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "desk",
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0 and "1 passed" in ran.stdout, ran.stdout + ran.stderr
