"""What a request for a response asks, and where: a new session, one that goes on, or a copy of its beginning.

Promises that a request which is repeated comes to the same session and turn, also where it had copied one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flameagent.client import approvals
from flameagent.client import question as questions
from flameagent.client.async_client import AsyncTurn, in_thread
from flameagent.client.attachments import Attachment, gather
from flameagent.client.connection import translate_errors
from flameagent.client.errors import ClientError, UsageError
from flameagent.client.turns import turn_of
from flameagent.conversation import Conversation
from flameagent.server import asking
from flameagent.server.agents import Agents, Found
from flameagent.server.asking import ask, begin_session
from flameagent.server.dialects.responses import input as inputs
from flameagent.server.dialects.responses.ids import ResponseId
from flameagent.server.dialects.responses.input import Input
from flameagent.server.dialects.responses.passes import Passes, find
from flameagent.server.dialects.responses.reading import whole
from flameagent.server.dialects.responses.request import Body
from flameagent.server.errors import NotFoundError, RequestError, of_client
from flameagent.server.identity import Identity
from flameagent.server.once import Once
from flameagent.settings import TIMEOUT


@dataclass(frozen=True)
class Placed:
    """A turn that was asked for, or goes on behind a decision: its response, its session and its events.

    `prompt` is the session's, `metadata` are the question's, and `clients` the names of tools that the client runs.
    """

    id: ResponseId
    found: Found
    turn: AsyncTurn
    prompt: str
    metadata: dict[str, str]
    clients: Collection[str]


async def place(agents: Agents, once: Once, body: Body, given: Input, identity: Identity) -> Placed:
    """Ask what a request asks, once. To be called while `once.alone` is held.

    Raises `RequestError`, `ClientError`.
    """
    if given.decides:
        if body.metadata:
            message = "Metadata are of a question; a decision has none."
            raise RequestError(400, message, code="unsupported_value", param="metadata")
        return await _decide(agents, once, await _existing(agents, body, identity), given, identity)
    if body.conversation_id or body.previous_response_id:
        said = inputs.together(given)
        _check(said, agents)
        found, conversation = await _going_on(agents, once, body, identity)
        prompt, clients = conversation.prompt, tools_of(conversation).keys()
    else:
        said = given.asked[-1]
        _check(said, agents)
        agent, before = await _agent(agents, body), inputs.beginning(given)
        prompt, tools = body.instructions or "", [_tool(each) for each in body.tools or []]
        clients = {str(each["name"]): each for each in tools}.keys()
        try:
            found = await begin_session(agents, once, agent, identity, prompt, before, tools=tools)
        except UsageError as error:
            raise _about(error, "tools") from error
    data = {"metadata": body.metadata} if body.metadata else None
    turn = await ask(agents, once, found, said.text, identity, context=data, attachments=said.attachments)
    response = ResponseId(found.session_id, turn.turn_id)
    return Placed(response, found, turn, prompt, body.metadata or {}, clients)


async def _agent(agents: Agents, body: Body) -> str:
    """The agent that a new session is with."""
    if body.model:
        await agents.client(body.model)
        return body.model
    names = await agents.names()
    if len(names) == 1:
        return names[0]
    raise RequestError(
        400, f"Name the agent: one of {', '.join(names[:20])}.", code="missing_required_parameter", param="model"
    )


async def _existing(agents: Agents, body: Body, identity: Identity) -> Found:
    """The session that a request is about. Raises `RequestError`."""
    if body.previous_response_id:
        named = ResponseId.read(body.previous_response_id).session_id
        missing = NotFoundError("response", body.previous_response_id)
    elif body.conversation_id:
        named, missing = body.conversation_id, NotFoundError("conversation", body.conversation_id)
    else:
        message = "Which calls are decided on says previous_response_id or conversation."
        raise RequestError(400, message, code="missing_required_parameter", param="previous_response_id")
    try:
        found = await agents.find(named, identity.user)
    except NotFoundError:
        raise missing from None
    if body.model and body.model != found.agent:
        raise RequestError(
            400, f"The conversation is with the agent {found.agent}.", code="model_mismatch", param="model"
        )
    return found


async def _going_on(agents: Agents, once: Once, body: Body, identity: Identity) -> tuple[Found, Conversation]:
    """The session in which the question is asked: the one that is named, or a copy of its beginning.

    With it the conversation of the one that is named.
    """
    found = await _existing(agents, body, identity)
    conversation = await found.client.conversation(found.session_id)
    if body.instructions and body.instructions != conversation.prompt:
        message = "The instructions of a conversation are those that it began with."
        raise RequestError(400, message, code="unsupported_value", param="instructions")
    if body.tools and {each["name"]: each for each in map(_tool, body.tools)} != tools_of(conversation):
        message = "The tools of a client are those that its conversation began with."
        raise RequestError(400, message, code="unsupported_value", param="tools")
    if (once.key or once.repeated) and await _was_asked(agents, once, found, conversation):
        return found, conversation
    if body.previous_response_id:
        wanted = ResponseId.read(body.previous_response_id)
        turns = conversation.turns()
        newest = turns[-1][0].id if turns else ""
        if conversation.waiting is not None or not newest or wanted.turn_id != newest:
            at = await _turns_until(agents, found, wanted)
            if at is not None:
                return await _copy(agents, once, found, at, identity), conversation
    waiting = conversation.waiting
    if waiting is not None and waiting.decision is None:
        raise RequestError(
            409,
            "Calls of this conversation wait: answer them with mcp_approval_response or function_call_output first.",
            code="waiting",
        )
    return found, conversation


async def _was_asked(agents: Agents, once: Once, found: Found, conversation: Conversation) -> bool:
    """Whether the session has the turn that the request asks for already."""
    turn_id = await once.turn_id(agents.connection, found.session_id)
    if conversation.recent_turn(turn_id) is not None:
        return True

    def look() -> bool:
        with translate_errors(found.session_id):
            return turn_id in map(turn_of, agents.connection.frontend.tasks(found.session_id))

    return await in_thread(look)


async def _turns_until(agents: Agents, found: Found, wanted: ResponseId) -> int | None:
    """How many turns of the session a response comes behind, with its own; None where that is all there is.

    A turn that has failed, or runs, comes behind those that were asked before it. Raises `NotFoundError`.
    """
    conversation = await whole(found)
    passes = find(conversation, wanted.turn_id)
    if passes is not None:
        _exists(passes, wanted)
        is_last = passes.number >= conversation.turn_count + (conversation.waiting is not None)
        return None if is_last or not passes.answered else passes.number

    def asked() -> list[str]:
        with translate_errors(found.session_id):
            return [turn_of(task) for task in agents.connection.frontend.tasks(found.session_id)]

    order = await in_thread(asked)
    taken_back = {turn for rewind in conversation.rewinds for turn in rewind.own_turns}
    if wanted.turn_id not in order or wanted.turn_id in taken_back:
        raise NotFoundError("response", str(wanted))
    before = set(order[: order.index(wanted.turn_id)])
    behind = max((turn.number for turn, _ in conversation.turns() if turn.id in before), default=0)
    return None if behind == conversation.turn_count else behind


def _exists(passes: Passes, wanted: ResponseId) -> None:
    if wanted.number > passes.last:
        raise NotFoundError("response", str(wanted))


async def _copy(agents: Agents, once: Once, found: Found, at: int, identity: Identity) -> Found:
    session_id = await once.session_id(agents.connection, found.agent)
    copy = await found.client.fork(found.session_id, at, user=identity.user, session_id=session_id)
    return await agents.find(copy.session_id, identity.user)


def _check(said: inputs.Said, agents: Agents) -> None:
    """Raise `RequestError` for a question that cannot be asked, before there is a session for it."""
    try:
        questions.check(said.text)
        gather(list[Attachment](said.attachments), agents.environ)
    except ClientError as error:
        raise _about(error, "input") from error


def _about(error: ClientError, param: str) -> RequestError:
    refused = of_client(error)
    refused.param = param
    return refused


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A function of the client as a session has it."""
    kept = {"description": tool.get("description") or "", "parameters": tool.get("parameters") or {}}
    return {"name": tool.get("name"), **kept}


def tools_of(conversation: Conversation) -> dict[str, dict[str, Any]]:
    """The tools that a session's client runs, by name."""
    return {each["name"]: each for each in map(json.loads, conversation.tools)}


async def _decide(agents: Agents, once: Once, found: Found, given: Input, identity: Identity) -> Placed:
    """One decision on the calls that wait, with which the turn goes on; its events are those of the whole turn."""
    name, turn_id = await once.decision_id(agents.connection, found.session_id)
    if turn_id:
        named, number, conversation = name, int(name.rpartition(".")[2]), await whole(found)
        passes = find(conversation, turn_id)
    else:
        pending = await found.client.pending(found.session_id)
        approve, reject = _chosen(pending, given)
        conversation = await whole(found)
        passes, turn_id = find(conversation, pending.turn_id), pending.turn_id
        number = (passes.last if passes else 0) + (pending.decision is None)
        reason = " ".join(dict.fromkeys(each.reason for each in given.verdicts if each.reason))
        said = pending, approve, reject, reason
        named = f"{name}.{number}"
        decision = approvals.make_decision(*said, by=identity.user, outputs=given.results, name=named)
        await asking.decide(agents, found, pending, decision, identity.user)
    turn = found.client.attach(found.session_id, turn_id, 0, TIMEOUT, live=True, decision_id=named)
    response, metadata = ResponseId(found.session_id, turn_id, number), passes.metadata if passes else {}
    return Placed(response, found, turn, conversation.prompt, metadata, tools_of(conversation).keys())


def _chosen(pending: approvals.Pending, given: Input) -> tuple[list[str], list[str]]:
    """The calls that are approved, and those that are rejected. Raises `RequestError`."""
    calls = {f"mcpr_{call.id}": call.id for call in pending.calls if not call.runner}
    chosen: dict[bool, list[str]] = {True: [], False: []}
    for each in given.verdicts:
        if each.request_id not in calls:
            raise RequestError(409, "That call does not wait for an approval.", code="conflict", param="input")
        chosen[each.approve].append(calls[each.request_id])
    if len({each.request_id for each in given.verdicts}) < len(given.verdicts):
        raise RequestError(400, "A call is decided on twice.", code="invalid_value", param="input")
    if not given.results.keys() <= {call.id for call in pending.calls if call.runner}:
        raise RequestError(409, "A call does not wait for a result of the client.", code="conflict", param="input")
    return chosen[True], chosen[False]
