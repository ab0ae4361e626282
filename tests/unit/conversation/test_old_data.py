"""Data that earlier programs wrote stays readable: whole conversations, pickles and an application's description.

`tests/data` was written once, by the program of November 2026, and is not written again: `whole` has every kind of
record and edit over several segments, `copy` began as a copy of it, `early` lacks the fields that came after the
first version, and `once` has turns in the form of version 7 among others. Each is a folder with an object of the
cache a file, as it is there: the base of the first as a pickle, the other bases and all records as JSON, one a line.
`expected.json` says what they fold to, and `program` is that program's `apis.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from flameagent import wire
from flameagent.apis import Answer, Decision, MyContext, Question
from flameagent.client import application, payloads
from flameagent.conversation import ConflictError, Conversation, ConversationLog, FlameSession, context
from tests.support.conversations import cold, cold_from_the_first, message, turn
from tests.support.memory_cache import MemoryCache, StoredObject

DATA = Path(__file__).parents[2] / "data"
EXPECTED: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
SESSIONS = {
    "whole": "openai-agent-OLD1AB",
    "copy": "openai-agent-COPY01",
    "early": "openai-agent-EARLY1",
    "once": "openai-agent-ONCE01",
}
SEGMENT_RECORDS = {"whole": 8, "copy": 8, "early": 5, "once": 8}
ANSWER_OF_THEN = ("answer", "turn", "turn_id", "model", "usage", "pending", "on", "note", "error", "code")
TURNS = [f"turn-{number}" for number in range(60)]


def stored(name: str) -> tuple[MemoryCache, str]:
    """A cache with the conversation of that name, and the key of its first object."""
    cache, prefix = MemoryCache(), f"openai-agent/{SESSIONS[name]}"
    for file in sorted((DATA / name).glob("*.jsonl")):
        rows = file.read_bytes().splitlines()
        first = file.stem == "first"
        base = (DATA / name / "first.pickle").read_bytes() if first else rows.pop(0)
        cache.objects[f"{prefix}/{file.stem}"] = StoredObject(base, 1, list(enumerate(rows, 2)))
    return cache, f"{prefix}/first"


def state_of(conversation: Conversation) -> dict[str, Any]:
    """The state, on which every reader agrees, whatever it has read."""
    waiting = conversation.waiting
    return {
        "prompt": conversation.prompt,
        "seq": conversation.seq,
        "last": conversation.last,
        "revision": conversation.revision,
        "segments": conversation.segments,
        "items": conversation.item_count,
        "turns": conversation.turn_count,
        "model": conversation.model,
        "usage": to_builtins(conversation.usage),
        "facts": list(conversation.facts.items()),
        "title": conversation.title,
        "again": conversation.retry_question,
        "size": conversation.size,
        "changed": conversation.changed,
        "always": sorted(conversation.always_approved),
        "decided": list(conversation.decided),
        "recent": [[each.turn, each.question, each.answer] for each in conversation.recent],
        "cancelled": list(conversation.cancelled),
        "settled": [each for each in [*TURNS, "turn-cancelled"] if conversation.is_old_turn(each)],
        "waiting": None
        if waiting is None
        else {
            "on": waiting.record_id,
            "pending": to_builtins(waiting.pending),
            "decision": None if waiting.decision is None else to_builtins(waiting.decision),
        },
        "damage": str(conversation.damage),
    }


def whole(log: ConversationLog) -> dict[str, Any]:
    """The rest of the conversation, when everything was read."""
    log.refresh()
    conversation = log.load(0)
    end, blocks = conversation.checkpoint_at(conversation.turn_count - 2)
    return {
        "origin": conversation.origin,
        "contents": conversation.items(),
        "history": [[of_then(to_builtins(turn)), len(items)] for turn, items in conversation.turns()],
        "rewound": [
            {
                "turns": rewind.turns,
                "by": rewind.by,
                "at": rewind.at,
                "blocks": [[block.turn and block.turn.id, block.items] for block in rewind.blocks],
            }
            for rewind in conversation.rewinds
        ],
        "two turns before": [to_builtins(end), sum(len(block.items) for block in blocks)],
        "calls": sorted(conversation.call_ids()),
    }


def of_then(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn without what that program did not take from the records of its decisions."""
    for decision in turn.get("decisions", ()):
        for name in ("left", "items", "usage", "again"):
            decision.pop(name, None)
    return turn


async def answers(session: FlameSession) -> dict[str, Any]:
    """The answer to each turn that is asked again, by its ID; "conflict" to one that was cancelled long ago."""
    found: dict[str, Any] = {}
    for turn_id in TURNS:
        try:
            answer = await session.stored(turn_id, turn_id.replace("turn-", "question "))
        except ConflictError:
            found[turn_id] = "conflict"
        else:
            found |= {} if answer is None else {turn_id: {name: vars(answer)[name] for name in ANSWER_OF_THEN}}
    return found


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("reader", [cold, cold_from_the_first])
async def test_an_old_conversation_is_what_it_was(name: str, reader: Callable[..., ConversationLog]) -> None:
    cache, key = stored(name)
    log = reader(cache, key, SEGMENT_RECORDS[name]) if reader is cold else reader(cache, key)
    expected = EXPECTED[name]
    begun = expected["folded"] | (expected.get("from the newest segment", {}) if reader is cold else {})
    assert plain(state_of(log.refresh())) == begun
    assert plain(whole(log)) == expected["whole"]
    assert plain(state_of(log.conversation)) == expected["folded"]
    fresh = cold(cache, key, SEGMENT_RECORDS[name])
    assert plain(await answers(FlameSession(SESSIONS[name], fresh))) == expected["answers"]


@pytest.mark.parametrize("name", SESSIONS)
def test_an_old_conversation_goes_on(name: str) -> None:
    cache, key = stored(name)
    log = cold(cache, key, SEGMENT_RECORDS[name])
    before = log.refresh()
    items, turns = before.item_count, before.turn_count
    pending = before.waiting and before.waiting.pending.turn
    for number in range(20):
        body = turn(pending if pending and not number else f"new-{number}")
        assert log.append(body) is None
    for each in log, cold(cache, key, SEGMENT_RECORDS[name]), cold_from_the_first(cache, key):
        conversation = each.refresh()
        assert (conversation.item_count, conversation.turn_count) == (items + 40, turns + 20)
        assert conversation.damage is None and conversation.segments >= 2
        assert each.load(0).items()[-1] == message("<new-19> 1")


QUESTION = Question(
    "Forget my city",
    "turn-2",
    "gpt-5-mini",
    "openai-agent/openai-agent-OLD1AB/stream",
    Decision("decision-2", "record-1", ("call_1",), ("call_2",), "Not that order.", True, "bob"),
)
USAGE = {"requests": 2, "input_tokens": 150, "cached_tokens": 20, "output_tokens": 15}
ANSWER = Answer("Done ☂", 2, "turn-2", "gpt-5-mini", USAGE, None, "", "a note", "", "")
CALLS = [
    {"id": "call_1", "tool": "forget", "arguments": '{"key": "city"}'},
    {"id": "call_2", "tool": "refund", "arguments": '{"order": 7}', "agent": "clerk"},
]
WAITS = Answer("", turn_id="turn-2", model="gpt-5-mini", pending=CALLS, on="record-1", code="waiting")
MESSAGES = [message("from before"), message("Willkommen, 世界", "assistant")]
PICKLED = {
    "question": QUESTION,
    "plain-question": Question("Who are you?"),
    "decision": QUESTION.decision,
    "answer": ANSWER,
    "waiting-answer": WAITS,
    "context": MyContext("Be kind.", [json.dumps(each) for each in MESSAGES]),
}


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("name", PICKLED)
def test_an_old_pickle_is_the_same_object(name: str, protocol: int) -> None:
    data = (DATA / "pickles" / f"{name}.{protocol}.pickle").read_bytes()
    assert wire.read_any(data) == PICKLED[name]
    if isinstance(PICKLED[name], Answer):
        assert payloads.answer(data) == PICKLED[name]


@pytest.mark.parametrize("protocol", [4, 5])
def test_the_task_of_an_old_question_is_recognized(protocol: int) -> None:
    data = (DATA / "pickles" / f"question.{protocol}.pickle").read_bytes()
    assert (payloads.task_name(data), payloads.turn_id(data)) == ("decision-2", "turn-2")


def test_pickles_without_the_fields_that_came_later_are_read() -> None:
    question = wire.read_any((DATA / "pickles" / "first-question.pickle").read_bytes())
    assert (question.question, question.id, question.decision) == ("Who are you?", "", None)
    answer = payloads.answer((DATA / "pickles" / "first-answer.pickle").read_bytes())
    assert answer is not None
    assert (answer.answer, answer.turn, answer.pending, answer.code) == ("I am a forecaster.", 0, None, "")


@pytest.mark.parametrize("name", PICKLED)
def test_a_program_with_the_apis_of_then_alone_reads_what_is_pickled_now(name: str) -> None:
    """Flamepy unpickles by name: the names of the classes and the fields stay, and new fields do no harm."""
    newer = replace(PICKLED[name], user="ada", context={"tenant": 7}) if name == "question" else PICKLED[name]
    program = f"""
import json, pickle, sys
from dataclasses import asdict, replace
import apis
read = pickle.loads(sys.stdin.buffer.read())
assert type(read) is getattr(apis, {type(newer).__name__!r}), type(read)
print(json.dumps(asdict(read)), pickle.dumps(read).hex())
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(DATA / 'program')!r}){program}"],
        input=wire.write(newer),
        capture_output=True,
        check=True,
        cwd="/",
    )
    fields, pickled = ran.stdout.decode().rsplit(" ", 1)
    then, now = json.loads(fields), plain(asdict(newer))
    if then.get("decision"):
        now["decision"] = {name: now["decision"][name] for name in then["decision"]}
    assert then.items() <= now.items()
    assert wire.read_any(bytes.fromhex(pickled)) == newer


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_old_context_is_read(protocol: int) -> None:
    data = (DATA / "pickles" / f"context.{protocol}.pickle").read_bytes()
    assert context.read(data)[:3] == ("Be kind.", MESSAGES, "")


def test_an_old_description_is_the_same_application() -> None:
    assert application.read(DATA / application.FILE)[0] == application.Application(
        "openai-agent",
        DATA,
        "agent",
        description="An agent built with the OpenAI Agents SDK, whose conversations are kept in Flame",
        labels=("agent", "openai-agents"),
        environments={"TMPDIR": "/tmp"},
        delay_release=600,
        max_instances=100,
    )
