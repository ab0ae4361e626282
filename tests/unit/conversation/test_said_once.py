"""Turns that say once what is in their items, too: whatever they are, they come back as they were."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs, to_builtins

from flameagent.apis import Answer
from flameagent.conversation import Attached, EditBody, TurnBody, Usage, fold
from flameagent.conversation.answers import stored_answer
from flameagent.conversation.records import Item, Unreadable, make, read_body
from flameagent.conversation.state import StoredTurn
from tests.support.conversations import cold, message, open_session, turn
from tests.support.memory_cache import MemoryCache

USAGE = Usage(requests=2, input_tokens=10, output_tokens=20)
COUNTS = structs.asdict(USAGE)
ANSWERED: dict[str, Any] = {"answer": "No.", "turn": 3, "turn_id": "t", "model": "m", "usage": COUNTS, "agent": "a"}
QUESTION, ANSWER = "Will it rain?", "No."
CALLED = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def said(text: str, *more: Item) -> Item:
    content = [{"type": "output_text", "text": text, "annotations": []}, *more]
    return {"type": "message", "role": "assistant", "content": content}


def body(
    items: list[Item] | None = None, answer: dict[str, Any] | None = None, question: str = QUESTION, **more: Any
) -> TurnBody:
    """A turn as the agent adds it."""
    given = [message(question), said(ANSWER)] if items is None else items
    answered = ANSWERED if answer is None else answer
    return TurnBody("t", question, given, answered, **{"usage": USAGE, "model": "m", **more})


def written(turn: TurnBody) -> dict[str, Any]:
    """The turn's record, of which a reader gets the very same."""
    record = make(turn, seq=3, prev="p", record_id="r")
    for each in record.body, read_body(record.data, record.envelope.v):
        assert isinstance(each, TurnBody)
        assert each == turn
        assert json.dumps(each.answer, sort_keys=True) == json.dumps(turn.answer, sort_keys=True)
        assert list(each.answer.get("usage") or ()) == list(turn.answer.get("usage") or ())
    return dict(json.loads(record.data))


def test_the_form_of_version_7_stays_as_it_is_for_ever() -> None:
    record = written(body())
    assert record.pop("at") > 1_700_000_000_000
    assert record == {
        "v": 7,
        "id": "r",
        "prev": "p",
        "seq": 3,
        "kind": "turn",
        "turn": "t",
        "items": [{"role": "user", "content": "Will it rain?"}, said("No.")],
        "answer": {"turn": 3, "agent": "a"},
        "usage": [2, 10, 0, 20],
        "model": "m",
    }


IMAGE = {"type": "input_image", "image_url": "flame-attachment:image/png"}
ONCE = {
    "a call between them": (body([message(QUESTION), CALLED, said(ANSWER)]), []),
    "a question with attachments": (
        body(
            [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}, IMAGE]}, said(ANSWER)],
            attachments=[Attached("a.png", "image/png", 3, "0" * 64)],
        ),
        [],
    ),
    "an image before the text": (
        body([{"role": "user", "content": [IMAGE, {"type": "input_text", "text": QUESTION}]}, said(ANSWER)]),
        [],
    ),
    "no question": (body(question=""), []),
    "an output type": (
        body(
            [message(QUESTION), said('{"rain":false}')], {**ANSWERED, "answer": '{"rain":false}', "output_type": "R"}
        ),
        [],
    ),
    "a tool's output": (
        body([message(QUESTION), CALLED, {"type": "function_call_output", "call_id": "c", "output": ANSWER}]),
        [],
    ),
    "an answer that is written otherwise": (body(answer={**ANSWERED, "answer": "no"}), ["answer"]),
    "an answer of several parts": (
        body([message(QUESTION), said("No", {"type": "output_text", "text": "."})]),
        ["answer"],
    ),
    "an answer that an item follows": (body([message(QUESTION), said(ANSWER), message("x")]), ["answer"]),
    "another question": (body([message("?"), said(ANSWER)]), ["question"]),
    "another turn's ID": (body(answer={**ANSWERED, "turn_id": "u"}), ["turn_id"]),
    "another model": (body(answer={**ANSWERED, "model": "n"}), ["model"]),
    "no model": (body(answer={name: ANSWERED[name] for name in ANSWERED if name != "model"}, model=""), []),
    "a model of the answer only": (body(model=""), ["model"]),
    "other counts": (body(answer={**ANSWERED, "usage": {**COUNTS, "requests": 3}}), ["usage"]),
    "another order of counts": (body(answer={**ANSWERED, "usage": dict(reversed(COUNTS.items()))}), ["usage"]),
    "a count more": (body(answer={**ANSWERED, "usage": {**COUNTS, "images": 0}}), ["usage"]),
    "counts of another kind": (body(answer={**ANSWERED, "usage": {**COUNTS, "requests": 2.0}}), ["usage"]),
    "no usage": (body(usage=Usage()), ["usage"]),
    "halves of characters": (body(question="\ud83d", answer={**ANSWERED, "answer": "\ude00"}), ["answer"]),
}


@pytest.mark.parametrize("case", ONCE)
def test_what_follows_is_left_out_and_what_does_not_is_there(case: str) -> None:
    turn, there = ONCE[case]
    record = written(turn)
    assert record["v"] == 7
    known = {name for name in ("answer", "turn_id", "model", "usage") if name in record["answer"]}
    assert known | ({"question"} & record.keys()) == set(there)


IN_FULL = {
    "no items": (body([]), 1),
    "neither question nor answer": (body([message("x"), said("y")]), 1),
    "an item that is no message": (body([{"a": 1}]), 1),
    "content that is no text": (body([{"content": 5}, {"content": None}]), 1),
    "parts without text": (body([{"content": [IMAGE, 5, {"text": None}]}]), 1),
    "no answer": (body(answer={}), 1),
    "an answer without its turn": (body(answer={"answer": ANSWER, "model": "m", "usage": COUNTS}), 1),
    "an answer without usage": (body(answer={"answer": ANSWER, "turn_id": "t", "model": "m"}), 1),
    "attachments": (body([], attachments=[Attached("a.png", "image/png", 3, "0" * 64)]), 3),
}


@pytest.mark.parametrize("case", IN_FULL)
def test_a_turn_that_would_not_come_back_is_written_in_full(case: str) -> None:
    turn, version = IN_FULL[case]
    record = written(turn)
    assert (record["v"], record["question"], record["answer"]) == (version, turn.question, turn.answer)


texts = st.sampled_from(["", "a", "b", "\ud800", "☂", "a\ud83d\ude00", "a😀"])
parts = st.lists(
    st.fixed_dictionaries({}, optional={"type": st.just("x"), "text": texts | st.integers()}), max_size=3
)
items = st.lists(
    st.fixed_dictionaries({}, optional={"content": texts | parts | st.none(), "output": texts | parts}), max_size=3
)
counts = st.sampled_from([0, 1, 2.0, True, None])
names = tuple(COUNTS)
answers = st.fixed_dictionaries(
    {},
    optional={
        "answer": texts | st.none(),
        "turn": st.just(1),
        "turn_id": texts | st.none(),
        "model": texts,
        "usage": st.none() | st.dictionaries(st.sampled_from([*names, "more"]), counts) | st.just(COUNTS),
        "new": texts,
    },
)
usages = st.sampled_from([Usage(), USAGE, Usage(*range(6))])


@settings(max_examples=1000, derandomize=True, deadline=None)
@given(st.builds(TurnBody, turn=texts, question=texts, items=items, answer=answers, model=texts, usage=usages))
def test_any_turn_comes_back_as_it_was(turn: TurnBody) -> None:
    record = make(turn, seq=0, prev="")
    # Two halves of a pair side by side are one character in JSON, in whatever form.
    expected = json.loads(json.dumps(to_builtins(structs.asdict(turn))))
    back = to_builtins(structs.asdict(read_body(record.data, record.envelope.v)))
    assert json.dumps(back, sort_keys=True) == json.dumps(expected, sort_keys=True)
    raw = json.loads(record.data)
    left_out = "question" not in raw or "answer" in turn.answer.keys() - raw["answer"].keys()
    assert record.envelope.v == (7 if left_out else 1)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.just("text"), inner, max_size=3),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.sampled_from(["turn", "items", "answer", "usage", "model", "question", "kind"]), json_values)
def test_a_record_that_was_altered_is_read_or_unreadable_and_nothing_worse(name: str, value: Any) -> None:
    raw = json.loads(make(body(), seq=0, prev="").data)
    for altered in (
        {**raw, name: value},
        {**raw, name: [value] * 7},
        {each: raw[each] for each in raw if each != name},
    ):
        try:
            read = read_body(json.dumps(altered).encode(), 7)
        except Unreadable:
            continue
        assert isinstance(read, TurnBody)
        assert isinstance(read.question, str)


def test_a_question_that_nothing_says_is_damage() -> None:
    raw = json.loads(make(body(), seq=0, prev="").data)
    for version, altered in (7, {**raw, "items": []}), (1, {**raw, "usage": {}}):
        with pytest.raises(Unreadable, match="question"):
            read_body(json.dumps(altered).encode(), version)


def test_an_older_program_refuses_it_by_name(cache: MemoryCache, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = cold(cache, key)
    log.append(EditBody("add", items=[message("before")]))
    log.append(body())
    monkeypatch.setattr(fold, "VERSION", 6)
    older = cold(cache, key).refresh()
    assert str(older.damage) == "Record 2 was written by a newer version of this program (kind 'turn', version 7)."
    assert older.items() == [message("before")]


@pytest.mark.parametrize("output", [None, {"rain": [False]}])
async def test_a_repeated_question_is_given_the_very_answer(cache: MemoryCache, key: str, output: Any) -> None:
    text = ANSWER if output is None else json.dumps(output)
    session = open_session(cache, key)
    async with session.turn("t", QUESTION) as staged:
        asked: list[Any] = [message(QUESTION), said(text)]
        await session.add_items(asked)
        staged.answer, staged.model, staged.usage = Answer(text, usage=COUNTS, agent="a"), "m", USAGE
        if output is not None:
            staged.answer.output, staged.answer.output_type = output, "Rain"
    row = json.loads(cache.objects[key].patches[-1][1] or b"")
    assert (row["v"], row["answer"].keys() & {"answer", "usage"}) == (7, set())
    again = await open_session(cache, key).stored("t", QUESTION)
    assert again == staged.answer
    assert [repr(getattr(again, field.name)) for field in fields(Answer)] == [
        repr(getattr(staged.answer, field.name)) for field in fields(Answer)
    ]


def test_a_turn_is_kept_once_and_turns_beside_it_are_what_they_were(cache: MemoryCache, key: str) -> None:
    """Records of all forms beside each other, folded by who wrote them and by who reads them."""
    bodies = [body(), turn("t1"), structs.replace(body(), turn="t2"), turn("t4"), turn("t6", question="<t6> 0")]
    log = cold(cache, key, segment_records=3)
    for each in bodies:
        log.append(each)
    rows = [json.loads(row or b"") for stored in cache.objects.values() for _, row in stored.patches]
    assert [row["v"] for row in rows if row.get("kind") == "turn"] == [7, 1, 7, 7, 7]
    for reader in log, cold(cache, key, segment_records=3):
        reader.refresh()
        turns = reader.load(0).turns()
        assert [(each.id, each.question, each.answer) for each, _ in turns] == [
            (each.turn, each.question, each.answer) for each in bodies
        ]
        assert [stored_answer(kept) for kept in reader.conversation.recent] == [
            stored_answer(StoredTurn(each.turn, each.question, each.answer)) for each in bodies
        ]


def test_a_turn_takes_little_more_than_its_items() -> None:
    """Of a question and an answer of a line each, where what surrounds them weighs most."""
    question = "And what will the weather be like in Lisbon the day after that, in the afternoon?"
    text = "It will rain a little in the morning and clear up towards noon; take a light jacket with you."
    asked = [message(question), {**said(text), "id": "__fake_id__", "status": "completed"}]
    answer = {**ANSWERED, "answer": text, "turn_id": "0" * 36, "agent": "weather-forecaster"}
    made = make(structs.replace(body(asked, answer, question), turn="0" * 36), seq=100, prev="0" * 16)
    assert len(made.data) - len(json.dumps(asked)) < 280
