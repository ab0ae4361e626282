"""One run of an agent as a turn of a conversation.

Promises that nothing of the agent, and nothing global, is changed by a turn: prompt, facts and model are of
this run; and that a human's decision is recorded before any tool that it approves runs.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from agents import Agent, Model, ModelProvider, RunConfig, RunContextWrapper, Runner, RunState, UserError
from agents.items import ToolApprovalItem
from msgspec import to_builtins
from pydantic_core import to_jsonable_python

from apis import Answer, Decision, Question
from flameagent.conversation import Call, ConflictError, ConversationError, DecisionBody, Item, StagedTurn
from flameagent.model_choice import Choice, ModelError, choose, fallback_refused
from flameagent.service import memory, output
from flameagent.service.mcp import connect, team
from flameagent.service.models.build import build
from flameagent.service.tools import format_tool_error

if TYPE_CHECKING:
    from agents import RunResult, RunResultStreaming
    from agents.memory import Session

    from flameagent.conversation import FlameSession
    from flameagent.service.stream import Stream
    from flameagent.service.turn import Running

REJECTED = "A human rejected this call."


async def answer(
    agent: Agent[Any], question: Question, turn: Running | None, stream: Stream | None, options: dict[str, Any]
) -> Answer:
    """The agent's Answer; what it added is staged in the turn. `options` go to `Runner.run`.

    Raises `ModelError` when no model is to be had, `ConversationError` for a decision that cannot be carried
    out, and what `Runner.run` raises.
    """
    session = turn.session if turn else None
    context = RunContextWrapper(options.get("context"))
    try:
        choice = _choice(agent, question, session)
        await connect(agent, context)
    except (ModelError, UserError) as error:
        if turn is None or question.model or not _rejects_all(question, turn):
            raise
        assert question.decision is not None
        await turn.session.decide(_record(question.decision))
        return Answer(_close(turn.staged), model=turn.staged.model, note=_line(error))
    names = Counter(member.name for member in team(agent))
    model = choice.name if choice else _name(agent.model)
    if session:
        agent = agent.clone(instructions=_instructions(agent, session))
    # The SDK derives model settings (reasoning effort and such) from the name in the RunConfig: without it
    # an agent without a model would be run with those of OpenAI's default model, whoever answers (0.24.0).
    # But that name is for the whole run, so it is left out where an agent that may take over has its own model.
    others_choose = not question.model and any(member.model is not None for member in team(agent))
    config: RunConfig = options.pop("run_config", None) or RunConfig()
    config = replace(
        config,
        model=choice.name if choice and not others_choose else None,
        model_provider=_Models(choice),
        tool_error_formatter=config.tool_error_formatter or format_tool_error,
        tool_not_found_behavior="return_error_to_model",
    )

    given: str | RunState[Any, Any] = question.question
    if turn and turn.staged.resumed:
        state = await _decided(agent, names, question, turn, context)
        if state is None:
            return Answer(_close(turn.staged), model=turn.staged.model)
        given = state
    async with stream.writing() if stream else nullcontext():
        if stream and choice and choice.provider == "local":
            from flameagent.service.models import local

            stream.event(doing="loading the model")
            await local.load()
        if stream:
            stream.event(doing="thinking")
        while True:
            result = await _run(agent, given, session, config, stream, options)
            if not any(_allowed(item, agent, names, turn) for item in result.interruptions):
                break
            given = result.to_state()
            for item in given.get_interruptions():
                if _allowed(item, agent, names, turn):
                    given.approve(item)
    if result.interruptions:
        return _waiting(result, agent, turn, model)
    return Answer(
        output.text(result),
        model=model,
        usage=_usage(result),
        note="No key is set: the small local model answered." if choice and choice.fallback else "",
    )


def _choice(agent: Agent[Any], question: Question, session: FlameSession | None) -> Choice | None:
    """The model that the settings or the question choose; None: the agent has its own. Raises `ModelError`."""
    if not question.model and agent.model is not None:
        return None
    choice = choose(os.environ, question.model)
    if session and (refused := fallback_refused(session.model, choice)):
        raise ModelError(refused)
    return choice


async def _run(
    agent: Agent[Any],
    given: str | RunState[Any, Any],
    session: FlameSession | None,
    config: RunConfig,
    stream: Stream | None,
    options: dict[str, Any],
) -> RunResult | RunResultStreaming:
    kept = cast("Session | None", session)  # a session by its structure, and a dict is an item
    if stream is None:
        return await Runner.run(agent, given, session=kept, run_config=config, **options)
    result = Runner.run_streamed(agent, given, session=kept, run_config=config, **options)
    async for event in _events(result):
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            stream.text(event.data.delta)
        elif event.type == "run_item_stream_event" and event.name == "tool_called":
            call = _call(event.item.raw_item)
            stream.event(call={"id": call.id, "tool": call.tool, "arguments": call.arguments})
        elif event.type == "run_item_stream_event" and event.name == "tool_output":
            output = str(getattr(event.item, "output", ""))
            stream.event(output={"id": _call(event.item.raw_item).id, "output": output[:2000]})
    if result.run_loop_task is not None:
        await result.run_loop_task  # a run that was cancelled from within ends its events as if it were complete
    return result


async def _events(result: RunResultStreaming) -> AsyncIterator[Any]:
    try:
        async for event in result.stream_events():
            yield event
    except BaseException:
        result.cancel()  # else the run goes on in a task of its own
        raise


def _instructions(agent: Agent[Any], session: FlameSession) -> Any:
    """The session's prompt, or the agent's own instructions, and what is remembered."""

    async def instructions(context: RunContextWrapper[Any], _agent: Agent[Any]) -> str | None:
        prompt = session.prompt or await agent.get_system_prompt(context)
        facts = memory.instructions(session.facts) if _remembers(agent) else ""
        return "\n\n".join(part for part in (prompt, facts) if part) or None

    return instructions


def _remembers(agent: Agent[Any]) -> bool:
    return any(tool.name == "recall" for tool in agent.tools)


async def _decided(
    agent: Agent[Any],
    names: Mapping[str, int],
    question: Question,
    turn: Running,
    context: RunContextWrapper[Any],
) -> RunState[Any, Any] | None:
    """Record the decision; the run to go on with, or None where it cannot and everything was rejected.

    Everything that can be wrong with a decision is found before it is recorded. `context` is what the entrypoint has
    made anew; the run goes on with it.
    """
    waiting, decision = turn.staged.resumed, question.decision
    assert waiting is not None and decision is not None
    calls = {call.id: call for call in waiting.pending.calls}
    _check(decision, calls)
    rules: set[str] = set()
    try:
        state = await RunState.from_json(
            agent,
            waiting.pending.state,
            context_override=context,
            context_deserializer=lambda _: context.context,  # for nested runs
        )
        found = state.get_interruptions()
        ids = Counter(_call(item.raw_item).id for item in found)
        if ids != Counter(call.id for call in waiting.pending.calls):
            raise LookupError("it asks for other calls now")
        if shared := sorted(call for call in (*decision.approve, *decision.reject) if ids[call] > 1):
            raise LookupError(f"{ids[shared[0]]} calls wait as {shared[0]}")
        for item in found:
            call = _call(item.raw_item).id
            if call in decision.reject:
                state.reject(item, rejection_message=f"{REJECTED} {decision.reason}".strip())
            await _check_tool(item, context)
            if call in decision.approve:
                state.approve(item)
                rules.add(_rule(item))
                if decision.always and names[item.agent.name] > 1:
                    raise _NoRule(item.agent.name)
    except _NoRule as error:
        raise ConversationError(
            f"Several agents are called {error}, so that no rule can tell their calls apart: approve without "
            "`always`. Nothing was decided."
        ) from error
    except Exception as error:
        if not _rejects_all(question, turn):
            raise ConversationError(
                f"The agent has changed since it asked, and cannot go on with this turn ({_line(error)}). "
                "Reject its calls: then the conversation goes on."
            ) from error
        state = None
    await turn.session.decide(_record(decision, rules if decision.always else ()))
    return state


class _NoRule(Exception):
    """Nothing can be approved for good of an agent of that name."""


def _rejects_all(question: Question, turn: Running) -> bool:
    """Whether a decision rejects all calls that wait: then the turn can end whatever the agent is now."""
    waiting, decision = turn.staged.resumed, question.decision
    if waiting is None or decision is None or decision.approve:
        return False
    return Counter(decision.reject) == Counter({call.id for call in waiting.pending.calls})


def _record(decision: Decision, always: Iterable[str] = ()) -> DecisionBody:
    return DecisionBody(
        decision=decision.id,
        decides_on=decision.on,
        approved=list(decision.approve),
        rejected=list(decision.reject),
        reason=decision.reason,
        always_approved=sorted(always),
        by=decision.by,
    )


def _check(decision: Decision, calls: Mapping[str, Call]) -> None:
    """Raises `ConflictError` for a decision that names a call which does not wait, names one twice, or names none."""
    named = [*decision.approve, *decision.reject]
    if unknown := set(named) - set(calls):
        raise ConflictError(f"The call {sorted(unknown)[0]} does not wait; these do: {', '.join(calls)}.")
    if twice := sorted(set(decision.approve) & set(decision.reject)):
        raise ConflictError(f"The call {twice[0]} is both approved and rejected; nothing was decided.")
    if len(set(named)) < len(named):
        raise ConflictError(f"The call {Counter(named).most_common(1)[0][0]} is named twice; nothing was decided.")
    if not named:
        raise ConflictError("The decision names no call; nothing was decided.")


def _allowed(item: ToolApprovalItem, agent: Agent[Any], names: Mapping[str, int], turn: Running | None) -> bool:
    """Whether a human has approved the call for good: a later one of the same tool of the same agent.

    A call that they were shown, and did not approve, waits on; and one of an agent that shares its name (`names`
    counts them), because the rule may be the other's.
    """
    if turn is None or names[item.agent.name] > 1:
        return False
    always, resumed = turn.session.always_approved, turn.staged.resumed
    if resumed is not None and _call(item.raw_item).id in {call.id for call in resumed.pending.calls}:
        return False
    return _rule(item) in always or (item.agent.name == agent.name and item.tool_name in always)


def _rule(item: ToolApprovalItem) -> str:
    """What `always` says of a call: its tool, and whose it is."""
    return f"{_tool(item)} of {item.agent.name}"


def _tool(item: ToolApprovalItem) -> str:
    """The name of a call's tool, with where it is from: two servers may have a tool of one name."""
    raw = _read(item.raw_item)
    label = raw("server_label") or (raw("provider_data") or {}).get("server_label")
    return f"{label}.{item.tool_name}" if label else item.qualified_name or str(raw("type") or "tool")


async def _check_tool(item: ToolApprovalItem, context: RunContextWrapper[Any]) -> None:
    """Raises `LookupError` when the agent has no such tool any more: the SDK finds out too late (0.24.0)."""
    tools = await item.agent.get_all_tools(context)
    if _read(item.raw_item)("type") == "function_call" and item.tool_name not in {tool.name for tool in tools}:
        raise LookupError(f"it has no tool {item.tool_name}")


def _close(staged: StagedTurn) -> str:
    """End a turn that cannot go on: every call gets an output, so that the conversation stays valid."""
    items: list[Item] = staged.items
    answered = {item.get("call_id") for item in items if item.get("type") == "function_call_output"}
    for item in [item for item in items if item.get("type") == "function_call"]:
        if item.get("call_id") not in answered:
            items.append({"type": "function_call_output", "call_id": item["call_id"], "output": REJECTED})
    text = "The call was rejected. The agent cannot go on with what it had begun, so this turn ends here."
    items.append({"role": "assistant", "content": text})
    return text


def _waiting(result: RunResult | RunResultStreaming, agent: Agent[Any], turn: Running | None, model: str) -> Answer:
    calls = [
        Call(*_call(item.raw_item, _tool(item)), "" if item.agent.name == agent.name else item.agent.name)
        for item in result.interruptions
    ]
    if turn is None:
        raise ConversationError(
            f"The agent wants to use {calls[0].tool}, which needs an approval, and a session without context "
            "cannot wait for one."
        )
    if len({call.id for call in calls}) < len(calls):  # an approval of one would be one of the other
        raise ConversationError("Two calls that need an approval came under one ID; neither can be asked for.")
    turn.staged.calls = calls
    state = _without_context(result.to_state().to_json(context_serializer=lambda _: {}))
    turn.staged.state = json.loads(json.dumps(state, default=to_jsonable_python))
    return Answer("", model=model, usage=_usage(result), pending=to_builtins(calls), code="waiting")


def _without_context(state: Any) -> Any:
    """A run's state, and those of nested runs in it, without the entrypoint's context.

    That may be anything, and is made anew when a decision is carried out. The SDK (0.24.0) asks no serializer about
    a mapping.
    """
    if isinstance(state, list):
        return [_without_context(value) for value in state]
    if not isinstance(state, dict):
        return state
    kept = {**state, "context": {}} if "context_meta" in state else state
    return {key: _without_context(value) for key, value in kept.items()}


class _Called(NamedTuple):
    """A tool call as we show it."""

    id: str
    tool: str
    arguments: str


def _call(raw: Any, tool: str = "") -> _Called:
    read = _read(raw)
    name = tool or read("name") or read("type") or "tool"
    return _Called(str(read("call_id") or read("id") or ""), str(name), str(read("arguments") or ""))


def _read(raw: Any) -> Callable[[str], Any]:
    """How to read a call: a restored state has dicts where a run has objects."""
    return raw.get if isinstance(raw, dict) else lambda name: getattr(raw, name, None)


class _Models(ModelProvider):
    """The chosen model, under no name or its own; any other name as the settings reach it."""

    def __init__(self, choice: Choice | None) -> None:
        self._choice = choice

    def get_model(self, model_name: str | None) -> Model:
        if self._choice and model_name in {None, self._choice.name}:
            return build(self._choice)
        return build(choose(os.environ, model_name or ""))


def _name(model: str | Model | None) -> str:
    return model if isinstance(model, str) else str(getattr(model, "model", type(model).__name__))


def _usage(result: RunResult | RunResultStreaming) -> dict[str, int]:
    usage = result.context_wrapper.usage
    return {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens or 0,
        "output_tokens": usage.output_tokens,
    }


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
