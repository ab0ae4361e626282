"""Two people at one agent: each has sessions and a memory of their own, whatever door they come through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from flameagent.client import connect, errors, person
from flameagent.client.client import Client
from flameagent.client.reply import Reply
from flameagent.memory import place
from flameagent.memory.person import PersonMemory
from tests.acceptance.program import Program
from tests.support.model_server import Call, ModelServer, Step

_HERE = "openai-agent"


@dataclass(frozen=True)
class People:
    """A client that asks for anybody, and what is remembered of them."""

    client: Client

    def ask(self, user: str, question: str, session: str | None = None) -> Reply:
        return self.client.ask(question, session, user=user)

    def memory(self, user: str) -> PersonMemory | None:
        key = person.find_memory(self.client._connection, user)
        return PersonMemory(self.client._connection.cache, key) if key else None

    def remembered(self, user: str) -> list[tuple[str, str]]:
        """The session and the question of each turn."""
        memory = self.memory(user)
        return [(turn.session, turn.question) for turn in memory.turns()] if memory else []


@pytest.fixture(scope="module")
def people(embedded: Program) -> Iterator[People]:
    with connect(environ=embedded.environment) as client:
        yield People(client)


def test_what_is_said_is_remembered_of_who_says_it_and_of_nobody_else(people: People, embedded: Program) -> None:
    adas = people.ask("ada", "I live in Lisbon.").session_id
    bobs = embedded("-m", "I live in Porto.", "--user", "bob", "--json").json["session_id"]
    people.ask("ada", "And I work there.", adas)
    assert people.remembered("ada") == [(adas, "I live in Lisbon."), (adas, "And I work there.")]
    assert people.remembered("bob") == [(bobs, "I live in Porto.")]
    assert people.remembered("") == []
    listed = {each["session_id"]: each["owner"] for each in embedded("sessions", "--json").json}
    assert (listed[adas], listed[bobs]) == ("ada", "bob")
    assert "  owner      bob\n" in embedded("history", bobs).out


def test_tools_and_what_a_question_is_shown_tell_nothing_of_somebody_else(people: People, model: ModelServer) -> None:
    secret = "My cat Mimi lives in Sintra."
    noted = Call("remember", '{"key": "cat", "value": "Mimi, in Sintra"}', "call_r")
    model.steps.extend([Step(calls=(noted,)), Step(text="Noted.")])
    adas = people.ask("lea", secret).session_id
    asked = Call("search_memory", '{"query": "cat Mimi Sintra"}', "call_s"), Call("recall", "{}", "call_f")
    for user, session, tells in (("leo", None, False), ("lea", adas, True), ("lea", None, True), ("", None, False)):
        begun = len(model.bodies)
        model.steps.extend([Step(calls=asked), Step(text="So it is.")])
        people.ask(user, "Where does my cat live?", session)
        assert ("Mimi, in Sintra" in json.dumps(model.bodies[begun:])) is tells, (user, session)


def test_a_session_of_somebody_else_is_refused_like_one_that_is_not_there(
    people: People, embedded: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adas = people.ask("ada", "mine").session_id
    (tmp_path / "note.txt").write_text("a note")
    bob = embedded.having(FLAME_AGENT_USER="bob")
    unknown = bob("-s", "NOSUCH", "-m", "hi", "--json", code=4).error
    refused = bob("-s", adas, "-m", "hi", "--attach", str(tmp_path / "note.txt"), "--json", code=4).error
    assert refused == {**unknown, "message": unknown["message"].replace("NOSUCH", adas), "session_id": adas}
    for command in (["retry", adas], ["-s", adas, "-m", "hi", "--steer"], ["-s", adas, "-m", "hi", "--interrupt"]):
        bob(*command, code=4)

    monkeypatch.setattr(person, "admit", lambda *_: person.Admitted(None, ""))  # a client that asks all the same
    with pytest.raises(errors.NoSuchSession):
        people.ask("bob", "hi", adas)
    assert [turn["question"] for turn in embedded("history", adas, "--json").json["turns"]] == ["mine"]


def test_the_memory_of_somebody_else_is_not_taken_from_a_question(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    adas, bobs = people.ask("ada", "first").session_id, people.ask("bob", "first").session_id
    before = people.remembered("ada"), people.remembered("bob")
    key = person.find_memory(people.client._connection, "bob")
    beside = f"{place.prefix(_HERE, 'ada')}/../{key.removeprefix(f'{_HERE}/')}"
    for crafted in (key, beside):
        monkeypatch.setattr(person, "admit", lambda *_, crafted=crafted: person.Admitted(None, crafted))
        assert people.ask("ada", "crafted", adas).note == ""
    monkeypatch.undo()
    assert (people.remembered("ada"), people.remembered("bob")) == before
    people.ask("ada", "then", adas)
    assert people.remembered("ada") == [*before[0], (adas, "crafted"), (adas, "crafted"), (adas, "then")]
    assert (bobs, "first") in people.remembered("bob")


@pytest.mark.parametrize("name", ["Žofie 佐藤 😀", "../../bob/x", "a" * 5000, "%2e%2e/\\'\";--", "flmping"])
def test_a_user_may_have_any_name(people: People, name: str) -> None:
    reply = people.ask(f"  {name} ", "Who am I?")
    people.ask(name, "Still?", reply.session_id)
    assert people.remembered(name) == [(reply.session_id, "Who am I?"), (reply.session_id, "Still?")]


def test_a_session_of_nobody_is_everybodys_and_nothing_of_it_is_remembered(people: People) -> None:
    session = people.ask("", "anybody").session_id
    people.ask("nina", "me too", session)
    assert people.client.history(session).as_json()["owner"] == ""
    assert people.remembered("") == people.remembered("nina") == []


def test_switched_off_nothing_is_remembered(embedded: Program, people: People) -> None:
    session = embedded.having(AGENT_MEMORY="off", FLAME_AGENT_USER="olga")("-m", "hi", "--json").json["session_id"]
    assert people.client.history(session).as_json()["owner"] == "olga"
    assert people.memory("olga") is None


def test_who_has_asked_before_all_was_erased_elsewhere_asks_in_what_was_begun_then(
    people: People, embedded: Program
) -> None:
    first = people.ask("enno", "I live in Lisbon.").session_id
    embedded("memory", "erase", "--user", "enno", "--yes")
    again = people.ask("enno", "I live in Porto.", first)
    second = people.ask("enno", "Where?")
    assert (again.note, second.note) == ("", "")
    assert people.remembered("enno") == [(first, "I live in Porto."), (second.session_id, "Where?")]


def test_what_is_taken_back_is_not_remembered_any_more(people: People, embedded: Program) -> None:
    session = people.ask("rita", "one").session_id
    for question in ("two", "three"):
        people.ask("rita", question, session)
    embedded("rewind", session, "--to", "2")
    assert people.remembered("rita") == [(session, "one"), (session, "two")]
    embedded.having(FLAME_AGENT_USER="rita")("retry", session)
    assert people.remembered("rita") == [(session, "one"), (session, "two")]
    assert len(people.client.history(session).as_json()["turns"]) == 2


def test_a_client_that_is_killed_when_it_takes_back_leaves_that_to_the_next_turn(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = people.ask("kim", "one").session_id
    people.ask("kim", "two", session)
    with monkeypatch.context() as killed:
        killed.setattr(person, "take_back", lambda *_: None)
        people.client.rewind(session, 1)
    assert people.remembered("kim") == [(session, "one"), (session, "two")]
    people.ask("kim", "three", session)
    assert people.remembered("kim") == [(session, "one"), (session, "three")]


def test_a_session_that_is_deleted_is_not_remembered_and_the_memory_stays(people: People, embedded: Program) -> None:
    first, second = people.ask("dora", "one").session_id, people.ask("dora", "two").session_id
    embedded("delete", first, "--yes")
    assert people.remembered("dora") == [(second, "two")]
    embedded("delete", second, "--yes")
    assert people.remembered("dora") == []

    frontend, memory = people.client._connection.frontend, place.session_id(_HERE, "dora")
    assert (frontend.session(memory).application, frontend.session(memory).open) == (place.HOLDER, True)
    assert memory not in embedded("sessions", "--json").out
    for command in ("history", "delete"):
        embedded(command, memory, *(["--yes"] if command == "delete" else []), code=4)
    third = people.ask("dora", "three").session_id
    assert people.remembered("dora") == [(third, "three")]


def test_who_is_killed_while_a_session_is_deleted_deletes_it_again(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = people.ask("dave", "one").session_id
    connection = people.client._connection

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    for where, name in ((person, "take_back"), (connection.cache, "delete"), (connection.frontend, "delete_session")):
        with monkeypatch.context() as at, pytest.raises(Killed):
            at.setattr(where, name, killed)
            people.client.delete_session(session)
    people.client.delete_session(session)
    assert people.remembered("dave") == []
    with pytest.raises(errors.NoSuchSession):
        people.client.session(session)


def test_a_copy_is_of_who_copies_and_brings_no_memory(people: People, embedded: Program) -> None:
    origin = people.ask("eve", "my secret").session_id
    copy = embedded("fork", origin, "--user", "mallory", "-q").out.strip()
    assert people.client.history(copy).as_json()["owner"] == "mallory"
    people.ask("mallory", "hello", copy)
    people.ask("mallory", "again", copy)
    assert people.remembered("mallory") == [(copy, "hello"), (copy, "again")]
    people.client.rewind(copy, 0)
    assert people.remembered("mallory") == []
    assert people.remembered("eve") == [(origin, "my secret")]
    with pytest.raises(errors.NoSuchSession):
        people.ask("eve", "hi", copy)


def test_a_copy_of_ones_own_doubles_nothing_and_takes_nothing_back(people: People) -> None:
    origin = people.ask("fay", "one").session_id
    copy = people.client.fork(origin, user="fay").session_id
    people.ask("fay", "two", copy)
    people.client.rewind(copy, 0)
    people.ask("fay", "three", copy)
    people.client.delete_session(copy)
    assert people.remembered("fay") == [(origin, "one")]


def test_an_import_is_of_who_imports(people: People, embedded: Program, tmp_path: Path) -> None:
    origin = people.ask("gus", "one").session_id
    (tmp_path / "talk.json").write_text(embedded("export", origin, "-f", "json").out)
    done = embedded("import", str(tmp_path / "talk.json"), "--user", "hal", "--json")
    assert people.client.history(json.loads(done.out)["session_id"]).as_json()["owner"] == "hal"
    assert people.remembered("gus") == [(origin, "one")]


def test_two_sessions_of_one_person_at_once_lose_nothing(people: People) -> None:
    sessions = [people.ask("ida", f"begin {number}").session_id for number in range(2)]
    with ThreadPoolExecutor() as at_once:
        for number in range(5):
            list(at_once.map(lambda session, n=number: people.ask("ida", f"{n} in {session}", session), sessions))
    asked = {(session, f"{number} in {session}") for session in sessions for number in range(5)}
    remembered = people.remembered("ida")
    assert len(remembered) == 12 and asked <= set(remembered)
