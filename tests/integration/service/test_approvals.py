"""Approvals: a turn stops at a call that needs a human, waits for ever, and goes on once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import ConflictError, DecisionBody, EditBody, WaitingError
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.shim import Shim

FORGETS = Step(calls=(Call("forget", '{"key": "city"}', "f-1"),))
REMEMBERS = Step(calls=(Call("remember", '{"key": "city", "value": "Lisbon"}', "r-1"),))

DANGEROUS = AGENT.replace(
    "agent = Agent(",
    """
import os
from pathlib import Path

@function_tool(needs_approval=True)
def launch(what: str) -> str:
    "Launch something."
    with open("launched", "a") as file:
        file.write(what + " ")
    if what == "crash" and len(Path("launched").read_text().split()) == 1:
        os._exit(9)
    return "launched " + what

agent = Agent(""",
).replace("tools=[double,", "tools=[double, launch,")


def launches(*names: str) -> Step:
    return Step(calls=tuple(Call("launch", f'{{"what": "{name}"}}', f"l-{name}") for name in names))


def launched(folder: Path) -> list[str]:
    file = folder / "launched"
    return file.read_text().split() if file.exists() else []


def waits(instance: Shim, model: ModelServer, *steps: Step, question: str = "forget my city") -> Answer:
    model.steps.extend(steps)
    answer: Answer = instance.invoke(Question(question, id="t"), "1")
    assert (answer.answer, answer.code, answer.error) == ("", "waiting", "")
    return answer


def decide(answer: Answer, question: str = "forget my city", name: str = "d-1", **more: object) -> Question:
    return Question(question, id="t", decision=Decision(name, answer.on, **more))  # type: ignore[arg-type]


def test_a_call_that_needs_an_approval_waits_and_nothing_is_added(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    assert answer.pending == [{"id": "f-1", "tool": "forget", "arguments": '{"key": "city"}'}]
    assert talk.items() == []
    assert talk.conversation.facts == {}
    assert talk.conversation.waiting is not None


def test_an_approved_call_runs_and_the_turn_is_one_record(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(Step(text="Forgotten."))
    done: Answer = instance.invoke(decide(answer, approve=("f-1",), by="ada"), "2")
    assert (done.answer, done.turn, done.turn_id) == ("Forgotten.", 1, "t")
    assert talk.kinds() == [
        "user",
        "remember(city, Lisbon)",
        "= Remembered city: Lisbon",
        "forget(city)",
        "= Forgot city.",
        "assistant",
    ]
    assert talk.conversation.facts == {}
    assert talk.conversation.waiting is None
    assert done.usage is not None
    assert done.usage["requests"] == 3


def test_a_rejected_call_does_not_run_and_the_model_hears_why(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(Step(text="As you wish."))
    done: Answer = instance.invoke(decide(answer, reject=("f-1",), reason="I still live there."), "2")
    assert done.answer == "As you wish."
    assert "= A human rejected this call. I still live there." in talk.kinds()
    assert talk.conversation.facts == {"city": "Lisbon"}


def test_a_new_question_is_refused_while_a_call_waits(instance: Shim, talk: Talk, model: ModelServer) -> None:
    waits(instance, model, FORGETS)
    answer: Answer = instance.invoke(Question("something else"), "2")
    assert (answer.answer, answer.code) == ("", "waiting")
    assert "decide on it first" in answer.error
    assert answer.pending
    assert len(model.bodies) == 1


def test_the_question_that_waits_asked_again_waits_still(instance: Shim, model: ModelServer) -> None:
    answer = waits(instance, model, FORGETS)
    again: Answer = instance.invoke(Question("forget my city", id="t"), "2")
    assert (again.code, again.on, again.error) == ("waiting", answer.on, "")
    assert len(model.bodies) == 1


def test_an_approval_holds_over_another_instance(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, instance: Shim
) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(Step(text="Forgotten."))
    with fresh(tmp_path, AGENT, engine, model) as other:
        done: Answer = other.enter(talk.id, talk.ref.encode()).invoke(decide(answer, approve=("f-1",)), "2")
    assert done.answer == "Forgotten."
    assert talk.conversation.facts == {}


def test_of_two_decisions_the_first_counts(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(Step(text="As you wish."))
    instance.invoke(decide(answer, reject=("f-1",)), "2")
    late: Answer = instance.invoke(decide(answer, name="d-2", approve=("f-1",)), "3")
    assert (late.answer, late.code) == ("", "conflict")
    assert talk.conversation.facts == {"city": "Lisbon"}


def test_a_decision_that_comes_twice_is_carried_out_once(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(Step(text="Forgotten."))
    first: Answer = instance.invoke(decide(answer, approve=("f-1",)), "2")
    assert instance.invoke(decide(answer, approve=("f-1",)), "3") == first
    assert len(model.bodies) == 3


def test_a_decision_on_a_call_that_does_not_wait_is_refused(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, FORGETS)
    done: Answer = instance.invoke(decide(answer, approve=("f-9",)), "2")
    assert done.code == "conflict"
    assert "f-9 does not wait; these do: f-1" in done.error
    assert talk.conversation.waiting is not None
    assert talk.conversation.waiting.decision is None


def test_several_calls_are_decided_one_by_one(tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk) -> None:
    with fresh(tmp_path, DANGEROUS, engine, model) as instance:
        instance.enter(talk.id, talk.ref.encode())
        answer = waits(instance, model, launches("a", "b", "c"), question="launch")
        second: Answer = instance.invoke(decide(answer, "launch", "d-1", approve=("l-b",), reject=("l-a",)), "2")
        assert second.code == "waiting"
        assert [call["id"] for call in second.pending or []] == ["l-c"]
        assert launched(tmp_path) == ["b"]
        model.steps.append(Step(text="done"))
        assert instance.invoke(decide(second, "launch", "d-2", approve=("l-c",)), "3").answer == "done"
    assert launched(tmp_path) == ["b", "c"]
    outputs = [kind for kind in talk.kinds() if kind.startswith("=")]
    assert sorted(outputs) == ["= A human rejected this call.", "= launched b", "= launched c"]


def test_always_holds_for_later_calls_of_the_tool_in_this_conversation(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, DANGEROUS, engine, model) as instance:
        instance.enter(talk.id, talk.ref.encode())
        answer = waits(instance, model, launches("a"), question="launch")
        model.steps.extend([launches("b"), Step(text="done")])
        assert instance.invoke(decide(answer, "launch", approve=("l-a",), always=True), "2").answer == "done"
        model.steps.extend([launches("c"), Step(text="again")])
        assert instance.invoke(Question("launch again", id="u"), "3").answer == "again"
        assert launched(tmp_path) == ["a", "b", "c"]
        other = Talk(talk.cache)
        instance.enter(other.id, other.ref.encode())
        waits(instance, model, launches("d"), question="launch")


def test_a_turn_that_dies_behind_its_decision_is_interrupted_and_not_run_again_by_itself(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    with fresh(tmp_path, DANGEROUS, engine, model) as instance:
        instance.enter(talk.id, talk.ref.encode())
        answer = waits(instance, model, launches("crash"), question="launch")
        after: Answer = instance.invoke(decide(answer, "launch", approve=("l-crash",)), "2")
        assert (after.code, after.answer) == ("waiting", "")
        assert "may have run" in after.note
        assert launched(tmp_path) == ["crash"]
        model.steps.append(Step(text="done"))
        assert instance.invoke(decide(after, "launch", "d-2", approve=("l-crash",)), "3").answer == "done"
    assert launched(tmp_path) == ["crash", "crash"]
    assert talk.turns() == [("launch", "done")]


def test_a_model_that_fails_behind_a_decision_leaves_it_interrupted(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    answer = waits(instance, model, REMEMBERS, FORGETS)
    model.steps.append(error(400, "no more"))
    assert instance.invoke(decide(answer, approve=("f-1",)), "2").code == "model"
    waiting = talk.conversation.waiting
    assert waiting is not None
    assert waiting.decision is not None
    assert talk.items() == []
    model.steps.append(Step(text="Then not."))
    done: Answer = instance.invoke(
        Question("forget my city", id="t", decision=Decision("d-2", waiting.record_id, reject=("f-1",))), "3"
    )
    assert done.answer == "Then not."
    assert talk.conversation.facts == {"city": "Lisbon"}


@pytest.mark.parametrize("changed", ["tool", "agent"])
def test_after_the_agent_has_changed_a_rejection_still_frees_the_conversation(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, changed: str
) -> None:
    renamed = DANGEROUS.replace("launch(", "ignite(").replace("double, launch", "double, ignite")
    renamed = renamed if changed == "tool" else DANGEROUS.replace('name="tester"', 'name="other"')
    with fresh(tmp_path, DANGEROUS, engine, model) as before:
        answer = waits(before.enter(talk.id, talk.ref.encode()), model, launches("a"), question="launch")
    with fresh(tmp_path, renamed, engine, model) as after:
        after.enter(talk.id, talk.ref.encode())
        refused: Answer = after.invoke(decide(answer, "launch", approve=("l-a",)), "2")
        assert "has changed since it asked" in refused.error
        assert talk.conversation.waiting is not None
        assert talk.conversation.waiting.decision is None
        done: Answer = after.invoke(decide(answer, "launch", "d-2", reject=("l-a",)), "3")
        assert "rejected" in done.answer
        assert after.invoke(Question("go on", id="u"), "4").answer == "answer 2: go on"
    assert launched(tmp_path) == []


def test_a_waiting_turn_can_be_cancelled(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, FORGETS)
    talk.log().append(EditBody("cancel", turn="t"))
    assert instance.invoke(decide(answer, approve=("f-1",)), "2").code == "conflict"
    assert instance.invoke(Question("go on", id="u"), "3").answer == "answer 1: go on"


def test_two_people_deciding_at_once_one_wins(instance: Shim, talk: Talk, model: ModelServer) -> None:
    answer = waits(instance, model, FORGETS)
    outcomes: list[str] = []
    barrier = threading.Barrier(4)

    def decide_as(person: str) -> None:
        log = talk.log()
        barrier.wait()
        try:
            log.append(DecisionBody(person, decides_on=answer.on, rejected=["f-1"], by=person))
            outcomes.append(person)
        except ConflictError:
            outcomes.append("")

    people = [threading.Thread(target=decide_as, args=[name]) for name in ("a", "b", "c", "d")]
    for person in people:
        person.start()
    for person in people:
        person.join()
    (winner,) = [name for name in outcomes if name]
    waiting = talk.conversation.waiting
    assert waiting is not None
    assert waiting.decision is not None
    assert waiting.decision.by == winner


def test_items_cannot_be_added_by_hand_while_a_call_waits(instance: Shim, talk: Talk, model: ModelServer) -> None:
    waits(instance, model, FORGETS)
    with pytest.raises(WaitingError):
        talk.log().append(EditBody("add", items=[{"role": "user", "content": "hello"}]))
