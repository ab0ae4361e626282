"""Our own routes, for what no dialect has: sessions with search, copies, rewinds, decisions with a reason, memory.

What they give is what the commands of the same names print with `--json`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from flameagent.client import approvals
from flameagent.client.async_client import AsyncMemory, AsyncTurn
from flameagent.client.attachments import Attachment
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.events import Done, Event, Failed
from flameagent.client.memory import fact_as_json
from flameagent.client.question import name_of
from flameagent.client.reply import failure_as_json
from flameagent.server import asking, sse
from flameagent.server.agents import Agents, Found
from flameagent.server.errors import RequestError, of_client
from flameagent.server.identity import identity_of
from flameagent.server.once import Once
from flameagent.server.operations import Asked, Nothing, Operation
from flameagent.server.parameters import (
    AgentQuery,
    DecisionBody,
    EraseQuery,
    EventsQuery,
    ExportQuery,
    ForkBody,
    HistoryQuery,
    ListQuery,
    NewSession,
    QuestionBody,
    RetryBody,
    RewindBody,
    SearchQuery,
    Title,
)
from flameagent.transcript import document
from flameagent.transcript import export as exports

_MEDIA = {"md": "text/markdown", "html": "text/html", "json": "application/json"}


class Own:
    """The handlers."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def sessions(self, asked: Asked) -> Any:
        """The newest that fit."""
        query: ListQuery = asked.query
        wanted = {"agent": query.agent, "state": query.state, "search": query.search}
        found = await self._agents.listed(_user(asked), query.limit, **wanted)
        return [{**info.as_json(), "agent": each.agent} for each, info in found]

    async def begin(self, asked: Asked) -> Any:
        """With an idempotency key the same session again."""
        body: NewSession = asked.body
        agent = body.agent or await self._agents.first()
        once = Once.of(asked.request, asked.data)
        async with once.alone:
            made = await asking.begin_session(
                self._agents, once, agent, identity_of(asked.request), body.prompt, body.messages
            )
        if body.title:
            await made.client.rename(made.session_id, body.title)
        return await self._told(made)

    async def read(self, asked: Asked) -> Any:
        """One session."""
        return await self._told(await self._found(asked))

    async def rename(self, asked: Asked) -> Any:
        """Its title."""
        found = await self._found(asked)
        session_id, title = await found.client.rename(found.session_id, asked.body.title)
        return {"session_id": session_id, "title": title}

    async def delete(self, asked: Asked) -> Any:
        """With all that it holds."""
        found = await self._found(asked)
        return {"deleted": [await found.client.delete_session(found.session_id)]}

    async def close(self, asked: Asked) -> Any:
        """So that nothing can be added."""
        found = await self._found(asked)
        return {"session_id": await found.client.close_session(found.session_id), "state": "closed"}

    async def history(self, asked: Asked) -> Any:
        """As far as it can be read; damage is told behind it."""
        found = await self._found(asked)
        history = await found.client.history(found.session_id, failures=True)
        turn = None if asked.query.turn is UNSET else asked.query.turn
        return {
            **history.as_json(turn=turn, every=asked.query.all),
            "damage": str(history.damage) if history.damage else "",
        }

    async def export(self, asked: Asked) -> Any:
        """The whole conversation as a file."""
        found = await self._found(asked)
        history = await found.client.history(found.session_id)
        data = await found.client.attachments(history)
        form: str = asked.query.format
        headers = {
            "content-disposition": f'attachment; filename="{found.session_id}.{form}"',
            "content-security-policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
            "x-content-type-options": "nosniff",
        }
        if form == "json":
            written = msgspec.json.encode(document.as_json(history, data))
        else:
            written = exports.written(history, form, data).encode()
        return Response(written, media_type=_MEDIA[form], headers=headers)

    async def fork(self, asked: Asked) -> Any:
        """Of the user who copies."""
        found = await self._found(asked)
        copy = await found.client.fork(found.session_id, asked.body.at, user=_user(asked))
        return copy.as_json()

    async def rewind(self, asked: Asked) -> Any:
        """What is taken back stays in the whole history."""
        found = await self._found(asked)
        return (await found.client.rewind(found.session_id, asked.body.turns, asked.body.force)).as_json()

    async def ask(self, asked: Asked) -> Any:
        """Once, however often the request comes."""
        found, body = await self._found(asked), asked.body
        attachments = [Attachment(each.name, _bytes(each.data)) for each in body.attachments]
        once = Once.of(asked.request, asked.data)
        async with once.alone:
            turn = await asking.ask(
                self._agents,
                once,
                found,
                body.question,
                identity_of(asked.request),
                model=body.model,
                context=body.data,
                attachments=attachments,
                running=body.running,
            )
        return await _answered(turn, stream=body.stream)

    async def retry(self, asked: Asked) -> Any:
        """Takes the last turn back."""
        found = await self._found(asked)
        once = Once.of(asked.request, asked.data)
        async with once.alone:
            turn_id = await once.turn_id(self._agents.connection, found.session_id)
            try:
                turn = await found.client.attach(found.session_id, turn_id)
            except UsageError:  # this request has not been here before
                budget = await self._agents.limiter.admit(_user(asked), found.session_id, turn_id)
                named: dict[str, Any] = {"turn_id": turn_id, "budget": budget}
                turn = await found.client.prepare_retry(found.session_id, asked.body.model, **named)
                await turn.send()
        return await _answered(turn, stream=asked.body.stream)

    async def decide(self, asked: Asked) -> Any:
        """Goes on with the turn."""
        found, body = await self._found(asked), asked.body
        pending = await found.client.pending(found.session_id)
        approve, reject = (pending.chosen(each) if each else () for each in (body.approve, body.reject))
        decision = approvals.make_decision(pending, approve, reject, body.reason, body.always, _user(asked))
        turn = await asking.decide(self._agents, found, pending, decision, _user(asked))
        return await _answered(turn, stream=body.stream)

    async def events(self, asked: Asked) -> Any:
        """Also of a turn that has ended."""
        found = await self._found(asked)
        turn = await found.client.attach(found.session_id, asked.path["turn"], asked.query.after)
        return await _answered(turn, stream=True)

    async def cancel(self, asked: Asked) -> Any:
        """What is in the conversation stays."""
        found = await self._found(asked)
        turn = await found.client.attach(found.session_id, asked.path["turn"])
        return {"turn_id": turn.turn_id, "cancelled": await turn.cancel()}

    async def facts(self, asked: Asked) -> Any:
        """The facts, and how many turns are remembered."""
        memory = await self._memory(asked)
        facts, turns = await memory.facts(), await memory.turns()
        return {"user": memory.user, "facts": [fact_as_json(fact) for fact in facts], "turns": len(turns)}

    async def search(self, asked: Asked) -> Any:
        """The best first."""
        memory = await self._memory(asked)
        return [msgspec.to_builtins(each) for each in await memory.search(asked.query.text, asked.query.limit)]

    async def forget(self, asked: Asked) -> Any:
        """In all conversations of the user."""
        memory, key = await self._memory(asked), asked.path["key"]
        sessions = await memory.forget(key)
        return {"key": key, "forgotten": sessions is not None, "sessions": sessions or []}

    async def export_memory(self, asked: Asked) -> Any:
        """As `memory import` reads it."""
        return await (await self._memory(asked)).export()

    async def erase(self, asked: Asked) -> Any:
        """For good."""
        return msgspec.to_builtins(await (await self._memory(asked)).erase(asked.query.sessions))

    async def _found(self, asked: Asked) -> Found:
        return await self._agents.find(asked.path["session"], _user(asked))

    async def _told(self, found: Found) -> Any:
        info = await found.client.session(found.session_id)
        return {**info.as_json(), "agent": found.agent}

    async def _memory(self, asked: Asked) -> AsyncMemory:
        client = await self._agents.client(asked.query.agent or await self._agents.first())
        return client.memory(_user(asked))


def operations(agents: Agents) -> list[Operation]:
    """All of them."""
    own = Own(agents)
    session, turn = "/v1/sessions/{session}", "/v1/sessions/{session}/turns/{turn:path}"
    return [
        Operation("sessions", "GET", "/v1/sessions", "Your sessions, the newest first.", own.sessions, ListQuery,
                  gives="sessions"),
        Operation("begin", "POST", "/v1/sessions", "Begin a session, and ask nothing yet.", own.begin,
                  body=NewSession, gives="session", status=201),
        Operation("session", "GET", session, "A session.", own.read, gives="session"),
        Operation("rename", "PATCH", session, "Give it a title.", own.rename, body=Title, gives="sessions rename"),
        Operation("delete", "DELETE", session, "Delete it for good.", own.delete, gives="delete"),
        Operation("close", "POST", f"{session}/close", "Close it.", own.close, body=Nothing, gives="close"),
        Operation("history", "GET", f"{session}/history", "Its history.", own.history, HistoryQuery, gives="history"),
        Operation("export", "GET", f"{session}/export", "It as a file.", own.export, ExportQuery, media="*/*"),
        Operation("fork", "POST", f"{session}/fork", "Copy it to a new session.", own.fork, body=ForkBody,
                  gives="fork", status=201),
        Operation("rewind", "POST", f"{session}/rewind", "Take turns back.", own.rewind, body=RewindBody,
                  gives="rewind"),
        Operation("ask", "POST", f"{session}/turns", "Ask.", own.ask, body=QuestionBody, gives="question",
                  may_stream=True),
        Operation("retry", "POST", f"{session}/retry", "Ask the last question again.", own.retry, body=RetryBody,
                  gives="question", may_stream=True),
        Operation("decide", "POST", f"{session}/decisions", "Decide on the calls that wait.", own.decide,
                  body=DecisionBody, gives="question", may_stream=True),
        Operation("events", "GET", f"{turn}/events", "The events of a turn, that runs or has ended.", own.events,
                  EventsQuery, media="text/event-stream"),
        Operation("cancel", "POST", f"{turn}/cancel", "Have a turn not be added.", own.cancel, body=Nothing,
                  gives="cancelled"),
        Operation("memory", "GET", "/v1/memory", "What is remembered of you.", own.facts, AgentQuery,
                  gives="memory list"),
        Operation("memory_search", "GET", "/v1/memory/search", "Search the turns of all your sessions.", own.search,
                  SearchQuery, gives="memory search"),
        Operation("memory_export", "GET", "/v1/memory/export", "All that is remembered of you.", own.export_memory,
                  AgentQuery, gives="memory export"),
        Operation("memory_forget", "DELETE", "/v1/memory/facts/{key:path}", "Forget a fact everywhere.", own.forget,
                  AgentQuery, gives="memory forget"),
        Operation("memory_erase", "DELETE", "/v1/memory", "Forget all.", own.erase, EraseQuery, gives="memory erase"),
    ]  # fmt: skip


async def _answered(turn: AsyncTurn, *, stream: bool) -> Any:
    """The reply, or the events, and with them at the end the reply."""
    await turn
    if stream:
        return sse.stream(_events(turn))
    try:
        return (await turn.reply()).as_json()
    except ClientError as error:
        refused = of_client(error)
        refused.reply = failure_as_json(turn.session_id, turn.turn_id, error)
        raise refused from error


async def _events(turn: AsyncTurn) -> AsyncIterator[bytes]:
    yield sse.event({"type": "begun", "session_id": turn.session_id, "turn_id": turn.turn_id})
    async for event in turn:
        yield sse.event(_as_json(turn, event))


def _as_json(turn: AsyncTurn, event: Event) -> dict[str, Any]:
    match event:
        case Done(reply, number):
            return {"type": "done", "number": number, "reply": reply.as_json()}
        case Failed(error, number):
            failed = failure_as_json(turn.session_id, turn.turn_id, error)
            return {"type": "failed", "number": number, "reply": failed, **of_client(error).as_json()}
    kind = {"TextDelta": "text", "ReasoningDelta": "reasoning", "ToolCalled": "call", "ToolOutput": "output"}
    kind |= {"AgentChanged": "agent", "MessageTaken": "message", "ApprovalNeeded": "approval"}
    kind |= {"AttemptBegan": "attempt", "Progress": "progress"}
    return {"type": kind[type(event).__name__], **msgspec.to_builtins(event)}


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, "The data of an attachment are base64.", param="attachments") from error


def _user(asked: Asked) -> str:
    return name_of(identity_of(asked.request).user)
