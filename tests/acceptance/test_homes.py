"""Users without a home: everything but what is kept in it works, and nothing appears where they happen to be."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import ROOT, Program, ended

_STRANGER = ("unshare", "--user", "--map-user=4242", "--map-group=4242")  # a user whom the system does not know


@pytest.fixture
def homeless(embedded: Program) -> Program:
    if subprocess.run([*_STRANGER, "true"], capture_output=True).returncode:
        pytest.skip("this machine makes no user namespaces")
    environment = {name: value for name, value in embedded.environment.items() if name != "HOME"}
    return Program(environment, command=(*_STRANGER, sys.executable, str(ROOT / "client.py")))


def test_without_a_home_nothing_but_what_is_kept_there_is_missing(
    homeless: Program, warm_here: Warm, tmp_path: Path
) -> None:
    homeless = homeless.having(FLAME_AGENT_USER=getpass.getuser())  # whose session it is

    def run(*arguments: str, input: str = "", code: int = 0) -> tuple[str, str]:
        ran = ended(homeless.start(*arguments, cwd=tmp_path), input=input, code=code)
        assert "should not have happened" not in ran.err
        return ran.out, ran.err

    assert run("-s", warm_here.id, "-q", "-m", "homeless")[0].endswith(": homeless\n")
    assert run("chat", "-q", "-s", warm_here.id, input="in a chat\n")[0].endswith(": in a chat\n")
    assert run("status")[0].endswith("settings file   none (there is no home: set HOME)\n")
    assert run("-c", "-m", "hi", code=4)[1].startswith("Without a home (HOME) nobody remembers which session")
    assert run("engine", "status")[0]
    assert list(tmp_path.iterdir()) == []


def test_a_home_of_the_engine_that_is_none_is_named(embedded: Program) -> None:
    wrong = embedded.having(LOCALFLAME_HOME="~nobody-here/engine")
    named = "LOCALFLAME_HOME is ~nobody-here/engine, which is no folder: Could not determine home directory.\n"
    for command in (["-m", "hi"], ["sessions"], ["engine", "status"]):
        assert wrong(*command, code=2).err == named
    assert named in wrong("status", code=2).out
    away = wrong.having(FLAME_ENDPOINT="http://127.0.0.1:1")
    assert "127.0.0.1:1" in away("sessions", code=5).err
    alone = Program({**wrong.environment, "PYTHONPATH": str(ROOT)}, command=(sys.executable, "-m", "localflame"))
    assert alone("status", code=5).err == named
