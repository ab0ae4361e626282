"""The budget of a session: what counts for it besides the turns that are in the conversation."""

from __future__ import annotations

from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.conversations import turn
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.shim import Shim

DOUBLES = Step(calls=(Call("double", '{"number": 2}'),))


def ask(instance: Shim, question: str, task: int) -> Answer:
    answer: Answer = instance.invoke(Question(question, f"t-{task}"), str(task))
    return answer


def tokens(answer: Answer) -> int:
    assert answer.usage is not None, answer.error
    return answer.usage["input_tokens"] + answer.usage["output_tokens"]


def test_turns_that_failed_count(tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache) -> None:
    talk, limit = Talk(cache), 5000
    with fresh(tmp_path, AGENT, engine, model, AGENT_TOKENS_A_SESSION=str(limit)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        assert 0 < tokens(ask(instance, "one", 1)) < 500
        model.steps += [Step(text="word " * (limit - 500), calls=DOUBLES.calls), error(400)]
        assert ask(instance, "two", 2).code == "model"
        model.steps += [Step(text="word " * 500, calls=DOUBLES.calls)]
        refused = ask(instance, "three", 3)
        assert refused.code == "budget_reached"
        assert refused.error.startswith(f"This session may use {limit} tokens (AGENT_TOKENS_A_SESSION)")
        asked = len(model.bodies)
        assert ask(instance, "four", 4).code == "budget_reached"
        assert len(model.bodies) == asked
        assert talk.turns() == [("one", "answer 1: one")]


@pytest.mark.parametrize("segment", [3, 256])
def test_a_worker_that_begins_late_counts_all_that_was_before(
    segment: int, tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache
) -> None:
    talk = Talk(cache)
    log = talk.log()
    log._segment_records = segment
    for number in range(10):
        log.append(turn(f"old-{number}"))
    with fresh(tmp_path, AGENT, engine, model, AGENT_TOKENS_A_SESSION="120", AGENT_HISTORY="2") as instance:
        instance.enter(talk.id, talk.ref.encode())
        refused = ask(instance, "now", 1)
        assert refused.error.startswith("This session may use 120 tokens (AGENT_TOKENS_A_SESSION), and has used 120.")
        assert not model.bodies


def test_a_summary_counts_for_the_session_that_it_is_made_in(
    tmp_path: Path, engine: Engine, model: ModelServer, cache: ObjectCache
) -> None:
    talk = Talk(cache)
    log = talk.log()
    for number in range(10):
        log.append(turn(f"old-{number}"))
    with fresh(tmp_path, AGENT, engine, model, AGENT_TOKENS_A_SESSION="130", AGENT_HISTORY="4") as instance:
        instance.enter(talk.id, talk.ref.encode())
        refused = ask(instance, "now", 1)
        assert refused.error.startswith("This session may use 130 tokens (AGENT_TOKENS_A_SESSION), and has used ")
        (summary,) = model.bodies
        assert summary["messages"][0]["content"].startswith("You keep the notes of a conversation")
