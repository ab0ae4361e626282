"""Lists of turns that failed: whoever lists them, and in whatever way, finds the same."""

from __future__ import annotations

import time
from typing import Any

import pytest

import localflame
from flameagent.apis import Question
from flameagent.client import payloads
from flameagent.client.failures import FailedTurns
from flameagent.conversation import EditBody, TurnBody
from flameagent.conversation import failures as under_test
from flameagent.conversation.failures import Failure, FailureLog, failure_keys
from tests.integration.client.conftest import Sessions

_ANSWERED = {"answer": "yes"}


def note(sessions: Sessions, name: str, turn: str, ended: int = 0, **more: Any) -> Failure:
    failure = Failure(turn, ended or int(time.time() * 1000), "model", f"why {turn}", f"asked in {turn}", **more)
    FailureLog(sessions.cache, sessions.name, f"{sessions.name}-{name}").add(failure)
    return failure


def listed(sessions: Sessions, **wanted: Any) -> dict[str, list[str]]:
    """The turns that failed, by session."""
    found: list[FailedTurns] = sessions.client.failed_sessions(**wanted)
    return {
        each.session.session_id.removeprefix(f"{sessions.name}-"): [failed.turn for failed in each.failures]
        for each in found
    }


def test_sessions_with_failures_are_listed(sessions: Sessions) -> None:
    for name in ("a", "b", "c"):
        sessions.make(name).append(TurnBody(f"first-{name}", f"question of {name}", [], _ANSWERED))
    note(sessions, "a", "t1", ended=1000)
    note(sessions, "a", "t2", ended=3000)
    note(sessions, "c", "t3", ended=2000)
    assert listed(sessions) == {"c": ["t3"], "a": ["t1", "t2"]}
    assert listed(sessions, since=2000) == {"c": ["t3"], "a": ["t2"]}
    assert listed(sessions, until=1999) == {"a": ["t1"]}
    assert listed(sessions, since=3001) == {}
    assert listed(sessions, search="question of c") == {"c": ["t3"]}
    assert listed(sessions, search="ASKED  in t1") == {"a": ["t1", "t2"]}
    assert listed(sessions, search="why t3") == {"c": ["t3"]}
    assert listed(sessions, search="asked in t3", until=1999) == {}
    assert listed(sessions, state="closed") == {}
    assert listed(sessions, limit=1) == {"c": ["t3"]}
    note(sessions, "b", "t4")
    assert listed(sessions) == {"c": ["t3"], "b": ["t4"], "a": ["t1", "t2"]}


def test_what_was_answered_has_not_failed(sessions: Sessions) -> None:
    log = sessions.make("a", segment_records=4)
    note(sessions, "a", "t1")
    note(sessions, "a", "t2")
    assert listed(sessions) == {"a": ["t1", "t2"]}
    log.append(TurnBody("t1", "again", [], _ANSWERED))
    assert listed(sessions) == {"a": ["t2"]}
    log.append(EditBody("cancel", turn="t2"))
    for number in range(300):  # none of the newest any more
        log.append(TurnBody(f"later-{number}", "later", [], _ANSWERED), read=False)
    assert listed(sessions) == {"a": ["t2"]}


def test_a_damaged_conversation_hides_no_failure(sessions: Sessions) -> None:
    sessions.make("a")
    sessions.cache.patch(sessions.key("a"), b"no record")
    note(sessions, "a", "t1")
    assert listed(sessions) == {"a": ["t1"]}
    history = sessions.client.history("a", failures=True)
    assert history.damage
    assert [each.turn for each in history.failures] == ["t1"]


def test_what_flame_has_cancelled_before_it_began_is_told(sessions: Sessions) -> None:
    """Nobody else knows of it: this agent's instance does not come up."""
    idle = localflame.Control(sessions.home)
    idle.application(sessions.name, folder=sessions.folder, command="/bin/sleep", arguments=["600"])
    sessions.make("a")
    session_id = f"{sessions.name}-a"
    asked = Question("never begun", id="t1", user="ada", attachments=[{"name": "cat.png"}])
    sessions.frontend.create_task(session_id, payloads.write(asked))
    assert listed(sessions) == {}
    sessions.client.close_session("a")
    (found,) = sessions.client.failed_sessions()
    (failure,) = found.failures
    assert (failure.turn, failure.code, failure.question) == ("t1", "cancelled", "never begun")
    assert (failure.user, failure.attachments) == ("ada", ["cat.png"])
    assert failure.reason.startswith("The turn was cancelled before it began")
    assert failure.began <= failure.ended
    assert sessions.client.history("a", failures=True).failures == found.failures
    assert listed(sessions, since=failure.ended + 1) == {}


def test_a_task_that_is_no_question_is_no_turn(sessions: Sessions) -> None:
    sessions.make("a")
    sessions.frontend.create_task(f"{sessions.name}-a", b"no pickle")
    sessions.client.close_session("a")
    assert listed(sessions) == {}


def test_who_deletes_a_session_deletes_its_failures(sessions: Sessions) -> None:
    sessions.make("a")
    note(sessions, "a", "t1")
    sessions.client.delete_session("a")
    assert listed(sessions) == {}
    for key in failure_keys(sessions.name, f"{sessions.name}-a"):
        with pytest.raises(Exception, match="not found"):
            sessions.cache.get(key)


def test_room_is_made_in_a_real_cache(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_ROWS", 3)
    sessions.make("a")
    for number in range(20):
        note(sessions, "a", f"t{number:02}", ended=1000 + number, task=str(number))
    assert listed(sessions) == {"a": ["t15", "t16", "t17", "t18", "t19"]}
