"""Sessions from the command line: listed, read, closed, damaged, gone; and those that plain flamepy makes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flameagent.apis import MyContext
from flameagent.conversation import Call, ConversationLog, PendingBody, TurnBody, context
from flameagent.conversation.codec import encode
from flameagent.flame import Endpoints, resolve
from flameagent.flame.cache import ObjectCache
from flameagent.flame.frontend import Frontend
from flamewire.object_ref import ObjectRef
from localflame import Control
from tests.acceptance.conftest import Warm
from tests.acceptance.program import ROOT, Program


def _endpoints(program: Program) -> Endpoints:
    found = resolve(program.environment)
    if found is None:
        where = program("engine", "start", "--json").json
        found = Endpoints(where["endpoint"], where["cache_endpoint"])
    return found


@contextmanager
def _flame(program: Program) -> Iterator[tuple[Frontend, ObjectCache]]:
    endpoints = _endpoints(program)
    frontend, cache = Frontend(endpoints), ObjectCache(endpoints)
    yield frontend, cache
    frontend.close()
    cache.close()


def _conversation(program: Program, session_id: str, *questions: str, prompt: str = "") -> str:
    """A session with turns that no model had to answer; the key of its object."""
    with _flame(program) as (frontend, cache):
        reference = cache.put(f"{program.name}/{session_id}", context.write(MyContext(prompt)))
        frontend.create_session(session_id, program.name, reference.encode())
        log = ConversationLog(cache, reference.key)
        for number, question in enumerate(questions, 1):
            items = [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
            log.append(TurnBody(f"{session_id}/{number}", question, items, {"answer": "yes"}, model="some-model"))
        return reference.key


def _line(program: Program, session_id: str) -> str:
    short = session_id.removeprefix(f"{program.name}-")
    return next(line for line in program("sessions").out.splitlines() if line.startswith(short))


def test_sessions_are_listed_newest_first_with_their_first_question(program: Program, warm: Warm) -> None:
    _conversation(
        program, f"{program.name}-LISTED", "a question\nof two lines and of more characters than fit in a line " * 2
    )
    _conversation(program, f"{program.name}-EMPTY1")
    head, *lines = program("sessions").out.splitlines()
    assert head.split() == ["ID", "STATE", "TURNS", "TOKENS", "SIZE", "AGE", "TITLE"]
    title = "a question of two lines and of more characters than fit in …"
    for line in (
        r"EMPTY1  +open         0       0   +\d+ B  +\d+ s",
        rf"LISTED  +open         1       0   +\d+ B  +\d+ s  {title}",
    ):
        assert any(re.fullmatch(line, each) for each in lines), lines
    assert any(line.startswith(f"{warm.part}  open") and line.endswith("  who are you?") for line in lines)
    found = {session["session_id"]: session for session in program("sessions", "--json").json}
    assert (found[f"{program.name}-LISTED"]["state"], found[f"{program.name}-LISTED"]["turns"]) == ("open", 1)
    created = [session["created"] for session in found.values()]
    assert created == sorted(created, reverse=True) and created[-1] > 1_600_000_000_000


def test_the_title_of_a_long_conversation_is_its_first_question(embedded: Program) -> None:
    _conversation(embedded, "openai-agent-LONG99", *(f"question {n}" for n in range(300)))
    assert re.search(r"open       300 .* question 0$", _line(embedded, "openai-agent-LONG99"))
    assert len(embedded("history", "LONG99", "--json").json["turns"]) == 300


def test_a_part_that_several_sessions_have_names_them(program: Program) -> None:
    _conversation(program, f"{program.name}-TWIN01")
    _conversation(program, f"{program.name}-TWIN02")
    for arguments in (("-s", "twin", "-m", "hi"), ("history", "twin"), ("close", "twin")):
        ambiguous = program(*arguments, code=4)
        assert ambiguous.out == ""
        assert ambiguous.err == (
            f"2 sessions have 'twin' in their ID: {program.name}-TWIN02, {program.name}-TWIN01. Give more of it.\n"
        )


def test_an_unknown_session_is_named(program: Program) -> None:
    unknown = program("-s", "nobody-has-this-id", "-m", "hi", code=4)  # unlike any that there may be
    assert unknown.err == (
        f"No session of {program.name} has 'nobody-has-this-id' in its ID. The command `sessions` lists them.\n"
    )
    assert program("history", "nobody", "--json", code=4).error["code"] == "no_session"
    assert program("-s", "", "-m", "hi", code=4).out == ""


def test_sessions_of_other_applications_are_not_seen(embedded: Program) -> None:
    with _flame(embedded) as (frontend, _):
        Control(Path(embedded.environment["LOCALFLAME_HOME"])).application(
            "another", folder=ROOT, command=sys.executable
        )
        frontend.create_session("another-session", "another", None)
    assert "another-session" not in embedded("sessions").out
    embedded("history", "another-session", code=4)


def test_a_closed_session_can_be_read_and_not_added_to(program: Program) -> None:
    session_id = f"{program.name}-CLOSED"
    _conversation(program, session_id, "hello", prompt="Be kind.")
    assert program("close", "CLOSED").out == f"Closed {session_id}.\n"
    assert program("close", "CLOSED", "--json").json == {"session_id": session_id, "state": "closed"}
    closed = program("-s", "CLOSED", "-m", "more", code=4)
    assert closed.err == (
        f"The session {session_id} is closed, so nothing can be added; its history can still be read.\n"
    )
    shown = program("history", "CLOSED").out
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", shown) == (
        f"Session {session_id} (closed), 1 turn\n"
        "  prompt     Be kind.\n"
        "\n"
        "Turn 1 · TIME · some-model\n"
        "  user       hello\n"
        "  assistant  yes\n"
    )
    assert program("history", "CLOSED", "--json").json["state"] == "closed"
    assert " closed " in _line(program, session_id)


def test_a_closed_session_in_which_a_call_waits_is_not_decided_on(program: Program) -> None:
    session_id = f"{program.name}-WAITS1"
    key = _conversation(program, session_id, "hello")
    with _flame(program) as (_, cache):
        call = Call("call_1", "forget", '{"key": "city"}')
        ConversationLog(cache, key).append(PendingBody("turn", "forget it", [call], {"a": "state"}, []))
    assert _line(program, session_id).startswith("WAITS1  waiting      1 ")
    assert program("history", session_id, "--json").json["state"] == "waiting"
    program("close", session_id)
    for command in ("approve", "reject"):
        closed = program(command, session_id, code=4)
        assert (closed.out, closed.err) == (
            "",
            f"The session {session_id} is closed, so nothing can be added; its history can still be read.\n",
        )
    shown = program("history", session_id)
    assert shown.err == ""
    assert shown.out.endswith('\nWaits for a decision\n  user       forget it\n  call_1  forget({"key": "city"})\n')
    assert " closed " in _line(program, session_id)


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("GARBAGE", b"garbage", "Record 2 cannot be read: "),
        (
            "NEWER",
            encode({"v": 99, "id": "x", "prev": "PREV", "seq": 1, "kind": "turn", "at": 0}),
            "Record 2 was written by a newer version of this program (kind 'turn', version 99).",
        ),
        (
            "GAP",
            encode({"v": 1, "id": "x", "prev": "PREV", "seq": 3, "kind": "turn", "at": 0}),
            "Records 2 to 3 are missing.",
        ),
    ],
)
def test_what_came_before_damage_can_be_read(program: Program, name: str, record: bytes, said: str) -> None:
    session_id = f"{program.name}-{name}"
    key = _conversation(program, session_id, "before")
    with _flame(program) as (_, cache):
        newest = json.loads(cache.get(key).patches[-1][1] or b"")["id"]
        cache.patch(key, record.replace(b"PREV", newest.encode()))
    damaged = program("history", session_id, code=8)
    assert damaged.out.endswith("  user       before\n  assistant  yes\n")
    assert damaged.err.startswith(said)
    both = program("history", session_id, "--json", code=8)
    assert [turn["question"] for turn in both.json["turns"]] == ["before"]
    assert (both.error["code"], both.error["session_id"]) == ("damaged", session_id)
    assert "(damaged)" in _line(program, session_id)


def test_nothing_is_added_to_a_damaged_conversation(program: Program) -> None:
    key = _conversation(program, f"{program.name}-BROKEN", "before")
    with _flame(program) as (_, cache):
        cache.patch(key, b"garbage")
    failed = program("-s", "BROKEN", "-m", "go on", "--json", code=8)
    assert (failed.json["status"], failed.error["code"]) == ("failed", "damaged")


def test_a_session_whose_objects_are_gone_says_so_and_hides_no_other(program: Program) -> None:
    _conversation(program, f"{program.name}-GONE01", "hello")
    with _flame(program) as (_, cache):
        cache.delete(f"{program.name}/{program.name}-GONE01")
    gone = program("history", "GONE01", code=8)
    assert gone.err == "The conversation's objects are gone from Flame's cache.\n"
    assert _line(program, f"{program.name}-GONE01").endswith(
        "(The conversation's objects are gone from Flame's cache.)"
    )


def test_a_session_without_context_keeps_no_history(program: Program) -> None:
    with _flame(program) as (frontend, _):
        frontend.create_session(f"{program.name}-BARE01", program.name, None)
    bare = program("history", "BARE01")
    assert bare.out == f"The session {program.name}-BARE01 (open) has no context: it keeps no history.\n"
    assert program("history", "BARE01", "--json").json["turns"] == []
    answered = program("-s", "BARE01", "-m", "hello")
    assert answered.out == "answer 1: hello\n"
    assert "without memory" in answered.err


_PLAIN = """
import json
from flamepy.service import Session
from flameagent.apis import MyContext, Question

items = [{"role": "user", "content": "earlier"}, {"role": "assistant", "content": "indeed"}]
session = Session(%r, ctx=MyContext(prompt="Be plain.", messages=[json.dumps(item) for item in items]))
answers = [session.invoke(Question(question=f"plain {n}")).answer for n in range(3)]
print(json.dumps([session.id(), answers]))
"""


def test_a_plain_flamepy_program_has_conversations_that_the_client_goes_on_with(program: Program) -> None:
    program("-m", "hello")  # which registers the agent, where no test before this one has
    endpoints = _endpoints(program)
    environment = program.environment | {
        "FLAME_ENDPOINT": endpoints.frontend,
        "FLAME_CACHE_ENDPOINT": endpoints.cache,
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(
        [sys.executable, "-c", _PLAIN % program.name], env=environment, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    session_id, answers = json.loads(ran.stdout)
    assert answers == [f"answer {n + 2}: plain {n}" for n in range(3)]
    gone_on = program("-s", session_id, "-m", "hello")
    assert gone_on.out == (
        "answer 5: hello\n"
        "\n"
        f"Session History ({session_id})\n"
        "  user       earlier\n"
        "  assistant  indeed\n"
        + "".join(f"  user       plain {n}\n  assistant  answer {n + 2}: plain {n}\n" for n in range(3))
        + "* user       hello\n* assistant  answer 5: hello\n"
    )
    read = program("history", session_id, "--json").json
    assert (read["prompt"], len(read["messages"]), len(read["turns"])) == ("Be plain.", 2, 4)


def test_an_object_that_is_no_conversation_is_damage(program: Program) -> None:
    with _flame(program) as (frontend, cache):
        reference = cache.put(f"{program.name}/{program.name}-ALIEN1", b"not a context")
        frontend.create_session(f"{program.name}-ALIEN1", program.name, reference.encode())
        frontend.create_session(f"{program.name}-ALIEN2", program.name, b"no reference")
        frontend.create_session(f"{program.name}-ALIEN3", program.name, ObjectRef("grpc://x:1", "a/b/c", 1).encode())
    for number in (1, 2, 3):
        assert program("history", f"ALIEN{number}", code=8).out in (
            "",
            f"Session {program.name}-ALIEN1 (open), 0 turns\n",
        )
    assert program("sessions").out.count("\nALIEN") == 3
