"""What goes wrong where an object is taken down: no traceback on the terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.shim import ROOT

_HALF_MADE = """
from flameagent.cli import app

class Half:
    def __del__(self):
        self.state

def ran(as_json):
    Half()
    return 3

app._ran = ran
app.main()
"""


@pytest.mark.parametrize(("options", "said"), [([], False), (["-X", "dev"], True)])
def test_what_was_half_made_is_taken_down_in_silence(options: list[str], said: bool) -> None:
    done = subprocess.run(
        [sys.executable, *options, "-W", "ignore", "-c", _HALF_MADE], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert ("Half.__del__" in done.stderr) is said
    assert said or not done.stderr
