"""What a turn comes to as a chat completion: whole, or in chunks while it comes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse, Response

from flameagent.client.approvals import Pending
from flameagent.client.async_client import AsyncTurn
from flameagent.client.errors import WaitingError
from flameagent.client.events import AttemptBegan, Done, Failed
from flameagent.client.reply import Reply
from flameagent.conversation import Call
from flameagent.conversation.item_text import describe_call
from flameagent.server import sse
from flameagent.server.dialects.chat_completions.request import Asked
from flameagent.server.errors import of_client
from flameagent.server.items import Completed, Delta, LiveItems, Message, Reasoning

_AGAIN = "\n\n(The agent was lost and begins again.)\n\n"


class Completion:
    """The completion that a request is answered with, under an ID that is the same whenever the turn is told."""

    def __init__(self, asked: Asked, session_id: str, turn_id: str) -> None:
        self._asked = asked
        self._session_id = session_id
        self._turn_id = turn_id
        self._created = int(time.time())

    async def whole(self, turn: AsyncTurn) -> Response:
        """The answer, when there is one. Raises `ClientError`."""
        return self.text(*await self.ended(turn))

    async def ended(self, turn: AsyncTurn) -> tuple[str, dict[str, int]]:
        """The text of the answer, or what waits, and the usage. Raises `ClientError`."""
        try:
            reply = await turn.reply()
        except WaitingError as error:
            return waiting_text(self._session_id, error.pending), {}
        return (_pending_text(reply.pending) if reply.pending else reply.answer), reply.usage

    def text(self, text: str, usage: dict[str, int] | None = None) -> Response:
        """A whole answer of that text."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        said = self._object("chat.completion", [choice]) | {"usage": usage_of(usage or {})}
        return JSONResponse(said, headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        """Which session and turn it is, for who wants to go on by other means."""
        return {"x-flame-agent-session": self._session_id, "x-flame-agent-turn": self._turn_id}

    async def known(self, text: str, usage: dict[str, int] | None = None) -> AsyncIterator[bytes]:
        """A text that is known already, in chunks."""
        yield self._chunk({"role": "assistant", "content": text})
        for chunk in self._end(usage or {}):
            yield chunk

    async def chunks(self, turn: AsyncTurn) -> AsyncIterator[bytes]:
        """The answer while it comes; an error of the turn is the last event then."""
        yield self._chunk({"role": "assistant", "content": ""})
        telling = Telling(self._turn_id)
        async for event in turn:
            match event:
                case Done(reply):
                    for delta in telling.rest(reply):
                        yield self._chunk(delta)
                    for chunk in self._end(reply.usage):
                        yield chunk
                case Failed(error):
                    if not isinstance(error, WaitingError):
                        yield sse.event(of_client(error).as_json())
                        return
                    yield self._chunk({"content": waiting_text(self._session_id, error.pending)})
                    for chunk in self._end({}):
                        yield chunk
                case _:
                    for delta in telling.of(event):
                        yield self._chunk(delta)

    def _end(self, usage: dict[str, int]) -> list[bytes]:
        chunks = [self._chunk({}, "stop")]
        if self._asked.with_usage:
            chunks.append(sse.event(self._object("chat.completion.chunk", []) | {"usage": usage_of(usage)}))
        return [*chunks, sse.DONE]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return sse.event(self._object("chat.completion.chunk", [choice]))

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = f"chatcmpl-{self._turn_id}"
        return {"id": name, "object": kind, "created": self._created, "model": self._asked.model, "choices": choices}


class Telling:
    """The deltas that events come to. Messages of one turn are parted by a blank line."""

    def __init__(self, turn_id: str) -> None:
        self._items = LiveItems(turn_id)
        self._told: dict[str, str] = {}  # the text of each message that was told, by its ID
        self._apart = ""

    def of(self, event: Any) -> list[dict[str, Any]]:
        """The deltas of an event."""
        if isinstance(event, AttemptBegan) and self._told:
            self._told, self._apart = {}, _AGAIN
        return self._deltas(self._items.feed(event))

    def rest(self, reply: Reply) -> list[dict[str, Any]]:
        """What was not told of the reply."""
        deltas = self._deltas(self._items.finish(reply.added))
        if reply.pending:
            return [*deltas, self._text("pending", _pending_text(reply.pending))]
        if reply.answer and not self._told:  # one that no message says
            deltas.append(self._text("answer", reply.answer))
        return deltas

    def _deltas(self, changes: Any) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for change in changes:
            item = change.item
            if isinstance(item, Message):
                told = self._told.get(item.id, "")
                if isinstance(change, Delta | Completed) and item.text.startswith(told) and item.text != told:
                    deltas.append(self._text(item.id, item.text))
            elif isinstance(item, Reasoning) and isinstance(change, Delta):
                deltas.append({"reasoning_content": change.text})
        return deltas

    def _text(self, name: str, text: str) -> dict[str, Any]:
        if name not in self._told and self._told:
            self._apart = self._apart or "\n\n"
        told, apart = self._told.get(name, ""), self._apart
        self._told[name], self._apart = text, ""
        return {"content": apart + text[len(told) :]}


def usage_of(usage: dict[str, int]) -> dict[str, Any]:
    """The usage of a turn as this dialect has it."""
    asked, said = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens", 0)},
        "completion_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens", 0)},
    }


def waiting_text(session_id: str, calls: tuple[Call, ...]) -> str:
    """What a person is told whose turn waits: a chat completion has no form for it that does not run the call."""
    lines = [f"- {describe_call(call.tool, call.arguments)}" for call in calls]
    how = (
        f"Decide with `flame-agent approve {session_id}` or `flame-agent reject {session_id}`, on the page of this "
        "server, or by its API; then ask on."
    )
    return "\n".join(["The agent waits for your approval of:", "", *lines, "", how])


def _pending_text(pending: Pending) -> str:
    return waiting_text(pending.session_id, pending.calls)
