"""The wheel: what it is built of, and building it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PARTS = {"flameagent", "flamewire", "localflame"}
"""Its packages: all that is at its top."""


def build(project: Path, into: Path) -> set[str]:
    """Build the wheel of a project's folder; the names of the files in it, but for its description of itself."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = into.glob("*.whl")
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
