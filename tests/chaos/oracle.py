"""What really is in a conversation, read from the engine's file, against what the client was told.

Knows nothing of the code under test: the file's tables are read with SQLite, and the rows are folded by the reference
that the conversation's own tests use.
"""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
from collections import Counter
from contextlib import closing
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
    One that is `beside` the one before it was asked at the same time: either may come first, or take the other in.
    """

    session: str
    question: str
    outcome: str = "unknown"
    said: str = ""
    beside: bool = False


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
            "attachments not there": [],
            "messages not listed": [],
            "remembered otherwise than said": [],
            "index otherwise than remembered": [],
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

    def remembered(self) -> list[dict[str, Any]]:
        """The records of turns in what is remembered of all persons, in order."""
        of_persons = "application = 'flmping' AND id LIKE 'memory-%'"
        found = self._db.execute(f"SELECT id FROM sessions WHERE {of_persons} ORDER BY id").fetchall()
        return [record for (session,) in found for record in self.turns(session)]

    def remembered_in(self, key: str) -> list[tuple[str, str]]:
        """Session and ID of the turns in the memory whose first object that is, in order."""
        read = fold_reference.read(SimpleNamespace(objects=self._objects()), key)  # type: ignore[arg-type]
        turns = [record for record in read.records if record["kind"] == "turn"]
        return [(record["source"]["session"], record["turn"]) for record in turns]

    def has(self, session: str, attached: dict[str, Any]) -> bool:
        """Whether the object that a record names is among the session's, with the bytes of its hash."""
        rows = self._db.execute(
            "SELECT data FROM objects JOIN payloads p ON object = id WHERE key LIKE ? AND p.version = base",
            (f"%/{session}/{attached['sha256']}",),
        ).fetchall()
        data = [pickle.loads(row.removeprefix(b"FLM\0")) for (row,) in rows]
        return [hashlib.sha256(each).hexdigest() for each in data] == [attached["sha256"]]

    def _objects(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, base, version, data in self._db.execute(
            "SELECT key, base, p.version, data FROM objects JOIN payloads p ON object = id ORDER BY key, p.version"
        ):
            rows = found.setdefault(key, SimpleNamespace(patches=[])).patches
            if version != base:
                rows.append((version, pickle.loads(data.removeprefix(b"FLM\0"))))
        return found


def judge(file: File, asked: list[Asked], effects: Path, indexes: Path) -> Verdict:
    """Compare what was said of each question with what the conversations and the tools' effects are.

    `indexes` is the folder of those of memories, each of which has the beginning of one: as far as it was read.
    """
    verdict = Verdict()
    wrong = verdict.wrong
    done = Counter(path.read_text() for path in effects.iterdir())
    said: Counter[tuple[str, str]] = Counter()
    for session in dict.fromkeys(turn.session for turn in asked):
        records = file.turns(session)
        said.update((session, record["turn"]) for record in records)
        present = Counter(record["question"] for record in records)
        mine = [turn for turn in asked if turn.session == session]
        order = {turn.question: number - turn.beside for number, turn in enumerate(mine)}
        numbers = [order.get(record["question"], -1) for record in records]
        if numbers != sorted(numbers) or -1 in numbers:
            wrong["out of order"].append(f"{session}: {[record['question'] for record in records]}")
        for record in records:
            named = record.get("attachments", [])
            if len(named) != record["question"].startswith("look") or not all(
                file.has(session, each) for each in named
            ):
                wrong["attachments not there"].append(f"{record['question']}: {named}")
            messages = [str(item["content"]) for item in record["items"][1:] if item.get("role") == "user"]
            present.update(messages)
            if len(messages) != len(record["answer"].get("steered", [])):
                wrong["messages not listed"].append(f"{record['question']}: {messages} {record['answer']}")
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
            if acts > 1 or (times == 1 and acts != turn.question.startswith(("pay", "refund", "slow"))):
                wrong["effects not once"].append(f"{turn.question}: {acts}")
    remembered = Counter((record["source"]["session"], record["turn"]) for record in file.remembered())
    differences = {
        turn: (said[turn], remembered[turn]) for turn in said | remembered if said[turn] != remembered[turn]
    }
    for path in indexes.glob("*.db"):
        with closing(sqlite3.connect(path)) as db:
            (integrity,) = db.execute("PRAGMA integrity_check").fetchone()
            has = db.execute("SELECT session, turn FROM turns ORDER BY id").fetchall()
            searched = db.execute("SELECT count(*) FROM words WHERE words MATCH 'hello OR goodbye'").fetchone()[0]
            key = db.execute("SELECT key FROM log").fetchone()
        there = file.remembered_in(*key) if key else []
        if integrity != "ok" or has != there[: len(has)] or bool(has) != bool(searched):
            wrong["index otherwise than remembered"].append(f"{path.name}: {integrity}, {has}, {there}")
    wrong["remembered otherwise than said"] += [f"{turn}: {times}" for turn, times in differences.items()]
    return verdict
