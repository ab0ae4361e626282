"""A turn that failed is found afterwards, with what was asked and why; and it stays the failure that it was.

Through a real instance and a real cache, before a model's server that refuses what OpenAI refuses.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import EditBody, TurnBody, Usage
from flameagent.conversation.failures import Failure, failure_keys, read_failures
from flameagent.flame.cache import ObjectCache
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, environment, fresh
from tests.support.model_server import Call, ModelServer, Step, echo, error
from tests.support.shim import Shim, TaskFailed

HANGS = """
import time
from flameagent.flame.cache import ObjectCache
patch = ObjectCache.patch

def hang(self, key, data):
    if "/failures-" in key:
        time.sleep(6)
    return patch(self, key, data)

ObjectCache.patch = hang
"""

ASKS_FIRST = AGENT.replace("@function_tool\n", "@function_tool(needs_approval=True)\n", 1)


def failures(talk: Talk) -> list[Failure]:
    return read_failures(talk.cache.get, failure_keys("app", talk.id))


def refused(status: int = 400) -> Step:
    return error(status, "the model is ill")


def test_what_was_asked_and_why_it_failed_is_kept(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([Step(calls=(Call("double", '{"number": 1}'),)), refused()])
    before = int(time.time() * 1000)
    named = {"name": "cat.txt", "media_type": "text/plain", "size": 3, "sha256": talk.log().attachments.put(b"cat")}
    asked = Question("double one", id="t-1", user="ada", attachments=[named])
    answer: Answer = instance.invoke(asked, "7")
    assert (answer.answer, answer.code) == ("", "model")
    (found,) = failures(talk)
    assert (found.turn, found.task, found.question, found.user) == ("t-1", "7", "double one", "ada")
    assert (found.code, found.reason, found.model) == ("model", answer.error, "scripted")
    assert (found.attachments, found.decision) == (["cat.txt"], False)
    assert before <= found.began <= found.ended <= int(time.time() * 1000)
    assert found.usage.requests == 1  # the second was refused
    assert found.usage.input_tokens > 0


def test_a_turn_that_was_answered_leaves_nothing(instance: Shim, talk: Talk, model: ModelServer) -> None:
    instance.invoke(Question("one"), "1")
    with pytest.raises(Exception, match="not found"):
        talk.cache.get(failure_keys("app", talk.id)[0])


def test_no_model_sees_it_and_older_programs_read_the_conversation(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    instance.invoke(Question("one", id="a"), "1")
    model.steps.append(refused())
    instance.invoke(Question("a doomed question", id="b"), "2")
    instance.invoke(Question("two", id="c"), "3")
    assert "doomed" not in str(model.bodies[-1])
    assert [question for question, _ in talk.turns()] == ["one", "two"]
    assert "doomed" not in str(talk.cache.get(talk.ref.key))
    assert [each.turn for each in failures(talk)] == ["b"]


@pytest.mark.parametrize(
    ("budget", "code"), [({"tokens": 0, "of_tokens": 5}, "budget_reached"), ({"tokens": "many"}, "failed")]
)
def test_a_budget(instance: Shim, talk: Talk, model: ModelServer, budget: dict[str, object], code: str) -> None:
    instance.invoke(Question("dear", id="a", budget=budget), "1")
    (found,) = failures(talk)
    assert (found.code, found.question, found.usage) == (code, "dear", Usage())


def test_a_cancelled_turn(instance: Shim, talk: Talk, model: ModelServer) -> None:
    def cancelled(request: dict[str, object]) -> Step:
        talk.log().append(EditBody("cancel", turn="doomed"))
        return Step(text="too late", delay=20)

    model.script = cancelled
    instance.invoke(Question("long", id="doomed"), "1")
    assert [(each.code, each.question) for each in failures(talk)] == [("cancelled", "long")]


def test_a_conflict(instance: Shim, talk: Talk, model: ModelServer) -> None:
    def meanwhile(request: dict[str, object]) -> Step:
        talk.log().append(TurnBody("theirs", "theirs?", [], {"answer": "yes"}))
        return Step(text="mine")

    model.script = meanwhile
    instance.invoke(Question("mine?"), "1")
    (found,) = failures(talk)
    assert (found.code, found.turn, found.usage.requests) == ("conflict", f"{talk.id}/1", 1)


def test_damage(instance: Shim, talk: Talk, model: ModelServer) -> None:
    talk.cache.patch(talk.ref.key, b"no record")
    instance.invoke(Question("lost?"), "1")
    assert [(each.code, each.question) for each in failures(talk)] == [("damaged", "lost?")]


def test_a_question_of_somebody_else_is_not_kept_in_a_session(
    instance: Shim, cache: ObjectCache, model: ModelServer
) -> None:
    talk = Talk(cache, user="ada")
    instance.enter(talk.id, talk.ref.encode())
    assert instance.invoke(Question("what did ada say?", user="bob"), "1").code == "no_session"
    assert failures(talk) == []


def test_a_turn_that_fails_behind_a_decision_has_used_what_came_after_it(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, ASKS_FIRST, engine, model) as asks:
        asks.enter(talk.id, talk.ref.encode())
        model.steps.append(Step(calls=(Call("double", '{"number": 1}'),)))
        waits: Answer = asks.invoke(Question("double one", id="a", user="ada"), "1")
        assert waits.code == "waiting"
        assert failures(talk) == []
        assert asks.invoke(Question("and this?", id="b"), "2").code == "waiting"
        assert failures(talk) == []  # it was not asked
        model.steps.append(refused())
        decision = Decision("d", waits.on, approve=(waits.pending or [{}])[0]["id"].split(), by="bob")
        asks.invoke(Question("double one", id="a", decision=decision), "3")
    (found,) = failures(talk)
    assert (found.turn, found.question, found.user, found.decision) == ("a", "double one", "ada", True)
    assert found.usage == Usage()


def test_no_agent_is_found(tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    with Shim(tmp_path, "agent:nobody", **environment(engine, model)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        asked = Question("anybody?", id="a", user="ada", attachments=["none", {"name": "cat.txt"}])  # type: ignore[list-item]
        answer: Answer = instance.invoke(asked, "1")
        assert answer.code == "usage"
        with pytest.raises(TaskFailed):
            instance.invoke("no question", "2")
    (found,) = failures(talk)
    assert (found.code, found.reason, found.question) == ("usage", answer.error, "anybody?")
    assert (found.turn, found.user, found.attachments, found.task) == ("a", "ada", ["cat.txt"], "1")
    assert found.began <= found.ended


def test_a_question_that_is_none_fails_as_it_did(instance: Shim, talk: Talk, model: ModelServer) -> None:
    asked = Question("one", id="a", attachments=[7])  # type: ignore[list-item]
    assert instance.invoke(asked, "1").error
    assert [(each.turn, each.attachments) for each in failures(talk)] == [("a", [])]


@pytest.mark.parametrize(
    "point", ["failure: begun", "failure: before", "failure: after", "worker: before its answer"]
)
def test_killed_while_it_is_noted(tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, point: str) -> None:
    points = tmp_path / "points"
    points.mkdir()
    model.script = lambda _: refused()
    with fresh(tmp_path, AGENT, engine, model, FAILPOINTS=str(points)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        (points / point).touch()
        answer: Answer = instance.invoke(Question("one", id="a"), "1")
        assert answer.code == "model"
        assert not (points / point).exists()
        model.script = echo
        assert instance.invoke(Question("two", id="b"), "2").answer == "answer 1: two"
    assert [(each.turn, each.reason) for each in failures(talk)] == [("a", answer.error)]


def test_a_cache_that_hangs_does_not_hold_up_the_failure(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    model.steps.append(refused())
    with fresh(tmp_path, HANGS + AGENT, engine, model) as instance:
        instance.enter(talk.id, talk.ref.encode())
        instance.invoke(Question("warm", id="warm"), "0")
        model.steps.append(refused())  # asked for at once: the one before is still being written
        began = time.monotonic()
        answer: Answer = instance.invoke(Question("one", id="a"), "1")
        took = time.monotonic() - began
        assert answer.code == "model"
        assert took < 5.5  # and not the six seconds of the cache, nor twice as many
        model.script = echo
        assert instance.invoke(Question("two", id="b"), "2").answer == "answer 1: two"
        deadline = time.monotonic() + 60
        while [each.turn for each in failures(talk)] != ["warm", "a"]:  # they are written all the same
            assert time.monotonic() < deadline
            time.sleep(0.1)
