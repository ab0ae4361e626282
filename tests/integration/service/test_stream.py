"""Streaming: the answer while it comes, in an object beside the conversation, and the same record in the end."""

from __future__ import annotations

import pytest

from apis import Answer, Decision, Question
from flameagent.conversation.codec import decode
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
    assert {"call": {"id": "d-1", "tool": "double", "arguments": '{"number": 21}'}} in told
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


def test_a_second_attempt_streams_nothing(
    instance: Shim, model: ModelServer, cache: ObjectCache, stream: str
) -> None:
    cache.patch(stream, b'[{"text": "half of the fi"}]')
    model.steps.append(Step(text=LONG))
    assert instance.invoke(Question("count", stream=stream)).answer == LONG
    assert text(cache, stream) == "half of the fi"


def test_a_stream_that_cannot_be_written_does_not_fail_the_turn(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    answer: Answer = instance.invoke(Question("count", stream=f"app/{talk.id}/no-such-object"))
    assert answer.answer == "answer 1: count"
