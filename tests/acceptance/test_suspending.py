"""Ctrl-Z, in a shell with job control: the terminal is the shell's meanwhile, and `fg` goes on where it was."""

from __future__ import annotations

import shutil
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, ROOT, Program, eventually
from tests.acceptance.terminal import Terminal
from tests.support.model_server import ModelServer, Step

_SHELL = ("setsid", "--ctty", "bash", "--norc", "--noprofile", "-i")


@pytest.fixture
def shell(embedded: Program) -> Terminal:
    if not (shutil.which("setsid") and shutil.which("bash")):
        pytest.skip("there is no shell with job control here")
    terminal = Terminal(replace(embedded.having(TERM="xterm-256color", PS1="shell> "), command=_SHELL))
    terminal.type_when("shell>", f'client() {{ {sys.executable} {ROOT / "client.py"} "$@"; }}; clear\r')
    return terminal


def _stop(shell: Terminal, number: int) -> None:
    """Ctrl-Z, and see that the shell has its terminal back as it was."""
    shell.type("\x1a")
    eventually(lambda: shell.text.count("Stopped") == number)
    shell.type(f"echo back $((40 + {number}))\r")
    shell.shows(f"\nback 4{number}\n")
    assert f"shell> echo back $((40 + {number}))" in shell.text  # what is typed is seen
    assert shell.raw.rfind("\x1b[?25h") > shell.raw.rfind("\x1b[?25l")  # and so is the cursor


def test_a_chat_stops_at_its_prompt_and_while_it_waits(shell: Terminal, warm_here: Warm, model: ModelServer) -> None:
    let = threading.Event()

    def slowly(request: dict[str, Any]) -> Step:
        let.wait(PATIENCE)
        return Step(text="first words\n\nand the last")

    model.script = slowly
    shell.type_when("shell>", f"client chat -s {warm_here.part}\r")
    shell.type_when("\n>", "half a ")
    shell.shows("\n> half a")
    _stop(shell, 1)
    shell.type("fg\r")
    eventually(lambda: shell.text.rstrip().endswith("> half a"))
    shell.type("question\r")
    shell.shows("thinking")
    _stop(shell, 2)
    shell.type("fg\r")
    eventually(lambda: "thinking" in shell.text.rpartition("fg\n")[2])
    shell.type("unseen")
    let.set()
    eventually(lambda: shell.text.rstrip().endswith("> unseen"))  # the next line begins with it
    answered = shell.text.rpartition("fg\n")[2]
    assert "first words\n\nand the last\n" in answered and "thinking" not in answered
    assert shell.text.count("back 41\n") == shell.text.count("back 42\n") == 1  # nothing of the shell's is drawn over
    shell.type("\x15\x04")
    shell.type_when("Come back:", "exit\r")
    shell.ended()


def test_a_question_stops_while_its_answer_comes(shell: Terminal, model: ModelServer) -> None:
    words = "\n\n".join(f"paragraph {number}" for number in range(30))
    model.script = lambda _: Step(text=words, chunk_delay=0.02)
    shell.type_when("shell>", "client -m 'many paragraphs?'\r")
    shell.shows("paragraph 2\n")
    _stop(shell, 1)
    shell.type("fg\r")
    shell.shows("Go on: ")
    after = shell.text.partition("Session History")[0]
    assert [after.count(f"paragraph {number}\n") >= 1 for number in range(30)] == [True] * 30
    shell.type("exit\r")
    shell.ended()
