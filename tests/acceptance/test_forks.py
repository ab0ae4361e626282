"""Conversations whose workers are forked, as a user of the embedded engine has them."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from tests.acceptance.program import eventually
from tests.chaos.agents import LIGHT, SDK
from tests.chaos.storm import checkout
from tests.support.model_server import ModelServer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux only")

_THREAD = (
    "import threading, time\nthreading.Thread(target=time.sleep, args=[999], name='sampler', daemon=True).start()\n"
)


def processes(marker: str) -> dict[int, str]:
    """Those with that in their environment, and their names."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "comm").read_text().strip()
        except OSError:
            continue
    return found


@pytest.fixture
def marker() -> str:
    return f"marker-{uuid.uuid4().hex}"


def test_a_second_conversation_is_forked_and_nothing_outlives_the_engine(
    tmp_path: Path, model: ModelServer, marker: str
) -> None:
    program = checkout(tmp_path, LIGHT, model, MARKER=marker, AGENT_MODEL="scripted")
    program("-q", "-m", "one")
    eventually(lambda: "agent-nursery" in processes(marker).values())
    program("-q", "-m", "two")
    # That of the first conversation is replaced by a forked one, now or in a second.
    eventually(lambda: [*processes(marker).values()].count("agent-worker") == 2, seen=lambda: str(processes(marker)))
    assert "forked" not in program("status").out
    program("engine", "stop")
    eventually(lambda: not processes(marker), seen=lambda: str(processes(marker)))


def test_a_conversation_goes_on_in_the_worker_that_takes_the_first_ones_place(
    tmp_path: Path, model: ModelServer, marker: str
) -> None:
    program = checkout(tmp_path, SDK, model, MARKER=marker, AGENT_MODEL="scripted")
    session = program("-m", "one", "--json").json["session_id"]
    eventually(lambda: "agent-worker" in processes(marker).values(), seen=lambda: str(processes(marker)))
    eventually(lambda: len(processes(marker)) == 4, seen=lambda: str(processes(marker)))  # with engine and instance
    program("-s", session, "-q", "-m", "two")
    turns = program("history", session, "--json").json["turns"]
    assert [turn["question"] for turn in turns] == ["one", "two"]
    assert [*processes(marker).values()].count("agent-worker") == 1
    program("engine", "stop")
    eventually(lambda: not processes(marker), seen=lambda: str(processes(marker)))


def test_status_says_what_keeps_an_agent_from_being_forked(tmp_path: Path, model: ModelServer, marker: str) -> None:
    program = checkout(tmp_path, _THREAD + LIGHT, model, MARKER=marker, AGENT_MODEL="scripted")
    program("-q", "-m", "one")
    why = "it starts a thread while it is imported (sampler)"
    said = eventually(lambda: program("status", "--json").json["advice"])
    assert said == f"Each conversation imports the agent by itself, which takes longer: {why}."
    assert why in program("engine", "logs").out
    (program.folder / "agent.py").write_text(LIGHT)
    program("-q", "-m", "two")
    eventually(lambda: program("status", "--json").json["advice"] == "", seen=lambda: program("status").out)
    program("engine", "stop")
    eventually(lambda: not processes(marker), seen=lambda: str(processes(marker)))
