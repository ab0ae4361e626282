"""Ctrl-C: before a question, during a turn, and twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, Program, ended, eventually, interrupt
from tests.support.model_server import ModelServer, Step, echo


class _Held:
    """A model that answers when it is let."""

    def __init__(self, model: ModelServer) -> None:
        self.asked = threading.Event()
        self.let = threading.Event()
        model.script = self._answer

    def _answer(self, request: dict[str, Any]) -> Step:
        self.asked.set()
        self.let.wait(PATIENCE)
        return echo(request)


def test_after_ctrl_c_the_turn_goes_on(program: Program, warm: Warm, model: ModelServer) -> None:
    held = _Held(model)
    run = program.start("-s", warm.id, "-m", "take your time")
    assert held.asked.wait(PATIENCE)
    interrupt(run)
    left = ended(run, code=130)
    assert left.out == ""
    assert left.err == (
        "Interrupted; the turn goes on. Ctrl-C again within 2 s cancels it.\n"
        f"The turn goes on. See it: uv run client.py history {warm.id}\n"
    )
    held.let.set()
    eventually(lambda: "take your time" in program("history", warm.id).out)


def test_a_second_ctrl_c_cancels_the_turn(program: Program, warm: Warm, model: ModelServer) -> None:
    held = _Held(model)
    run = program.start("-s", warm.id, "-m", "never mind")
    assert held.asked.wait(PATIENCE)
    interrupt(run)
    assert run.stderr is not None and "Ctrl-C again" in run.stderr.readline()
    interrupt(run)
    left = ended(run, code=130)
    assert left.err == (f"The turn was cancelled; nothing was added. See: uv run client.py history {warm.id}\n")
    held.let.set()
    model.script = echo
    assert program("-s", warm.id, "-q", "-m", "and now?").out.endswith(": and now?\n")
    assert "never mind" not in program("history", warm.id).out


def test_ctrl_c_ends_a_chat_in_a_pipe(program: Program, warm: Warm, model: ModelServer) -> None:
    run = program.start("chat", "-q", "-s", warm.id)
    assert run.stdin is not None and run.stdout is not None and run.stderr is not None
    run.stdin.write("are you there?\n")
    run.stdin.flush()
    assert run.stdout.readline().endswith(": are you there?\n")
    held = _Held(model)
    run.stdin.write("take your time\nand now?\n")
    run.stdin.flush()
    assert held.asked.wait(PATIENCE)
    interrupt(run)
    assert run.wait(PATIENCE) == 130
    assert (run.stdout.read(), run.stderr.read()) == (
        "",
        "Interrupted; the turn goes on. Ctrl-C again within 2 s cancels it.\n"
        f"The turn goes on. See it: uv run client.py history {warm.id}\n",
    )
    held.let.set()
    eventually(lambda: "take your time" in (program("history", warm.id).out))
    assert "and now?" not in program("history", warm.id, "--turn", _last(program, warm)).out

    model.script = echo
    between = program.start("chat", "-q", "-s", warm.id)
    assert between.stdin is not None and between.stdout is not None and between.stderr is not None
    between.stdin.write("still there?\n")
    between.stdin.flush()
    assert between.stdout.readline().endswith(": still there?\n")
    time.sleep(0.5)  # it waits for a line: Python hears nothing of a signal that comes just before such a wait
    interrupt(between)
    assert between.wait(PATIENCE) == 130
    assert (between.stdout.read(), between.stderr.read()) == ("", "")


def _last(program: Program, warm: Warm) -> str:
    return str(program("history", warm.id, "--json").json["turns"][-1]["turn"])


@pytest.mark.parametrize("when", ["lock", "engine.json"])
def test_ctrl_c_before_anything_was_asked_asks_nothing(embedded: Program, tmp_path: Path, when: str) -> None:
    fresh = embedded.having(LOCALFLAME_HOME=str(tmp_path / "engine"))
    run = fresh.start("-m", "hello")
    eventually((tmp_path / "engine" / when).exists)
    interrupt(run)
    left = ended(run, code=None)
    assert left.code == 130
    assert left.err == "Interrupted; nothing was asked.\n" or "the turn goes on" in left.err
    fresh("engine", "stop")
