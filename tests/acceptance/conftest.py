"""The engines that the client is tried on: the embedded one, and a cluster where there is one.

Real are the client, the engine, the agent and HTTP; the model is scripted. A cluster has to be on this machine,
because its instances are given the model's server on loopback.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flameagent.flame import resolve
from flameagent.flame.frontend import Frontend
from flamewire.stubs import frontend as messages
from tests.acceptance.program import ROOT, Program, Result, clean_environment
from tests.support.model_server import ModelServer, echo


@pytest.fixture(scope="session")
def model() -> Iterator[ModelServer]:
    with ModelServer(strict=True) as server:
        yield server


@pytest.fixture(autouse=True)
def model_answers_as_ever(model: ModelServer) -> Iterator[None]:
    yield
    model.steps.clear()
    model.script = echo


@contextmanager
def an_engine(folder: Path, model: ModelServer) -> Iterator[Program]:
    """The client with an engine of its own, which the first command starts."""
    program = Program(
        clean_environment(folder / "home")
        | {"LOCALFLAME_HOME": str(folder / "engine"), "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "first-key"}
    )
    yield program
    program("engine", "stop")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Program]:
    """The client with an engine of its own."""
    with an_engine(tmp_path_factory.mktemp("embedded"), model) as program:
        yield program


@pytest.fixture
def own(embedded: Program, tmp_path: Path) -> Iterator[Program]:
    """The client with an engine that this test may stop."""
    program = embedded.having(LOCALFLAME_HOME=str(tmp_path / "engine"))
    yield program
    program("engine", "stop")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Program]:
    """The client of a copy of this project that is registered with the cluster under another name."""
    endpoint = os.environ.get("FLAME_ENDPOINT")
    if not endpoint:
        pytest.skip("FLAME_ENDPOINT names no cluster")
    if socket.gethostname() not in (nodes := _nodes()):
        pytest.skip(f"the nodes of the cluster are other machines: {', '.join(sorted(nodes))}")
    folder = tmp_path_factory.mktemp("cluster")
    name = f"openai-agent-test-{os.getpid()}"
    for part in ("flameagent", "flamewire", "localflame", "agent.py", "apis.py", "client.py"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    (folder / "openai-agent.yaml").write_text(f"metadata: {{name: {name}}}\nspec: {{}}\n")
    flame = {key: value for key, value in os.environ.items() if key.startswith("FLAME_")}
    environment = clean_environment(folder / "home") | flame
    registered = environment | {"MODEL": model.url, "NAME": name, "FOLDER": str(folder)}
    subprocess.run([sys.executable, "-c", _REGISTER], env=registered, check=True)
    yield Program(environment, folder, name)
    subprocess.run([sys.executable, "-c", _UNREGISTER], env=registered, check=False)


def _nodes() -> set[str]:
    endpoints = resolve(os.environ)
    assert endpoints
    frontend = Frontend(endpoints)
    try:
        return {
            node.metadata.name for node in frontend._stub.ListNodes(messages.ListNodesRequest(), timeout=15).nodes
        }
    finally:
        frontend.close()


_REGISTER = """
import os, sys, flamepy
from flamepy.core.types import ApplicationAttributes
flamepy.register_application(os.environ["NAME"], ApplicationAttributes(
    command=sys.executable,
    arguments=["-m", "flameagent.service", "agent"],
    working_directory=os.environ["FOLDER"],
    environments={"OPENAI_BASE_URL": os.environ["MODEL"], "OPENAI_API_KEY": "first-key", "TMPDIR": "/tmp"},
    delay_release=60,
))
"""

_UNREGISTER = """
import os, flamepy
for session in flamepy.list_sessions():
    if session.application == os.environ["NAME"]:
        flamepy.close_session(session.id)
flamepy.unregister_application(os.environ["NAME"])
"""


@pytest.fixture(scope="session", params=["embedded", pytest.param("cluster", marks=pytest.mark.cluster)])
def program(request: pytest.FixtureRequest) -> Program:
    """The client on either engine."""
    found: Program = request.getfixturevalue(request.param)
    return found


@dataclass(frozen=True)
class Warm:
    """A session whose instance runs, so that a turn in it takes no start; `first` is what its first turn printed."""

    id: str
    first: Result

    @property
    def part(self) -> str:
        return self.id.rpartition("-")[2]


def warmed(program: Program) -> Warm:
    first = program("-m", "who are you?")
    return Warm(first.err.split(" -s ")[1].split()[0], first)


@pytest.fixture(scope="session")
def warm(program: Program) -> Warm:
    """On either engine."""
    return warmed(program)


@pytest.fixture(scope="session")
def warm_here(embedded: Program) -> Warm:
    """On the embedded engine, for what does not depend on which it is."""
    return warmed(embedded)


@pytest.fixture
def engine_folder(embedded: Program) -> Path:
    return Path(embedded.environment["LOCALFLAME_HOME"])
