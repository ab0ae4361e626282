"""What is promised whatever happens: a short storm in which each named point is reached, clocks, and disks."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Program
from tests.chaos.agents import LIGHT, Cashier, answer_to
from tests.chaos.storm import POINTS, Storm, checkout
from tests.support.model_server import ModelServer, Step

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it needs /proc and prlimit"),
    pytest.mark.timeout(900),
]

JUMPS = """
import random, sys, time
told = time.time
# gRPC compares it with the system's own, which goes on.
ours = ("flameagent.", "flamewire.", "localflame.", "apis", "__main__")

def jumping():
    caller = sys._getframe(1).f_globals["__name__"]
    return told() + (random.choice([-400, 0, 400]) * 86400 if caller.startswith(ours) else 0)

time.time = jumping
"""


def test_whatever_is_killed_each_turn_is_in_its_conversation_once(tmp_path: Path) -> None:
    report = Storm(tmp_path, LIGHT, seed=1, sessions=3).run(turns=1, kills=len(POINTS))
    assert report.wrong == [], f"{report.wrong}\n{report.table()}"


def test_clocks_that_jump_by_a_year_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPS)
    report = Storm(tmp_path, LIGHT, seed=1, sessions=1, PYTHONPATH=str(tmp_path)).run(turns=4, kills=0)
    assert report.wrong == []


class _Disk:
    """The disk of an engine, which lets no file grow while it is `full`."""

    def __init__(self, client: Program, model: ModelServer) -> None:
        self.client, self.model = client, model
        self._engine: int = client("engine", "start", "--json").json["pid"]

    def full(self, is_full: bool = True) -> None:
        # As SQLite meets it, it is what it meets on a full disk; the log of what is committed is longer than this.
        most = 4096 if is_full else resource.RLIM_INFINITY
        resource.prlimit(self._engine, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[_Disk]:
    with ModelServer(script=Cashier()) as model:
        client = checkout(tmp_path, LIGHT, model)
        yield _Disk(client, model)
        client("engine", "stop")


def test_on_a_full_disk_a_question_is_refused_in_a_sentence_and_all_goes_on(disk: _Disk, tmp_path: Path) -> None:
    client, model = disk.client, disk.model
    session = client("-m", "say 1", "--json").json["session_id"]
    disk.full()
    refused = client("-s", session, "-m", "say 2", code=1)
    assert "could not be written" in refused.err
    assert [turn["question"] for turn in client("history", session, "--json").json["turns"]] == ["say 1"]

    disk.full(False)
    cashier = Cashier()

    def answer(request: dict[str, Any]) -> Step:
        disk.full()  # when the answer comes, it cannot be kept
        threading.Timer(2.0, disk.full, [False]).start()
        return cashier(request)

    model.script = answer
    assert client("-s", session, "-q", "-m", "say 3").out == f"{answer_to('say 3')}\n"
    turns = client("history", session, "--json").json["turns"]
    assert [turn["question"] for turn in turns] == ["say 1", "say 3"]
    assert not [path for path in (tmp_path / "engine").rglob("*") if path.is_file() and holds(path, b"a-secret-key")]


def holds(path: Path, secret: bytes) -> bool:
    return secret in path.read_bytes()
