"""Standard streams that are closed, full or gone: a sentence and a truthful exit code, or it simply works."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Warm
from tests.acceptance.program import PATIENCE, ROOT, Program, ended, eventually
from tests.support.model_server import ModelServer, Step

FULL = "its output could not be written: No space left on device."


def run(
    program: Program, *arguments: str, code: int, closed: tuple[int, ...] = (), **options: Any
) -> tuple[str, str]:
    """The text on those of standard output and error that are pipes."""

    # By a shell: where gRPC is loaded, as in these tests, it can end what was forked before that is another program.
    closing = "".join(f" {descriptor}>&-" for descriptor in closed)
    command = program.command or (sys.executable, str(program.folder / "client.py"))
    started = replace(program, command=("/bin/sh", "-c", f'exec "$@"{closing}', "sh", *command)).start(
        *arguments, **options
    )
    out, err = started.communicate(timeout=PATIENCE)
    assert (
        "Traceback" not in (err or "")
        and "should not have happened" not in (err or "")
        and "ignored" not in (err or "")
    )
    assert started.returncode == code, f"{started.returncode}: {out}{err}"
    return out or "", err or ""


def full(program: Program, *arguments: str, code: int) -> str:
    """Standard error of a run whose standard output is a full disk."""
    with Path("/dev/full").open("w") as disk:
        return run(program, *arguments, code=code, stdout=disk)[1]


def test_a_turn_that_was_added_says_so_where_its_output_cannot_be_written(embedded: Program, warm_here: Warm) -> None:
    for number, how in enumerate(([], ["-q"], ["--no-stream"])):
        said = full(embedded, "-s", warm_here.id, "-m", f"lost {number}", *how, code=9)
        assert said == f"The turn was added, and {FULL}\nSee it: uv run client.py history {warm_here.id}\n"
    machine = json.loads(full(embedded, "-s", warm_here.id, "-m", "lost 3", "--json", code=9))["error"]
    assert machine == {"code": "output", "message": f"The turn was added, and {FULL}", "session_id": warm_here.id}
    history = embedded("history", warm_here.id).out
    assert all(history.count(f"user       lost {number}\n") == 1 for number in range(4))
    assert full(embedded, "retry", warm_here.id, code=9).startswith("The turn was added, and ")
    with Path("/dev/full").open("w") as disk:
        chat = embedded.start("chat", "-s", warm_here.id, stdout=disk)
        assert ended(chat, input="lost in a chat\nnever asked\n", code=9).err.startswith("The turn was added, and ")
    history = embedded("history", warm_here.id).out
    assert "lost in a chat" in history and "never asked" not in history


def test_what_adds_nothing_keeps_its_exit_code(embedded: Program, warm_here: Warm, model: ModelServer) -> None:
    unwritten = f"The output {FULL.removeprefix('its output ')}\n"
    for command in (["history", warm_here.id], ["sessions"], ["status"], ["--help"], ["--version"]):
        assert full(embedded, *command, code=1) == unwritten
    assert full(embedded, "history", "nothing-like-it", code=4).startswith("No session of")
    assert full(embedded, "--nonsense", code=2) and full(embedded, "-m", "", code=2)
    copied = full(embedded, "fork", "-q", warm_here.id, code=1)
    assert copied.startswith("Copied ") and copied.endswith(f", and {FULL}\n")
    copy = copied.split(" to ")[1].split(",")[0]
    assert embedded("history", copy).out
    assert full(embedded, "sessions", "rename", copy, "x", code=1) == f"Renamed {copy}, and {FULL}\n"
    assert full(embedded, "rewind", copy, "--to", "0", code=1).endswith(f"taken back, and {FULL}\n")
    assert full(embedded, "close", copy, code=1) == f"Closed {copy}, and {FULL}\n"
    assert full(embedded, "delete", copy, "--yes", code=1) == f"Deleted {copy}, and {FULL}\n"

    model.steps.append(Step(status=400, body='{"error": {"message": "no"}}'))
    assert "Nothing was added." in full(embedded, "-m", "fails", code=1)


def test_a_standard_error_that_cannot_be_written_changes_nothing(embedded: Program, warm_here: Warm) -> None:
    with Path("/dev/full").open("w") as disk:
        assert run(embedded, "-s", warm_here.id, "-m", "hi", code=0, stderr=disk)[0].endswith(": hi\n")
        run(embedded, "history", "nothing-like-it", code=4, stderr=disk)
        run(embedded, "--nonsense", code=2, stderr=disk)
        run(embedded, "-s", warm_here.id, "-m", "hi", code=9, stdout=disk, stderr=disk)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_closed_streams_are_dev_null(embedded: Program, warm_here: Warm, closed: tuple[int, ...]) -> None:
    out, _ = run(embedded, "-s", warm_here.id, "-q", "-m", "closed?", code=0, closed=closed)
    assert out.endswith(": closed?\n") == (1 not in closed)
    run(embedded, "-s", warm_here.id, "-m", "-", code=2, closed=closed, stdin=subprocess.DEVNULL)
    for command, code in (["chat"], 0), (["status"], 0), (["history", "no-such"], 4), (["--help"], 0), (["-x"], 2):
        run(embedded, *command, code=code, closed=closed, stdin=subprocess.DEVNULL)


def test_a_standard_input_that_cannot_be_read_is_named(embedded: Program) -> None:
    with Path("/dev/null").open("w") as nothing:
        for command in (["-m", "-"], ["chat"], ["import", "-"]):
            said = run(embedded, *command, code=2, stdin=nothing)[1]
            assert "cannot be read: Bad file descriptor.\n" in said and said.lower().startswith("standard input")


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)])
def test_an_engine_started_with_closed_streams_serves(own: Program, closed: tuple[int, ...]) -> None:
    run(own, "-q", "-m", "hi", code=0, closed=closed)
    process = int(own("engine", "status").out.split("process ")[1].split(".")[0])
    assert Path(f"/proc/{process}/fd/0").readlink() == Path("/dev/null")
    log = Path(own.environment["LOCALFLAME_HOME"]) / "logs" / "engine.log"
    assert {Path(f"/proc/{process}/fd/{number}").readlink() for number in (1, 2)} == {log}
    assert own("-q", "-m", "again").out == "answer 1: again\n"


def test_the_engine_alone_and_an_instance_say_what_they_are_with_closed_streams(own: Program) -> None:
    localflame = Program({**own.environment, "PYTHONPATH": str(ROOT)}, command=(sys.executable, "-m", "localflame"))
    for command, code in ("start", 0), ("status", 0), ("config", 0), ("stop", 0), ("status", 5):
        run(localflame, command, code=code, closed=(0, 1, 2))
    assert run(localflame, "status", code=5, closed=(0, 1))[1].startswith("No engine runs in ")
    run(localflame, "start", code=0)
    assert full(localflame, "status", code=1) == f"The output {FULL.removeprefix('its output ')}\n"
    service = Program(localflame.environment, command=(sys.executable, "-m", "flameagent.service", "agent"))
    assert run(service, code=2, closed=(0, 1))[1].startswith("This is a Flame service")


def test_a_terminal_that_goes_away_in_the_middle_of_an_answer(embedded: Program, model: ModelServer) -> None:
    model.script = lambda _: Step(text="words " * 40, chunk_delay=0.02)
    ours, theirs = pty.openpty()
    going = embedded.having(TERM="xterm").start("-m", "hi", stdin=theirs, stdout=theirs)
    os.close(theirs)
    seen = bytearray()
    eventually(lambda: seen.extend(os.read(ours, 65536)) or b"words" in seen)
    os.close(ours)
    said = ended(going, code=9).err
    assert "The turn was added, and its output could not be written: Input/output error.\n" in said
