"""MCP, at `/mcp`: the agents as tools of other programs. Streamable HTTP, without sessions of its own.

Promises that a client which goes away ends no turn: the session has its answer. Nothing of MCP's SDK is imported
before somebody comes.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from starlette.types import Receive, Scope, Send

from flameagent.client import approvals
from flameagent.client.async_client import AsyncTurn
from flameagent.client.errors import ClientError
from flameagent.client.events import Progress, ToolCalled, ignore
from flameagent.client.reply import Reply, failure_as_json
from flameagent.server import asking
from flameagent.server.agents import Agents, Found, new_session_id
from flameagent.server.errors import RequestError, sentence
from flameagent.server.identity import Identity
from flameagent.transcript import steps

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_TURNS = 20
_SESSIONS = 50


class MCP:
    """The application at `/mcp`. `close` it at the end."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents
        self._starting = asyncio.Lock()
        self._handle: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        async with self._starting:
            if self._handle is None:
                await self._start()
        assert self._handle is not None
        await self._handle(scope, receive, send)

    async def close(self) -> None:
        """End what it runs."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def _start(self) -> None:
        loaded = await asyncio.to_thread(_make, self._agents)  # the import takes a second
        manager, up = loaded.session_manager, asyncio.Event()

        async def run() -> None:
            async with manager.run():
                up.set()
                await asyncio.Event().wait()

        self._running = asyncio.create_task(run())
        await up.wait()
        self._handle = manager.handle_request


_making = threading.Lock()


def _make(agents: Agents) -> "MCPServer[Any]":
    with _making:
        from mcp.server.mcpserver import Context, MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.server.transport_security import TransportSecuritySettings
        from pydantic import Field

    tools = Tools(agents)
    server = MCPServer[Any](
        "flame-openai-agent",
        instructions="Asks agents whose conversations last. A session ID goes on with a conversation.",
        log_level="WARNING",
    )

    async def spoken(doing: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        """What goes wrong is a sentence for the model that called."""
        try:
            return await doing
        except ClientError as error:
            raise ToolError(sentence(error)) from error
        except RequestError as error:
            raise ToolError(str(error)) from error

    @server.tool(name="ask", structured_output=True)
    async def _ask(
        question: Annotated[str, Field(min_length=1, description="What to ask.")],
        ctx: Context[Any, Any],
        session_id: Annotated[str, Field(description="The session to go on with; empty begins one.")] = "",
        agent: Annotated[str, Field(description="Which agent, for a new session; empty is the first.")] = "",
        turn_id: Annotated[str, Field(max_length=200, description="The same ID asks once.")] = "",
    ) -> dict[str, Any]:
        """Ask an agent, and wait for its answer. With `pending` calls it waits for a decision: use `decide`."""
        return await spoken(tools.ask(ctx, question, session_id, agent, turn_id))

    @server.tool(name="history", structured_output=True)
    async def _history(
        session_id: Annotated[str, Field(min_length=1, description="The session.")],
        ctx: Context[Any, Any],
        turns: Annotated[int, Field(ge=1, le=500, description="The newest so many turns.")] = _TURNS,
    ) -> dict[str, Any]:
        """Read a conversation: questions, tool calls with what they gave, answers, and calls that wait."""
        return await spoken(tools.history(ctx, session_id, turns))

    @server.tool(name="sessions", structured_output=True)
    async def _sessions(
        ctx: Context[Any, Any],
        search: Annotated[str, Field(description="A text in titles and conversations.")] = "",
        limit: Annotated[int, Field(ge=1, le=500, description="The newest so many.")] = _SESSIONS,
    ) -> dict[str, Any]:
        """List your sessions, the newest first."""
        return await spoken(tools.sessions(ctx, search, limit))

    @server.tool(name="decide", structured_output=True)
    async def _decide(
        session_id: Annotated[str, Field(min_length=1, description="The session that waits.")],
        ctx: Context[Any, Any],
        approve: Annotated[list[str] | None, Field(description="IDs of calls that may run.")] = None,
        reject: Annotated[list[str] | None, Field(description="IDs of calls that may not.")] = None,
        reason: Annotated[str, Field(description="Why, for the agent.")] = "",
    ) -> dict[str, Any]:
        """Decide on calls that wait for a human, as your human has decided, and wait for the answer."""
        return await spoken(tools.decide(ctx, session_id, approve or [], reject or [], reason))

    # A token is needed anyway, so whatever name the server has for its clients is right.
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    server.streamable_http_app(stateless_http=True, transport_security=security)
    return server


class Tools:
    """What the tools do, for who calls."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def ask(self, ctx: Any, question: str, session_id: str, agent: str, turn_id: str) -> dict[str, Any]:
        """The reply; what the agent does is told as progress meanwhile."""
        user = _identify(ctx).user
        if session_id:
            found = await self._agents.find(session_id, user)
        else:
            name = agent or await self._agents.first()
            client = await self._agents.client(name)
            begun = await client.begin_session(new_session_id(name), user=user)
            found = await self._agents.find(begun, user)
        budget = await self._agents.limiter.admit(user, found.session_id, turn_id)
        more: dict[str, Any] = {"user": user, "turn_id": turn_id or None, "budget": budget}
        turn = found.client.prepare(question, found.session_id, listen=ignore, **more)
        return _told(await _followed(ctx, turn))

    async def history(self, ctx: Any, session_id: str, turns: int) -> dict[str, Any]:
        """The newest turns."""
        found = await self._found(ctx, session_id)
        history = await found.client.history(found.session_id)
        shown = [block for block in history.blocks if block.turn is not None][-turns:]
        return {
            "session_id": found.session_id,
            "state": history.state,
            "turns": [
                {
                    "turn": block.turn.number,
                    "question": block.turn.question,
                    "answer": str(block.turn.answer.get("answer", "")),
                    "calls": [
                        {"tool": step.label, "arguments": step.text, "output": step.output}
                        for step in steps.steps(block.items)
                        if step.is_call
                    ],
                }
                for block in shown
                if block.turn is not None
            ],
            "pending": approvals.calls_as_json(history.waiting.calls) if history.waiting else [],
        }

    async def sessions(self, ctx: Any, search: str, limit: int) -> dict[str, Any]:
        """In one object, since a tool gives one."""
        names = ("session_id", "title", "state", "turns", "changed")
        told = [
            {"agent": found.agent, **{name: info.as_json()[name] for name in names}}
            for found, info in await self._agents.listed(_identify(ctx).user, limit, search=search)
        ]
        return {"sessions": told}

    async def decide(
        self, ctx: Any, session_id: str, approve: list[str], reject: list[str], reason: str
    ) -> dict[str, Any]:
        """The reply of the turn that goes on."""
        found = await self._found(ctx, session_id)
        pending = await found.client.pending(found.session_id)
        yes, no = (pending.chosen(each) if each else () for each in (approve, reject))
        decision = approvals.make_decision(pending, yes, no, reason, by=_identify(ctx).user)
        turn = await asking.decide(self._agents, found, pending, decision, _identify(ctx).user)
        return _told(await _followed(ctx, turn))

    async def _found(self, ctx: Any, session_id: str) -> Found:
        return await self._agents.find(session_id, _identify(ctx).user)


def _identify(ctx: Any) -> Identity:
    """Who calls: the tools run in tasks of MCP's, so it is set there again for what asks who acts."""
    identity: Identity = ctx.request_context.request.scope["identity"]
    approvals.acting_user.set(identity.user)
    return identity


async def _followed(ctx: Any, turn: AsyncTurn) -> Reply | dict[str, Any]:
    """The reply, or what is known of a turn that waits already."""
    count = 0
    async for event in turn:
        match event:
            case Progress(doing) if doing:
                count += 1
                await ctx.report_progress(count, message=doing)
            case ToolCalled(tool=tool):
                count += 1
                await ctx.report_progress(count, message=f"calling {tool}")
    try:
        return await turn.reply()
    except ClientError as error:
        if error.code != "waiting":
            raise
        return failure_as_json(turn.session_id, turn.turn_id, error)


def _told(reply: Reply | dict[str, Any]) -> dict[str, Any]:
    whole = reply if isinstance(reply, dict) else reply.as_json()
    names = ("session_id", "turn_id", "turn", "status", "answer", "pending", "output", "note")
    return {name: whole[name] for name in names}
