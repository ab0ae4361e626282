"""`python -m benchmarks.memory`: how well turns are found, how fast, and what a person's memory takes.

Recall is the share of the turns with the evidence for a question that are among the first ten hits: in conversations
that are made here, in three languages, about facts and days; and in those of LoCoMo (ten long conversations with
questions, github.com/snap-research/locomo), where the folder of its files is given. Where a fact changes, what counts
is that of all the times that it was told the newest comes first.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress

from benchmarks import memory_measures as measures
from benchmarks import memory_report
from benchmarks.model import served
from flameagent.memory.index import IndexedTurn, TurnIndex

HITS = 10
SHOWN = 5
"""The hits that a question is shown."""
_DAY = 86_400_000
_BEGAN = 1_735_689_600_000  # 2025-01-01


class Case(NamedTuple):
    """A conversation with questions, each with the numbers of the turns that its answer follows from."""

    name: str
    turns: list[IndexedTurn]
    questions: list[tuple[str, set[int]]]


class Plan(NamedTuple):
    """How much is measured: memories of so many turns, and in those up to `asked_in` so many rounds of turns."""

    sizes: tuple[int, ...] = (1000, 20_000, 100_000)
    asked_in: int = 20_000
    rounds: int = 30


PLAN, QUICK = Plan(), Plan((100, 300), 100, 2)


class Language(NamedTuple):
    """How people talk: what is said besides, what is told, and how it is asked for."""

    name: str
    chat: list[str]
    answers: list[str]
    told: list[tuple[str, str]]
    values: list[str]
    changes: list[tuple[str, str]]
    on_day: str


LANGUAGES = (
    Language(
        "English",
        ["What should I cook with {} and rice?", "Tell me a story about {}.", "How do I write about {} for work?"],
        ["Gladly. Think of {} first, and keep it short.", "One way is to begin with {}.", "That depends on {}."],
        [
            ("My sister {} got a new job in a bakery.", "What does my sister {} do for a living?"),
            ("I moved to {} last week, near the river.", "When did I move to {}?"),
            ("The doctor {} told me to take these pills in the morning.", "What did doctor {} advise?"),
            ("We painted the kitchen in the colour {}.", "In which colour is the kitchen: {}?"),
        ],
        ["Ada", "Lisbon", "Mercer", "Turquoise", "Porto", "Hazel", "Boston", "Olive", "Quinn", "Dover"],
        [
            ("I live in {} now.", "Where do I live now?"),
            ("My favourite tea is {}.", "What is my favourite tea?"),
            ("The dentist is called {}.", "What is the dentist called?"),
        ],
        "What did I ask on {}?",
    ),
    Language(
        "German",
        ["Was koche ich mit {} und Reis?", "Erzähl mir etwas über {}.", "Wie schreibe ich im Büro über {}?"],
        ["Gerne. Denk zuerst an {}.", "Man kann mit {} anfangen.", "Das hängt von {} ab."],
        [
            ("Meine Schwester {} arbeitet jetzt in einer Bäckerei.", "Was arbeitet meine Schwester {}?"),
            ("Ich bin letzte Woche nach {} gezogen, an den Fluss.", "Wann bin ich nach {} gezogen?"),
            ("Der Arzt {} sagt, ich soll die Tabletten morgens nehmen.", "Was hat der Arzt {} geraten?"),
            ("Wir haben die Küche in {} gestrichen.", "Welche Farbe hat die Küche, {}?"),
        ],
        ["Käthe", "Lübeck", "Möller", "Türkis", "Köln", "Jürgen", "Basel", "Oliv", "Graz", "Bregenz"],
        [
            ("Ich wohne jetzt in {}.", "Wo wohne ich jetzt?"),
            ("Mein Lieblingstee ist {}.", "Was ist mein Lieblingstee?"),
            ("Der Zahnarzt heißt {}.", "Wie heißt der Zahnarzt?"),
        ],
        "Was habe ich am {} gefragt?",
    ),
    Language(
        "Japanese",
        ["{}とご飯で何を作れますか。", "{}の話をしてください。", "仕事で{}についてどう書けばいいですか。"],
        ["まず{}を考えましょう。", "{}から始めるのも一つの方法です。", "それは{}によります。"],
        [
            ("妹の{}がパン屋で働き始めました。", "妹の{}の仕事は何ですか。"),
            ("先週、川の近くの{}に引っ越しました。", "{}に引っ越したのはいつですか。"),
            ("医者の{}先生に薬は朝飲むように言われました。", "{}先生は何と言いましたか。"),
            ("台所を{}に塗りました。", "台所の色は{}ですか。"),
        ],
        ["さくら", "名古屋", "田中", "青緑色", "横浜市", "ひかる", "大阪府", "薄緑色", "山口", "北海道"],
        [
            ("今は{}に住んでいます。", "今はどこに住んでいますか。"),
            ("好きなお茶は{}です。", "好きなお茶は何ですか。"),
            ("歯医者の名前は{}です。", "歯医者の名前は何ですか。"),
        ],
        "{} には何を聞きましたか。",
    ),
)

THINGS = ["bread", "winter", "music", "trains", "gardens", "money", "football", "maps", "birds", "coffee"]


def made(language: Language, turns: int, seed: int = 1) -> Case:
    """A conversation in which each thing is told several times, of other people and places: one of them is meant."""
    chance = random.Random(seed)
    spoken: list[IndexedTurn] = []
    questions: list[tuple[str, set[int]]] = []
    facts = [(told, asked, value) for told, asked in language.told for value in language.values]
    places = dict(zip(chance.sample(range(turns), len(facts)), facts, strict=True))
    for number in range(1, turns + 1):
        thing, other = chance.choice(THINGS), chance.choice(THINGS)
        question = chance.choice(language.chat).format(thing)
        answer = chance.choice(language.answers).format(other)
        if fact := places.get(number - 1):
            question = fact[0].format(fact[2])
            questions.append((fact[1].format(fact[2]), {number}))
        spoken.append(IndexedTurn("made", number, f"t{number}", _BEGAN + number * _DAY // 4, question, answer))
    return Case(f"made, {language.name}", spoken, questions)


def dated(language: Language, turns: int, questions: int = 40, seed: int = 2) -> Case:
    """The same talk; asked is what was said on a day, which has four turns."""
    spoken = made(language, turns).turns
    days: dict[str, set[int]] = {}
    for turn in spoken:
        days.setdefault(time.strftime("%Y-%m-%d", time.localtime(turn.at / 1000)), set()).add(turn.number)
    chosen = random.Random(seed).sample(sorted(days), min(questions, len(days)))
    return Case(f"days, {language.name}", spoken, [(language.on_day.format(day), days[day]) for day in chosen])


def contradicted(language: Language, turns: int, times: int = 5, seed: int = 3) -> Case:
    """The same talk, with facts that change so many times; the evidence is the turn that told it last."""
    chance = random.Random(seed)
    spoken = made(language, turns).turns
    questions: list[tuple[str, set[int]]] = []
    places = chance.sample(range(turns), times * len(language.changes))
    for place, (told, asked) in enumerate(language.changes):
        where = sorted(places[place * times : (place + 1) * times])
        for at, value in zip(where, chance.sample(language.values, times), strict=True):
            spoken[at] = spoken[at]._replace(question=told.format(value))
        questions.append((asked, {where[-1] + 1}))
    return Case(f"newest of five, {language.name}", spoken, questions)


def locomo(folder: Path) -> Iterator[Case]:
    """The conversations of LoCoMo, two lines a turn; questions that have no answer are left out."""
    for file in sorted(folder.rglob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for each in content if isinstance(content, list) else [content]:
            yield _locomo_case(file.stem, each)


def _locomo_case(name: str, content: dict[str, Any]) -> Case:
    spoken: list[IndexedTurn] = []
    where: dict[str, int] = {}
    talk = content.get("conversation", content)
    for session in count(1):
        if f"session_{session}_date_time" not in talk:
            break
        lines = talk.get(f"session_{session}", [])
        at = datetime.strptime(talk[f"session_{session}_date_time"], "%I:%M %p on %d %B, %Y")
        for place in range(0, len(lines), 2):
            pair = [_line(line) for line in lines[place : place + 2]]
            number = len(spoken) + 1
            where |= {line["dia_id"]: number for line in lines[place : place + 2]}
            spoken.append(
                IndexedTurn(str(session), number, str(number), int(at.timestamp() * 1000), pair[0], "".join(pair[1:]))
            )
    questions = []
    for asked in content["qa"]:
        evidence = {where[key] for each in asked.get("evidence", []) for key in each.split() if key in where}
        if evidence and asked["category"] != 5:  # those of the fifth have no answer
            questions.append((str(asked["question"]), evidence))
    return Case(f"LoCoMo {name}", spoken, questions)


def _line(line: dict[str, Any]) -> str:
    picture = f" [{line['blip_caption']}]" if line.get("blip_caption") else ""
    return f"{line['speaker']}: {line['text']}{picture}"


def recall(case: Case, hits: int = HITS) -> float:
    """The mean share of a question's evidence among the first hits."""
    index = indexed(case.turns)
    return statistics.mean(
        len(evidence & {turn.number for turn, _ in index.search(question, hits)}) / len(evidence)
        for question, evidence in case.questions
    )


def indexed(turns: list[IndexedTurn]) -> TurnIndex:
    """An index of these turns."""
    index = TurnIndex()
    index.add(turns)
    return index


def recalls(folder: Path | None, turns: int) -> list[tuple[str, int, float]]:
    """What was looked for, the number of questions, and the mean share that was found."""
    found = []
    for language in LANGUAGES:
        for case in (made(language, turns), dated(language, turns)):
            found.append((case.name, len(case.questions), recall(case)))
        cases = [contradicted(language, turns, seed=seed) for seed in range(10)]
        asked = sum(len(case.questions) for case in cases)
        for hits in (1, SHOWN):
            name = f"{cases[0].name}, {'first' if hits == 1 else f'among the first {hits}'}"
            found.append((name, asked, statistics.mean(recall(case, hits) for case in cases)))
    if folder is not None:
        cases = list(locomo(folder))
        asked = sum(len(case.questions) for case in cases)
        mean = sum(recall(case) * len(case.questions) for case in cases) / asked
        found.append((f"LoCoMo, {len(cases)} conversations", asked, mean))
    return found


def main(
    folder: Annotated[Path | None, typer.Option("--locomo", help="The folder with LoCoMo's JSON files.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A minute's worth, to see that it works.")] = False,
    most: Annotated[int, typer.Option(help="Turns of the largest memory.")] = max(PLAN.sizes),
    output: Annotated[Path | None, typer.Option(help="A file for all figures as JSON.", dir_okay=False)] = None,
    page: Annotated[Path | None, typer.Option(help="The page whose part about memory is to say this.")] = None,
) -> None:
    """Print what is found, what a memory takes as it grows, and what it adds to a turn."""
    console = Console(stderr=True)
    results = measures.Results(recalls(folder, 200 if quick else 1000), cores=os.cpu_count() or 1)
    results.load.append(os.getloadavg()[0])
    with tempfile.TemporaryDirectory(prefix="benchmark") as name, served() as url, Progress(console=console) as bar:
        plan = QUICK if quick else PLAN
        plan = plan._replace(sizes=tuple(turns for turns in plan.sizes if turns <= most))
        take(results, Path(name), url, plan, bar)
    results.load.append(os.getloadavg()[0])
    if output is not None:
        output.write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
    if page is not None:
        memory_report.write(results, page)
    print(memory_report.tables(results))


def take(results: measures.Results, folder: Path, model: str, plan: Plan, progress: Progress) -> None:
    """Measure on an embedded engine: turns first with an empty memory, then with each size."""
    case = made(LANGUAGES[0], max(plan.sizes))
    questions = [question for question, _ in case.questions]
    where, known = measures.Place(folder, model), 0
    with where.engine() as (on, off, _):
        results.costs.append(measures.cost(on, off, "new", 0, plan.rounds, questions, progress))
    for turns in plan.sizes:
        key = measures.grow(where, case.turns[known:turns], turns, progress)
        known = turns
        with where.engine() as (on, off, started):
            results.sizes.append(measures.size(where, started, key, questions, turns, progress))
            if turns <= plan.asked_in:
                results.costs.append(measures.cost(on, off, measures.USER, turns, plan.rounds, questions, progress))


if __name__ == "__main__":
    typer.run(main)
