"""An answer while it comes, read along from the object that the agent writes it to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from flameagent.client import turn_task
from flameagent.client.events import Event, Progress, Text, ToolCall
from flameagent.client.stream import Stream
from flameagent.client.turn import Turn
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
        self.stream = Stream(connection, "app/app-1")

    def read(self) -> None:
        for event in self.stream.read():
            self.tell(event)

    def tell(self, event: Event) -> None:
        match event:
            case Text(text):
                self.told.append(text)
            case ToolCall(tool, arguments):
                self.told.append(f"{tool} {arguments}")


@pytest.fixture
def reader() -> _Reader:
    return _Reader()


def test_each_event_is_told_once_and_in_order(reader: _Reader) -> None:
    key = reader.stream.open()
    assert key.startswith("app/app-1/")
    reader.read()
    reader.cache.patch(key, b'[{"text": "one "}, {"text": "two "}]')
    reader.read()
    reader.read()
    reader.cache.patch(key, b'[{"call": {"id": "c", "tool": "f", "arguments": "{}"}}]')
    reader.cache.patch(key, b'[{"output": {"id": "c", "output": "x"}}, {"something": "new"}, {"text": "three"}]')
    reader.read()
    assert reader.told == ["one ", "two ", "f {}", "three"]
    assert [rows for _, _, rows in reader.cache.reads] == [0, 1, 0, 2]


def test_what_the_turn_is_at_is_told_in_words() -> None:
    connection, doing = _Connection(), list[str]()
    stream = Stream(cast("Any", connection), "app/app-1")
    key = stream.open()
    assert not stream.begun
    for row in (
        b'[{"doing": "loading the model"}, {"doing": "thinking"}, {"text": "Let me see."}]',
        b'[{"call": {"id": "1", "tool": "f"}}, {"call": {"id": "2", "tool": "g"}}, {"output": {"id": "2"}}]',
        b'[{"output": {"id": "1", "output": "x"}}]',
    ):
        connection.cache.patch(key, row)
        doing += [event.doing for event in stream.read() if isinstance(event, Progress)]
    assert stream.begun
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
    reader.read()
    reader.stream.close()
    assert reader.told == [] and reader.cache.reads == []


def test_a_cache_that_is_away_for_a_moment_is_asked_again(reader: _Reader) -> None:
    key = reader.stream.open()
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.cache.unreachable = 2
    for _ in range(3):
        reader.read()
    assert reader.told == ["one"]


def test_a_cache_that_stays_away_is_left_alone(reader: _Reader) -> None:
    calls: list[str] = []
    reader.stream.open()
    reader.cache.unreachable, reader.cache.on_call = 100, calls.append
    for _ in range(20):
        reader.read()
    assert 0 < len(calls) < 20
    reader.stream.close()


@pytest.mark.parametrize("row", [b"garbage", b"{}", b'["text"]', b"\xff"])
def test_what_is_no_stream_is_told_to_nobody(reader: _Reader, row: bytes) -> None:
    key = reader.stream.open()
    reader.cache.patch(key, row)
    reader.cache.patch(key, b'[{"text": "one"}]')
    reader.read()
    reader.read()
    assert reader.told in ([], ["one"])


def test_an_object_that_is_gone_ends_the_stream_and_nothing_else(reader: _Reader) -> None:
    key = reader.stream.open()
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


def test_a_turn_reads_to_the_end_and_deletes_its_stream_however_it_ends(
    reader: _Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apis import Question

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
