"""Lists of sessions: what was read once is not read again, and what others have changed is seen, in every way."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from flameagent.conversation import Call, ConversationLog, EditBody, PendingBody, TurnBody
from tests.integration.client.conftest import Sessions


def turn(number: int, question: str = "") -> TurnBody:
    items = [{"role": "user", "content": question}, {"role": "assistant", "content": f"answer {number}"}]
    return TurnBody(f"turn-{number}", question or f"question {number}", items, {"answer": f"answer {number}"})


def test_what_a_list_has_read_is_not_read_again(sessions: Sessions) -> None:
    first, _ = sessions.make("first"), sessions.make("second", owner="ada")
    first.append(turn(1, "Where is Lisbon?"))
    found = sessions.listed()
    assert sorted(sessions.read) == ["first", "second"]
    assert (found["first"].title, found["first"].turns, found["second"].owner) == ("Where is Lisbon?", 1, "ada")
    assert sessions.listed() == found == sessions.listed(sessions.another())
    assert sessions.read == []
    assert sessions.listed(limit=1).keys() == {"second"} and sessions.read == []


def wait(log: ConversationLog) -> None:
    call = Call("c1", "forget_all", "{}")
    log.append(PendingBody("waits", "May I?", [call], {}, [{"role": "user", "content": "May I?"}]))


CHANGES: dict[str, Callable[[Sessions, ConversationLog], object]] = {
    "a turn": lambda _, log: log.append(turn(2)),
    "a title": lambda _, log: log.append(EditBody("title", title="Something else")),
    "a rewind": lambda _, log: log.append(log.load_all().rewind_edit(0)),
    "a turn that waits": lambda _, log: wait(log),
    "a turn cancelled": lambda _, log: log.append(EditBody("cancel", turn="turn-9")),
    "all cleared": lambda _, log: log.append(EditBody("clear")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_client_has_changed_is_seen(sessions: Sessions, change: str) -> None:
    log, _ = sessions.make("changed"), sessions.make("same")
    log.append(turn(1))
    before = sessions.listed()
    CHANGES[change](sessions, log)
    after = sessions.agrees()
    assert sessions.read == ["changed"]
    assert after["changed"] != before["changed"] and after["same"] == before["same"]
    assert sessions.agrees() == after and sessions.read == []


def test_a_session_that_is_closed_is_not_read_for_that(sessions: Sessions) -> None:
    sessions.make("closed")
    assert sessions.listed()["closed"].state == "open"
    sessions.frontend.close_session(f"{sessions.name}-closed")
    assert sessions.agrees()["closed"].state == "closed" and sessions.read == []
    assert sessions.listed(state="open") == {}


def test_a_long_conversation_is_read_when_its_newest_segment_has_grown(sessions: Sessions) -> None:
    log = sessions.make("long", segment_records=4)
    for number in range(1, 14):
        log.append(turn(number))
        assert sessions.agrees()["long"].turns == number
        assert sessions.read == ["long"]
        assert sessions.agrees()["long"].title == "question 1" and sessions.read == []


def test_a_session_that_is_gone_is_in_no_list_and_leaves_no_text(sessions: Sessions) -> None:
    for name in ("gone", "stays"):
        sessions.make(name).append(turn(1, f"the secret of what {name}"))
    sessions.listed()
    assert b"the secret of what gone" in sessions.bytes_kept()
    sessions.delete("gone")
    assert sessions.agrees().keys() == {"stays"}
    kept = sessions.bytes_kept()
    assert b"the secret of what gone" not in kept and b"the secret of what stays" in kept


def test_a_session_that_this_client_deletes_leaves_no_text(sessions: Sessions) -> None:
    names = [f"n{number:02}" for number in range(40)]
    for name in names:
        sessions.make(name).append(turn(1, f"the secret of {name} " * 40))
    sessions.listed()
    random.Random(5).shuffle(names)
    for name in names[:30]:
        with sessions.another() as client:
            client.delete_session(f"{sessions.name}-{name}")
        assert f"the secret of {name}".encode() not in sessions.bytes_kept()
    assert sessions.agrees().keys() == set(names[30:]) and sessions.read == []
    for name in names[30:39]:  # many at once, by one client that stays
        sessions.client.delete_session(f"{sessions.name}-{name}")
    assert sessions.listed().keys() == {names[39]}
    kept = sessions.bytes_kept()
    assert [name for name in names if f"the secret of {name}".encode() in kept] == [names[39]]


def test_a_session_that_is_made_again_under_its_id_is_another(sessions: Sessions) -> None:
    sessions.make("again", owner="ada").append(turn(1, "hers"))
    assert sessions.listed()["again"].owner == "ada"
    sessions.delete("again")
    sessions.make("again", owner="bob").append(turn(1, "his!"))
    found = sessions.agrees()["again"]
    assert (found.owner, found.title) == ("bob", "his!")
    assert b"hers" not in sessions.bytes_kept()


def test_damage_hides_no_other_session_and_is_seen_each_time(sessions: Sessions) -> None:
    for name in ("whole", "damaged", "gone"):
        sessions.make(name).append(turn(1))
    assert sessions.listed()["damaged"].problem == ""
    sessions.cache.patch(sessions.key("damaged"), b"no record")
    sessions.cache.delete(f"{sessions.name}/{sessions.name}-gone")
    sessions.frontend.create_session(f"{sessions.name}-wrong", sessions.name, b"no reference")
    sessions.frontend.create_session(f"{sessions.name}-none", sessions.name, None)
    for _ in range(2):
        found = sessions.agrees()
        assert (found["damaged"].problem, found["damaged"].turns) == ("damaged", 1)
        assert "gone" in found["gone"].problem and "reference" in found["wrong"].problem
        assert found["none"].problem == "keeps no history" and found["whole"].problem == ""
        assert "damaged" in sessions.read and "whole" not in sessions.read


def test_a_search_reads_what_it_is_not_in_the_title_of(sessions: Sessions) -> None:
    sessions.make("title").append(turn(1, "Where is Lisbon?"))
    sessions.make("text").append(turn(1, "Where is it?"))
    sessions.make("text2").append(turn(7, "Where is it?"))
    sessions.listed()
    found = sessions.listed(search="lisbon")
    assert found["title"].match == "title: Where is Lisbon?" and found.keys() == {"title"}
    assert sorted(sessions.read) == ["text", "text2"]
    assert sessions.listed(search="ANSWER 7")["text2"].match == "turn 1: answer 7"
    assert sessions.listed()["text2"].match == "" and sessions.read == []


def test_lists_agree_while_others_add(sessions: Sessions) -> None:
    logs = [sessions.make(f"n{number}", segment_records=5) for number in range(6)]
    ended, wrong = threading.Event(), list[BaseException]()

    def list_on() -> None:
        try:
            with sessions.another() as client:
                for _ in itertools.takewhile(lambda _: not ended.is_set(), itertools.count()):
                    client.sessions()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=list_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    chance = random.Random(3)
    for number in range(60):
        chance.choice(logs).append(turn(number))
    ended.set()
    for thread in threads:
        thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)
    assert sum(info.turns for info in sessions.agrees().values()) == 60
    assert sessions.agrees() and sessions.read == []


def test_many_sessions_are_listed_with_progress_and_then_without_reading(sessions: Sessions) -> None:
    sessions.make_many(1100)
    told: list[str] = []
    found = sessions.client.sessions(on_progress=told.append)
    assert told == [f"reading sessions, {done} of 1100" for done in (0, 500, 1000)]
    assert len(found) == len(sessions.read) == 1100
    assert [info.session_id for info in found] == sorted((info.session_id for info in found), key=_made(found))
    sessions.read.clear()
    assert sessions.client.sessions() == found
    assert sessions.client.sessions(limit=20) == found[:20]
    assert sessions.read == []


def _made(found: list) -> Callable[[str], object]:  # type: ignore[type-arg]
    created = {info.session_id: info.created for info in found}
    order = {session_id: place for place, session_id in enumerate(sorted(created, reverse=True))}
    return lambda session_id: (-created[session_id], order[session_id])


def test_a_list_may_be_larger_than_a_message_of_grpc_s_default(sessions: Sessions) -> None:
    sessions.make_many(120, b"x" * 40_000)
    assert len(sessions.frontend.sessions()) >= 120
    assert len(sessions.listed()) == 120
    with closing(sqlite3.connect(sessions.files[0])) as file:
        assert file.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
