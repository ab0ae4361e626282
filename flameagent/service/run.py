"""One run of an agent as a turn of a conversation.

`answer` is the path of a turn: a model is chosen and the MCP servers are connected; a human's decision is carried
out, if the turn goes on behind one; the agent runs until it answers or stops at calls that need an approval.

Promises that nothing of the agent, and nothing global, is changed by a turn: prompt, facts and model are of this run;
and that a human's decision is recorded before any tool that it approves runs.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from agents import Agent, Model, ModelProvider, RunConfig, RunContextWrapper, Runner, RunState, UserError

from apis import Answer, Question
from flameagent.model_choice import Choice, ModelError, choose, fallback_refused
from flameagent.service import memory, output
from flameagent.service.approvals import Approvals, end_rejected, rejects_all
from flameagent.service.calls import shown_call
from flameagent.service.mcp import connect, reachable_agents
from flameagent.service.models.build import build
from flameagent.service.sdk_compat import end_of_run
from flameagent.service.tool_errors import format_tool_error

if TYPE_CHECKING:
    from agents import RunResult, RunResultStreaming
    from agents.memory import Session

    from flameagent.conversation import FlameSession
    from flameagent.service.stream import Stream
    from flameagent.service.turn import RunningTurn

_Given = str | RunState[Any, Any]  # what a run begins with: the question, or a run that goes on


async def answer(
    agent: Agent[Any], question: Question, turn: RunningTurn | None, stream: Stream | None, options: dict[str, Any]
) -> Answer:
    """Return the agent's Answer; what it added is staged in the turn. `options` go to `Runner.run`.

    Raises `ModelError` when no model is to be had, `ConversationError` for a decision that cannot be carried
    out, and what `Runner.run` raises.
    """
    session = turn.session if turn else None
    context = RunContextWrapper(options.get("context"))
    try:
        choice = _choice(agent, question, session)
        await connect(agent, context)
    except (ModelError, UserError) as error:
        if turn is None or question.model or not rejects_all(question, turn):
            raise
        return await end_rejected(question, turn, error)
    approvals = Approvals(agent, turn)
    config = _config(agent, question, choice, options.pop("run_config", None) or RunConfig())
    if session:
        agent = agent.clone(instructions=_instructions(agent, session))

    given: _Given = question.question
    if turn and turn.staged.resumed:
        decided = await approvals.carry_out(agent, question, context)
        if isinstance(decided, Answer):
            return decided
        given = decided

    async def run(given: _Given) -> RunResult | RunResultStreaming:
        kept = cast("Session | None", session)  # a session by its structure, and a dict is an item
        if stream is None:
            return await Runner.run(agent, given, session=kept, run_config=config, **options)
        return await _follow(Runner.run_streamed(agent, given, session=kept, run_config=config, **options), stream)

    async with stream.writing() if stream else nullcontext():
        await _begin(stream, choice)
        result = await _run_on(run, given, approvals)
    return _outcome(result, approvals, choice, choice.name if choice else _name(agent.model))


async def _run_on(
    run: Callable[[_Given], Awaitable[RunResult | RunResultStreaming]], given: _Given, approvals: Approvals
) -> RunResult | RunResultStreaming:
    """Run until the agent answers or stops at calls of which none is approved for good."""
    while True:
        result = await run(given)
        state = approvals.go_on(result)
        if state is None:
            return result
        given = state


def _outcome(
    result: RunResult | RunResultStreaming, approvals: Approvals, choice: Choice | None, model: str
) -> Answer:
    usage = result.context_wrapper.usage
    counts = {
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens or 0,
        "output_tokens": usage.output_tokens,
    }
    if result.interruptions:
        return Answer("", model=model, usage=counts, pending=approvals.wait(result), code="waiting")
    note = "No key is set: the small local model answered." if choice and choice.fallback else ""
    return Answer(output.text(result), model=model, usage=counts, note=note)


def _choice(agent: Agent[Any], question: Question, session: FlameSession | None) -> Choice | None:
    """Return the model that the settings or the question choose; None where the agent has its own.

    Raises `ModelError`.
    """
    if not question.model and agent.model is not None:
        return None
    choice = choose(os.environ, question.model)
    if session and (refused := fallback_refused(session.model, choice)):
        raise ModelError(refused)
    return choice


def _config(agent: Agent[Any], question: Question, choice: Choice | None, config: RunConfig) -> RunConfig:
    # The SDK derives model settings (reasoning effort and such) from the name in the RunConfig: without it
    # an agent without a model would be run with those of OpenAI's default model, whoever answers (0.24.0).
    # But that name is for the whole run, so it is left out where an agent that may take over has its own model.
    others_choose = not question.model and any(member.model is not None for member in reachable_agents(agent))
    return replace(
        config,
        model=choice.name if choice and not others_choose else None,
        model_provider=_Models(choice),
        tool_error_formatter=config.tool_error_formatter or format_tool_error,
        tool_not_found_behavior="return_error_to_model",
    )


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


def _instructions(agent: Agent[Any], session: FlameSession) -> Any:
    """Return instructions of the session's prompt, or the agent's own, and what is remembered."""

    async def instructions(context: RunContextWrapper[Any], _agent: Agent[Any]) -> str | None:
        prompt = session.prompt or await agent.get_system_prompt(context)
        remembers = any(tool.name == "recall" for tool in agent.tools)
        facts = memory.instructions(session.facts) if remembers else ""
        return "\n\n".join(part for part in (prompt, facts) if part) or None

    return instructions


async def _begin(stream: Stream | None, choice: Choice | None) -> None:
    """Say in the stream what the turn is at, while the local model is loaded and before the agent thinks."""
    if stream is None:
        return
    if choice and choice.provider == "local":
        from flameagent.service.models import local

        stream.event(doing="loading the model")
        await local.load()
    stream.event(doing="thinking")


async def _follow(result: RunResultStreaming, stream: Stream) -> RunResultStreaming:
    """Tell the stream what happens in a run; return it when it has ended. Raises what the run raises."""
    async for event in _events(result):
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            stream.text(event.data.delta)
        elif event.type == "run_item_stream_event" and event.name == "tool_called":
            stream.event(call=shown_call(event.item.raw_item)._asdict())
        elif event.type == "run_item_stream_event" and event.name == "tool_output":
            output = str(getattr(event.item, "output", ""))
            stream.event(output={"id": shown_call(event.item.raw_item).id, "output": output[:2000]})
    await end_of_run(result)
    return result


async def _events(result: RunResultStreaming) -> AsyncIterator[Any]:
    try:
        async for event in result.stream_events():
            yield event
    except BaseException:
        result.cancel()  # else the run goes on in a task of its own
        raise
