"""Streaming: the answer while it comes, in an object beside the conversation, and the same record in the end."""

from __future__ import annotations

import time

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation.codec import decode
from flameagent.conversation.stream_key import stream_key
from flameagent.flame import NotFound
from flameagent.flame.cache import ObjectCache
from tests.integration.service.talk import Talk
from tests.support.model_server import Call, ModelServer, Step
from tests.support.shim import Shim

LONG = "one two three four five six seven eight nine ten"


@pytest.fixture
def stream(cache: ObjectCache, talk: Talk) -> str:
    return cache.put(f"app/{talk.id}", b"").key


def events(cache: ObjectCache, key: str) -> list[dict[str, object]]:
    rows = cache.get(key).patches
    return [event for _, row in rows for event in decode(row or b"", list[dict[str, object]])]


def text(cache: ObjectCache, key: str) -> str:
    return "".join(str(event["text"]) for event in events(cache, key) if "text" in event)


def test_the_words_come_in_parts_and_make_the_answer(
    instance: Shim, talk: Talk, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    model.steps.append(Step(text=LONG, chunk_delay=0.2))
    answer: Answer = instance.invoke(Question("count", stream=stream))
    assert answer.answer == LONG == text(cache, stream)
    assert len(cache.get(stream).patches) > 1
    assert model.bodies[0]["stream"] is True


def test_tool_calls_and_their_outputs_are_events(
    instance: Shim, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    model.steps.extend([Step(calls=(Call("double", '{"number": 21}', "d-1"),)), Step(text="42")])
    assert instance.invoke(Question("double 21", stream=stream)).answer == "42"
    told = events(cache, stream)
    assert {"call": {"id": "d-1", "tool": "double", "arguments": '{"number": 21}', "agent": "tester"}} in told
    assert {"output": {"id": "d-1", "output": "42"}} in told


def test_streamed_or_not_the_record_is_the_same(warm: Shim, model: ModelServer, cache: ObjectCache) -> None:
    records = []
    for streamed in True, False:
        talk = Talk(cache)
        key = cache.put(f"app/{talk.id}", b"").key if streamed else ""
        model.steps.extend(
            [
                Step(calls=(Call("remember", '{"key": "name", "value": "Ada"}', "r-1"),)),
                Step(text="Noted."),
            ]
        )
        warm.enter(talk.id, talk.ref.encode()).invoke(Question("I am Ada", id="t", stream=key))
        ((turn, items),) = talk.conversation.turns()
        records.append((turn.question, turn.answer["answer"], turn.usage, turn.model, turn.facts, items))
    assert records[0] == records[1]


def test_a_stream_that_breaks_off_is_an_error_and_nothing_is_added(
    instance: Shim, talk: Talk, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    model.script = lambda request: Step(text=LONG, broken="chunked")
    answer: Answer = instance.invoke(Question("count", stream=stream))
    assert (answer.answer, answer.code) == ("", "model")
    assert talk.items() == []


def test_an_approval_in_a_streamed_turn_waits_like_any_other(
    instance: Shim, talk: Talk, model: ModelServer, stream: str
) -> None:
    model.steps.append(Step(calls=(Call("forget", '{"key": "city"}', "f-1"),)))
    answer: Answer = instance.invoke(Question("forget my city", stream=stream))
    assert answer.code == "waiting"
    assert talk.conversation.waiting is not None


def test_a_run_that_goes_on_by_a_rule_streams_on(
    instance: Shim, talk: Talk, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    forgets = Step(calls=(Call("forget", '{"key": "city"}', "f-1"),))
    model.steps.extend([forgets, Step(text="first")])
    waits: Answer = instance.invoke(Question("forget my city", id="t"), "1")
    always = Decision("d-1", waits.on, approve=("f-1",), always=True)
    assert instance.invoke(Question("forget my city", id="t", decision=always), "2").answer == "first"
    model.steps.extend([Step(calls=(Call("forget", '{"key": "name"}', "f-2"),)), Step(text=LONG, chunk_delay=0.2)])
    assert instance.invoke(Question("and my name", stream=stream), "3").answer == LONG
    assert text(cache, stream) == LONG


def test_a_second_attempt_says_that_it_begins_again_and_goes_on_in_the_same_object(
    instance: Shim, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    cache.patch(stream, b'[{"text": "half of the fi"}]')
    model.steps.append(Step(text=LONG))
    assert instance.invoke(Question("count", stream=stream)).answer == LONG
    told = events(cache, stream)
    again = told.index({"attempt": True})
    assert [event for event in told[:again] if "text" in event] == [{"text": "half of the fi"}]
    assert "".join(str(event["text"]) for event in told[again:] if "text" in event) == LONG


def test_what_the_model_thinks_is_told_apart_from_what_it_says(
    instance: Shim, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    model.steps.append(Step(text=LONG, reasoning="It wants me to count."))
    assert instance.invoke(Question("count", stream=stream)).answer == LONG
    thought = "".join(str(event.get("reasoning", "")) for event in events(cache, stream))
    assert (thought, text(cache, stream)) == ("It wants me to count.", LONG)


def test_a_decision_goes_on_in_the_object_of_its_turn_behind_the_calls_that_wait(
    instance: Shim, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    model.steps.extend([Step(calls=(Call("forget", '{"key": "city"}', "f-1"),)), Step(text=LONG)])
    waits: Answer = instance.invoke(Question("forget my city", id="t", stream=stream), "1")
    assert events(cache, stream)[-1] == {
        "approval": [{"id": "f-1", "tool": "forget", "arguments": '{"key": "city"}'}]
    }
    decision = Decision("d-1", waits.on, approve=("f-1",))
    asked = Question("forget my city", id="t", stream=stream, decision=decision)
    assert instance.invoke(asked, "2").answer == LONG == text(cache, stream)
    assert not any("attempt" in event for event in events(cache, stream))


def test_an_object_that_nobody_has_made_is_made(
    instance: Shim, talk: Talk, model: ModelServer, cache: ObjectCache
) -> None:
    key = stream_key("app", talk.id, "t")
    model.steps.append(Step(text=LONG))
    assert instance.invoke(Question("count", id="t", stream=key)).answer == LONG == text(cache, key)


def test_the_object_of_a_turn_is_deleted_when_the_next_one_runs(
    warm: Shim, talk: Talk, model: ModelServer, cache: ObjectCache
) -> None:
    keys = [stream_key("app", talk.id, turn) for turn in ("t1", "t2")]
    instance = warm.enter(talk.id, talk.ref.encode())
    instance.invoke(Question("one", id="t1", stream=keys[0]), "1")
    assert text(cache, keys[0]) == "answer 1: one"
    instance.invoke(Question("two", id="t2", stream=keys[1]), "2")
    assert text(cache, keys[0]) == "answer 1: one", "whoever reads along comes to the end"
    deadline = time.monotonic() + 20
    with pytest.raises(NotFound):
        while time.monotonic() < deadline:
            cache.get(keys[0])
            time.sleep(0.1)
    assert text(cache, keys[1]) == "answer 2: two"


def test_a_stream_that_cannot_be_written_does_not_fail_the_turn(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    answer: Answer = instance.invoke(Question("count", stream="no key of an object"))
    assert answer.answer == "answer 1: count"
