"""The agent that is registered with the cluster at FLAME_ENDPOINT, whatever its nodes and its model are.

Asks the cluster's model some twenty short questions, and deletes the sessions that it began.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Program, clean_environment
from tests.support.model_server import ModelServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SESSIONS, TURNS = 6, 3
PATIENCE = 600.0
"""Seconds for one turn: all sessions start at once, on nodes that may be small, with a model that may be slow."""


@pytest.fixture(scope="module")
def begun() -> list[str]:
    return []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, begun: list[str]) -> Iterator[Program]:
    if not os.environ.get("FLAME_ENDPOINT"):
        pytest.skip("FLAME_ENDPOINT names no cluster")
    flame = {name: value for name, value in os.environ.items() if name.startswith("FLAME_")}
    if "FLAME_CA_FILE" in flame:
        flame["FLAME_CA_FILE"] = str(Path(flame["FLAME_CA_FILE"]).resolve())
    program = Program(clean_environment(tmp_path_factory.mktemp("home")) | flame)
    yield program
    for session in begun:
        program("delete", session, "--yes")


def answered(process: subprocess.Popen[str]) -> Any:
    """The output of a client that was started with `--json`."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return json.loads(out)


def questions(program: Program, session: str) -> list[str]:
    shown = program("history", session, "--json").json
    assert all(turn["answer"] for turn in shown["turns"])
    return [turn["question"] for turn in shown["turns"]]


def test_each_of_many_conversations_has_its_own_turns_once(cluster: Program, begun: list[str]) -> None:
    asked: dict[str, list[str]] = {}
    first = [
        (f"Say yes. ({number}.1)", cluster.start("--json", "-m", f"Say yes. ({number}.1)"))
        for number in range(SESSIONS)
    ]
    for question, process in first:
        session = answered(process)["session_id"]
        begun.append(session)
        asked[session] = [question]
    assert len(asked) == SESSIONS
    for turn in range(2, TURNS + 1):
        running = []
        for number, session in enumerate(asked):
            question = f"Say yes. ({number}.{turn})"
            asked[session].append(question)
            running.append(cluster.start("--json", "-s", session, "-m", question))
        for process in running:
            assert answered(process)["turn"] == turn
    for session, expected in asked.items():
        assert questions(cluster, session) == expected


def test_a_conversation_moves_from_the_embedded_engine_to_the_cluster_and_back(
    cluster: Program, begun: list[str], tmp_path: Path
) -> None:
    without = {name: None for name in cluster.environment if name.startswith("FLAME_")}
    file = tmp_path / "talk.json"
    with ModelServer() as model:
        laptop = cluster.having(
            **without, LOCALFLAME_HOME=str(tmp_path / "engine"), OPENAI_BASE_URL=model.url, OPENAI_API_KEY="key"
        )
        try:
            here = answered(laptop.start("--json", "-m", "My name is Ada."))["session_id"]
            laptop("export", here, "-o", str(file))
            there = cluster("import", "-q", str(file)).out.strip()
            begun.append(there)
            assert answered(cluster.start("--json", "-s", there, "-m", "Say yes."))["turn"] == 2
            assert questions(cluster, there) == ["My name is Ada.", "Say yes."]
            cluster("export", there, "-o", str(file))
            back = laptop("import", "-q", str(file)).out.strip()
            assert answered(laptop.start("--json", "-s", back, "-m", "Who am I?"))["turn"] == 3
            assert questions(laptop, back) == ["My name is Ada.", "Say yes.", "Who am I?"]
            (sent,) = [body for body in model.bodies if "Who am I?" in str(body)]
            assert "My name is Ada." in str(sent) and "Say yes." in str(sent)
        finally:
            laptop("engine", "stop")
