"""Turns through a real instance, a real object cache and a model behind HTTP: once in the conversation, or not."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from flameagent.conversation import EditBody, TurnBody
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.door import Door
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.shim import Shim

DIES_ONCE_AFTER_ITS_TURN = """
import os
from pathlib import Path

class Dies(FlameInstance):
    async def invoke(self, task):
        output = await super().invoke(task)
        if not Path("died").exists():
            Path("died").touch()
            os._exit(9)
        return output
"""

SLOW_CACHE = """
import time
from pathlib import Path
from flameagent.flame.cache import ObjectCache
patch = ObjectCache.patch

def slow(self, key, data):
    while not Path("go").exists():
        time.sleep(0.05)
    return patch(self, key, data)

ObjectCache.patch = slow
"""


def test_a_turn_is_one_record_and_the_next_knows_it(instance: Shim, talk: Talk, model: ModelServer) -> None:
    first: Answer = instance.invoke(Question("one"), "1")
    second: Answer = instance.invoke(Question("two"), "2")
    assert (first.answer, first.turn, first.turn_id) == ("answer 1: one", 1, f"{talk.id}/1")
    assert (second.answer, second.turn, second.model) == ("answer 2: two", 2, "scripted")
    assert talk.turns() == [("one", "answer 1: one"), ("two", "answer 2: two")]
    assert [message["content"] for message in model.bodies[1]["messages"] if message["role"] != "system"] == [
        "one",
        "answer 1: one",
        "two",
    ]
    assert talk.log().conversation.seq == 2


def test_usage_and_model_are_in_the_answer_and_the_record(instance: Shim, talk: Talk) -> None:
    answer: Answer = instance.invoke(Question("one"))
    (turn, _items), *_ = talk.log().conversation.turns()
    assert answer.usage is not None
    assert answer.usage["requests"] == turn.usage.requests == 1
    assert answer.usage["output_tokens"] == turn.usage.output_tokens > 0
    assert turn.model == "scripted"


def test_tool_calls_and_their_outputs_are_kept_and_replayed(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("double", '{"number": 21}'),)), Step(text="42")])
    assert instance.invoke(Question("double 21"), "1").answer == "42"
    assert instance.invoke(Question("again?"), "2").answer == "answer 2: again?"
    kinds = [item.get("type") or item.get("role") for item in talk.items()]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user", "message"]


def test_the_same_question_again_gets_the_stored_answer(instance: Shim, talk: Talk, model: ModelServer) -> None:
    question = Question("one", id="turn-1")
    first: Answer = instance.invoke(question, "1")
    assert instance.invoke(question, "2") == first
    assert len(model.bodies) == 1
    assert talk.turns() == [("one", "answer 1: one")]


def test_a_turn_id_that_answered_another_question_is_refused(instance: Shim, talk: Talk) -> None:
    instance.invoke(Question("one", id="turn-1"), "1")
    answer: Answer = instance.invoke(Question("two", id="turn-1"), "2")
    assert (answer.answer, answer.code) == ("", "conflict")
    assert len(talk.turns()) == 1


def test_the_sessions_prompt_and_messages_are_what_the_model_begins_with(
    warm: Shim, cache: ObjectCache, model: ModelServer
) -> None:
    talk = Talk(cache, "You are a pirate.", [json.dumps({"role": "user", "content": "My name is Ada"})])
    warm.enter(talk.id, talk.ref.encode())
    warm.invoke(Question("who am I?"))
    assert [(message["role"], message["content"]) for message in model.bodies[0]["messages"]] == [
        ("system", "You are a pirate."),
        ("user", "My name is Ada"),
        ("user", "who am I?"),
    ]
    other = Talk(cache)
    warm.enter(other.id, other.ref.encode()).invoke(Question("and now?"))
    assert model.bodies[1]["messages"][0]["content"] == "the agent's own instructions"


def test_a_question_can_ask_for_a_model(instance: Shim, model: ModelServer) -> None:
    assert instance.invoke(Question("one", model="other"), "1").model == "other"
    assert instance.invoke(Question("two"), "2").model == "scripted"
    assert [body["model"] for body in model.bodies] == ["other", "scripted"]


def test_a_session_without_context_is_answered_without_memory_and_says_so(warm: Shim, model: ModelServer) -> None:
    warm.enter("no-context")
    for task in "1", "2":
        answer: Answer = warm.invoke(Question("one"), task)
        assert (answer.answer, answer.turn) == ("answer 1: one", 0)
        assert "without memory" in answer.note


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([error(401)], "refused|wants an API key"),
        ([error(500), error(500), error(500)], "500"),
        ([Step(body="<html>no</html>", content_type="text/html")], "no JSON object"),
        ([Step(choices=False)], "without a choice"),
        ([Step(text="half", broken="length")], "broke off|broken|connection"),
    ],
)
def test_a_failing_model_adds_nothing_and_the_next_turn_works(
    instance: Shim, talk: Talk, model: ModelServer, steps: list[Step], words: str
) -> None:
    model.steps.extend(steps * (3 if steps[0].broken else 1))
    answer: Answer = instance.invoke(Question("one"), "1")
    assert (answer.answer, answer.code) == ("", "model")
    assert re.search(words, answer.error), answer.error
    assert talk.items() == []
    model.steps.clear()
    assert instance.invoke(Question("two"), "2").answer == "answer 1: two"


def test_a_conversation_of_another_model_is_not_taken_over_by_the_local_one(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, instance: Shim
) -> None:
    instance.invoke(Question("one"))
    with fresh(tmp_path, AGENT, engine, model, OPENAI_BASE_URL="", AGENT_MODEL="") as keyless:
        answer: Answer = keyless.enter(talk.id, talk.ref.encode()).invoke(Question("two"), "2")
    assert answer.code == "model"
    assert "scripted" in answer.error
    assert len(talk.turns()) == 1


def test_a_turn_that_dies_between_its_record_and_its_answer_happens_once(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    source = AGENT.replace("instance = FlameInstance()", DIES_ONCE_AFTER_ITS_TURN + "\ninstance = Dies()")
    with fresh(tmp_path, source, engine, model) as dying:
        answer: Answer = dying.enter(talk.id, talk.ref.encode()).invoke(Question("one"))
    assert (tmp_path / "died").exists()
    assert (answer.answer, answer.turn) == ("answer 1: one", 1)
    assert talk.turns() == [("one", "answer 1: one")]
    assert len(model.bodies) == 1


def test_a_turn_whose_time_is_up_inside_its_append_may_have_been_added_and_is_so_once(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, SLOW_CACHE + AGENT, engine, model, AGENT_TIMEOUT="3") as slow:
        slow.enter(talk.id, talk.ref.encode())
        with pytest.raises(Exception, match="may have been"):
            slow.invoke(Question("one", id="a"), "1")
        (tmp_path / "go").touch()
        while not talk.turns():
            time.sleep(0.1)
        assert slow.invoke(Question("two", id="b"), "2").turn == 2
    assert talk.turns() == [("one", "answer 1: one"), ("two", "answer 2: two")]


def test_a_turn_of_someone_else_in_between_is_a_conflict_and_nothing_is_added(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    def meanwhile(request: dict[str, object]) -> Step:
        talk.log().append(TurnBody("theirs", "theirs?", [{"role": "user", "content": "theirs?"}], {"answer": "yes"}))
        return Step(text="mine")

    model.script = meanwhile
    answer: Answer = instance.invoke(Question("mine?"))
    assert (answer.answer, answer.code) == ("", "conflict")
    assert talk.turns() == [("theirs?", "yes")]


def test_a_cancelled_turn_stops_and_adds_nothing(instance: Shim, talk: Talk, model: ModelServer) -> None:
    asked = threading.Event()

    def slowly(request: dict[str, object]) -> Step:
        asked.set()
        return Step(text="too late", delay=100)

    def cancel() -> None:
        asked.wait(90)
        talk.log().append(EditBody("cancel", turn="doomed"))

    model.script = slowly
    threading.Thread(target=cancel).start()
    started = time.monotonic()
    answer: Answer = instance.invoke(Question("one", id="doomed"))
    assert (answer.answer, answer.code) == ("", "cancelled")
    assert time.monotonic() - started < 95  # not the model's 100 s
    assert talk.turns() == []
    again: Answer = instance.invoke(Question("one", id="doomed"), "2")
    assert again.code == "cancelled"
    assert len(model.bodies) == 1  # nobody is asked for a turn that cannot be added


def test_a_turn_that_waits_behind_another_is_cancelled_and_the_other_one_answers(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    def meanwhile(request: dict[str, object]) -> Step:
        talk.log().append(EditBody("cancel", turn="behind"))
        return Step(text="mine")

    model.script = meanwhile
    answer: Answer = instance.invoke(Question("mine?"))
    assert (answer.answer, answer.code) == ("mine", "")
    assert instance.invoke(Question("behind?", id="behind"), "2").code == "cancelled"
    assert talk.turns() == [("mine?", "mine")]


def test_a_damaged_conversation_is_refused_with_the_record_named(instance: Shim, talk: Talk) -> None:
    instance.invoke(Question("one"), "1")
    talk.cache.patch(talk.ref.key, b"not a record")
    answer: Answer = instance.invoke(Question("two"), "2")
    assert (answer.answer, answer.code) == ("", "damaged")
    assert "Record 2 cannot be read" in answer.error


def test_the_model_sees_a_window_of_whole_turns(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, AGENT, engine, model, AGENT_HISTORY="6", AGENT_SUMMARY="off") as small:
        small.enter(talk.id, talk.ref.encode())
        for number in range(1, 8):
            small.invoke(Question(f"q{number}"), str(number))
    sent = [[message["content"] for message in body["messages"][1:]] for body in model.bodies]
    assert max(len(messages) - 1 for messages in sent) == 6
    assert all(messages[0].startswith("q") for messages in sent)
    said = [turn for turn, _ in talk.log().load().turns()]
    assert [2 * before - turn.omitted_items + 1 for before, turn in enumerate(said)] == [
        len(messages) for messages in sent
    ]
    assert len(talk.turns()) == 7


def test_an_entrypoint_that_raises_is_a_sentence_and_its_traceback_is_in_the_log(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    source = AGENT.replace("    return await instance.answer(agent, question)", '    raise KeyError("lost")')
    with fresh(tmp_path, source, engine, model) as broken:
        answer: Answer = broken.enter(talk.id, talk.ref.encode()).invoke(Question("one"))
        assert (answer.code, answer.error) == ("failed", "KeyError: 'lost'")
        assert "Traceback" in broken.log.read_text()
    assert talk.turns() == []


def test_a_cache_that_is_away_when_a_turn_begins_is_waited_for(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with (
        Door(engine.cache_endpoint) as door,
        fresh(tmp_path, AGENT, engine, model, FLAME_CACHE_ENDPOINT=door.url) as instance,
    ):
        instance.enter(talk.id, talk.ref.encode())
        door.close(3)
        assert instance.invoke(Question("one"), "1").answer == "answer 1: one"
        door.close(3)
        assert instance.invoke(Question("two"), "2").answer == "answer 2: two"
        assert door.closed == 0
    assert talk.turns() == [("one", "answer 1: one"), ("two", "answer 2: two")]
