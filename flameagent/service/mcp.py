"""An agent with those that it hands over to, and their MCP servers, connected when a turn first needs them.

Servers stay connected for the turns that follow, and end with the worker. One that has ended in between is
started again. Whoever connects a server themselves, in the entrypoint, is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from agents import Agent, RunContextWrapper, UserError
from agents.mcp import MCPServerManager, MCPServerSse, MCPServerStdio, MCPServerStreamableHttp

from flameagent import tracing
from flameagent.service.sdk_compat import agent_of_handoff, agent_of_tool

if TYPE_CHECKING:
    from agents.mcp import MCPServer

_CONNECT_TIMEOUT = 30.0
_LIST_TIMEOUT = 5.0

# A manager connects a server in a task of its own: what a turn's task had opened would close when that is cancelled.
_managers: dict[MCPServer, MCPServerManager] = {}


async def connect(agent: Agent[Any], context: RunContextWrapper[Any]) -> None:
    """Connect the servers of an agent and of those that it hands over to, for a run with this context.

    Raises `agents.UserError` for one that does not start.
    """
    used = {server: member for member in reachable_agents(agent) for server in member.mcp_servers}
    for server, member in used.items():
        with tracing.span("connect MCP server", {"flame.mcp.server": server.name}):
            await _connect(server, member, context)


async def _connect(server: MCPServer, member: Agent[Any], context: RunContextWrapper[Any]) -> None:
    manager = _managers.get(server)
    if manager is None and getattr(server, "session", None) is None:
        manager = _managers[server] = MCPServerManager(
            [server], connect_timeout_seconds=_CONNECT_TIMEOUT, connect_in_parallel=True
        )
        await manager.connect_all()
    elif manager is not None and not await _answers(server, context, member):
        await manager.reconnect(failed_only=False)
    if manager is not None and server in manager.errors:
        del _managers[server]
        error = manager.errors[server]
        raise UserError(f"the MCP server {server.name} does not start ({type(error).__name__}: {error})")


async def _answers(server: MCPServer, context: RunContextWrapper[Any], agent: Agent[Any]) -> bool:
    if isinstance(server, MCPServerStdio | MCPServerSse | MCPServerStreamableHttp):
        # Else the run finds what was listed in an earlier one.
        server.invalidate_tools_cache()  # type: ignore[no-untyped-call]
        if server.session is None:
            return False
        # Past the server's `tool_filter`: that is the agent's own code, and says nothing about the server.
        asked: Awaitable[object] = server.session.list_tools()
    else:
        asked = server.list_tools(context, agent)
    try:
        async with asyncio.timeout(_LIST_TIMEOUT):
            await asked
    except Exception:
        return False
    return True


def reachable_agents(agent: Agent[Any]) -> list[Agent[Any]]:
    """Return the agent, and all that it hands over to or uses as tools."""
    found = [agent]
    for member in found:
        for other in [*map(agent_of_handoff, member.handoffs), *map(agent_of_tool, member.tools)]:
            if other is not None and not any(other is known for known in found):
                found.append(other)
    return found
