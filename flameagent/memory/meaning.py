"""Turns ranked by what they mean: the vectors of a person's turns, and how they and the words make one ranking.

A turn's vector is compared with the question's by the angle between them. What that says differs from model to model,
so it counts by its rank, and by whether it *stands out* among all turns. The numbers were chosen by
`python -m benchmarks.meaning`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from flameagent.conversation.vectors import Vectors
from flameagent.memory.embeddings import EmbeddingsError, Vector
from flameagent.memory.index import IndexedTurn
from flameagent.memory.vector_table import State, VectorTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEPTH = 100
"""Turns of each ranking that the other is mixed with."""

_OUT = 3.5  # standard deviations above the mean of all other turns at which one stands out
_LEAST_DEVIATION = 0.03  # what is taken for it where all turns are alike, or there are few
_ROWS = 1024  # compared at once: as floats they stay in the processor's cache
_LONGEST = 2000  # characters of a turn that count


class Weights(NamedTuple):
    """How the ranking by meaning counts beside that by words: what a turn gets for its place in it.

    `ranks` is how fast that is less the later the turn comes, and `standing_out` is of a turn that stands out.
    """

    ranks: int = 5
    other: float = 0.2
    standing_out: float = 1.0


CHOSEN = Weights()


class Meant(NamedTuple):
    """A turn in the ranking by meaning."""

    turn: IndexedTurn
    stands_out: bool


def require_numpy() -> None:
    """Raises `EmbeddingsError` where it is not installed."""
    try:
        import numpy as np  # noqa: F401
    except ImportError as error:
        raise EmbeddingsError(
            "To search by meaning, numpy is needed, which is not installed: "
            "uv pip install 'flame-openai-agent[embeddings]'."
        ) from error


def text_of(turn: IndexedTurn) -> str:
    """What of a turn a model of embeddings is given."""
    return f"{turn.question}\n{turn.answer}"[:_LONGEST]


def question_text(question: str) -> str:
    """What of a question a model of embeddings is given."""
    return question[:_LONGEST]


def recorded(model: str, turns: Sequence[str], vectors: Sequence[Vector | None]) -> Vectors:
    """The vectors of these turns (IDs) as they are recorded; None for a turn that the model did not take.

    A byte a dimension: on LoCoMo's conversations nothing is found less for it than for floats.
    """
    import numpy as np

    length = next((len(vector) for vector in vectors if vector is not None), 0)
    rows = np.zeros((len(turns), length), dtype=np.float64)
    for row, vector in zip(rows, vectors, strict=True):
        if vector is not None:
            row[:] = vector
    most = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = np.rint(rows / np.where(most > 0, most, 1.0) * 127)
    return Vectors(model, length, list(turns), rows.astype(np.int8).tobytes())


class Meaning:
    """The vectors that a model has made of a person's turns, as they are compared. For one thread at a time."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._state = State(0, 0, 0)
        self._rows: NDArray[np.int64] | None = None
        self._table: NDArray[np.int8] | None = None
        self._lengths: NDArray[np.float32] | None = None

    def follow(self, table: VectorTable) -> None:
        """Take in what is new in the table."""
        state, known = table.state(self.model), self._state
        if state == known:
            return
        new = table.added(self.model, known.last)
        if known.size + len(new) != state.size or known.dimensions != state.dimensions:  # some are gone
            new, known = table.added(self.model, 0), State(0, 0, 0)
        self._make_room(known.size, state)
        self._add(known.size, new)
        self._state = state

    def ranked(self, vector: Vector, table: VectorTable, limit: int, *, without: Collection[str] = ()) -> list[Meant]:
        """The turns that mean most nearly the same as what has this vector, the best first; none in `without`.

        Raises `EmbeddingsError` for a vector of another length.
        """
        import numpy as np

        if not self._state.size:
            return []
        if len(vector) != self._state.dimensions:
            raise EmbeddingsError(
                f"The vectors of {self.model} have {len(vector)} numbers now, and had {self._state.dimensions}: "
                "they are made anew."
            )
        assert self._rows is not None
        alike = self._alike(np.asarray(vector, dtype=np.float32))
        order, out = _best(alike, limit + len(without)), _out(alike)
        rows = [(int(self._rows[each]), bool(alike[each] >= out)) for each in order if alike[each] > 0]
        turns = table.turns([row for row, _ in rows])
        found = [Meant(turns[row], stands_out) for row, stands_out in rows if row in turns]
        return [each for each in found if each.turn.turn not in without][:limit]

    def _alike(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The cosine of the angle between this vector and each."""
        import numpy as np

        assert self._table is not None and self._lengths is not None
        count = self._state.size
        found = np.empty(count, dtype=np.float32)
        for start in range(0, count, _ROWS):
            part = self._table[start : min(start + _ROWS, count)]
            np.dot(part.astype(np.float32), vector, out=found[start : start + len(part)])
        length = float(np.linalg.norm(vector)) or 1.0
        return found / (self._lengths[:count] * np.float32(length))

    def _add(self, start: int, new: list[tuple[int, bytes]]) -> None:
        import numpy as np

        assert self._rows is not None and self._table is not None and self._lengths is not None
        for first in range(0, len(new), _ROWS):
            part = new[first : first + _ROWS]
            here = slice(start + first, start + first + len(part))
            self._rows[here] = [row for row, _ in part]
            self._table[here] = np.frombuffer(b"".join(data for _, data in part), dtype=np.int8).reshape(
                len(part), -1
            )
            lengths = np.linalg.norm(self._table[here].astype(np.float32), axis=1)
            self._lengths[here] = np.where(lengths > 0, lengths, 1.0)

    def _make_room(self, kept: int, state: State) -> None:
        """Have room for all, and some more, behind those that are kept."""
        import numpy as np

        if kept and self._rows is not None and state.size <= len(self._rows):
            return
        room = state.size + max(state.size // 4, 64)
        rows, table, lengths = self._rows, self._table, self._lengths
        self._rows = np.zeros(room, dtype=np.int64)
        self._table = np.zeros((room, state.dimensions), dtype=np.int8)
        self._lengths = np.ones(room, dtype=np.float32)
        if kept and rows is not None and table is not None and lengths is not None:
            self._rows[:kept], self._table[:kept], self._lengths[:kept] = rows[:kept], table[:kept], lengths[:kept]


def fused(
    words: Sequence[tuple[IndexedTurn, float]], meant: Sequence[Meant], limit: int, weights: Weights = CHOSEN
) -> list[tuple[IndexedTurn, float]]:
    """One ranking of the two, the best first, with scores above 0."""
    turns: dict[str, IndexedTurn] = {}
    scores: dict[str, float] = {}
    for place, (turn, _) in enumerate(words):
        turns[turn.turn] = turn
        scores[turn.turn] = 1 / (weights.ranks + place)
    for place, (turn, stands_out) in enumerate(meant):
        turns[turn.turn] = turn
        weight = weights.standing_out if stands_out else weights.other
        scores[turn.turn] = scores.get(turn.turn, 0.0) + weight / (weights.ranks + place)
    ranked = sorted(scores.items(), key=lambda each: -each[1])[:limit]
    return [(turns[turn], score) for turn, score in ranked]


def _out(alike: NDArray[np.float32]) -> float:
    """From where on a turn stands out: it is alike as hardly one of the others is."""
    import numpy as np

    others = np.delete(alike, int(alike.argmax())) if len(alike) else alike
    if not len(others):
        return 2.0
    return float(others.mean()) + _OUT * max(float(others.std()), _LEAST_DEVIATION)


def _best(alike: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """The places of the highest, the highest first; of equal ones the later first."""
    import numpy as np

    count = len(alike)
    places = np.argpartition(-alike, limit)[:limit] if limit < count else np.arange(count)
    return places[np.lexsort((-places, -alike[places]))]
