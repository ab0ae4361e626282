"""An answer while it comes: read along from the object, and shown on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from flameagent.cli.terminal.display import GIVEN_UP, TurnDisplay
from flameagent.cli.terminal.screen import Screen
from flameagent.client import turn
from flameagent.client.stream import Stream
from flameagent.client.turn import Turn
from flameagent.conversation.item_text import called
from flameagent.flame import Unreachable
from flameagent.flame.frontend import Session, Task, TaskState
from flamewire.object_ref import ObjectRef
from tests.support.memory_cache import MemoryCache


class _Cache(MemoryCache):
    """Takes a whole key to delete, too, as Flame does."""

    def delete(self, prefix: str) -> None:
        super().delete(prefix)
        self.objects.pop(prefix, None)


class _Connection:
    def __init__(self) -> None:
        self.cache = _Cache()


class _Reader:
    def __init__(self) -> None:
        self.connection = _Connection()
        self.cache = self.connection.cache
        self.told: list[str] = []
        connection: Any = self.connection
        self.stream = Stream(
            connection, "app/app-1", self.told.append, lambda tool, given: self.told.append(f"{tool} {given}")
        )


@pytest.fixture
def reader() -> _Reader:
    return _Reader()


def test_each_event_is_told_once_and_in_order(reader: _Reader) -> None:
    key = reader.stream.open()
    assert key.startswith("app/app-1/")
    reader.stream.read()
    reader.cache.patch(key, b'[{"text": "one "}, {"text": "two "}]')
    reader.stream.read()
    reader.stream.read()
    reader.cache.patch(key, b'[{"call": {"id": "c", "tool": "f", "arguments": "{}"}}]')
    reader.cache.patch(key, b'[{"output": {"id": "c", "output": "x"}}, {"something": "new"}, {"text": "three"}]')
    reader.stream.read()
    assert reader.told == ["one ", "two ", "f {}", "three"]
    assert [rows for _, _, rows in reader.cache.reads] == [0, 1, 0, 2]


def test_what_the_turn_is_at_is_told_in_words() -> None:
    connection, doing = _Connection(), list[str]()
    stream = Stream(cast("Any", connection), "app/app-1", None, None, doing.append)
    key = stream.open()
    assert not stream.told
    for row in (
        b'[{"doing": "loading the model"}, {"doing": "thinking"}, {"text": "Let me see."}]',
        b'[{"call": {"id": "1", "tool": "f"}}, {"call": {"id": "2", "tool": "g"}}, {"output": {"id": "2"}}]',
        b'[{"output": {"id": "1", "output": "x"}}]',
    ):
        connection.cache.patch(key, row)
        stream.read()
    assert stream.told
    assert doing == ["loading the model", "thinking", "calling f", "calling g", "calling f", "thinking"]


def test_the_object_is_deleted_and_no_other(reader: _Reader) -> None:
    other = reader.cache.put("app/app-1", b"the conversation").key
    reader.stream.open()
    reader.stream.close()
    reader.stream.close()
    assert list(reader.cache.objects) == [other]


def test_an_object_that_cannot_be_made_is_no_stream(reader: _Reader) -> None:
    reader.cache.unreachable = 1
    assert reader.stream.open() == ""
    reader.stream.read()
    reader.stream.close()
    assert reader.told == [] and reader.cache.reads == []


def test_a_cache_that_is_away_for_a_moment_is_asked_again(reader: _Reader) -> None:
    key = reader.stream.open()
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.cache.unreachable = 2
    for _ in range(3):
        reader.stream.read()
    assert reader.told == ["one"]


def test_a_cache_that_stays_away_is_left_alone(reader: _Reader) -> None:
    calls: list[str] = []
    reader.stream.open()
    reader.cache.unreachable, reader.cache.on_call = 100, calls.append
    for _ in range(20):
        reader.stream.read()
    assert 0 < len(calls) < 20
    reader.stream.close()


@pytest.mark.parametrize("row", [b"garbage", b"{}", b'["text"]', b"\xff"])
def test_what_is_no_stream_is_told_to_nobody(reader: _Reader, row: bytes) -> None:
    key = reader.stream.open()
    reader.cache.patch(key, row)
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.stream.read()
    reader.stream.read()
    assert reader.told in ([], ["one"])


def test_an_object_that_is_gone_ends_the_stream_and_nothing_else(reader: _Reader) -> None:
    key = reader.stream.open()
    reader.cache.delete(key)
    reader.stream.read()
    reader.stream.read()
    assert reader.told == []


class _Frontend:
    """A Flame whose task runs for some looks; at each of them the agent has written more."""

    def __init__(self, steps: list[Callable[[], None]]) -> None:
        self.steps = steps

    def create_task(self, session_id: str, data: bytes) -> str:
        return "1"

    def watch(self, session_id: str, task_id: str, timeout: float) -> list[Task]:
        return [Task("1", session_id, TaskState.RUNNING, None, None, "")]

    def task(self, session_id: str, task_id: str) -> Task:
        self.steps.pop(0)()
        state = TaskState.RUNNING if self.steps else TaskState.FAILED
        return Task("1", session_id, state, None, None, "No.")


def test_a_turn_reads_to_the_end_and_deletes_its_stream_however_it_ends(
    reader: _Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apis import Question

    question = Question("who?", "the-turn")
    monkeypatch.setattr(turn, "_POLL", 0.01)

    def write(text: str) -> Callable[[], None]:
        return lambda: (reader.cache.patch(question.stream, f'[{{"text": "{text}"}}]'.encode()), None)[1]

    connection: Any = reader.connection
    connection.frontend = _Frontend([write("one "), write("two "), write("three")])
    connection.log = lambda session: None
    reader.told.clear()
    session = Session("app-1", "app", True, 0, ObjectRef("", "x/y/z", 1).encode(), 0, 0)
    asked = Turn(connection, session, question, arrange=lambda: None, timeout=5.0, stream=reader.stream)
    asked.send()
    assert question.stream in reader.cache.objects
    with pytest.raises(Exception, match="No"):
        asked.wait()
    assert "".join(reader.told) == "one two three"
    assert reader.cache.objects == {}


def test_a_turn_that_cannot_be_asked_leaves_no_stream(reader: _Reader) -> None:
    from apis import Question

    def fails(*_: object) -> str:
        raise Unreachable("gone")

    connection: Any = reader.connection
    connection.frontend = _Frontend([])
    connection.frontend.create_task = fails
    connection.reopen = fails
    session = Session("app-1", "app", True, 0, None, 0, 0)
    asked = Turn(connection, session, Question("q", "t"), arrange=lambda: None, timeout=0.01, stream=reader.stream)
    with pytest.raises(Exception, match="No answer within"):
        asked.send()
    assert reader.cache.objects == {}


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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("{}", "f"),
        ('{"place": "Lis\\nbon", "days": 3, "of": ["a"]}', "f Lis bon, 3, a"),
        ("no JSON", "f no JSON"),
        ("[1, null]", "f 1,"),
        ("", "f"),
        (f'{{"a": "{"x" * 200}"}}', f"f {'x' * 97}…"),
        ("[" * 100_000, f"f {'[' * 97}…"),
    ],
)
def test_a_call_is_one_line(arguments: str, line: str) -> None:
    assert called("f", arguments) == line
