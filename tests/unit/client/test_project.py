"""Which agent a command is about."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flameagent.client import engine, project
from flameagent.client.application import FILE, Application
from flameagent.client.engine import Cluster, Embedded
from flameagent.client.environment import Environment
from flameagent.client.errors import UsageError
from flameagent.flame import Endpoints
from flameagent.flame.frontend import Application as Registered
from flamewire.stubs import types
from localflame.store import Store

CLUSTER = Cluster(Endpoints("http://127.0.0.1:1", "grpc://127.0.0.1:2"))


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two applications and a module more; the working directory is in it."""
    folder = tmp_path / "shop"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / FILE).write_text(_document("shop", "team:desk") + "---\n" + _document("shop-refunds", "team:refunds"))
    (folder / "openai-agent-b.yaml").write_text(_document("b", "agent") + "---\n" + _document("c", "lone:agent"))
    for module in ("team.py", "src/inner.py"):
        (folder / module).write_text("desk = refunds = other = a = 1\nraise SystemExit('nobody imports it')")
    monkeypatch.chdir(folder / "src" / "deep")
    monkeypatch.setattr(sys, "argv", ["flame-agent"])
    return folder


@pytest.fixture
def embedded(tmp_path: Path) -> Embedded:
    (tmp_path / "home").mkdir()
    return Embedded(tmp_path / "home")


def _document(name: str, target: str) -> str:
    return f"metadata: {{name: {name}}}\nspec: {{arguments: [-m, flameagent.service, '{target}']}}\n"


def _choose(wanted: str = "", on: engine.Engine = CLUSTER) -> Application:
    return project.choose(Environment({"FLAME_AGENT_APP": wanted}), on)


def _refused(wanted: str = "", on: engine.Engine = CLUSTER) -> str:
    with pytest.raises(UsageError) as raised:
        _choose(wanted, on)
    return str(raised.value)


def _registered(home: Path, name: str, folder: Path, target: str) -> None:
    spec = types.ApplicationSpec(working_directory=str(folder), arguments=["-m", "flameagent.service", target])
    store = Store(home / "flame.db")
    store.submit(
        lambda db: db.execute(
            "INSERT OR REPLACE INTO applications VALUES (?, ?, 0)", (name, spec.SerializeToString())
        )
    ).result()
    store.close()


def test_it_is_the_first_of_the_nearest_file_above(shop: Path) -> None:
    found = _choose()
    assert found == Application("shop", shop, "team:desk") and found.chosen == str(shop / FILE)


def test_a_nearer_file_wins(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "src" / FILE).write_text(_document("inner", "inner"))
    assert _choose().name == "inner"
    monkeypatch.chdir(shop)
    assert _choose().name == "shop"


def test_without_one_it_is_that_of_the_program_or_none(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _refused() == (
        f"Nothing says which agent is asked: there is no {FILE} in {tmp_path} or above it. "
        "Name one: --app MODULE:OBJECT; or begin a project: the command `new FOLDER`."
    )
    (shop / "client.py").write_text("")
    monkeypatch.setattr(sys, "argv", [str(shop / "client.py")])
    assert _choose().name == "shop"
    monkeypatch.setattr(sys, "argv", [str(shop / "not-there.py")])
    assert _refused().startswith("Nothing says which agent is asked")


def test_what_another_user_left_in_a_folder_for_everyone_is_not_taken(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.chmod(0o1777)
    assert _choose().name == "shop"  # our own
    monkeypatch.setattr(os, "getuid", lambda: shop.stat().st_uid + 1)
    assert _refused().startswith("Nothing says which agent is asked")
    assert "no module team in" in _refused("team:desk")
    shop.chmod(0o777)
    assert _choose().name == "shop"


def test_a_folder_that_was_removed_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert _refused().startswith(f"Nothing says which agent is asked: there is no {FILE} in this folder")


@pytest.mark.parametrize(
    ("wanted", "name", "target"),
    [
        ("shop", "shop", "team:desk"),
        ("shop-refunds", "shop-refunds", "team:refunds"),
        ("b", "b", "agent"),
        ("team:refunds", "shop-refunds", "team:refunds"),  # the file's name for it
        ("team:other", "shop-other", "team:other"),
        ("team", "shop-team", "team"),  # of which the file has two
        ("lone", "c", "lone:agent"),  # and of this one
        ("inner:a.b", "shop-a.b", "inner:a.b"),
        ("json:unheard_of", "shop-unheard_of", "json:unheard_of"),  # not the project's: the service looks
    ],
)
def test_it_is_named_by_an_application_or_by_what_is_run(shop: Path, wanted: str, name: str, target: str) -> None:
    found = _choose(wanted)
    assert found == Application(name, shop, target) and found.chosen == "FLAME_AGENT_APP"


@pytest.mark.parametrize(
    ("pyproject", "name"),
    [
        (None, "shop-other"),
        ("[project]\nname = 'Ada'\n", "Ada-other"),
        ("[project]\nname = '..Ada & Söhne..'\n", "Ada-S-hne.-other"),
        ("[project]\nversion = '1'\n", "shop-other"),
        ("[tool.x]\n", "shop-other"),
        (f"[project]\nname = '{'x' * 300}'\n", "x" * 253),
    ],
)
def test_its_name_is_made_of_the_project_and_flame_takes_it(shop: Path, pyproject: str | None, name: str) -> None:
    if pyproject is not None:
        (shop / "pyproject.toml").write_text(pyproject)
    assert _choose("team:other").name == name


def test_a_pyproject_makes_a_folder_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lone" / "sub").mkdir(parents=True)
    (tmp_path / "lone" / "mine.py").write_text("agent = 1")
    monkeypatch.chdir(tmp_path / "lone" / "sub")
    assert "no module mine in" in _refused("mine:agent")
    (tmp_path / "lone" / "pyproject.toml").write_text("")
    assert _choose("mine:agent") == Application("lone-agent", tmp_path / "lone", "mine:agent")


def test_on_a_cluster_any_name_may_be_registered() -> None:
    assert _choose("somebody-elses") == Application("somebody-elses")


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("nothing:desk", "there is no module nothing in {shop}. This project has shop, shop-refunds, b, c."),
        ("team:deks", "FLAME_AGENT_APP is team:deks, and team has no deks."),
        ("nothing", "neither an application has that name nor a module in {shop}. This project has shop,"),
        ("no-such", "neither an application has that name nor a module in {shop}. This project has shop,"),
        ("team.py:desk", "there is no module team.py in {shop}."),
        ("src/team.py", "or MODULE:OBJECT as in desk.agents:desk, not 'src/team.py'."),
        ("a b", "or MODULE:OBJECT as in desk.agents:desk, not 'a b'."),
        ("team:", "or MODULE:OBJECT as in desk.agents:desk, not 'team:'."),
        ("team:desk:more", "or MODULE:OBJECT"),
    ],
)
def test_what_names_nothing_is_one_sentence(shop: Path, embedded: Embedded, wanted: str, said: str) -> None:
    assert said.format(shop=shop) in (told := _refused(wanted, embedded))
    assert told.startswith("FLAME_AGENT_APP is ") and "\n" not in told


def test_an_option_is_named_as_who_set_it() -> None:
    told = Environment({"FLAME_AGENT_APP": "shop"}).over({"app": "no-such"})
    with pytest.raises(UsageError, match=r"^--app is no-such, and"):
        project.choose(told, Embedded(Path("/nowhere")))


def test_two_applications_of_one_name_in_a_project_are_refused(shop: Path) -> None:
    (shop / "openai-agent-c.yaml").write_text(_document("b", "team"))
    assert "have the name b" in _refused()
    (shop / "openai-agent-c.yaml").write_text(_document("d", "team"))
    assert _choose("team").name == "d"


def test_a_name_that_the_file_has_is_not_given_to_another_object(shop: Path) -> None:
    assert f"whose name would be shop-refunds, and that is team:refunds in {shop / FILE}." in _refused(
        "inner:refunds"
    )


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory is in no project."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_a_registered_name_is_known_from_anywhere(shop: Path, elsewhere: Path, embedded: Embedded) -> None:
    _registered(embedded.home, "shop", shop, "old:desk")
    assert _choose("shop", embedded) == Application("shop", shop, "team:desk")  # as its file says now
    _registered(embedded.home, "shop-other", shop, "team:other")
    assert _choose("shop-other", embedded) == Application("shop-other", shop, "team:other")
    _registered(embedded.home, "gone", elsewhere / "gone", "agent")
    assert "neither an application has that name" in _refused("gone", embedded)
    _registered(embedded.home, "flmrun", elsewhere, "")
    assert "neither an application has that name" in _refused("flmrunx", embedded)


def test_two_projects_with_one_name_are_told_apart(shop: Path, elsewhere: Path, embedded: Embedded) -> None:
    mine = Application("shop", shop, "team:desk")
    embedded.check(mine)  # no file at all
    _registered(embedded.home, "shop", elsewhere / "old-place", "team:desk")
    embedded.check(mine)  # it has moved
    (elsewhere / "old-place").mkdir()
    with pytest.raises(UsageError) as raised:
        embedded.check(mine)
    assert str(raised.value) == (
        f"shop is the application of {elsewhere / 'old-place'} on this engine, and {shop} has another of that name. "
        f"Give one of them another name (metadata.name in {FILE}), or this one another engine (LOCALFLAME_HOME)."
    )
    _registered(embedded.home, "shop", shop, "team:desk")
    embedded.check(mine)
    CLUSTER.check(mine)


def test_two_objects_with_one_name_are_told_apart(shop: Path, embedded: Embedded) -> None:
    mine = Application("shop-desk", shop, "inner:desk")
    _registered(embedded.home, "shop-desk", shop, "moved:desk")
    embedded.check(mine)  # its module is gone: it has moved
    _registered(embedded.home, "shop-desk", shop, "team:desk")
    with pytest.raises(UsageError, match="shop-desk is team:desk on this engine, and inner:desk would have the same"):
        embedded.check(mine)
    embedded.check(Application("shop-desk", shop, "inner:desk", file=shop / FILE))  # the file says so


def test_another_object_of_that_name_on_a_cluster_is_not_asked(shop: Path) -> None:
    class Frontend:
        def application(self, name: str, timeout: float) -> Registered:
            return Registered(name, "uv", ("-m", "flameagent.service", "team:desk"), "/nodes/shop", {})

    frontend: Any = Frontend()
    for same in (Application("shop-desk", shop, "team:desk"), Application("shop-desk"), _choose("shop")):
        CLUSTER.register(same, frontend)
    with pytest.raises(UsageError, match="shop-desk is team:desk on this engine, and inner:desk would have"):
        CLUSTER.register(Application("shop-desk", shop, "inner:desk"), frontend)


@pytest.mark.parametrize(
    ("application", "how"),
    [
        (
            Application("a", Path("/a"), "agent", file=Path("/a/openai-agent-x.yaml")),
            "flmctl register -f openai-agent-x.yaml",
        ),
        (Application("a"), "`apps` lists those that are."),
        (Application("a-desk", Path("/a"), "m:desk"), "whose metadata.name is a-desk, and whose arguments end with"),
    ],
)
def test_a_cluster_says_how_each_is_registered(application: Application, how: str) -> None:
    assert how in CLUSTER.how_to_register(application)
