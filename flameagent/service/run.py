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

from agents import Agent, Model, ModelProvider, RunConfig, RunContextWrapper, Runner, RunState, Usage, UserError
from agents.run import DEFAULT_MAX_TURNS
from agents.usage import RequestUsage

from flameagent import tracing
from flameagent.apis import Answer, Question
from flameagent.conversation import Usage as Used
from flameagent.conversation.item_text import describe_item
from flameagent.model_choice import Choice, ModelError, choose, fallback_refused
from flameagent.service import handed_over, output, recalled
from flameagent.service.approvals import Approvals, end_rejected, rejects_all
from flameagent.service.attachments import question_input
from flameagent.service.calls import shown_call
from flameagent.service.client_tools import tools_of
from flameagent.service.mcp import connect, reachable_agents
from flameagent.service.models.build import build
from flameagent.service.sdk_compat import end_of_run
from flameagent.service.summaries import Made, Maker
from flameagent.service.tool_errors import format_tool_error
from flameagent.service.turn import running
from flameagent.tracing import modes

if TYPE_CHECKING:
    from agents import RunResult, RunResultStreaming
    from agents.memory import Session

    from flameagent.conversation import FlameSession
    from flameagent.service.stream import Stream
    from flameagent.service.turn import RunningTurn

_REASONING = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
_Given = str | list[Any] | RunState[Any, Any]  # what a run begins with: the question, or a run that goes on


async def answer(
    agent: Agent[Any],
    question: Question,
    turn: RunningTurn | None,
    stream: Stream | None,
    options: dict[str, Any],
    *,
    sticky: bool = False,
) -> Answer:
    """Return the agent's Answer; what it added is staged in the turn. `options` go to `Runner.run`.

    With `sticky` the agent that answered last goes on. Raises `ModelError` when no model is to be had,
    `ConversationError` for a decision that cannot be carried out, and what `Runner.run` raises.
    """
    session = turn.session if turn else None
    options.setdefault("max_turns", _max_turns())
    context = RunContextWrapper(options.setdefault("context", _data(question, turn)))
    starter = _last_agent(agent, session) if sticky and session else agent
    chosen = replace(question, model=question.model or (session.state.chosen_model if session else ""))
    try:
        choice = _choice(starter, chosen, session)
        await connect(agent, context)
    except (ModelError, UserError) as error:
        if turn is None or question.model or not rejects_all(question, turn):
            raise
        return await end_rejected(question, turn, error)
    name = choice.name if choice else _name(starter.model)
    if turn:
        turn.spending.model = name
        turn.spending.check()  # before a decision is recorded
        if not (choice and choice.provider == "local") and (said := turn.spending.unpriced()):
            turn.say(said)
    approvals = Approvals(agent, turn)
    config = _config(agent, chosen, choice, session, options.pop("run_config", None) or RunConfig())
    if turn:
        turn.summaries.use(_summarizer(starter, chosen, choice, turn, config))
        await turn.summaries.ready(turn.staged)
    given: _Given
    if turn and turn.staged.resumed:
        decided = await approvals.carry_out(_in_session(agent, turn.session), question, context)
        if isinstance(decided, Answer):
            return decided
        given = decided
    else:
        given = await question_input(question, turn)
    if turn:
        config.call_model_input_filter = handed_over.to_who_takes_over(agent, config.call_model_input_filter)
    if turn and not (choice and choice.provider == "local"):  # which takes seconds to read as much
        then = config.call_model_input_filter
        config.call_model_input_filter = await recalled.before_question(turn, question.question, given, then)
    if session:
        starter = _in_session(starter, session, of_its_own=starter is not agent)

    async def run(given: _Given) -> RunResult | RunResultStreaming:
        kept = cast("Session | None", session)  # a session by its structure, and a dict is an item
        async with turn.steering.into(turn.staged, given, stream) if turn else nullcontext():
            if stream is None:
                return await Runner.run(starter, given, session=kept, run_config=config, **options)
            running = Runner.run_streamed(starter, given, session=kept, run_config=config, **options)
            return await _follow(running, stream)

    async with stream.writing() if stream else nullcontext():
        await _begin(stream, choice)
        result = await _run_on(run, given, approvals)
    return _outcome(result, approvals, choice, name)


def _last_agent(agent: Agent[Any], session: FlameSession) -> Agent[Any]:
    """Return the agent that answered last, where the given one can hand over to it; otherwise the given one.

    Of several with one name none is meant: the given one begins.
    """
    found = [member for member in reachable_agents(agent) if member.name == session.agent]
    return found[0] if len(found) == 1 else agent


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
    counts = _counts(usage)
    each = [_counts(request) for request in usage.request_usage_entries]
    if result.interruptions:
        return Answer("", model=model, usage=counts, pending=approvals.wait(result), code="waiting")
    answer = Answer(output.text(result), model=model, usage=counts)
    answer.request_usage = each if len(each) > 1 else None  # of one it is the usage
    answer.agent = result.last_agent.name
    answer.output, answer.output_type = output.value(result, answer.answer)
    answer.note = "No key is set: the small local model answered." if choice and choice.fallback else ""
    return answer


def _max_turns() -> int:
    """Return how many times a turn may ask the model: `AGENT_MAX_TURNS`. Raises `ModelError`."""
    setting = os.environ.get("AGENT_MAX_TURNS", "").strip()
    if not setting:
        return DEFAULT_MAX_TURNS
    if not setting.isdecimal() or int(setting) == 0:
        raise ModelError(f"AGENT_MAX_TURNS is a number above 0, not {setting!r}.")
    return int(setting)


def _data(question: Question, turn: RunningTurn | None) -> dict[str, Any]:
    """The data of the question, which tools see in their run context; a turn that goes on has its own."""
    return dict((turn.staged.context if turn else question.context) or {})


def _counts(usage: Usage | RequestUsage) -> dict[str, int]:
    """The figures of a run, or of one request, by the names that records have for them."""
    return {
        "requests": usage.requests if isinstance(usage, Usage) else 1,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens or 0,
        "output_tokens": usage.output_tokens,
        "cache_write_tokens": getattr(usage.input_tokens_details, "cache_write_tokens", None) or 0,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens or 0,
    }


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


def _config(
    agent: Agent[Any], question: Question, choice: Choice | None, session: FlameSession | None, config: RunConfig
) -> RunConfig:
    # The SDK derives model settings (reasoning effort and such) from the name in the RunConfig: without it
    # an agent without a model would be run with those of OpenAI's default model, whoever answers (0.24.0).
    # But that name is for the whole run, so it is left out where an agent that may take over has its own model.
    others_choose = not question.model and any(member.model is not None for member in reachable_agents(agent))
    return replace(
        config,
        model=choice.name if choice and not others_choose else None,
        model_provider=_Models(choice),
        group_id=config.group_id or (session.session_id if session else None),
        tool_error_formatter=config.tool_error_formatter or format_tool_error,
        tool_not_found_behavior="return_error_to_model",
        trace_include_sensitive_data=_with_data(config),
    )


def _with_data(config: RunConfig) -> bool:
    """Whether the SDK has texts in its spans: as ever where they go to OpenAI, otherwise where they are wanted."""
    wanted = tracing.recorder() is None or tracing.with_content() or modes.to_openai(os.environ)
    return wanted and config.trace_include_sensitive_data


def _summarizer(
    agent: Agent[Any], question: Question, choice: Choice | None, turn: RunningTurn, config: RunConfig
) -> Maker | None:
    """Return how the model of this turn is asked for a summary; None for the small local one, which makes none."""
    if choice and choice.provider == "local":
        return None

    session, spending = turn.session, turn.spending

    async def make(prompt: str, text: str) -> Made:
        spending.check(in_turn=False)
        own = RunConfig(tracing_disabled=config.tracing_disabled)
        asked: Agent[Any] = Agent(name="summary", instructions=prompt, model=agent.model)
        run_config = _config(asked, question, choice, session, own)
        result = await Runner.run(asked, text, run_config=run_config, max_turns=1)
        name = choice.name if choice else _name(agent.model)
        used = Used.of(_counts(result.context_wrapper.usage))
        spending.summaries += used
        return Made(str(result.final_output), name, used)

    return make


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


def _in_session(agent: Agent[Any], session: FlameSession, *, of_its_own: bool = False) -> Agent[Any]:
    """Return the agent with the session's prompt for instructions, and with the summary and what is remembered.

    With `of_its_own` the instructions stay its own: it is another agent than the prompt was made for.
    """

    async def instructions(context: RunContextWrapper[Any], _agent: Agent[Any]) -> str | None:
        prompt = "" if of_its_own else session.prompt
        prompt = prompt or await agent.get_system_prompt(context) or ""
        turn = running.get()
        known = handed_over.known(agent, turn) if turn else []
        return "\n\n".join(part for part in (prompt, *known) if part) or None

    if of_its_own:
        return agent.clone(instructions=instructions)
    return agent.clone(instructions=instructions, tools=[*agent.tools, *tools_of(agent, session)])


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
    agent = result.current_agent.name
    async for event in _events(result):
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            stream.text(event.data.delta)
        elif event.type == "raw_response_event" and event.data.type in _REASONING:
            stream.reasoning(event.data.delta)
        elif event.type == "agent_updated_stream_event" and event.new_agent.name != agent:
            agent = event.new_agent.name
            stream.event(agent=agent)
        elif event.type == "run_item_stream_event" and event.name == "tool_called":
            stream.event(call={**shown_call(event.item.raw_item)._asdict(), "agent": event.item.agent.name})
        elif event.type == "run_item_stream_event" and event.name == "tool_output":
            raw = event.item.raw_item
            output = describe_item(raw)[1] if isinstance(raw, dict) else str(getattr(event.item, "output", ""))
            stream.event(output={"id": shown_call(raw).id, "output": output[:2000]})
    await end_of_run(result)
    return result


async def _events(result: RunResultStreaming) -> AsyncIterator[Any]:
    try:
        async for event in result.stream_events():
            yield event
    except BaseException:
        result.cancel()  # else the run goes on in a task of its own
        raise
