"""Facts: remembered, recalled and forgotten through tools, with the turns that change them."""

from __future__ import annotations

from flameagent.apis import Answer, Question
from tests.integration.service.talk import Talk
from tests.support.model_server import Call, ModelServer, Step, error
from tests.support.shim import Shim


def remembering(**facts: str) -> list[Step]:
    calls = [Call("remember", f'{{"key": "{key}", "value": "{text}"}}', f"r-{key}") for key, text in facts.items()]
    return [Step(calls=tuple(calls)), Step(text="Noted.")]


def test_facts_are_remembered_in_one_turn_and_recalled_in_a_later_one(
    instance: Shim, talk: Talk, model: ModelServer
) -> None:
    model.steps.extend(remembering(name="Ada", City="Lisbon"))
    assert instance.invoke(Question("My name is Ada and I live in Lisbon"), "1").answer == "Noted."
    assert talk.conversation.facts == {"name": "Ada", "city": "Lisbon"}

    model.steps.extend([Step(calls=(Call("recall", '{"key": "city"}', "c-1"),)), Step(text="You live in Lisbon.")])
    assert instance.invoke(Question("What's my city?"), "2").answer == "You live in Lisbon."
    assert talk.kinds()[-4:] == ["user", "recall(city)", "= city: Lisbon", "assistant"]


def test_the_model_is_told_which_facts_there_are(instance: Shim, model: ModelServer) -> None:
    model.steps.extend(remembering(name="Ada", city="Lisbon"))
    instance.invoke(Question("My name is Ada and I live in Lisbon"), "1")
    instance.invoke(Question("hello"), "2")
    instructions = model.bodies[-1]["messages"][0]["content"]
    assert instructions.startswith("the agent's own instructions")
    assert 'read them with the recall tool by their keys: "city", "name"' in instructions
    assert "recall tool" not in model.bodies[0]["messages"][0]["content"]


def test_everything_that_is_known_can_be_recalled_at_once(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend(remembering(name="Ada", city="Lisbon"))
    instance.invoke(Question("I am Ada of Lisbon"), "1")
    model.steps.extend([Step(calls=(Call("recall", "{}", "c-1"),)), Step(text="A lot.")])
    instance.invoke(Question("What do you know about me?"), "2")
    assert "= name: Ada\ncity: Lisbon" in talk.kinds()


def test_what_a_failed_turn_remembered_is_not_known(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([remembering(name="Ada")[0], error(400, "no more")])
    assert instance.invoke(Question("My name is Ada"), "1").code == "model"
    assert talk.conversation.facts == {}
    model.steps.extend([Step(calls=(Call("recall", '{"key": "name"}', "c-1"),)), Step(text="I do not know.")])
    instance.invoke(Question("Who am I?"), "2")
    assert "= Nothing is remembered." in talk.kinds()


def test_a_fact_is_known_within_its_own_turn(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([remembering(name="Ada")[0], Step(calls=(Call("recall", '{"key": "name"}', "c-1"),))])
    instance.invoke(Question("My name is Ada. Who am I?"))
    assert "= name: Ada" in talk.kinds()


def test_what_each_turn_changed_is_in_its_record(instance: Shim, talk: Talk, model: ModelServer) -> None:
    model.steps.extend([*remembering(name="Ada"), *remembering(name="Grace")])
    instance.invoke(Question("I am Ada"), "1")
    instance.invoke(Question("No, Grace"), "2")
    assert [turn.facts for turn, _ in talk.conversation.turns()] == [{"name": "Ada"}, {"name": "Grace"}]
    assert talk.conversation.facts == {"name": "Grace"}


def test_a_fact_too_long_or_empty_is_refused_with_a_sentence(instance: Shim, talk: Talk, model: ModelServer) -> None:
    long = "x" * 3000
    model.steps.extend(
        [
            Step(
                calls=(
                    Call("remember", f'{{"key": "a", "value": "{long}"}}', "c-1"),
                    Call("remember", '{"key": " ", "value": "b"}', "c-2"),
                )
            )
        ]
    )
    answer: Answer = instance.invoke(Question("remember a lot"))
    assert answer.answer
    outputs = [kind for kind in talk.kinds() if kind.startswith("=")]
    assert "too long" in outputs[0]
    assert "needs a key" in outputs[1]
    assert talk.conversation.facts == {}


def test_a_session_without_context_remembers_nothing_and_the_model_is_told(warm: Shim, model: ModelServer) -> None:
    model.steps.extend(remembering(name="Ada"))
    warm.enter("no-context").invoke(Question("I am Ada"))
    outputs = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "tool"]
    assert outputs == ["Nothing can be remembered: this session has no memory."]
