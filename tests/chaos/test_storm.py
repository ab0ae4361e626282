"""A short storm, in which each named point is reached."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.chaos.agents import LIGHT
from tests.chaos.storm import POINTS, Storm


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
@pytest.mark.timeout(900)
def test_whatever_is_killed_each_turn_is_in_its_conversation_once(tmp_path: Path) -> None:
    report = Storm(tmp_path, LIGHT, seed=1, sessions=3).run(turns=1, kills=len(POINTS))
    assert report.wrong == [], f"{report.wrong}\n{report.table()}"
