"""Asking over HTTP: a question of a session, once, and what the dialects say of its turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from flameagent.apis import Decision
from flameagent.client.approvals import Pending
from flameagent.client.async_client import AsyncClient, AsyncTurn, in_thread
from flameagent.client.attachments import Attachment
from flameagent.client.connection import translate_errors
from flameagent.client.events import ignore
from flameagent.server.agents import Agents, Found
from flameagent.server.identity import Identity
from flameagent.server.once import Once
from flameagent.settings import TIMEOUT


async def begin_session(
    agents: Agents,
    once: Once,
    agent: str,
    identity: Identity,
    prompt: str = "",
    messages: Sequence[Mapping[str, Any]] = (),
    *,
    model: str = "",
    metadata: Mapping[str, str] | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Found:
    """The session that a request begins, made if it was not; parameters as for `Client.begin_session`.

    Raises `RequestError`, `ClientError`.
    """
    client = await agents.client(agent)
    session_id = await once.session_id(agents.connection, agent)
    more = dict[str, Any](model=model, metadata=metadata, tools=tools)
    await client.begin_session(session_id, prompt, messages, user=identity.user, **more)
    return await agents.find(session_id, identity.user)


async def ask(
    agents: Agents,
    once: Once,
    found: Found,
    question: str,
    identity: Identity,
    *,
    model: str = "",
    context: Mapping[str, Any] | None = None,
    attachments: Sequence[Attachment] = (),
    running: Literal["wait", "steer", "interrupt"] = "wait",
) -> AsyncTurn:
    """The turn that a request asks for, asked if it was not. To be called while `once.alone` is held.

    Behind a turn that is `running`, as a message to it, or in its place.

    Raises `RequestError` where a limit is reached, `ClientError` where nothing was asked, or may have been.
    """
    turn_id = await once.turn_id(agents.connection, found.session_id)
    steers = running == "steer" and await in_thread(partial(_is_busy, agents, found))
    budget = await agents.limiter.admit(identity.user, found.session_id, turn_id, steers=steers)
    client: AsyncClient = found.client
    prepared = client.prepare(
        question,
        found.session_id,
        None,
        model,
        TIMEOUT,
        ignore,
        running,
        user=identity.user,
        context=context,
        turn_id=turn_id,
        is_new=once.is_first,
        attachments=attachments,
        budget=budget,
    )
    await prepared.send()
    return prepared


async def decide(agents: Agents, found: Found, pending: Pending, decision: Decision, user: str) -> AsyncTurn:
    """The turn that goes on with a decision, which is sent. Raises `ClientError`."""
    budget = await agents.limiter.budget(user)
    turn: AsyncTurn = found.client.prepare_decision(pending, decision, "", TIMEOUT, ignore, budget=budget)
    await turn.send()
    return turn


def _is_busy(agents: Agents, found: Found) -> bool:
    with translate_errors(found.session_id):
        return agents.connection.is_busy(found.session_id)
