"""`memory search` by meaning: where no vector is to be had, words are searched, and a sentence says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flameagent.apis import MyContext
from flameagent.client.by_meaning import search
from flameagent.conversation import context
from flameagent.memory import place
from flameagent.memory.index import IndexedTurn
from flameagent.memory.meaning import recorded
from flameagent.memory.person import PersonMemory
from tests.support.memory_cache import MemoryCache
from tests.support.model_server import ModelServer, error, meaning

TOLD = "Mimi is scared of thunder."
ASKED = "Which pet fears storm?"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def memory() -> PersonMemory:
    cache = MemoryCache()
    key = cache.put(place.prefix("app", "ada"), context.write(MyContext(user="ada"))).key
    memory = PersonMemory(cache, key, in_file=False)
    memory.add(IndexedTurn("A", 1, "t1", 1, TOLD, "Poor Mimi."))
    memory.add(IndexedTurn("A", 2, "t2", 2, "What is 1 + 1?", "2."))
    return memory


def embedded(memory: PersonMemory) -> None:
    memory.add_vectors(recorded("m", ["t1", "t2"], [meaning(TOLD), meaning("What is 1 + 1?\n2.")]))


def test_it_goes_by_meaning_where_the_settings_name_a_model(memory: PersonMemory, server: ModelServer) -> None:
    embedded(memory)
    found = search(memory, ASKED, 1, {"AGENT_EMBEDDINGS": f"m@{server.url}"})
    assert (found.turns[0][0].question, found.by_meaning, found.note) == (TOLD, True, "")
    assert server.embedded == [ASKED]
    assert search(memory, ASKED, 1, {}) == ([], False, "")


def test_words_are_searched_where_it_cannot(memory: PersonMemory, server: ModelServer) -> None:
    environ = {"AGENT_EMBEDDINGS": f"m@{server.url}"}
    none = search(memory, "Mimi", 10, environ)
    assert none.note == "Searched by words only. There are no vectors by m yet." and server.embedded == []
    embedded(memory)
    server.vectors.append(error(401))
    refused = search(memory, "Mimi", 10, environ)
    assert refused.note.startswith(
        f"Searched by words only. The embeddings server {server.url} does not take the key"
    )
    wrong = search(memory, "Mimi", 10, {"AGENT_EMBEDDINGS": "m@http://"})
    assert wrong.note.startswith("Searched by words only. AGENT_EMBEDDINGS is the name of a model")
    for found in (none, refused, wrong):
        assert found.turns[0][0].question == TOLD and not found.by_meaning


def test_another_person_is_not_found(memory: PersonMemory, server: ModelServer) -> None:
    embedded(memory)
    cache = MemoryCache()
    other = PersonMemory(cache, cache.put("app/memory-b", context.write(MyContext(user="bob"))).key, in_file=False)
    other.add(IndexedTurn("B", 1, "t1", 1, "I bake bread.", "Nice."))
    other.add_vectors(recorded("m", ["t1"], [meaning("I bake bread.")]))
    found = search(other, ASKED, 10, {"AGENT_EMBEDDINGS": f"m@{server.url}"})
    assert [turn.session for turn, _ in found.turns] == ["B"]
