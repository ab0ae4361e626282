"""Shell completion of the installed program, in a real bash: commands, options and the IDs of sessions."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import Program
from tests.acceptance.terminal import Terminal


@pytest.fixture
def installed(embedded: Program) -> Program:
    """`flame-agent`, as an installation puts it on the PATH."""
    program = Path(sys.executable).parent / "flame-agent"
    if not program.exists():
        pytest.skip("the project is not installed in this environment")
    path = f"{program.parent}{os.pathsep}{embedded.environment['PATH']}"
    return replace(
        embedded.having(PATH=path, SHELL="/bin/bash", FLAME_AGENT_APP="openai-agent"), command=("flame-agent",)
    )


@pytest.fixture
def bash(installed: Program) -> Iterator[Terminal]:
    """A bash with the completion that the program prints."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    script = Path(installed.environment["HOME"]) / "completion.bash"
    script.write_text(_script(installed, "bash"))
    plain = installed.having(PS1="$ ", TERM="dumb", INPUTRC="/dev/null", BASH_SILENCE_DEPRECATION_WARNING="1")
    shell = Terminal(replace(plain, command=("bash", "--norc", "--noprofile", "-i")))
    shell.type_when("$ ", f". {script}; echo ready\n")
    shell.shows("\nready\n$")
    yield shell
    shell.type("\x15exit\n")
    shell.ended()


def _script(installed: Program, shell: str) -> str:
    # As the shell's own line in its start-up file does.
    found = installed.having(_FLAME_AGENT_COMPLETE=f"source_{shell}")().out
    assert "_FLAME_AGENT_COMPLETE" in found
    return found


def test_tab_completes_commands_and_sessions(bash: Terminal, warm_here: Warm, embedded: Program) -> None:
    bash.type("flame-agent hist\t")
    bash.shows("$ flame-agent history")
    bash.type(f"{warm_here.part[:5].lower()}\t")
    whole = f"{warm_here.part[:5].lower()}{warm_here.part[5:]}"
    bash.shows(f"$ flame-agent history {whole}")
    bash.type("\n")
    bash.shows(f"Session {warm_here.id} (")


def test_ids_are_told_while_the_engine_rests_and_never_start_it(
    installed: Program, warm_here: Warm, tmp_path: Path
) -> None:
    def completed(words: str, **environment: str) -> list[str]:
        asked = installed.having(
            COMP_WORDS=f"flame-agent {words}",
            COMP_CWORD=str(len(words.split(" "))),
            _FLAME_AGENT_COMPLETE="complete_bash",
            **environment,
        )()
        assert asked.err == ""
        return asked.out.split()

    assert warm_here.part in completed("history ")
    assert completed(f"-s {warm_here.id[:-1]}") == [warm_here.id]
    assert completed(f"close {warm_here.part.lower()}") == [warm_here.part.lower()]
    assert completed("history no-such") == []
    assert completed("--endpoint http://127.0.0.1:1 history ") == []
    where = installed("engine", "status", "--json").json["endpoint"]
    rest = {"LOCALFLAME_HOME": str(tmp_path / "none"), "FLAME_ENDPOINT": "http://127.0.0.1:1"}
    assert warm_here.part in completed(f"--endpoint {where} history ", **rest)
    assert warm_here.part in completed(f"sessions --endpoint {where} rename ", **rest)
    assert completed("history ", LOCALFLAME_HOME=str(tmp_path / "none")) == []
    assert not (tmp_path / "none").exists()

    at_rest = tmp_path / "at-rest"
    shutil.copytree(
        installed.environment["LOCALFLAME_HOME"],
        at_rest,
        ignore=lambda folder, names: [name for name in names if not name.startswith("flame.db")],
    )
    assert warm_here.part in completed("history ", LOCALFLAME_HOME=str(at_rest))
    assert not (at_rest / "engine.json").exists()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_and_the_ids(installed: Program, warm_here: Warm, shell: str) -> None:
    assert "flame-agent" in _script(installed, shell)
    asked = installed.having(
        _TYPER_COMPLETE_ARGS=f"flame-agent history {warm_here.part[:4]}",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        _FLAME_AGENT_COMPLETE=f"complete_{shell}",
    )()
    assert warm_here.part in asked.out and "open, " in asked.out and asked.err == ""
