"""What left the model's window is summarized: made by the model that answers, shown to it, and rolled on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flameagent.apis import Answer, Question
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.conversations import turn
from tests.support.model_server import ModelServer, Step, error
from tests.support.shim import Shim

NOTES = "You keep the notes of a conversation"
NONE = "The model does not see the earliest turns any more, and there is no summary of them"


def system(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"])


def reader(request: dict[str, Any]) -> Step:
    """Knows only what it is sent: the names of cats."""
    cats = re.findall(r"cat is called (\w+)", json.dumps(request["messages"]))
    if system(request).startswith(NOTES):
        return Step(text=" ".join(f"Their cat is called {cat}." for cat in dict.fromkeys(cats)) or "Nothing of note.")
    return Step(text=f"It is {cats[0]}." if cats else "I do not know.")


def notes(model: ModelServer) -> list[str]:
    """What the model was given to summarize, oldest first."""
    return [str(body["messages"][-1]["content"]) for body in model.bodies if system(body).startswith(NOTES)]


def asked(model: ModelServer) -> list[dict[str, Any]]:
    return [body for body in model.bodies if not system(body).startswith(NOTES)]


def talked(talk: Talk, first: int, last: int) -> None:
    log = talk.log()
    for number in range(first, last + 1):
        log.append(turn(f"turn-{number}", question=f"This is turn number {number}."))


def ask(instance: Shim, task: int, question: str = "What is my cat called?") -> Answer:
    answer: Answer = instance.invoke(Question(question, f"q-{task}"), str(task))
    assert not answer.error, answer
    return answer


def comes_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def cat(model: ModelServer) -> ModelServer:
    model.script = reader
    return model


def test_what_was_said_in_turn_3_is_answered_in_turn_400(instance: Shim, talk: Talk, cat: ModelServer) -> None:
    log = talk.log()
    for number in range(1, 400):
        said = "My cat is called Mimi." if number == 3 else f"This is turn number {number}."
        body = turn(f"turn-{number}", question=said)
        body.items[0]["content"] = said
        log.append(body)
    answer = ask(instance, 1)
    assert (answer.turn, answer.answer, answer.note) == (400, "It is Mimi.", "")
    request = asked(cat)[-1]
    assert "Mimi" not in json.dumps(request["messages"][1:])
    assert "which are not shown to you" in system(request)
    assert "> Their cat is called Mimi." in system(request)
    summary = talk.conversation.summary
    assert summary.item_count == asked_from(talk) and summary.model == "scripted"
    assert talk.conversation.usage.requests >= 399 + len(notes(cat)) + 1


def asked_from(talk: Talk) -> int:
    turns = talk.conversation.turns()
    return turns[-1][0].omitted_items


def test_a_summary_is_made_after_the_turn_that_moves_the_window_and_covers_the_one_before(
    instance: Shim, talk: Talk, cat: ModelServer
) -> None:
    talked(talk, 1, 99)
    ask(instance, 1, "Hello")
    assert not notes(cat)
    ask(instance, 2, "My cat is called Mimi.")  # 202 items: the next turn begins behind the first hundred
    comes_true(lambda: talk.conversation.summary.item_count == 100)
    first = talk.conversation.summary
    assert (first.turn_count, first.start, len(notes(cat))) == (50, 0, 1)
    assert notes(cat)[0].startswith("The notes so far:\n(none)\n\nWhat was said since:\nTurn 1, 20")
    before = len(cat.requests)
    assert ask(instance, 3).note == ""
    assert len(cat.requests) == before + 1  # nothing more while the window stays
    assert "> Nothing of note." in system(asked(cat)[-1])
    talked(talk, 103, 148)
    ask(instance, 4, "Hello")
    ask(instance, 5, "Hello")
    ask(instance, 6, "Hello")
    comes_true(lambda: talk.conversation.summary.item_count == 200)
    assert notes(cat)[-1].startswith("The notes so far:\nNothing of note.\n\nWhat was said since:\nTurn 51, 20")
    assert [each.summary.item_count for each in talk.conversation.summaries] == [100, 200]


def test_without_a_summary_the_turn_is_answered_and_that_is_said_once(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    talked(talk, 1, 145)
    model.steps.append(error(400, "not today"))
    told = ask(instance, 1).note
    assert told.startswith(f"{NONE}: ") and "not today" in told
    assert ask(instance, 2).note == ""
    assert len(notes(model)) == 1
    assert not talk.conversation.summary.text


def test_a_rewind_takes_back_a_summary_of_more_than_what_is_kept(
    instance: Shim, talk: Talk, cat: ModelServer
) -> None:
    talked(talk, 1, 145)
    ask(instance, 1)
    assert talk.conversation.summary.turn_count == 50
    log = talk.log()
    log.append(log.conversation.rewind_edit(40))
    assert not talk.conversation.summary.text
    ask(instance, 2)
    assert "Summary of" not in system(asked(cat)[-1])


@pytest.fixture
def own(tmp_path: Path, engine: Engine, cat: ModelServer, cache: ObjectCache) -> Iterator[Callable[..., Shim]]:
    """Starts an instance of an agent in a session of its own."""
    started: list[Shim] = []

    def start(talk: Talk, source: str = AGENT, **more: str) -> Shim:
        shim = fresh(tmp_path, source, engine, cat, **more).__enter__().enter(talk.id, talk.ref.encode())
        started.append(shim)
        return shim

    yield start
    for shim in started:
        shim.__exit__()


def test_the_author_decides_how_it_is_summarized(own: Callable[..., Shim], talk: Talk, cat: ModelServer) -> None:
    source = AGENT.replace(
        "FlameInstance()",
        "FlameInstance(summarize=summarize)\n",
    ).replace(
        "agent = Agent",
        'async def summarize(before, said):\n    return f"{len(said.split())} words"\n\nagent = Agent',
    )
    talked(talk, 1, 145)
    instance = own(talk, source)
    assert ask(instance, 1).note == ""
    assert not notes(cat)
    assert re.search(r"> \d+ words", system(asked(cat)[-1]))


def test_the_prompt_can_be_set(own: Callable[..., Shim], talk: Talk, cat: ModelServer) -> None:
    talked(talk, 1, 145)
    ask(own(talk, AGENT_SUMMARY_PROMPT="Summarize as a poem."), 1)
    assert next(system(body) for body in cat.bodies) == "Summarize as a poem."


def test_summaries_can_be_off(own: Callable[..., Shim], talk: Talk, cat: ModelServer) -> None:
    talked(talk, 1, 145)
    assert ask(own(talk, AGENT_SUMMARY="off"), 1).note == f"{NONE}."
    assert len(cat.bodies) == 1 and not talk.conversation.summary.text


@pytest.mark.parametrize("point", ["summary: made", "append: after", "summary: recorded"])
def test_a_worker_that_is_killed_while_it_summarizes_makes_it_next_time_and_once(
    own: Callable[..., Shim], talk: Talk, cat: ModelServer, tmp_path: Path, point: str
) -> None:
    points = tmp_path / "points"
    points.mkdir()
    talked(talk, 1, 145)
    instance = own(talk, FAILPOINTS=str(points))
    (points / point).write_text("")
    ask(instance, 1)
    assert not (points / point).exists()
    conversation = talk.conversation
    assert [each.summary.turn_count for each in conversation.summaries] == [50]
    assert "> Nothing of note." in system(asked(cat)[-1])
    assert conversation.turn_count == 146
