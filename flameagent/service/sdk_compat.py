"""Every private or undocumented part of the Agents SDK, of openai's client and of flamepy that this program touches.

Tried with openai-agents 0.24.0, openai 3.54.0 and flamepy 0.6.0. Each part has a function here, which says what is
touched and what is lost where a version has it no more, and a test `test_contract_…` in
`tests/unit/service/test_sdk_compat.py`, which fails by that name when a version changes it.

Parts that a class overrides, or sets on itself, stay there and have their tests with the others:

- `models/chat.py`, `local.py`: `OpenAIChatCompletionsModel._fetch_response`, and `_client`, which it asks through.
- `models/responses.py`: `OpenAIResponsesModel._fetch_response`, `_build_response_create_kwargs`, `_get_client`.
- `models/call_ids.py`: `Model._cleanup_on_run_end`, passed on to the model that is wrapped.
- `models/openai_client.py`: the resources `chat`, `chat.completions` and `responses` of `AsyncOpenAI`, and that their
  raw responses have `http_response`; `models/exchange.py`: the cause of an `APIConnectionError`.
- `mcp.py`: the `session` of a connected MCP server.
- `sdk_speed.py`: what the SDK does with each item of a conversation, and with each agent.
- `entrypoint.py`: flamepy's `FlameInstance._entrypoint` and `_parameter`, and its contexts.
- `flamewire/stubs.py`: flamepy's generated modules, loaded without flamepy.

The private modules are imported where they are used, so that each that has gone fails alone.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from inspect import getattr_static
from typing import TYPE_CHECKING, Any, cast, get_args

from agents import Agent, set_trace_provider

if TYPE_CHECKING:
    import openai
    from agents import (
        AgentOutputSchema,
        FunctionTool,
        Model,
        RunConfig,
        RunContextWrapper,
        RunResultStreaming,
        Tool,
    )
    from agents.items import TResponseInputItem
    from openai.types.responses import ResponseStreamEvent

# What is set for the whole process


def trace_nothing() -> None:
    """Give the SDK a `DefaultTraceProvider` that exports to nobody.

    The SDK's own makes an HTTP client as soon as it is asked for. Without this part turns work and start later, and a
    proxy setting that is wrong fails them.
    """
    from agents.tracing.provider import DefaultTraceProvider

    set_trace_provider(DefaultTraceProvider())


def wrap_models_of_runs(wrap: Callable[[Model], Model]) -> None:
    """Have every model wrapped where a run, nested or not, gets it: `run_internal.run_loop.get_model`.

    There is no other place that models pass which an agent brings. Without it their calls keep the server's IDs, and
    an approval of one can be that of another.
    """
    from agents.run_internal import run_loop

    original = run_loop.get_model

    @wraps(original)
    def get_model(agent: Agent[Any], run_config: RunConfig) -> Model:
        return wrap(original(agent, run_config))

    if not hasattr(original, "wraps_models"):
        get_model.wraps_models = True  # type: ignore[attr-defined]
        run_loop.get_model = get_model


def wrap_calls_of_tools(wrap: Callable[[Any, Any], Any]) -> None:
    """Have the code of every tool awaited through `wrap`, with its context.

    By `tool._FailureHandlingFunctionToolInvoker`. There is no other door behind which all tools are, those of MCP
    servers and of agents that are used as tools included, and before which their failures are dealt with. Without it
    a `sys.exit()` in a tool fails the turn, and no tool's time is known.
    """
    from agents import tool

    invoker: Any = getattr(tool, "_FailureHandlingFunctionToolInvoker", None)
    if invoker is None or getattr(invoker.__call__, "wraps_tools", False):
        return
    call = invoker.__call__

    @wraps(call)
    async def wrapped_call(self: Any, ctx: Any, input: str) -> Any:
        impl, once = self._invoke_tool_impl, copy.copy(self)
        once._invoke_tool_impl = lambda *arguments: wrap(impl(*arguments), ctx)
        return await call(once, ctx, input)

    wrapped_call.wraps_tools = True  # type: ignore[attr-defined]
    invoker.__call__ = wrapped_call


def choose_tools_of_agents(choose: Callable[[Sequence[Tool]], list[Tool]]) -> None:
    """Have every run, nested or not, see only the tools that are chosen of an agent's own.

    `AgentBase.get_all_tools` is public, and a class or an object of the author's may have its own, which is what a
    run asks that goes on behind an approval; `run_internal.run_loop.get_all_tools` is what other runs ask. Raises
    `AttributeError` where a version has either no more: then nothing stands between a replay and the tools, so that
    it must not begin.
    """
    from agents.agent import AgentBase
    from agents.run_internal import run_loop

    def see_to(kind: Any) -> None:
        if not isinstance(found := getattr_static(kind, "get_all_tools"), _Choosing):
            kind.get_all_tools = _Choosing(found, choose)

    def see_to_classes(known: Any) -> None:
        see_to(known)
        for each in known.__subclasses__():
            see_to_classes(each)

    if not hasattr(run_loop.get_all_tools, "chooses_tools"):
        run_loop.get_all_tools = _choosing(run_loop.get_all_tools, choose)
    see_to_classes(AgentBase)
    if "__init_subclass__" not in vars(AgentBase):

        def begun(cls: Any, /, **named: Any) -> None:
            super(AgentBase, cls).__init_subclass__(**named)
            see_to(cls)

        AgentBase.__init_subclass__ = classmethod(begun)  # type: ignore[assignment]


class _Choosing:
    """A class's `get_all_tools`, of which tools are chosen; also where an object has another in its place, which
    Python would look at only where the class has none that sets it."""

    def __init__(self, original: Any, choose: Callable[[Sequence[Tool]], list[Tool]]) -> None:
        self._original = original
        self._choose = choose

    def __get__(self, agent: Any, kind: Any = None) -> Any:
        if agent is None:
            return _choosing(self._original, self._choose)
        first = next(each for each in type(agent).__mro__ if "get_all_tools" in vars(each))
        own = vars(agent).get("get_all_tools") if vars(first)["get_all_tools"] is self else None
        return _choosing(own or self._original.__get__(agent, kind), self._choose)

    def __set__(self, agent: Any, own: Any) -> None:
        vars(agent)["get_all_tools"] = own


def _choosing(original: Any, choose: Callable[[Sequence[Tool]], list[Tool]]) -> Any:
    @wraps(original)
    async def get_all_tools(*arguments: Any, **named: Any) -> list[Tool]:
        return choose(await original(*arguments, **named))

    get_all_tools.chooses_tools = True  # type: ignore[attr-defined]
    return get_all_tools


async def needs_approval_of(
    tool: FunctionTool, context: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str
) -> bool:
    """Return whether a call of a tool needs an approval, as a run decides on it: `util._approvals`.

    Without it every call of a tool with a rule of its own waits in a replay.
    """
    try:
        from agents.util._approvals import evaluate_function_tool_approval
    except ImportError:
        return True
    decided = await evaluate_function_tool_approval(tool, context, json.dumps(arguments), call_id)
    return decided.outcome == "require_approval"


# Agents and runs


def agent_of_handoff(handoff: Any) -> Agent[Any] | None:
    """Return the agent that a `Handoff` leads to: its `_agent_ref`.

    Without it the MCP servers of agents that are handed over to are not connected before a turn, and approvals for
    good do not see agents that share a name.
    """
    if isinstance(handoff, Agent):
        return handoff
    agent = getattr(handoff, "_agent_ref", lambda: None)()
    return agent if isinstance(agent, Agent) else None


def agent_of_tool(tool: Any) -> Agent[Any] | None:
    """Return the agent that a tool made by `Agent.as_tool` runs: its `_agent_instance`.

    Without it the same is lost of agents that are used as tools.
    """
    agent = getattr(tool, "_agent_instance", None)
    return agent if isinstance(agent, Agent) else None


async def end_of_run(result: RunResultStreaming) -> None:
    """Wait for the end of a streamed run, and raise what it raised: its `run_loop_task`.

    A run that was cancelled from within ends its events as if it were complete. Without this part such a turn would
    be added with half an answer.
    """
    if result.run_loop_task is not None:
        await result.run_loop_task


class RunsState:
    """The state of a run that begins or goes on; `known` once it has one."""

    def __init__(self, state: object) -> None:
        self.known: Any = state

    def put_in(self, item: dict[str, Any]) -> None:
        """Have the run take an item in before its next call of the model: its state's `_pending_input`.

        `RunState.add_input` does the same for a run that has stopped. Without this part a message that comes while a
        turn runs waits for its own turn.
        """
        pending = getattr(self.known, "_pending_input", None)
        if isinstance(pending, list):
            pending.append(item)


_begins: ContextVar[RunsState | None] = ContextVar("the run that begins", default=None)


@contextmanager
def state_of_run(given: object) -> Iterator[RunsState]:
    """Give the state of the run that begins inside, or of `given`, a `RunState` that it goes on with.

    A run makes its `RunState` itself and shows it to nobody: the first that is made inside is the run's, later ones
    are those of nested runs. Without it the same is lost.
    """
    from agents import RunState

    init = RunState.__init__
    if not hasattr(init, "notes"):

        @wraps(init)
        def noting(self: Any, *arguments: Any, **named: Any) -> None:
            init(self, *arguments, **named)
            if (begins := _begins.get()) is not None and begins.known is None:
                begins.known = self

        noting.notes = True  # type: ignore[attr-defined]
        RunState.__init__ = noting  # type: ignore[method-assign]
    state = RunsState(given if isinstance(given, RunState) else None)
    token = _begins.set(state)
    try:
        yield state
    finally:
        _begins.reset(token)


def without_context(state: Any) -> Any:
    """Return a run's state as JSON, and those of nested runs in it, without contexts: beside each `context_meta`.

    The SDK asks no serializer about a context that is a mapping. Without this part what an entrypoint has in its
    context (connections, keys) is stored with a turn that waits, or cannot be stored.
    """
    if isinstance(state, list):
        return [without_context(value) for value in state]
    if not isinstance(state, dict):
        return state
    kept = {**state, "context": {}} if "context_meta" in state else state
    return {key: without_context(value) for key, value in kept.items()}


def unwrapped(written: str, schema: AgentOutputSchema) -> str:
    """Return what a model wrote of an output type, without the wrapping of a schema that `_is_wrapped`.

    The SDK has a model answer what is no JSON object under the key `response`. Without this part that wrapping stands
    in answers that their type cannot read back.
    """
    return json.dumps(json.loads(written)["response"], ensure_ascii=False) if schema._is_wrapped else written


# Items


def assistant_parts(content: list[Any]) -> dict[str, Any]:
    """Return a message of the model as an item in the one shape in which chat completions take its parts.

    That is one with the ID that the SDK makes up for items without one. Without it answers of several parts, and
    refusals, are not sent.
    """
    return {"id": _made_up_id(), "type": "message", "role": "assistant", "content": content}


def has_own_id(item: Mapping[str, Any]) -> bool:
    """Return whether a server gave the item its ID; `agents.models.fake_id` is what the SDK puts where none did.

    Without it reasoning of chat completions is taken for that of the Responses API, and is not sent back.
    """
    return item.get("id") not in (None, _made_up_id())


@cache
def _made_up_id() -> str:
    from agents.models.fake_id import FAKE_RESPONSES_ID

    return FAKE_RESPONSES_ID


def reasoning_field(data: Mapping[str, Any]) -> str:
    """Return the field of a chat completion that reasoning came in, of its item's `provider_data`.

    Without the key that the SDK notes it under, `reasoning` goes back to its server as `reasoning_content`.
    """
    return "reasoning" if data.get("_chat_completions_reasoning_field") == "reasoning" else "reasoning_content"


def messages_of(items: list[TResponseInputItem]) -> list[Any]:
    """Return the messages of chat completions that the SDK's `Converter` makes of items.

    Without it the local model cannot count the tokens of a conversation.
    """
    from agents.models.chatcmpl_converter import Converter

    return list(Converter.items_to_messages(items))


def fields_of_items() -> dict[str, set[str]]:
    """Return the fields that the Responses API knows, by kind of item: the annotations of openai's item parameters.

    Without it items of earlier answers go to the Responses API with fields that it refuses.
    """
    from openai.types.responses.response_input_item_param import ResponseInputItemParam

    found: dict[str, set[str]] = {}
    for param in get_args(ResponseInputItemParam):
        for kind in re.findall(r"""["'](\w+)["']""", str(param.__annotations__.get("type"))):
            found.setdefault(kind, set()).update(param.__annotations__)
    return found


# Answers


def response_event(event: dict[str, Any]) -> ResponseStreamEvent:
    """Return an event of a stream as openai's own stream makes it: `_models.construct_type`.

    It checks nothing, so that servers may leave fields out. Without it no answer of the Responses API is read.
    """
    from openai._models import construct_type
    from openai.types.responses import ResponseStreamEvent

    return cast("ResponseStreamEvent", construct_type(type_=ResponseStreamEvent, value=event))


def set_request_id(answer: openai.BaseModel, request_id: str | None) -> None:
    """Set the ID of the request that was answered, which the SDK reads: `_request_id`.

    Without it `ModelResponse.request_id` is empty.
    """
    answer._request_id = request_id
