"""A memory searched by meaning: vectors are made after an answer, once, and nobody waits long for their server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from flameagent.flame.cache import ObjectCache
from flameagent.memory.index import IndexedTurn
from localflame import Engine
from tests.integration.service.talk import AGENT, Person, fresh
from tests.integration.service.test_recall import calls, output, shown
from tests.support.model_server import ModelServer, Step, error
from tests.support.shim import Shim

TOLD = "Mimi is scared of thunder."
ASKED = "Which pet fears storm?"
BY_WORDS = "What was said earlier was searched by words only. The embeddings server "


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory, engine: Engine, model_server: ModelServer) -> Iterator[Shim]:
    folder = tmp_path_factory.mktemp("agent")
    with fresh(folder, AGENT, engine, model_server, AGENT_EMBEDDINGS="m", OPENAI_API_KEY="a-secret-key") as shim:
        yield shim


@pytest.fixture
def person(embedding: Shim, cache: ObjectCache, model: ModelServer) -> Iterator[Person]:
    yield Person(embedding, cache)
    model.vectors.clear()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def embedded(person: Person, model: str = "m") -> None:
    """Wait until there are vectors of all turns."""
    until(lambda: bool((memory := person.memory).turns()) and memory.lacking(model, 1) == [])


def told(person: Person) -> None:
    """Something is remembered, with much besides, and has vectors."""
    memory = person.memory
    for number in range(20):
        long_ago = IndexedTurn("before", number, f"{person.name}-{number}", 1000, f"Tell me about {number}.", "Yes.")
        memory.add(long_ago)
    person.ask(person.talk(), TOLD)
    embedded(person)


def test_a_question_without_a_common_word_is_shown_the_turn_and_the_tool_finds_it(
    person: Person, model: ModelServer
) -> None:
    told(person)
    assert person.ask(person.talk(), ASKED).note == ""
    assert [each["user"] for each in shown(model)] == [TOLD]
    model.steps.extend(calls("search_memory", query="kitten lightning"))
    person.ask(person.talk(), "Look it up.")
    assert TOLD in output(model).splitlines()[0]


def test_a_turn_is_paid_once_however_many_processes_serve_the_person(
    person: Person, model: ModelServer, tmp_path: Path, engine: Engine, cache: ObjectCache
) -> None:
    told(person)
    with fresh(tmp_path, AGENT, engine, model, AGENT_EMBEDDINGS="m") as later:
        again = Person(later, cache)
        again.name, again.key = person.name, person.key
        again.ask(again.talk(), ASKED)
        embedded(again)
    turns = [text for text in model.embedded if text.startswith((TOLD, "Tell me"))]
    assert len(turns) == len(set(turns)) == 21
    assert model.embedded.count(ASKED) == 1


def test_nothing_is_embedded_before_the_answer_is_given(person: Person, model: ModelServer) -> None:
    person.ask(person.talk(), TOLD)
    embedded(person)
    of_it = [each for each in model.requests if TOLD in str(each.json)]  # the last test's turn may still be embedded
    paths = [request.path.rpartition("/")[2] for request in of_it]
    assert paths == ["completions", "embeddings"], "no vector of the question: there is nothing to compare with"


def test_another_person_finds_nothing_of_it(person: Person, model: ModelServer, cache: ObjectCache) -> None:
    told(person)
    other = Person(person._shim, cache)
    other.ask(other.talk(), "I live in Porto.")
    embedded(other)
    model.steps.extend(calls("search_memory", query=ASKED))
    other.ask(other.talk(), ASKED)
    assert "Mimi" not in output(model) and shown(model) == []


FAILURES = {
    "refuses the key": error(401),
    "too few": Step(body='{"data": []}'),
    "not a number": Step(body='{"data": [{"embedding": [NaN]}]}'),
    "slow": Step(body="{}", delay=2.5),
    "breaks off": Step(body="", broken="silent"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_without_the_server_words_are_searched_which_is_said_once(
    person: Person, model: ModelServer, failure: str
) -> None:
    told(person)
    talk = person.talk()
    model.vectors.extend([FAILURES[failure]] * 2)  # for the question, and for its turn afterwards
    first = person.ask(talk, "What is Mimi scared of?")
    assert first.note.startswith(BY_WORDS)
    assert [each["user"] for each in shown(model)] == [TOLD], "found by its words"
    until(lambda: not model.vectors)
    if failure == "slow":
        return  # what was asked after the answer goes on

    def goes_on(question: str) -> Answer:
        answer: Answer = person._shim.invoke(
            Question(question, uuid.uuid4().hex, user=person.name, memory=person.key)
        )
        return answer

    model.vectors.append(FAILURES["breaks off"])
    model.steps.extend(calls("search_memory", query="Mimi"))
    before = len(model.embedded)
    assert goes_on("And what of Mimi in thunder?").note == ""
    assert output(model).startswith(BY_WORDS) and TOLD in output(model)
    until(lambda: not model.vectors)
    assert all("\n" in text for text in model.embedded[before:]), "turns; no question waits for what has failed"
    goes_on("Hello.")
    embedded(person)
    assert goes_on(ASKED).note == "" and [each["user"] for each in shown(model)] == [TOLD], "it answers again"


def test_a_model_whose_vectors_have_another_length_now_is_told_and_they_are_made_anew(
    person: Person, model: ModelServer
) -> None:
    told(person)
    other = Step(body='{"data": [{"embedding": [1.0, 0.0]}]}')
    model.vectors.append(other)
    noted = person.ask(person.talk(), "What is Mimi scared of?").note
    assert "The vectors of m have 2 numbers now, and had 9: they are made anew." in noted
    assert [each["user"] for each in shown(model)] == [TOLD], "found by its words"


def test_a_setting_that_makes_no_sense_is_told_once_and_the_answer_is_given(
    model: ModelServer, tmp_path: Path, engine: Engine, cache: ObjectCache
) -> None:
    with fresh(tmp_path, AGENT, engine, model, AGENT_EMBEDDINGS="m@http://") as wrong:
        person = Person(wrong, cache)
        talk = person.talk()
        assert person.ask(talk, TOLD).note == ""
        noted = person.ask(person.talk(), "Is Mimi scared of thunder?").note
        assert "by words only. AGENT_EMBEDDINGS is the name of a model" in noted
        assert shown(model)[0]["user"] == TOLD


def test_another_model_makes_its_own_vectors(
    person: Person, model: ModelServer, tmp_path: Path, engine: Engine, cache: ObjectCache
) -> None:
    told(person)
    with fresh(tmp_path, AGENT, engine, model, AGENT_EMBEDDINGS=f"other@{model.url}") as changed:
        again = Person(changed, cache)
        again.name, again.key = person.name, person.key
        again.ask(again.talk(), "Hello.")
        embedded(again, "other")
        again.ask(again.talk(), ASKED)
        assert [each["user"] for each in shown(model)] == [TOLD]
    keys = {each.json["model"]: each.headers.get("authorization") for each in model.requests if "input" in each.json}
    assert keys == {"m": "Bearer a-secret-key", "other": None}


@pytest.mark.parametrize("point", ["vectors: made", "vectors: before", "vectors: added"])
def test_a_worker_that_is_killed_beside_the_record_of_vectors_makes_it_next_time_and_once(
    model: ModelServer, tmp_path: Path, engine: Engine, cache: ObjectCache, point: str
) -> None:
    points = tmp_path / "points"
    points.mkdir()
    with fresh(tmp_path, AGENT, engine, model, AGENT_EMBEDDINGS="m", FAILPOINTS=str(points)) as shim:
        person = Person(shim, cache)
        talk = person.talk()
        (points / point).write_text("")
        person.ask(talk, TOLD)
        until(lambda: not (points / point).exists())
        person.ask(talk, "I live in Lisbon.")
        embedded(person)
    log = person.memory._log.load_all()
    assert sorted(turn for record in log.vectors for turn in record.turns) == sorted(
        block.turn.id for block in log.blocks if block.turn
    )
    assert talk.turns() == [(TOLD, f"answer 1: {TOLD}"), ("I live in Lisbon.", "answer 2: I live in Lisbon.")]
