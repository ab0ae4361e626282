"""What is remembered of a person, in the person's own hands: listed, searched, forgotten, taken elsewhere, erased."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from flameagent.client import connect, person
from flameagent.client.errors import UsageError
from flameagent.flame import NotFound
from flameagent.flame.frontend import Session
from flameagent.memory import place
from tests.acceptance.assistant import assistant
from tests.acceptance.program import Program, eventually
from tests.acceptance.terminal import Terminal
from tests.support import schema
from tests.support.model_server import ModelServer, Step, error

_MARK = "LissabonAnDerTejo"
_POINTS = (
    "erase: marked",
    "erase: in a session",
    "erase: announced",
    "erase: session closed",
    "erase: session gone",
    "erase: objects gone",
    "erase: begun anew",
    "erase: memory made",
)


@pytest.fixture(autouse=True)
def calls_tools(model: ModelServer, model_answers_as_ever: None) -> None:
    model.script = assistant


def _introduced(program: Program, user: str, city: str = "Lisbon") -> str:
    asked = program("-m", f"My name is Ada and I live in {city}", "--user", user, "--json")
    session: str = asked.json["session_id"]
    return session


def _facts(program: Program, user: str) -> dict[str, str]:
    listed = program("memory", "--user", user, "--json").json
    schema.check("memory list", listed)
    return {fact["key"]: fact["value"] for fact in listed["facts"]}


def test_it_is_listed_and_searched_over_all_sessions_of_that_person_alone(embedded: Program) -> None:
    first, second = _introduced(embedded, "list"), _introduced(embedded, "list", "Porto")
    listed = embedded("memory", "list", "--user", "list", "--json").json
    city = listed["facts"][1]
    assert (listed["user"], listed["turns"]) == ("list", 2)
    assert (city["value"], city["session_id"], city["turn"]) == ("Porto", second, 1)
    assert [(each["value"], each["session_id"]) for each in city["superseded"]] == [("Lisbon", first)]
    found = embedded("memory", "search", "Lisbon", "--user", "list", "-n", "1", "--json").json
    schema.check("memory search", found)
    assert [(each["session_id"], each["turn"]) for each in found] == [(first, 1)]
    assert "; before: Lisbon" in embedded("memory", "--user", "list").out
    assert f"{first}, turn 1" in embedded("memory", "search", "Lisbon", "--user", "list").out
    assert embedded("memory", "search", "Lisbon", "--user", "somebody else", "--json").json == []
    assert _facts(embedded, "somebody else") == {}


def test_without_a_user_it_is_nobodys(embedded: Program) -> None:
    refused = embedded("memory", "--endpoint", "http://127.0.0.1:1", code=2)
    assert refused.err == "Nobody is named whose memory it is: say --user NAME, or set FLAME_AGENT_USER.\n"


def test_a_fact_is_forgotten_in_every_conversation(embedded: Program) -> None:
    sessions = {_introduced(embedded, "forget"), _introduced(embedded, "forget", "Porto")}
    assert "--yes" in embedded("memory", "forget", "city", "--user", "forget", code=2).err
    forgotten = embedded("memory", "forget", "City", "--user", "forget", "--yes", "--json").json
    schema.check("memory forget", forgotten)
    assert forgotten["forgotten"] and set(forgotten["sessions"]) == sessions
    assert _facts(embedded, "forget") == {"name": "Ada"}
    for session in sessions:
        assert embedded("history", session, "--json").json["facts"] == {"name": "Ada"}
    again = embedded("memory", "forget", "city", "--user", "forget", "--yes")
    assert again.out == "Nothing is remembered about city.\n"


def test_an_export_is_remembered_elsewhere_once(embedded: Program, tmp_path: Path) -> None:
    _introduced(embedded, "export")
    file = tmp_path / "memory.json"
    assert embedded("memory", "export", "--user", "export", "-o", str(file)).out == f"Wrote {file}, 1 turn.\n"
    schema.check("memory export", json.loads(file.read_text()))
    for new in (1, 0):
        imported = embedded("memory", "import", str(file), "--user", "import", "--json").json
        schema.check("memory import", imported)
        assert imported == {"user": "import", "turns": new, "known": 1 - new}
    assert _facts(embedded, "import") == {"name": "Ada", "city": "Lisbon"}
    file.write_text("{}")
    assert "is not what `memory export` writes" in embedded("memory", "import", str(file), code=2).err


@pytest.mark.timeout(300)
def test_an_erasure_that_is_killed_at_any_step_is_done_by_the_next(embedded: Program, tmp_path: Path) -> None:
    session = _introduced(embedded, "erase")
    killed = embedded.having(FAILPOINTS=str(tmp_path))
    for point in _POINTS:
        _introduced(embedded, "erase", "Porto")
        (tmp_path / point).touch()
        killed("memory", "erase", "--user", "erase", "--yes", code=-9)
        assert not (tmp_path / point).exists()
    erased = embedded("memory", "erase", "--user", "erase", "--yes", "--json").json
    schema.check("memory erase", erased)
    assert _facts(embedded, "erase") == {}
    found = embedded("history", session, "--json").json
    assert (found["facts"], len(found["turns"])) == ({}, 1)
    asked = embedded("-s", session, "-q", "-m", "What's my city?", "--user", "erase")
    assert asked.out == "I do not know. Nothing is remembered.\n"
    assert embedded("memory", "--user", "erase", "--json").json["turns"] == 1, "what came before it is back"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", _POINTS)
def test_after_an_erasure_that_is_killed_no_turn_brings_back_what_came_before(
    embedded: Program, tmp_path: Path, point: str
) -> None:
    user = f"killed at {point}"
    session = _introduced(embedded, user)
    (tmp_path / point).touch()
    embedded.having(FAILPOINTS=str(tmp_path))("memory", "erase", "--user", user, "--yes", code=-9)
    embedded("-s", session, "-m", "hello", "--user", user)
    assert embedded("memory", "--user", user, "--json").json == {"user": user, "facts": [], "turns": 1}
    embedded("memory", "erase", "--user", user, "--yes")
    assert embedded("memory", "--user", user, "--json").json == {"user": user, "facts": [], "turns": 0}
    embedded("-s", session, "-m", "hello again", "--user", user)
    assert embedded("memory", "--user", user, "--json").json["turns"] == 1
    with connect(environ=embedded.environment) as client, pytest.raises(NotFound):
        client._connection.frontend.session(place.erasing_id("openai-agent", user))


def test_a_memory_that_is_begun_while_another_is_erased_remembers_nothing_from_before(
    embedded: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = _introduced(embedded, "between")
    with connect(environ=embedded.environment) as client:
        frontend = client._connection.frontend
        main, erasing = (each("openai-agent", "between") for each in (place.session_id, place.erasing_id))
        found = frontend.session

        def late(session_id: str) -> Session:
            """Where an erasure begins behind the look for one, and is killed in its middle."""
            monkeypatch.undo()
            assert session_id == erasing
            frontend.create_session(erasing, place.HOLDER, None)
            return found(session_id + " was not there yet")

        client.reach()
        frontend.close_session(main)
        frontend.delete_session(main)
        monkeypatch.setattr(person, "find_memory", lambda *_: monkeypatch.setattr(frontend, "session", late) or "")
        person.open_memory(client._connection, "between")
        embedded("-s", session, "-m", "hello", "--user", "between")
        assert embedded("memory", "--user", "between", "--json").json == {"user": "between", "facts": [], "turns": 1}
        frontend.close_session(erasing)  # who was killed once more had closed it
        embedded("memory", "erase", "--user", "between", "--yes")
        with pytest.raises(NotFound):
            frontend.session(erasing)


def test_with_the_sessions_nothing_of_the_person_is_left(own: Program, tmp_path: Path) -> None:
    session, other = _introduced(own, "gone", "Lissabon"), _introduced(own, "stays", "Faro")
    own("-s", session, "-m", "hello", "--user", "gone")
    indexes = Path(own.environment["HOME"]) / ".cache" / "flame-openai-agent" / "memory"
    assert any(b"Lissabon" in file.read_bytes() for file in indexes.iterdir()), "the index that the instance has made"
    killed = own.having(FAILPOINTS=str(tmp_path))
    (tmp_path / "erase: session deleted").touch()
    killed("memory", "erase", "--user", "gone", "--sessions", "--yes", code=-9)
    own("memory", "erase", "--user", "gone", "--sessions", "--yes")
    own("history", session, code=4)
    assert own("history", other, "--json").json["facts"]["city"] == "Faro"
    assert _facts(own, "stays") == {"name": "Ada", "city": "Faro"}
    own("engine", "stop")
    home = Path(own.environment["LOCALFLAME_HOME"])
    there = [*home.rglob("*"), *indexes.iterdir()]
    left = [file for file in there if file.is_file() and b"Lissabon" in file.read_bytes()]
    assert left == []


def test_messages_from_elsewhere_become_a_conversation_and_memory(embedded: Program, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    said = [("user", "I collect stamps from Peru"), ("assistant", "How nice."), ("user", "And coins.")]
    file.write_text(json.dumps({"items": [{"role": role, "content": text} for role, text in said]}))
    imported = embedded("import", str(file), "--user", "items", "--json").json
    schema.check("import", imported)
    assert imported["turns"] == 2
    found = embedded("memory", "search", "stamps", "--user", "items", "--json").json[0]
    assert (found["session_id"], found["turn"], found["answer"]) == (imported["session_id"], 1, "How nice.")
    turns = embedded("history", imported["session_id"], "--json").json["turns"]
    assert [(turn["question"], turn["answer"]) for turn in turns][1] == ("And coins.", "")
    asked = embedded("-s", imported["session_id"], "-m", "and now?", "-q", "--user", "items")
    assert asked.out
    embedded("import", str(file), "--user", "items")
    assert embedded("memory", "--user", "items", "--json").json["turns"] == 3, "the same turns twice"
    file.write_text('{"items": [{"content": "?"}]}')
    assert "item 1 is no message" in embedded("import", str(file), code=2).err


def test_a_chat_has_the_same(embedded: Program) -> None:
    _introduced(embedded, "chat")
    lines = "/memory\n/memory search Lisbon\n/memory forget city\n/memory forget city\n"
    told = embedded("chat", "--user", "chat", input=lines).out
    assert "city  Lisbon" in told and "user       My name is Ada and I live in Lisbon" in told
    assert "Forgot city.\n" in told and "Nothing is remembered about city.\n" in told
    assert "stands alone" in embedded("chat", "--user", "chat", input="/memory what\n", code=2).err


def test_a_history_says_which_facts_another_session_has_replaced_or_forgotten(
    embedded: Program, model: ModelServer
) -> None:
    first, second = _introduced(embedded, "newer"), _introduced(embedded, "newer", "Porto")
    found = embedded("history", first, "--json").json
    schema.check("history", found)
    newer = found["newer_facts"]["city"]
    assert (found["facts"]["city"], newer["value"], newer["session_id"], newer["turn"]) == (
        *("Lisbon", "Porto", second, 1),
    )
    assert found["newer_facts"].keys() == {"city"}
    assert embedded("history", second, "--json").json["newer_facts"] == {}
    facts = embedded("chat", "-s", first, "--user", "newer", input="/facts\n").out
    assert f"name: Ada\ncity: Porto ({second}, turn 1; here: Lisbon)\n" in facts
    assert 'Your city is "Porto"' in embedded("-s", first, "-q", "-m", "What's my city?", "--user", "newer").out

    embedded("-s", second, "-q", "-m", "forget my city", "--user", "newer", code=3)
    embedded("approve", second)
    assert embedded("history", first, "--json").json["newer_facts"] == {"city": None}
    assert "city: forgotten in another session; here: Lisbon\n" in (
        embedded("chat", "-s", first, "--user", "newer", input="/facts\n").out
    )
    embedded("rewind", second, "--to", "0")
    assert embedded("history", first, "--json").json["newer_facts"] == {}
    assert embedded.having(AGENT_MEMORY="off")("history", first, "--json").json["newer_facts"] == {}


def test_a_damaged_one_is_named_and_erased(embedded: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in embedded.environment.items():
        monkeypatch.setenv(name, value)
    session = _introduced(embedded, "damaged")
    with connect() as client:
        with pytest.raises(UsageError, match="Nobody is named"):
            client.memory("")
        memory = client.memory("damaged")
        assert [fact.value for fact in memory.facts()] == ["Ada", "Lisbon"]
        assert memory.search("Lisbon")[0].session_id == session
        (key,) = memory._read
        client._connection.cache.patch(key, b"no record")
    told = embedded("memory", "--user", "damaged", code=8).err
    assert told.startswith("What is remembered of damaged is damaged: Record ") and "`memory erase`" in told
    embedded("-s", session, "-q", "-m", "What's my city?", "--user", "damaged")
    embedded("memory", "erase", "--user", "damaged", "--yes")
    assert _facts(embedded, "damaged") == {}


@pytest.mark.timeout(300)
def test_with_the_sessions_no_byte_of_the_person_is_left_while_the_engine_runs(
    own: Program, model: ModelServer, tmp_path: Path
) -> None:
    own("-m", "of somebody else: Faro", "--user", "stays")
    note = tmp_path / "note.txt"
    note.write_text(f"{_MARK} in a file. " * 500)
    session = _introduced(own, "gone", _MARK)
    model.steps.append(error(400, f"{_MARK} is refused"))
    own("-s", session, "-m", f"{_MARK}? Failed.", "--user", "gone", code=1)
    model.steps.append(Step(text=f"That is {_MARK}."))
    own("-s", session, "-m", f"Look at {_MARK}. " * 300, "--attach", str(note), "--user", "gone")
    own("-s", session, "-m", "forget my city", "--user", "gone", code=3)
    own("reject", session)
    own("chat", "--user", "gone", input=f"I say {_MARK}\n")
    typed = Terminal(own.having(TERM="xterm-256color"), "chat", "--user", "gone")
    typed.type_when("\n>\n", f"typed {_MARK}\r")
    eventually(lambda: typed.text.endswith("\n>\n"))
    typed.type("\x04")
    typed.ended()
    homes = [Path(own.environment[name]) for name in ("LOCALFLAME_HOME", "HOME")]
    for note in (homes[0] / "logs").glob("*.session"):
        if note.read_text() == session:  # what an agent of one's own prints
            note.with_suffix(".out").write_text(_MARK)
    assert len(_left(homes)) >= 3, "it was not in the engine's file, a log and the lines that were typed"
    own("memory", "erase", "--user", "gone", "--sessions", "--yes")
    eventually(lambda: not _left(homes))
    assert own("engine", "status", "--json").json["pid"], "it had to leave for this"
    assert _facts(own, "stays") == {}


def _left(folders: list[Path]) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    found = []
    for file in files:
        with suppress(FileNotFoundError):
            if _MARK.encode() in file.read_bytes():
                found.append(file)
    return found


def test_a_search_says_whether_it_went_by_meaning(embedded: Program) -> None:
    session = _introduced(embedded, "meaning")
    nowhere = embedded.having(AGENT_EMBEDDINGS="m@http://")
    words = nowhere("memory", "search", "Lisbon", "--user", "meaning", "--json").json
    schema.check("memory search", words)
    assert [(each["session_id"], each["by_meaning"]) for each in words] == [(session, False)]
    told = nowhere("memory", "search", "Lisbon", "--user", "meaning").err
    assert " ".join(told.split()).startswith("Searched by words only. AGENT_EMBEDDINGS is the name of a model")
