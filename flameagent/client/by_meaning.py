"""A search in what is remembered, by meaning where the settings name a server of embeddings, and otherwise by words.

Promises that a server which fails only makes it a search by words, with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # they bring SQLite and HTTP, which a question does not need
    from flameagent.memory.embeddings import Embeddings
    from flameagent.memory.index import IndexedTurn
    from flameagent.memory.person import PersonMemory


class Hits(NamedTuple):
    """The turns with their scores, whether they were searched by meaning, too, and why not where they should have."""

    turns: list[tuple[IndexedTurn, float]]
    by_meaning: bool = False
    note: str = ""


def search(memory: PersonMemory, text: str, limit: int, environ: Mapping[str, str]) -> Hits:
    """The turns that fit a text best, the best first. Raises what reading the memory raises."""
    from flameagent.memory import embeddings, meaning

    note = ""
    try:
        if embeddings.chosen(environ) is not None:
            meaning.require_numpy()
            server = _connected(tuple(sorted(environ.items())))
            if memory.has_vectors(server.model):
                (vector,) = server.of([meaning.question_text(text)], embeddings.QUESTION_TIMEOUT)
                return Hits(memory.search_by_meaning(text, server.model, vector, limit), by_meaning=True)
            note = f"There are no vectors by {server.model} yet."
    except embeddings.EmbeddingsError as error:
        note = str(error)
    return Hits(memory.search(text, limit), note=f"Searched by words only. {note}" if note else "")


@lru_cache(maxsize=2)
def _connected(environ: tuple[tuple[str, str], ...]) -> Embeddings:
    """The client of the server that these variables name: its connections are kept open."""
    from flameagent.memory.embeddings import Embeddings, chosen

    server = chosen(variables := dict(environ))
    assert server is not None
    return Embeddings(server, variables)
