"""What really is in a conversation, read from the engine's file, against what the client was told.

Knows nothing of the code under test: the file's tables are read with SQLite, and the rows are folded by the reference
that the conversation's own tests use.
"""

from __future__ import annotations

import pickle
import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bson

from tests.chaos.agents import answer_to
from tests.unit.conversation import fold_reference


@dataclass
class Asked:
    """A question and what the client said of it in the end.

    `answered`; `refused`: it says that nothing was added; `unknown`: it was killed, or says that it does not know.
    """

    session: str
    question: str
    outcome: str = "unknown"
    said: str = ""


@dataclass
class Verdict:
    """Everything that is wrong, a sentence each, by kind, and how many turns were added unknown to the client."""

    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {
            "lost": [],
            "twice": [],
            "out of order": [],
            "otherwise than told": [],
            "effects not once": [],
        }
    )
    unknown_added: int = 0


class File:
    """The engine's file after the engine has left."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def integrity(self) -> str:
        """`ok`, or what SQLite finds wrong."""
        return str(self._db.execute("PRAGMA integrity_check").fetchone()[0])

    def unfinished(self) -> int:
        """Tasks that have not ended."""
        return int(self._db.execute("SELECT count(*) FROM tasks WHERE state < 2").fetchone()[0])

    def turns(self, session: str) -> list[dict[str, Any]]:
        """The turns' records that count, in order."""
        (reference,) = self._db.execute("SELECT common_data FROM sessions WHERE id = ?", (session,)).fetchone()
        read = fold_reference.read(SimpleNamespace(objects=self._objects()), bson.decode(reference)["key"])  # type: ignore[arg-type]
        return [record for record in read.records if record["kind"] == "turn"]

    def _objects(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, base, version, data in self._db.execute(
            "SELECT key, base, p.version, data FROM objects JOIN payloads p ON object = id ORDER BY key, p.version"
        ):
            rows = found.setdefault(key, SimpleNamespace(patches=[])).patches
            if version != base:
                rows.append((version, pickle.loads(data.removeprefix(b"FLM\0"))))
        return found


def judge(file: File, asked: list[Asked], effects: Path) -> Verdict:
    """Compare what was said of each question with what the conversations and the tools' effects are."""
    verdict = Verdict()
    wrong = verdict.wrong
    done = Counter(path.read_text() for path in effects.iterdir())
    for session in dict.fromkeys(turn.session for turn in asked):
        records = file.turns(session)
        present = Counter(record["question"] for record in records)
        mine = [turn for turn in asked if turn.session == session]
        order = {turn.question: number for number, turn in enumerate(mine)}
        numbers = [order.get(record["question"], -1) for record in records]
        if numbers != sorted(numbers) or -1 in numbers:
            wrong["out of order"].append(f"{session}: {[record['question'] for record in records]}")
        for record in records:
            if record["answer"]["answer"] != answer_to(record["question"]):
                wrong["otherwise than told"].append(f"{record['question']}: {record['answer']}")
        for turn in mine:
            times, acts = present[turn.question], done[turn.question]
            if times > 1:
                wrong["twice"].append(f"{turn.question}: {times} times")
            if turn.outcome == "answered" and times == 0:
                wrong["lost"].append(turn.question)
            if turn.outcome == "refused" and times:
                wrong["otherwise than told"].append(f"{turn.question} was added, and the client said: {turn.said}")
            verdict.unknown_added += turn.outcome == "unknown" and times == 1
            if acts > 1 or (times == 1 and acts != turn.question.startswith(("pay", "refund"))):
                wrong["effects not once"].append(f"{turn.question}: {acts}")
    return verdict
