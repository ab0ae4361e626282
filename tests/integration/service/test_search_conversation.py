"""What was said long ago is found by the agent, in turns that the model is not shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.conversations import turn
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

LONG = 150  # turns, of two items: more than a model is shown


@pytest.fixture
def instance(tmp_path: Path, engine: Engine, talk: Talk, model: ModelServer) -> Iterator[Shim]:
    """An instance in the test's session that summarizes nothing."""
    with fresh(tmp_path, AGENT, engine, model, AGENT_SUMMARY="off") as shim:
        yield shim.enter(talk.id, talk.ref.encode())


def long_talk(talk: Talk) -> None:
    log = talk.log()
    for number in range(1, LONG + 1):
        said = "My cat Mimi is afraid of thunder." if number == 3 else f"This is turn number {number}."
        log.append(turn(f"turn-{number}", question=said))


def searched(instance: Shim, model: ModelServer, query: str, task: int) -> str:
    call = Call("search_conversation", f'{{"query": "{query}"}}', f"s-{task}")
    model.steps.extend([Step(calls=(call,)), Step(text="As you said.")])
    answer: Answer = instance.invoke(Question(f"question {task}", f"q-{task}"), str(task))
    assert answer.answer == "As you said.", answer.error
    outputs = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "tool"]
    return str(outputs[-1])


def test_what_fell_out_of_the_window_is_found(instance: Shim, talk: Talk, model: ModelServer) -> None:
    long_talk(talk)
    found = searched(instance, model, "What is Mimi afraid of?", 1)
    assert "Mimi" not in str(model.bodies[0]["messages"])
    assert found.startswith("Turn 3, 20")
    assert 'user: "My cat Mimi is afraid of thunder."\nyou: "answer of turn-3"' in found
    assert "look them up with the search_conversation tool" in model.bodies[0]["messages"][0]["content"]


def test_what_was_added_since_is_found_and_what_was_taken_back_is_not(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    long_talk(talk)
    assert searched(instance, model, "giraffe", 1) == "Nothing was said about that."
    model.steps.append(Step(text="A giraffe, noted."))
    instance.invoke(Question("Remember the giraffe", "q-2"), "2")
    assert f"Turn {LONG + 2}," in searched(instance, model, "giraffe", 3)
    log = talk.log()
    log.append(log.load(0).rewind_edit(LONG + 1))
    assert "A giraffe" not in searched(instance, model, "giraffe", 4)


def test_a_model_that_sees_all_is_not_told_of_the_search(instance: Shim, talk: Talk, model: ModelServer) -> None:
    assert searched(instance, model, "anything", 1) == "Nothing was said about that."
    assert "search_conversation" not in model.bodies[0]["messages"][0]["content"]
