"""The progress of a long list: in a line that goes again, where somebody sees it, and only once there is any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flameagent.cli.terminal.progress import list_progress


class _Screen:
    """A screen that notes what its last lines show."""

    renders = quiet = False

    def __init__(self, *, waits_visibly: bool) -> None:
        self.waits_visibly = waits_visibly
        self.shown: list[str] = []

    @contextmanager
    def region(self, lines: Any) -> Iterator[None]:
        self.shown.append("begun")
        yield
        self.shown.append("gone")

    def at_once(self, controls: str) -> None:
        """Nobody stops this process."""


def test_progress_is_shown_where_somebody_sees_it() -> None:
    screen: Any = _Screen(waits_visibly=True)
    with list_progress(screen) as on_progress:
        assert on_progress and screen.shown == []
        on_progress("reading sessions, 0 of 1000")
        on_progress("reading sessions, 500 of 1000")
        assert screen.shown == ["begun"]
    assert screen.shown == ["begun", "gone"]


def test_a_list_that_is_short_begins_no_lines() -> None:
    screen: Any = _Screen(waits_visibly=True)
    with list_progress(screen):
        pass
    assert screen.shown == []


def test_a_pipe_is_told_nolist_progress() -> None:
    screen: Any = _Screen(waits_visibly=False)
    with list_progress(screen) as on_progress:
        assert on_progress is None
