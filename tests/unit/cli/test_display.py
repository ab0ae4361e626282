"""A turn on the screen: the answer as it comes, nothing twice, calls in lines of their own."""

from __future__ import annotations

import pytest

from flameagent.cli.terminal.display import GIVEN_UP, TurnDisplay
from flameagent.cli.terminal.screen import Screen


def _shown(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_an_answer_that_came_is_not_shown_twice(capsys: pytest.CaptureFixture[str]) -> None:
    display = TurnDisplay(Screen())
    display.text("You live ")
    display.text("in Lisbon.")
    display.answer("You live in Lisbon.")
    assert _shown(capsys) == "You live in Lisbon.\n"


def test_an_answer_whose_end_was_not_streamed_is_gone_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    display = TurnDisplay(Screen())
    display.text("You live ")
    display.answer("You live in Lisbon.")
    assert _shown(capsys) == "You live in Lisbon.\n"


def test_an_answer_that_did_not_come_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    display = TurnDisplay(Screen())
    display.answer("You live in Lisbon.")
    assert _shown(capsys) == "You live in Lisbon.\n"


def test_what_is_not_the_answer_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    display = TurnDisplay(Screen())
    display.text("You are in")
    display.answer("You live in Lisbon.")
    assert _shown(capsys) == f"You are in\n{GIVEN_UP}\nYou live in Lisbon.\n"


def test_calls_stand_in_lines_of_their_own_and_what_was_said_before_is_no_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = TurnDisplay(Screen())
    display.text("Let me see.")
    display.call("recall", '{"key": "city"}')
    display.call("fetch_weather", '{"place": "Lisbon", "day": "today"}')
    display.text("Sun")
    display.answer("Sunny.")
    assert _shown(capsys) == "Let me see.\n→ recall city\n→ fetch_weather Lisbon, today\nSunny.\n"


def test_a_turn_without_an_answer_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    display = TurnDisplay(Screen())
    display.text("You li")
    display.leave()
    display.leave()
    assert _shown(capsys) == "You li\n"
