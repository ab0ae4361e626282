"""What `python -m flameagent.service MODULE[:OBJECT]` runs: an Agent is enough; what names none is a usage error."""

from __future__ import annotations

from pathlib import Path

import pytest

from flameagent.apis import Answer, Question
from localflame import Engine
from tests.integration.service.talk import Talk, environment
from tests.support.model_server import ModelServer
from tests.support.shim import Shim, TaskFailed

AGENT = """
from agents import Agent
desk = Agent(name="desk", instructions="You help.")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with a `src` folder, beside which the names of ours are somebody else's."""
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "team.py").write_text(AGENT)
    for name in ("apis", "client", "agent"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    return tmp_path


def test_an_agent_is_enough(
    shop: Path, engine: Engine, model_server: ModelServer, model: ModelServer, talk: Talk
) -> None:
    with Shim(shop, "shop.team:desk", **environment(engine, model_server)) as shim:
        shim.enter(talk.id, talk.ref.encode())
        assert shim.invoke(Question("hello"), "1").answer == "answer 1: hello"
        assert shim.invoke(Question("again"), "2").answer == "answer 2: again"
    assert model.bodies[0]["messages"][0]["content"] == "You help."
    assert len(talk.turns()) == 2


def test_what_names_no_agent_is_a_usage_error_until_it_is_mended(shop: Path) -> None:
    with Shim(shop, "shop.team:refunds") as shim:
        shim.enter()
        answer: Answer = shim.invoke(Question("hello"))
        assert (answer.code, answer.error) == ("usage", "shop.team has no refunds. There is shop.team:desk.")
        with pytest.raises(TaskFailed, match=r"^shop\.team has no refunds\."):
            shim.invoke("what a plain program of flamepy asks", "2")
        (shop / "src" / "shop" / "team.py").write_text(f"import no_such_module\n{AGENT}refunds = desk\n")
        with pytest.raises(TaskFailed, match=r"'shop\.team' \(line 1\) cannot be imported: ModuleNotFoundError"):
            shim.invoke(Question("hello"), "3")
