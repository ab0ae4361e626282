"""Code that changes is seen: also while it is imported, in the middle of a turn, and where times do not show it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flameagent.apis import Question
from localflame import Engine
from tests.integration.service.talk import Talk, environment
from tests.support.model_server import ModelServer
from tests.support.shim import Shim

AGENT = """
from pathlib import Path
import time
import part
from flameagent.apis import Answer, Question
from flameagent.service import FlameInstance

instance = FlameInstance()

def waited():
    Path("importing").touch()
    while not Path("go").exists():
        time.sleep(0.01)

@instance.entrypoint
async def ask(question: Question) -> Answer:
    if question.question == "late":
        import late
        return Answer("one " + late.NAME)
    return Answer("one " + part.NAME)

waited()
"""


def save(path: Path, text: str, times: os.stat_result | None = None) -> None:
    path.write_text(text)
    if times is not None:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def appears(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "part.py").write_text('NAME = "part a"\n')
    (tmp_path / "late.py").write_text('NAME = "late a"\n')
    return tmp_path


@pytest.mark.parametrize("file", ["agent.py", "part.py"])
@pytest.mark.parametrize("kept", [False, True], ids=["saved", "saved with its old times"])
def test_a_file_that_is_saved_while_it_is_imported_is_seen(
    folder: Path, engine: Engine, model: ModelServer, talk: Talk, file: str, kept: bool
) -> None:
    with Shim(folder, **environment(engine, model)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        appears(folder / "importing")
        path = folder / file
        changed = path.read_text().replace('"one "', '"two "').replace("part a", "part b")
        save(path, changed, path.stat() if kept else None)
        (folder / "go").touch()
        expected = "two part a" if file == "agent.py" else "one part b"
        assert instance.invoke(Question("?"), "1").answer == expected
        worker = instance.descendants()
        assert instance.invoke(Question("and?"), "2").answer == expected
        os.utime(path)
        assert instance.invoke(Question("touched?"), "3").answer == expected
        assert instance.descendants() == worker


def test_what_is_imported_in_the_middle_of_a_turn_is_seen_to_change(
    folder: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    (folder / "go").touch()
    with Shim(folder, **environment(engine, model)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        assert instance.invoke(Question("late"), "1").answer == "one late a"
        for number, letter in enumerate("bcd"):  # each within a second of the one before, and as long
            save(folder / "late.py", f'NAME = "late {letter}"\n')
            assert instance.invoke(Question("late", id=letter), f"{number + 2}").answer == f"one late {letter}"


def test_a_worker_without_a_change_stays(folder: Path, engine: Engine, model: ModelServer, talk: Talk) -> None:
    (folder / "go").touch()
    with Shim(folder, **environment(engine, model)) as instance:
        instance.enter(talk.id, talk.ref.encode())
        instance.invoke(Question("late"), "1")
        worker = instance.descendants()
        instance.invoke(Question("late"), "2")
        assert instance.descendants() == worker
