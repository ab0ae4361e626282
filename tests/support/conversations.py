"""Conversations for tests: a first object in a cache, logs on it, and what a log says of it."""

from __future__ import annotations

import copy
from typing import Any

from msgspec import structs

from flameagent.apis import Answer, MyContext
from flameagent.conversation import (
    Call,
    ConversationLog,
    EditBody,
    FlameSession,
    Item,
    PendingBody,
    State,
    TurnBody,
    Usage,
    context,
)
from flameagent.conversation.reader import Cache
from tests.support.memory_cache import MemoryCache

PREFIX = "openai-agent/session"


def begin(cache: Cache, items: list[str] | None = None, *, prompt: str = "Be kind.", prefix: str = PREFIX) -> str:
    """The key of a new conversation's first object."""
    return cache.put(prefix, context.write(MyContext(prompt, items))).key


def message(text: str, role: str = "user") -> Item:
    return {"role": role, "content": text}


def turn(name: str, *, question: str = "", items: int = 2) -> TurnBody:
    """A turn whose items carry its name; one of an even name ends with its answer, which its record says once."""
    said = [message(f"<{name}> {number}") for number in range(items)]
    usage, model = Usage(requests=1, input_tokens=10, output_tokens=2), f"model of {name}"
    answer: dict[str, Any] = {"answer": f"answer of {name}"}
    if said and name[-1:] in "02468":
        answer = {"answer": said[-1]["content"], "turn_id": name, "model": model, "usage": structs.asdict(usage)}
    return TurnBody(
        turn=name,
        question=question or f"question of {name}",
        items=said,
        answer=answer,
        usage=usage,
        model=model,
        facts={"newest": name, f"fact {len(name)}": name} if name[-1:] in "13579" else {"newest": None},
    )


def waiting(name: str) -> PendingBody:
    """A turn that stopped at a call."""
    return PendingBody(
        turn=name,
        question=f"question of {name}",
        calls=[Call(f"call of {name}", "forget", "{}")],
        state={"of": name},
        items=[message(f"<{name}> asked")],
    )


def added(name: str, items: int = 1) -> EditBody:
    return EditBody("add", items=[message(f"<{name}> {number}") for number in range(items)])


def cold(cache: Cache, key: str, segment_records: int = 256) -> ConversationLog:
    return ConversationLog(cache, key, segment_records=segment_records, patience=5.0)


def conversation(turns: int, segment_records: int = 256) -> tuple[MemoryCache, str, ConversationLog]:
    """A cache, the key of a conversation in it that has so many turns, and the log that wrote them."""
    cache = MemoryCache()
    key = begin(cache)
    log = cold(cache, key, segment_records)
    for number in range(turns):
        log.append(turn(f"t{number}"))
    return cache, key, log


def cold_from_the_first(cache: Cache, key: str) -> ConversationLog:
    """A reader that believes no hint: it asks the first object for more than it has, and gets all."""
    return cold(cache, key, segment_records=100_000)


def state(log: ConversationLog) -> dict[str, Any]:
    """The state, on which every reader must agree, whatever it has read."""
    conversation = log.conversation
    fields = {name: getattr(conversation, name) for name in State.__struct_fields__}
    return copy.deepcopy({**fields, "revision": conversation.revision, "damage": str(conversation.damage)})


def everything(log: ConversationLog) -> dict[str, Any]:
    """The conversation, on which every reader must agree once it has read all."""
    log.refresh()
    log.load(0)
    return {**state(log), "items": log.conversation.items(), "turns": log.conversation.turns()}


def open_session(cache: MemoryCache, key: str, **options: Any) -> FlameSession:
    """A session as a process opens it, of segments that are soon full."""
    return FlameSession("s", cold(cache, key, segment_records=4), **options)


MODEL, USAGE = "a-model", Usage(requests=1, input_tokens=5)


def answered(text: str, number: int, turn_id: str) -> Answer:
    """The answer with which a turn of `ask` ends."""
    return Answer(text, turn=number, turn_id=turn_id, model=MODEL, usage=structs.asdict(USAGE))


async def ask(session: FlameSession, turn_id: str, question: str, answer: str = "fine") -> Answer | None:
    """A turn of two items; the answer that it ends with."""
    async with session.turn(turn_id, question) as staged:
        asked: list[Any] = [message(question)]
        said: list[Any] = [message(answer, "assistant")]
        await session.add_items(asked)
        await session.add_items(said)
        staged.answer, staged.model, staged.usage = Answer(answer, usage=structs.asdict(USAGE)), MODEL, USAGE
    return staged.answer
