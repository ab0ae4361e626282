"""An answer while it comes, read along from the object that the agent writes it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flameagent.client import events, turn_task
from flameagent.client import stream as stream_module
from flameagent.client.events import Event, TextDelta, ToolCalled, ToolOutput
from flameagent.client.stream import Stream
from flameagent.client.turn import Turn
from flameagent.conversation import Call
from flameagent.flame.frontend import Session, Task, TaskState
from flamewire.object_ref import ObjectRef
from tests.support.memory_cache import MemoryCache


class _Cache(MemoryCache):
    """Takes a whole key to delete, too, as Flame does."""

    def delete(self, prefix: str) -> None:
        super().delete(prefix)
        self.objects.pop(prefix, None)


KEY = "app/app-1/events-1"


class _Connection:
    def __init__(self) -> None:
        self.cache = _Cache()
        self.generation = 0
        self.readers = 0

    def count_readers(self, change: int) -> None:
        self.readers += change


class _Reader:
    def __init__(self) -> None:
        self.connection = _Connection()
        self.cache = self.connection.cache
        self.told: list[str] = []
        connection: Any = self.connection
        self.stream = Stream(connection, KEY)

    def make(self) -> str:
        self.stream.make()
        return self.stream.key

    def read(self) -> None:
        for event in self.stream.read():
            self.tell(event)

    def tell(self, event: Event) -> None:
        match event:
            case TextDelta(text):
                self.told.append(text)
            case ToolCalled(_, tool, arguments):
                self.told.append(f"{tool} {arguments}")


@pytest.fixture
def reader() -> _Reader:
    return _Reader()


def test_each_event_is_told_once_and_in_order(reader: _Reader) -> None:
    key = reader.make()
    assert key == KEY
    reader.read()
    reader.cache.patch(key, b'[{"text": "one "}, {"text": "two "}]')
    reader.read()
    reader.read()
    reader.cache.patch(key, b'[{"call": {"id": "c", "tool": "f", "arguments": "{}"}}]')
    reader.cache.patch(key, b'[{"output": {"id": "c", "output": "x"}}, {"something": "new"}, {"text": "three"}]')
    reader.read()
    assert reader.told == ["one ", "two ", "f {}", "three"]
    assert [rows for _, _, rows in reader.cache.reads] == [0, 1, 0, 2]


def test_every_kind_of_event_has_its_number_and_newer_kinds_are_counted(reader: _Reader) -> None:
    rows = (
        b'[{"doing": "thinking"}, {"reasoning": "Hm."}, {"text": "one"}, {"something": "new"}]',
        b'[{"call": {"id": "c", "tool": "f", "arguments": "{}", "agent": "a"}}]',
        b'[{"output": {"id": "c", "output": "x"}}]',
        b'[{"agent": "b"}, {"message": {"id": "m", "text": "and"}}, {"attempt": true}, {"approval": ["no call"]}]',
        b'[{"approval": [{"id": "c", "tool": "f", "arguments": "{}"}]}, {"call": 7}, {"text": "two"}]',
    )
    key = reader.make()
    for row in rows:
        reader.cache.patch(key, row)
    told = [
        events.Progress("thinking", 1),
        events.ReasoningDelta("Hm.", 2),
        TextDelta("one", 3),
        ToolCalled("c", "f", "{}", "a", 5),
        ToolOutput("c", "x", 6),
        events.AgentChanged("b", 7),
        events.MessageTaken("m", "and", 8),
        events.AttemptBegan(9),
        events.ApprovalNeeded((Call("c", "f", "{}"),), 11),
        TextDelta("two", 13),
    ]
    assert list(reader.stream.read()) == told
    connection: Any = reader.connection
    for after in (0, 5, 12, 13, 99):
        assert list(Stream(connection, key, after=after).read()) == [event for event in told if event.number > after]


def test_what_an_older_agent_writes_is_read(reader: _Reader) -> None:
    reader.cache.patch(reader.make(), b'[{"call": {"id": "c", "tool": "f", "arguments": "{}"}}]')
    assert list(reader.stream.read()) == [ToolCalled("c", "f", "{}", "", 1)]


def test_calls_and_their_outputs_are_progress_in_words() -> None:
    doing: list[str] = []
    listen = events.listener(doing.append)
    assert listen is not None
    for event in (
        events.Progress("thinking"),
        ToolCalled("1", "f", ""),
        ToolCalled("2", "g", ""),
        ToolOutput("2", "x"),
        ToolOutput("1", "x"),
    ):
        listen(event)
    assert doing == ["thinking", "calling f", "calling g", "calling f", "thinking"]


def test_an_object_that_the_agent_has_not_made_yet_is_waited_for(
    reader: _Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_PAUSE", 0.0)
    for _ in range(20):
        reader.read()
    reader.cache.put_as(KEY, b"")
    reader.cache.patch(KEY, b'[{"text": "one"}]')
    reader.read()
    assert reader.told == ["one"]


def test_an_object_that_cannot_be_made_is_no_stream(reader: _Reader) -> None:
    reader.cache.unreachable = 1
    assert reader.make() == ""
    reader.read()
    assert reader.told == [] and reader.cache.reads == []


def test_a_cache_that_is_away_for_a_moment_is_asked_again(reader: _Reader) -> None:
    key = reader.make()
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.cache.unreachable = 2
    for _ in range(3):
        reader.read()
    assert reader.told == ["one"]


def test_a_cache_that_stays_away_is_left_alone(reader: _Reader) -> None:
    calls: list[str] = []
    reader.make()
    reader.cache.unreachable, reader.cache.on_call = 100, calls.append
    for _ in range(20):
        reader.read()
    assert 0 < len(calls) < 20


@pytest.mark.parametrize("row", [b"garbage", b"{}", b'["text"]', b"\xff"])
def test_what_is_no_stream_is_told_to_nobody(reader: _Reader, row: bytes) -> None:
    key = reader.make()
    reader.cache.patch(key, row)
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.read()
    reader.read()
    assert reader.told in ([], ["one"])


def test_an_object_that_is_gone_ends_the_stream_and_nothing_else(reader: _Reader) -> None:
    key = reader.make()
    reader.cache.delete(key)
    reader.read()
    reader.read()
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


def test_a_turn_reads_to_the_end_however_it_ends(reader: _Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    from flameagent.apis import Question

    question = Question("who?", "the-turn")
    monkeypatch.setattr(turn_task, "_POLL", 0.01)

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
        asked.wait(reader.tell)
    assert "".join(reader.told) == "one two three"
    assert list(reader.cache.objects) == [KEY], "the next turn deletes it"
    assert connection.readers == 0


def test_a_turn_that_ends_before_the_next_look_is_told_all_the_same(reader: _Reader) -> None:
    reader.read()  # there is no object yet
    reader.cache.put_as(KEY, b"")
    reader.cache.patch(KEY, b'[{"text": "quick"}]')
    reader.read()
    assert reader.told == []  # it looks again in a moment
    for event in reader.stream.read(to_the_end=True):
        reader.tell(event)
    assert reader.told == ["quick"]
