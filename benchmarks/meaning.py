"""`python -m benchmarks.meaning MODEL@URL`: how well turns are found by words, by meaning, and by both.

The server is asked as `AGENT_EMBEDDINGS` has it asked. Recall is the share of the turns with the evidence for a
question that are among the first ten hits: where things are asked for in other words than they were told in, among
a thousand turns that are made here; and with `--locomo` in LoCoMo's conversations, and for those other words among
three of these.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.memory import HITS, LANGUAGES, Case, locomo, made
from flameagent.memory.embeddings import SETTING, STORE_TIMEOUT, Embeddings, EmbeddingsError, Vector, chosen
from flameagent.memory.index import IndexedTurn
from flameagent.memory.meaning import CHOSEN, DEPTH, Meaning, Meant, Weights, fused, question_text, recorded, text_of
from flameagent.memory.person_index import PersonIndex

_BATCH = 32
_TRIED = (
    CHOSEN,
    *(Weights(ranks, other, out) for ranks in (5, 20, 60) for other, out in ((0.2, 0.2), (0.5, 0.5), (1.0, 1.0))),
    Weights(5, 0.0, 1.0),
    Weights(20, 0.2, 1.0),
)

TOLD_AND_ASKED = (
    ("My cat Mimi is afraid of thunder.", "Which pet of mine fears storms?"),
    ("I moved to Lisbon last spring.", "Where is my home now?"),
    ("The doctor says that my blood sugar is too high.", "Do I have diabetes?"),
    ("I cannot eat peanuts, my throat swells.", "What am I allergic to?"),
    ("We are expecting a baby in June.", "When is my wife giving birth?"),
    ("My boss let me go on Friday.", "Did I lose my job?"),
    ("I sold the old Volvo yesterday.", "What happened to my car?"),
    ("On Saturdays I run ten kilometres by the river.", "How do I keep fit?"),
    ("I passed the bar exam at the second attempt.", "Am I a lawyer yet?"),
    ("My brother plays the cello in an orchestra.", "Who in my family is a musician?"),
    ("We booked a cabin in the mountains for August.", "Where will we spend our summer holiday?"),
    ("The landlord raised what we pay for the flat by ten percent.", "Why has my rent become more expensive?"),
    ("I gave up cigarettes three years ago.", "Do I smoke?"),
    ("My daughter starts kindergarten in September.", "How old might my child be?"),
    ("I broke my ankle while skiing.", "What injury did I have?"),
    ("My grandfather was a baker in Vienna.", "What was the profession of my ancestor?"),
    ("I have been learning Portuguese for six months.", "Which language do I study?"),
    ("We got engaged on the beach at sunset.", "How did the marriage proposal happen?"),
    ("My laptop's screen went black this morning.", "What is wrong with my computer?"),
    ("I drink only oat milk since I feel sick from dairy.", "Am I lactose intolerant?"),
    ("The bank approved our mortgage.", "Can we afford to buy the house?"),
    ("My favourite writer is Ursula Le Guin.", "Which author do I like best?"),
    ("I water the tomatoes on the balcony each evening.", "What do I grow at home?"),
    ("My flight to Oslo leaves at seven in the morning.", "When do I have to be at the airport?"),
    ("I wear glasses for reading since last year.", "How is my eyesight?"),
    ("We adopted a dog from the shelter and named him Rufus.", "What is my puppy called?"),
    ("I owe my sister two hundred euros.", "Whom do I have debts with?"),
    ("Our son was accepted at the university in Delft.", "Where does my boy study?"),
    ("I get nervous before I speak to a crowd.", "Am I scared of public talks?"),
    ("The plumber fixed the leak under the sink.", "Who repaired the pipe in my kitchen?"),
)
"""What somebody tells, and how it is asked for in other words."""


class Rankings(NamedTuple):
    """What the two searches find for a question, and the numbers of the turns with its evidence."""

    words: list[tuple[IndexedTurn, float]]
    meant: list[Meant]
    evidence: set[int]


def reworded(among: Iterable[IndexedTurn], name: str) -> Case:
    """What was told once among these turns, and is asked for in other words."""
    turns, chance = list(among), random.Random(2)
    for number, (told, _) in enumerate(TOLD_AND_ASKED):
        turn = IndexedTurn("told", 0, f"told {number}", turns[0].at, told, "I see.")
        turns.insert(chance.randrange(len(turns)), turn)
    turns = [turn._replace(number=number) for number, turn in enumerate(turns, 1)]
    where = {turn.turn: turn.number for turn in turns}
    questions = [(asked, {where[f"told {number}"]}) for number, (_, asked) in enumerate(TOLD_AND_ASKED)]
    return Case(f"other words, {name}", turns, questions)


def rankings(case: Case, server: Embeddings) -> list[Rankings]:
    """What is found for each question of a case."""
    index, known = PersonIndex(case.name, in_file=False), Meaning(server.model)
    turns = [turn._replace(turn=str(turn.number)) for turn in case.turns]
    index.searched.add(turns)
    index.vectors.add(recorded(server.model, [turn.turn for turn in turns], _vectors(server, map(text_of, turns))))
    known.follow(index.vectors)
    asked = _vectors(server, (question_text(question) for question, _ in case.questions))
    return [
        Rankings(index.searched.search(question, DEPTH), known.ranked(vector, index.vectors, DEPTH), evidence)
        for (question, evidence), vector in zip(case.questions, asked, strict=True)
    ]


def recall(found: list[Rankings], ranked: Callable[[Rankings], Iterable[IndexedTurn]]) -> float:
    """The mean share of a question's evidence among the first hits."""
    return statistics.mean(
        len(each.evidence & {turn.number for turn in list(ranked(each))[:HITS]}) / len(each.evidence)
        for each in found
    )


def _vectors(server: Embeddings, texts: Iterable[str]) -> list[Vector]:
    wanted, found = list(texts), list[Vector]()
    for start in range(0, len(wanted), _BATCH):
        found += server.of(wanted[start : start + _BATCH], STORE_TIMEOUT)
    return found


def _row(name: str, values: Iterable[float]) -> None:
    print(f"{name:<34}", *(f"{value:>8.3f}" for value in values))


def main(
    embeddings: Annotated[str, typer.Argument(metavar="MODEL@URL", help="As AGENT_EMBEDDINGS has it.")],
    folder: Annotated[Path | None, typer.Option("--locomo", help="The folder with LoCoMo's JSON files.")] = None,
) -> None:
    """Print the recall at ten by words, by meaning, and by both with several weights; and the time of a search."""
    environ = {**os.environ, SETTING: embeddings}
    try:
        server = chosen(environ)
        assert server is not None
        client = Embeddings(server, environ)
        sets = {"words, made": rankings(reworded(made(LANGUAGES[0], 1000).turns, "made"), client)}
        if folder is not None:
            cases = list(locomo(folder))
            sets["words, LoCoMo"] = rankings(
                reworded((turn for case in cases[:3] for turn in case.turns), ""), client
            )
            sets["LoCoMo"] = [each for case in cases for each in rankings(case, client)]
    except EmbeddingsError as error:
        raise SystemExit(str(error)) from error
    print(f"{'recall at 10':<34}", *(f"{name:>8.8}" for name in ("made", "among", "LoCoMo")[: len(sets)]))
    _row("by words", (recall(found, lambda each: (turn for turn, _ in each.words)) for found in sets.values()))
    _row("by meaning", (recall(found, lambda each: (turn for turn, _ in each.meant)) for found in sets.values()))
    for weights in _TRIED:

        def both(each: Rankings, weights: Weights = weights) -> Iterable[IndexedTurn]:
            return (turn for turn, _ in fused(each.words, each.meant, HITS, weights))

        name = f"both, {weights.other:g} and {weights.standing_out:g} of {weights.ranks}"
        _row(name + (" (chosen)" if weights == CHOSEN else ""), (recall(found, both) for found in sets.values()))
    _time()


def _time() -> None:
    """The processor's time for a ranking by meaning among 100 000 turns of 384 dimensions."""
    import numpy as np

    index, known, number = PersonIndex("", in_file=False), Meaning("m"), 100_000
    turns = made(LANGUAGES[0], number).turns
    index.searched.add(turns)
    chance = np.random.default_rng(1)
    for start in range(0, number, 10_000):
        vectors = chance.normal(size=(10_000, 384))
        index.vectors.add(recorded("m", [turn.turn for turn in turns[start : start + 10_000]], list(vectors)))
    began = time.process_time()
    known.follow(index.vectors)
    read, times = time.process_time() - began, []
    for _ in range(20):
        began = time.process_time()
        known.follow(index.vectors)
        known.ranked(list(chance.normal(size=384)), index.vectors, DEPTH)
        times.append(time.process_time() - began)
    print(
        f"{number} turns of 384 dimensions: read in {read:.2f} s, ranked in {statistics.median(times) * 1000:.0f} ms"
    )


if __name__ == "__main__":
    typer.run(main)
