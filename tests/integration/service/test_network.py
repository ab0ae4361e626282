"""What a worker makes of the environment's proxies and certificates where it needs none, and where the agent does."""

from __future__ import annotations

from pathlib import Path

import pytest

from flameagent.apis import Question
from localflame import Engine
from tests.integration.service.talk import AGENT, Talk, fresh
from tests.support.model_server import ModelServer
from tests.support.shim import TaskFailed

WRONG = ({"ALL_PROXY": "socks://x"}, {"SSL_CERT_FILE": "/nonexistent"})

OWN_CLIENT = AGENT.replace(
    "instance = FlameInstance()", "import httpx2\nclient = httpx2.Client()\ninstance = FlameInstance()"
)


@pytest.mark.parametrize("wrong", WRONG)
def test_an_agent_that_makes_its_own_client_fails_with_the_variable(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, wrong: dict[str, str]
) -> None:
    with (
        fresh(tmp_path, OWN_CLIENT, engine, model, **wrong) as shim,
        pytest.raises(TaskFailed, match="cannot be imported") as failed,
    ):
        shim.enter(talk.id, talk.ref.encode()).invoke(Question("hi", "t"))
    ((variable, value),) = wrong.items()
    assert f". {variable} is {value}, " in str(failed.value)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_local_model_and_what_nobody_uses_need_no_network(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk, wrong: dict[str, str]
) -> None:
    checked = AGENT.replace(
        "    return await",
        "    from agents.tracing import processors\n    assert processors._global_exporter is None\n    return await",
    )
    with fresh(tmp_path, checked, engine, model, **wrong, NO_PROXY="127.0.0.1") as shim:
        answer = shim.enter(talk.id, talk.ref.encode()).invoke(Question("hi", "t"))
    assert (answer.error, answer.answer) == ("", "answer 1: hi")


def test_a_server_of_mcp_that_cannot_be_reached_for_a_variable_names_it(
    tmp_path: Path, engine: Engine, model: ModelServer, talk: Talk
) -> None:
    served = AGENT.replace("import Agent,", "import Agent, mcp,").replace(
        "tools=[double", 'mcp_servers=[mcp.MCPServerStreamableHttp({"url": "http://127.0.0.1:1/"})], tools=[double'
    )
    with fresh(tmp_path, served, engine, model, ALL_PROXY="socks://x") as shim:
        answer = shim.enter(talk.id, talk.ref.encode()).invoke(Question("hi", "t"))
    assert "MCP server" in answer.error and "ALL_PROXY is socks://x, " in answer.error
