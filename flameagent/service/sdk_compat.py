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
- `entrypoint.py`: flamepy's `FlameInstance._entrypoint` and `_parameter`, and its contexts.
- `flamewire/stubs.py`: flamepy's generated modules, loaded without flamepy.

The private modules are imported where they are used, so that each that has gone fails alone.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, cast, get_args

import msgspec
from agents import Agent, set_trace_provider

if TYPE_CHECKING:
    import openai
    from agents import AgentOutputSchema, Model, RunConfig, RunResultStreaming
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


def copy_items_faster() -> None:
    """Have the SDK copy the items of a conversation in C: `_to_dump_compatible_internal`, `_clone_original_input`.

    The SDK copies all items four times a turn, dictionary by dictionary, which is half of what a turn with 1000 items
    takes. The results are the same, but that a copy of a tuple stays one; what is not plain JSON is left to the SDK.
    Where it has these functions no more, long conversations get slower, and nothing else changes.
    """
    from agents import run_state
    from agents.util import _json

    for module, name in (_json, "_to_dump_compatible_internal"), (run_state, "_clone_original_input"):
        original = getattr(module, name, None)
        if original is not None and not isinstance(original, _Copy):
            setattr(module, name, _Copy(original))


class _Copy:
    """Copies what is plain JSON; anything else `slowly`."""

    def __init__(self, slowly: Callable[[Any], Any]) -> None:
        self._slowly = slowly

    def __call__(self, value: Any) -> Any:
        try:
            return msgspec.to_builtins(value, builtin_types=(bytes, bytearray, memoryview))
        except (TypeError, ValueError, RecursionError):
            return self._slowly(value)


def find_duplicates_faster() -> None:
    """Have the SDK find the keys of usual items faster: `run_internal.items._dedupe_key`.

    It works out twice a turn by which key each item could be a duplicate. The keys are the same; an SDK that makes
    others is left alone, and then long conversations get slower.
    """
    from agents.run_internal import items

    original = getattr(items, "_dedupe_key", None)
    if original is not None and not isinstance(original, _Key) and _Key.fits(original):
        items._dedupe_key = _Key(original)


class _Key:
    """The key by which a message, a call or its output is a duplicate of another; that of anything else `slowly`."""

    _CALLS = ("function_call", "function_call_output")

    def __init__(self, slowly: Callable[[Any], str | None]) -> None:
        self._slowly = slowly

    @classmethod
    def fits(cls, original: Callable[[Any], str | None]) -> bool:
        """Return whether the SDK names these three as we do."""
        seen: list[dict[str, Any]] = [{"role": "user"}, *({"type": kind, "call_id": "1"} for kind in cls._CALLS)]
        return list(map(original, seen)) == list(map(cls(original), seen))

    def __call__(self, item: Any) -> str | None:
        if type(item) is dict:
            if item.get("role") is not None:
                return None
            kind, call_id = item.get("type"), item.get("call_id")
            if kind in self._CALLS and isinstance(call_id, str):
                return f"call_id:{kind}:{call_id}"
        return self._slowly(item)


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


def wrap_calls_of_tools(wrap: Callable[[Any], Any]) -> None:
    """Have the code of every tool awaited through `wrap`: `tool._FailureHandlingFunctionToolInvoker`.

    There is no other door behind which all tools are, those of MCP servers and of agents that are used as tools
    included, and before which their failures are dealt with. Without it a `sys.exit()` in a tool fails the turn.
    """
    from agents import tool

    invoker: Any = getattr(tool, "_FailureHandlingFunctionToolInvoker", None)
    if invoker is None or getattr(invoker.__call__, "wraps_tools", False):
        return
    call = invoker.__call__

    @wraps(call)
    async def wrapped_call(self: Any, ctx: Any, input: str) -> Any:
        impl, once = self._invoke_tool_impl, copy.copy(self)
        once._invoke_tool_impl = lambda *arguments: wrap(impl(*arguments))
        return await call(once, ctx, input)

    wrapped_call.wraps_tools = True  # type: ignore[attr-defined]
    invoker.__call__ = wrapped_call


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
