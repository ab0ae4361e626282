"""A turn that is watched: what its events tell, and what of the page that changes.

Promises that whoever comes in the middle, or again, gets the whole turn: nothing of what was sent before is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from flameagent.client.async_client import AsyncTurn, in_thread
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.events import (
    AgentChanged,
    AttemptBegan,
    Done,
    Event,
    Failed,
    MessageTaken,
    Progress,
    ReasoningDelta,
    TextDelta,
    ToolCalled,
    ToolOutput,
)
from flameagent.conversation import Attached, Item
from flameagent.conversation.codec import convert
from flameagent.server import sse
from flameagent.server.agents import Found
from flameagent.server.page import conversation
from flameagent.server.page.conversation import Running

_PAUSE = 0.08  # seconds between two changes
_SHARE = 4  # times as long as a change took to make is waited for the next


class LiveTurn:
    """The items of a turn as its events tell them, in the form in which they are recorded."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.doing = ""
        self.end: Done | Failed | None = None
        self._goes_on = ""  # the kind of the item that the next words belong to

    def feed(self, event: Event) -> None:
        """What has happened."""
        match event:
            case TextDelta(text):
                self._more("message", text)
            case ReasoningDelta(text):
                self._more("reasoning", text)
            case ToolCalled(call, tool, arguments):
                self._add({"type": "function_call", "name": tool, "arguments": arguments, "call_id": call})
                self.doing = f"calling {tool}"
            case ToolOutput(call, output):
                self._add({"type": "function_call_output", "call_id": call, "output": output})
                self.doing = "thinking"
            case MessageTaken(_, text):
                self._add({"type": "message", "role": "user", "content": text})
            case AgentChanged(agent):
                self._goes_on, self.doing = "", f"{agent} goes on"
            case Progress(doing):
                self.doing = doing
            case AttemptBegan():
                self.items, self._goes_on = [], ""
            case Done() | Failed():
                self.end = event

    def _add(self, item: Item) -> None:
        self.items.append(item)
        self._goes_on = ""

    def _more(self, kind: str, text: str) -> None:
        where = "content" if kind == "message" else "summary"
        if self._goes_on != kind:
            self._add({"type": kind, "role": "assistant", where: ""})
            self._goes_on, self.doing = kind, "answering" if kind == "message" else "thinking"
        self.items[-1][where] += text


async def events(found: Found, turn_id: str) -> AsyncIterator[bytes]:
    """The turn as events for the page's script, until it has come to its end, waits or has failed.

    `turn` has its frame, `parts` what is in place of the parts from a number on, `doing` a few words, `end` its foot
    and `next`: the turn that runs then. Raises `ClientError`.
    """
    turn = await found.client.attach(found.session_id, turn_id)
    await turn
    shown = Running(turn_id, turn.question, _files(turn))
    yield sse.event({"type": "turn", "html": conversation.begun(shown, found.session_id, found.agent)})
    live, changed, sent, doing = LiveTurn(), asyncio.Event(), list[str](), ""

    async def read() -> None:
        async for event in turn:
            live.feed(event)
            changed.set()

    reading = asyncio.ensure_future(read())
    reading.add_done_callback(lambda _: changed.set())
    try:
        while live.end is None:
            await changed.wait()
            changed.clear()
            if reading.done() and live.end is None:
                reading.result()
                return
            began = time.monotonic()
            items = list(map(dict, live.items))
            parts = await in_thread(lambda items=items: conversation.parts(items))  # type: ignore[misc]
            for change in _changes(sent, parts):
                yield change
            sent = parts
            if live.doing != doing and live.end is None:
                doing = live.doing
                yield sse.event({"type": "doing", "text": doing})
            if live.end is None:
                await asyncio.sleep(max(_PAUSE, _SHARE * (time.monotonic() - began)))
    finally:
        reading.cancel()
    if isinstance(live.end, Failed) and live.end.error.code == "timeout":
        return  # of watching; whoever comes again goes on
    parts, end = await in_thread(lambda: _end(live, turn, found.agent, sent))
    for change in _changes(sent, parts):
        yield change
    yield sse.event({"type": "end", "next": await _next(found, turn_id), **end})


async def _next(found: Found, but: str) -> str:
    """The ID of the turn that runs in a session now; "" where none does, or that one."""
    turn_id = (await running_turn(found)).turn_id
    return "" if turn_id == but else turn_id


async def running_turn(found: Found) -> Running:
    """The turn that runs in a session. Raises `ClientError`."""
    turn = found.client.attach(found.session_id)
    try:
        await turn
    except UsageError:
        return Running()
    return Running(turn.turn_id, turn.question, _files(turn))


def _files(turn: AsyncTurn) -> list[Attached]:
    files: list[Attached] = convert(turn.attachments, list[Attached])
    return files


def _changes(before: list[str], after: list[str]) -> list[bytes]:
    same = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        same += 1
    if same == len(before) == len(after):
        return []
    return [sse.event({"type": "parts", "from": same, "html": after[same:]})]


def _end(live: LiveTurn, turn: AsyncTurn, agent: str, sent: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The parts and the foot of a turn at its end."""
    if isinstance(live.end, Failed):
        return sent, {"state": "failed", "code": live.end.error.code, "foot": conversation.failed(live.end.error)}
    assert live.end is not None
    reply = live.end.reply
    if reply.pending:
        waiting = {call.id for call in reply.pending.calls}
        shown = [item for item in live.items if item.get("call_id") not in waiting]
        return conversation.parts(shown), {"state": "waiting", "foot": conversation.approval(reply.pending)}
    if reply.turn_id != turn.turn_id:  # it was a message to a turn, which is there
        return sent, {"state": "gone", "foot": ""}
    blocks = reply.conversation.blocks if reply.conversation else []
    block = next((each for each in blocks if each.turn is not None and each.turn.id == turn.turn_id), None)
    if block is None or block.turn is None:
        note = ClientError(reply.note or "The history cannot be read now.")
        return sent, {"state": "answered", "foot": conversation.failed(note)}
    foot = conversation.foot(block, reply.note)
    attached = conversation.attached(block.turn.attachments, turn.session_id)
    return conversation.parts_of(block), {
        "state": "answered", "foot": foot, "number": block.turn.number, "attached": attached
    }  # fmt: skip
