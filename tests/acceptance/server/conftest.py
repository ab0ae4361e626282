"""A server in front of the embedded engine, and the people who ask it: real processes, real HTTP."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx2
import openai
import pytest

from tests.acceptance.conftest import an_engine
from tests.acceptance.program import PATIENCE, Program
from tests.support.model_server import ModelServer


@dataclass(frozen=True)
class Served:
    """A server that runs, and the token of who has started it."""

    process: subprocess.Popen[str]
    url: str
    token: str

    def http(self, token: str | None = None) -> httpx2.Client:
        """A client of HTTP with that token, or with the own one; "" is none."""
        token = self.token if token is None else token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE)

    def openai(self, token: str | None = None, **options: object) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.token if token is None else token,
            timeout=PATIENCE,
            **options,  # type: ignore[arg-type]
        )


@contextmanager
def serving(program: Program, *options: str, stderr: IO[str] | None = None) -> Iterator[Served]:
    """A server of that program, until the block is left; its log goes to `stderr`."""
    process = program.start("serve", "--port", "0", "--json", *options, stdin=subprocess.DEVNULL, stderr=stderr)
    assert process.stdout is not None
    try:
        said = json.loads(process.stdout.readline())
        yield Served(process, said["url"], said["token"])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Program]:
    """The client with an engine of the servers' own: their sessions are in no list of other tests."""
    with an_engine(tmp_path_factory.mktemp("served"), model) as program:
        yield program


@pytest.fixture(scope="session")
def served(embedded: Program) -> Iterator[Served]:
    """A server for tests that do not end it; whoever has started it is `owner`."""
    with serving(embedded.having(FLAME_AGENT_USER="owner", AGENT_MEMORY="off")) as server:
        yield server


def token_of(program: Program, name: str) -> str:
    """The token of a user, who is added."""
    token: str = program("users", "add", name, "--json").json["token"]
    return token


@pytest.fixture(scope="session")
def ada(served: Served, embedded: Program) -> str:
    """Ada's token."""
    return token_of(embedded, "ada")


@pytest.fixture(scope="session")
def bob(served: Served, embedded: Program) -> str:
    """Bob's token."""
    return token_of(embedded, "bob")
