"""A project of somebody else with the wheel installed: its own agents answer, and nothing of this repository does."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.program import ROOT, Program, clean_environment
from tests.support.model_server import ModelServer
from tests.support.schema import check
from tests.support.wheel import build

TEAM = """
from agents import Agent
import apis, client  # the project's own

refunds = Agent(name="refunds", instructions="You pay back.")
desk = Agent(name="desk", instructions="You help in the shop.", handoffs=[refunds])
tools = [apis.NAME, client.NAME]
"""


@dataclass(frozen=True)
class Foreign:
    """A project, and the program as it is run in a folder of it."""

    folder: Path
    program: Program

    def __truediv__(self, name: str) -> Program:
        return self.program.having(HOME=str(self.folder / name))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, model: ModelServer) -> Iterator[Program]:
    """`flame-agent` from the wheel, beside what it depends on: this repository is not on the path of that Python."""
    folder = tmp_path_factory.mktemp("installed")
    build(ROOT, folder)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    script = folder / "bin" / "flame-agent"
    script.parent.mkdir()
    script.write_text("from flameagent.cli import main\nmain()\n")
    environment = clean_environment(folder / "home") | {
        "PYTHONPATH": f"{folder / 'site'}:{sysconfig.get_path('purelib')}",
        "LOCALFLAME_HOME": str(folder / "engine"),
        "OPENAI_BASE_URL": model.url,
        "OPENAI_API_KEY": "a-key",
    }
    python = getattr(sys, "_base_executable", sys.executable)  # which reads none of this environment's .pth files
    program = Program(environment, command=(python, str(script)))
    yield program
    program("engine", "stop")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, installed: Program) -> Foreign:
    folder = tmp_path_factory.mktemp("projects") / "shop"
    (folder / "src").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1"\n')
    (folder / "src" / "team.py").write_text(TEAM)
    for name in ("apis", "client"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (folder / "agent.py").write_text("raise SystemExit('nobody named this one')\n")
    return Foreign(folder, installed)


def _system(model: ModelServer) -> str:
    return str(model.bodies[-1]["messages"][0]["content"])


def test_where_nothing_names_an_agent_none_answers(shop: Foreign) -> None:
    for arguments in (["-m", "hello"], ["sessions"], ["chat"]):
        assert (shop / "src")(*arguments, code=2).err.startswith("Nothing says which agent is asked: there is no ")
    assert (shop / "src")("status", "--json", code=2).json["application"] == ""
    assert (shop / "src")("--help").out.startswith("Nothing says which agent is asked")
    assert not Path(shop.program.environment["LOCALFLAME_HOME"]).exists()


def test_an_agent_of_the_project_answers_and_is_found_again_by_name(shop: Foreign, model: ModelServer) -> None:
    asked = (shop / "src")("--app", "team:desk", "-m", "hello")
    session = asked.err.split(" -s ")[1].split()[0]
    assert session.startswith("shop-desk-") and _system(model) == "You help in the shop."
    assert asked.err.endswith(f'Go on: flame-agent --app team:desk -s {session} -m "…"\n')

    other = (shop / ".")("--app", "team:refunds", "-m", "hello", "--json").json
    assert other["session_id"].startswith("shop-refunds-") and _system(model) == "You pay back."

    wrong = (shop / ".")("--app", "team:refunds", "history", session, code=4)
    assert wrong.err == f"{session} is a session of shop-desk, not of shop-refunds: give --app shop-desk.\n"

    listed = (shop / "..")("apps", "--json").json
    check("apps", listed)
    assert listed == [
        {"application": f"shop-{name}", "sessions": 1, "agent": f"team:{name}", "folder": str(shop.folder)}
        for name in ("desk", "refunds")
    ]
    assert "shop-desk            1  team:desk     " in (shop / "..")("apps").out
    elsewhere = (shop / "..").having(FLAME_AGENT_APP="shop-desk")
    assert [each["session_id"] for each in elsewhere("sessions", "--json").json] == [session]
    assert elsewhere("-s", session, "-m", "again", "-q").out == "answer 2: again\n"
    told = elsewhere("status", "--json").json
    check("status", told)
    assert (told["agent"], told["folder"], told["application_source"]) == (
        "team:desk",
        str(shop.folder),
        "FLAME_AGENT_APP",
    )


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("team:nobody", "--app is team:nobody, and team has no nobody.\n"),
        ("team:tools", "team:tools is a list, and no Agent. There is team:refunds and team:desk.\n"),
        ("team", "team has refunds and desk as agents: name one of them, such as team:refunds.\n"),
        ("nobody:desk", "--app is nobody:desk, and there is no module nobody in {folder}.\n"),
        ("no-such-app", "--app is no-such-app, and neither an application has that name nor a module in {folder}.\n"),
    ],
)
def test_what_names_no_agent_is_a_usage_error(shop: Foreign, app: str, said: str) -> None:
    failed = (shop / ".")("--app", app, "-m", "hello", code=2)
    assert (failed.out, failed.err) == ("", said.format(folder=shop.folder))


def test_another_project_with_the_same_name_is_refused(shop: Foreign, tmp_path: Path) -> None:
    (shop / ".")("--app", "team:desk", "-m", "hello", "-q")
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    (other / "team.py").write_text(TEAM)
    for arguments in (["-m", "hello"], ["sessions"]):
        refused = shop.program.having(HOME=str(other))("--app", "team:desk", *arguments, code=2)
        assert refused.err.startswith(
            f"shop-desk is the application of {shop.folder} on this engine, and {other} has"
        )


def test_several_agents_of_one_file_have_their_own_sessions(
    shop: Foreign, tmp_path: Path, model: ModelServer
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "two.py").write_text(
        "from agents import Agent\none, two = (Agent(name=name, instructions=f'You are {name}.') for name in '12')\n"
    )
    (tmp_path / "openai-agent.yaml").write_text(
        "".join(
            f"---\nmetadata: {{name: {name}}}\nspec: {{arguments: [-m, flameagent.service, 'two:{name}']}}\n"
            for name in ("one", "two")
        )
    )
    program = shop.program.having(HOME=str(tmp_path))
    assert program("--help").out.startswith(f"Asks one: two:one in {tmp_path} ({tmp_path / 'openai-agent.yaml'}).\n")
    first = program("-m", "hello", "--json").json["session_id"]
    assert _system(model) == "You are 1."
    second = program("--app", "two", "-m", "hello", "--json").json["session_id"]
    assert _system(model) == "You are 2."
    assert (first[:4], second[:4]) == ("one-", "two-")
    assert [each["session_id"] for each in program("sessions", "--json").json] == [first]
    assert [each["session_id"] for each in program("--app", "two:two", "sessions", "--json").json] == [second]


def test_a_new_project_answers_at_once(shop: Foreign, tmp_path: Path, model: ModelServer) -> None:
    program = shop.program.having(HOME=str(tmp_path))
    made = program("new", "help desk")
    assert made.out == f"help-desk: a project with an agent, in {tmp_path / 'help desk'}\n"
    assert made.err.startswith("Ask it: cd 'help desk' && uv run flame-agent -m \"hi\"\n")
    asked = program.having(HOME=str(tmp_path / "help desk"))("-m", "hi", "--json").json
    assert (asked["answer"], asked["agent"]) == ("answer 1: hi", "help-desk")
    assert asked["session_id"].startswith("help-desk-")
    assert program("new", "help desk", code=2).err.endswith("name a folder that is not, or that is empty.\n")
    made_here = program("new", "other", "--json").json
    check("new", made_here)
    assert made_here["folder"] == str(tmp_path / "other")
