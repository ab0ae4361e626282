"""What `MODULE[:OBJECT]` names, as an instance that answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flameagent.service import FlameInstance
from flameagent.service.process.target import TargetError, load

AGENTS = """
from agents import Agent
refunds = Agent(name="refunds", instructions="You pay back.")
desk = Agent(name="desk", instructions="You help.", handoffs=[refunds])
again, _own, number = desk, Agent(name="hidden"), 3
"""
INSTANCES = """
from flameagent.service import FlameInstance
one, two = FlameInstance(), FlameInstance()
"""
MIXED = """
from agents import Agent
from flameagent.service import FlameInstance
desk, other = Agent(name="desk"), Agent(name="other")
service = FlameInstance()
"""
MODULES = {
    "__init__": "",
    "team": AGENTS,
    "two": INSTANCES,
    "mixed": MIXED,
    "nothing": "x = 1",
    "lone": "from shop.team import desk",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: a project with a `src` folder."""
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    for name, source in MODULES.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.mark.parametrize("target", ["shop.team:desk", "shop.team:refunds", "shop.lone", "shop.mixed:other"])
def test_an_agent_is_given_an_entrypoint(here: Path, target: str) -> None:
    instance = load(target)
    assert isinstance(instance, FlameInstance) and instance._entrypoint is not None


def test_an_instance_is_taken_as_it_is_and_before_agents(here: Path) -> None:
    service = load("shop.mixed")
    assert service is load("shop.mixed:service") and service is sys.modules["shop.mixed"].service


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop.teams:desk", "There is no module shop.teams in {here}, and none is installed."),
        ("shops.team", "There is no module shops.team in {here}, and none is installed."),
        ("shop.team:deks", "shop.team has no deks. There is shop.team:refunds and shop.team:desk."),
        ("shop.team:desk.nose", "shop.team has no desk.nose. There is shop.team:refunds and shop.team:desk."),
        (
            "shop.team:number",
            "shop.team:number is an int, and no Agent. There is shop.team:refunds and shop.team:desk.",
        ),
        ("shop.nothing:x", "shop.nothing:x is an int, and no Agent. There is none in shop.nothing."),
        ("shop.team", "shop.team has refunds and desk as agents: name one of them, such as shop.team:refunds."),
        ("shop.two", "shop.two has one and two as FlameInstances: name one of them, such as shop.two:one."),
        ("shop.nothing", "shop.nothing has no Agent and no FlameInstance."),
    ],
)
def test_what_names_no_agent_is_a_sentence_with_what_there_is(here: Path, target: str, said: str) -> None:
    with pytest.raises(TargetError) as raised:
        load(target)
    assert str(raised.value) == said.format(here=here)


def test_a_module_that_is_missing_inside_of_the_agents_is_not_mistaken_for_it(here: Path) -> None:
    (here / "src" / "shop" / "broken.py").write_text("import shop.no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load("shop.broken:agent")
