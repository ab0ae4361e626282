"""The private parts of the Agents SDK, of openai's client and of flamepy that this program touches.

One test for each, which fails by its name where a version has changed the part, and says what is lost. Private
modules are imported inside the tests, so that one that has gone fails its own tests alone. All in one file: it is the
list of what a new version may break.
"""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pkgutil import resolve_name
from typing import Any

import httpx2
import openai
import pytest
from agents import (
    Agent,
    AgentOutputSchema,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    RunContextWrapper,
    Runner,
    RunState,
    function_tool,
    handoff,
)
from agents.items import ItemHelpers
from agents.mcp import MCPServerStdio, MCPServerStreamableHttp
from agents.tool_context import ToolContext
from agents.tracing import get_trace_provider
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.responses import ResponseTextDeltaEvent

from flameagent.model_choice import choose
from flameagent.service import sdk_compat, sdk_speed
from flameagent.service.models.call_ids import NamingModel
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.openai_client import connect
from flameagent.service.models.responses import ResponsesModel
from tests.support.model_server import Call, ModelServer, Step

SET = [
    "agents.util._json._to_dump_compatible_internal",
    "agents.run_state._clone_original_input",
    "agents.run_internal.items._dedupe_key",
    "agents.run_internal.run_loop.get_model",
    "agents.tool._FailureHandlingFunctionToolInvoker.__call__",
    "agents.run_state.RunState.__init__",
    "agents.agent.AgentBase.get_all_tools",
    "agents.run_internal.run_loop.get_all_tools",
]


@pytest.fixture(autouse=True)
def as_the_sdk_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what other tests have set, and afterwards what this one sets."""
    for name in SET:
        with suppress(Exception):  # then its contract says so
            monkeypatch.setattr(name, inspect.unwrap(resolve_name(name)))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@contextmanager
def contract(part: str, lost: str) -> Iterator[None]:
    """Checks of a private part, which fail with what is `lost` without it."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{part} is not what it was. Lost: {lost}. Look at sdk_compat. ({error!r})") from error


def chat(server: ModelServer) -> ChatModel:
    return ChatModel(choose({"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-x"}), retries=0)


def responses(server: ModelServer) -> ResponsesModel:
    environ = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-x", "AGENT_API": "responses"}
    return ResponsesModel(choose(environ), retries=0)


# What is set for the whole process


def test_contract_trace_provider() -> None:
    with contract("DefaultTraceProvider", "turns make an HTTP client for traces that nobody asked for"):
        before = get_trace_provider()
        sdk_compat.trace_nothing()
        assert get_trace_provider() is not before
        assert get_trace_provider()._multi_processor._processors == ()  # type: ignore[attr-defined]


def test_contract_copies_of_items() -> None:
    with contract("_to_dump_compatible_internal or _clone_original_input", "speed: a turn with 1000 items doubles"):
        from agents import run_state
        from agents.util import _json

        sdk_speed.copy_items_faster()
        assert isinstance(_json._to_dump_compatible_internal, sdk_speed._Copy)
        assert "_to_dump_compatible_internal" in _json._to_dump_compatible.__code__.co_names
        assert isinstance(run_state._clone_original_input, sdk_speed._Copy)
        assert "_clone_original_input" in RunState.__init__.__code__.co_names
        assert "_to_dump_compatible" in ItemHelpers.input_to_new_input_list.__func__.__code__.co_names  # type: ignore[attr-defined]


def test_contract_keys_of_duplicates() -> None:
    with contract("_dedupe_key", "speed: the SDK works out for each item twice by which key it could be a duplicate"):
        from agents.run_internal import items, run_loop, session_persistence

        sdk_speed.find_duplicates_faster()
        assert isinstance(items._dedupe_key, sdk_speed._Key)
        slowly = items.deduplicate_input_items_preferring_latest
        assert isinstance(slowly, sdk_speed._Deduplicated)
        assert "_dedupe_key" in slowly._slowly.__code__.co_names  # type: ignore[attr-defined]
        for module in run_loop, session_persistence:
            assert module.deduplicate_input_items_preferring_latest is slowly


def test_contract_normalized_items() -> None:
    with contract("normalize_input_items_for_api", "speed: the SDK copies each item twice, up to four times a turn"):
        from agents.run_internal import items, session_persistence

        sdk_speed.normalize_items_faster()
        assert isinstance(items.normalize_input_items_for_api, sdk_speed._Normalized)
        assert session_persistence.normalize_input_items_for_api is items.normalize_input_items_for_api


def test_contract_orphans() -> None:
    with contract("drop_orphan_function_calls", "speed: the SDK makes four tables of all items a turn"):
        from agents.run_internal import items, session_persistence

        sdk_speed.find_orphans_faster()
        assert isinstance(items.drop_orphan_function_calls, sdk_speed._Paired)
        assert session_persistence.drop_orphan_function_calls is items.drop_orphan_function_calls


def test_contract_history_of_sessions() -> None:
    with contract("prepare_input_with_session", "speed: the SDK copies each item of a history four times a turn"):
        from agents import run
        from agents.run_internal import run_loop, session_persistence

        sdk_speed.take_history_faster()
        prepare = session_persistence.prepare_input_with_session
        assert isinstance(prepare, sdk_speed._History)
        assert prepare is run.prepare_input_with_session is run_loop.prepare_input_with_session


def test_contract_methods_of_sessions() -> None:
    with contract("_session_method_accepts_wrapper", "speed: the SDK looks at signatures six times a turn"):
        from agents.memory import session

        sdk_speed.inspect_sessions_once()
        assert hasattr(session._session_method_accepts_wrapper, "asks_once")
        inner = [each for each in session._session_accepts_wrapper.__code__.co_consts if hasattr(each, "co_names")]
        assert any("_session_method_accepts_wrapper" in each.co_names for each in inner)


def test_contract_declarations() -> None:
    with contract("_declared_dataclass_type", "speed: the SDK reads the type hints of Agent for each of them"):
        from agents import _config_coercion, model_settings, run_config

        sdk_speed.read_declarations_once()
        assert hasattr(_config_coercion._declared_dataclass_type, "asks_once")
        for module in model_settings, run_config:
            assert module._declared_dataclass_type is _config_coercion._declared_dataclass_type
        assert "_declared_dataclass_type" in model_settings._declared_model_settings_type.__code__.co_names


def test_contract_sort_keys_of_agents() -> None:
    with contract("_agent_identity_sort_key", "speed: the SDK describes each agent twice a turn"):
        from agents import _run_state_agent_identity as identity

        sdk_speed.compare_agents_late()
        key = identity._agent_identity_sort_key(Agent("a"), root_agent=Agent("b"), original_index=0)
        assert isinstance(key, sdk_speed._Late)
        inner = [each for each in identity._build_agent_identity_map.__code__.co_consts if hasattr(each, "co_names")]
        assert any("_agent_identity_sort_key" in each.co_names for each in inner)


@pytest.mark.parametrize("stream", [False, True])
async def test_contract_models_of_runs(server: ModelServer, stream: bool) -> None:
    wrapped: list[Model] = []

    def wrap(model: Model) -> Model:
        wrapped.append(model)
        return model

    with contract("run_loop.get_model", "calls of models that an agent brings have no IDs of their own"):
        sdk_compat.wrap_models_of_runs(wrap)
        agent = Agent(name="a", model=chat(server))
        if stream:
            async for _ in Runner.run_streamed(agent, "hi").stream_events():
                pass
        else:
            await Runner.run(agent, "hi")
        assert wrapped == [agent.model]


async def test_contract_calls_of_tools() -> None:
    @function_tool
    async def leave() -> None:
        raise SystemExit

    wrapped = []

    async def wrap(code: Any, context: Any) -> Any:
        wrapped.append((code, context.tool_call_id))
        try:
            return await code
        except SystemExit as error:
            raise RuntimeError("left") from error

    with contract("_FailureHandlingFunctionToolInvoker", "a sys.exit() in a tool fails the turn"):
        sdk_compat.wrap_calls_of_tools(wrap)
        context = ToolContext(None, tool_name="leave", tool_call_id="1", tool_arguments="{}")
        said = await leave.on_invoke_tool(context, "{}")
        assert [call for _, call in wrapped] == ["1"] and "error occurred" in said


# Agents and runs


async def test_contract_tools_of_agents(server: ModelServer) -> None:
    ran: list[str] = []

    @function_tool
    def act() -> str:
        ran.append("act")
        return "acted"

    class Own(Agent[Any]):
        async def get_all_tools(self, run_context: RunContextWrapper[Any]) -> list[Any]:
            return [act]

    choosing: list[int] = []

    def none(tools: Any) -> list[Any]:
        choosing.append(len(tools))
        return []

    with contract("AgentBase.get_all_tools or run_loop.get_all_tools", "a replay runs tools"):
        sdk_compat.choose_tools_of_agents(none)
        model = ChatModel(choose({"OPENAI_BASE_URL": server.url, "AGENT_MODEL": "scripted"}))
        for agent in (Agent("plain", tools=[act], model=model), Own("own", model=model)):
            server.steps.extend([Step(calls=(Call("act"),)), Step(text="done")])
            config = RunConfig(tool_not_found_behavior="return_error_to_model")
            assert (await Runner.run(agent, "go", run_config=config)).final_output == "done"
        assert choosing
        assert not ran


def test_contract_rule_of_an_approval() -> None:
    with contract(
        "util._approvals.evaluate_function_tool_approval", "calls with a rule of their own wait in a replay"
    ):
        assert resolve_name("agents.util._approvals.evaluate_function_tool_approval")


def test_contract_agent_of_a_handoff() -> None:
    other: Agent[Any] = Agent(name="other")
    with contract("Handoff._agent_ref", "MCP servers of agents that are handed over to are not connected"):
        assert sdk_compat.agent_of_handoff(handoff(other)) is other
    assert sdk_compat.agent_of_handoff(other) is other


def test_contract_agent_of_a_tool() -> None:
    other: Agent[Any] = Agent(name="other")
    with contract("FunctionTool._agent_instance", "MCP servers of agents that are tools are not connected"):
        assert sdk_compat.agent_of_tool(other.as_tool("ask_other", "Ask.")) is other
    assert sdk_compat.agent_of_tool(function_tool(print, strict_mode=False)) is None


def test_contract_session_of_an_mcp_server() -> None:
    with contract("session of an MCP server", "servers that have ended are not started again"):
        stdio = MCPServerStdio({"command": "true"})
        http = MCPServerStreamableHttp({"url": "http://127.0.0.1:1"})
        for one in (stdio, http):
            assert one.session is None
            one.invalidate_tools_cache()  # type: ignore[no-untyped-call]


async def test_contract_end_of_a_streamed_run(server: ModelServer) -> None:
    with contract("run_loop_task", "a run that was cancelled from within is added as if it were complete"):
        result = Runner.run_streamed(Agent(name="a", model=chat(server)), "hi")
        assert isinstance(result.run_loop_task, asyncio.Task)
        result.run_loop_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sdk_compat.end_of_run(result)


@pytest.mark.parametrize("stream", [False, True])
async def test_contract_input_of_a_run_that_runs(server: ModelServer, stream: bool) -> None:
    """A nested run's state is not taken for that of the run, and what is put in comes before the next call."""
    item = {"role": "user", "content": "and quickly"}
    helper = Agent(name="helper", model=chat(server))
    given: list[sdk_compat.RunsState] = []

    @function_tool
    def work() -> str:
        given[0].put_in(item)
        return "done"

    agent = Agent(name="a", model=chat(server), tools=[helper.as_tool("ask_helper", "Helps."), work])
    with contract("RunState.__init__ and _pending_input", "a message that comes while a turn runs waits its turn"):
        helps, works = Step(calls=(Call("ask_helper", '{"input": "x"}'),)), Step(calls=(Call("work", id="call_2"),))
        server.steps.extend([helps, Step(text="helped"), works, Step(text="end")])
        with sdk_compat.state_of_run("hi") as state:
            given.append(state)
            if stream:
                streamed = Runner.run_streamed(agent, "hi")
                await sdk_compat.end_of_run(streamed)
            else:
                await Runner.run(agent, "hi")
        assert server.bodies[-1]["messages"][-1] == item
        assert item not in server.bodies[-2]["messages"]


async def test_contract_context_of_a_run_state(server: ModelServer) -> None:
    @function_tool(needs_approval=True)
    def pay() -> str:
        return "paid"

    with contract("context_meta beside the context of a RunState", "the entrypoint's context is stored with a turn"):
        server.script = lambda _: Step(calls=(Call("pay"),))
        agent = Agent(name="a", model=chat(server), tools=[pay])
        result = await Runner.run(agent, "hi", context={"secret": "hidden"})
        state = result.to_state().to_json(context_serializer=lambda _: {})
        kept = sdk_compat.without_context({"nested": [state]})["nested"][0]
        assert "hidden" in str(state) and "hidden" not in str(kept)
        again = await RunState.from_json(agent, kept, context_override=RunContextWrapper({"secret": "new"}))
        assert [item.tool_name for item in again.get_interruptions()] == ["pay"]


def test_contract_wrapped_output() -> None:
    with contract("AgentOutputSchema._is_wrapped", "the SDK's wrapping stands in answers of some types"):
        wrapped, plain = AgentOutputSchema(list[str]), AgentOutputSchema(dict[str, int], strict_json_schema=False)
        written = '{"response": ["é"]}'
        assert wrapped.validate_json(written) == ["é"]
        assert sdk_compat.unwrapped(written, wrapped) == '["é"]'
        assert sdk_compat.unwrapped('{"response": 1}', plain) == '{"response": 1}'


# Items


def test_contract_parts_of_the_assistant() -> None:
    parts = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    with contract("fake_id.FAKE_RESPONSES_ID", "answers of several parts are not sent"):
        messages: Any = sdk_compat.messages_of([sdk_compat.assistant_parts(parts)])  # type: ignore[list-item]
        assert [message["role"] for message in messages] == ["assistant"] and "a" in str(messages)


def test_contract_ids_of_items() -> None:
    with contract("fake_id.FAKE_RESPONSES_ID", "reasoning is not sent back to chat completions"):
        from agents.models.chatcmpl_converter import Converter

        message = ChatCompletionMessage.construct(role="assistant", content="a", reasoning_content="because")
        ids = [sdk_compat.has_own_id(item.model_dump()) for item in Converter.message_to_output_items(message)]
        assert ids == [False, False]
    assert sdk_compat.has_own_id({"id": "rs_1"})


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_contract_field_of_reasoning(field: str) -> None:
    with contract("_chat_completions_reasoning_field", "reasoning goes back under another name than it came"):
        from agents.models.chatcmpl_converter import Converter

        message = ChatCompletionMessage.construct(role="assistant", content="a", **{field: "because"})
        item: Any = Converter.message_to_output_items(message, provider_data={"model": "m"})[0]
        assert sdk_compat.reasoning_field(item.provider_data) == field


def test_contract_messages_of_items() -> None:
    with contract("Converter.items_to_messages", "the local model cannot count the tokens of a conversation"):
        items: list[Any] = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
        said = [(message["role"], message["content"]) for message in sdk_compat.messages_of(items)]
        assert said == [("user", "hi"), ("assistant", "ho")]


def test_contract_fields_of_items() -> None:
    with contract("annotations of ResponseInputItemParam", "items go with fields that the Responses API refuses"):
        fields = sdk_compat.fields_of_items()
        assert {"id", "call_id", "name", "arguments", "status", "type"} <= fields["function_call"]
        assert {"call_id", "output"} <= fields["function_call_output"]
        assert {"role", "content"} <= fields["message"]
        assert {"summary", "encrypted_content"} <= fields["reasoning"]
        assert "provider_data" not in fields["function_call"]


# Answers


def test_contract_events_of_responses() -> None:
    with contract("openai._models.construct_type", "no answer of the Responses API is read"):
        event = sdk_compat.response_event({"type": "response.output_text.delta", "delta": "a"})
        assert isinstance(event, ResponseTextDeltaEvent) and event.delta == "a"


@pytest.mark.parametrize("model", [chat, responses])
async def test_contract_request_ids(server: ModelServer, model: Any) -> None:
    with contract("_request_id", "ModelResponse.request_id is empty"):
        answer = ChatCompletion.construct(id="1")
        sdk_compat.set_request_id(answer, "req_1")
        assert "req_1" not in str(answer.model_dump())
        server.script = lambda _: Step(text="hi", headers={"x-request-id": "req_1"})
        result = await Runner.run(Agent(name="a", model=model(server)), "hi")
        assert [response.request_id for response in result.raw_responses] == ["req_1"]


# What is overridden in place


@pytest.mark.parametrize("sdk", [OpenAIChatCompletionsModel, OpenAIResponsesModel])
def test_contract_fetch_response(sdk: Any) -> None:
    with contract(f"{sdk.__name__}._fetch_response", "answers are read by openai's client, which is strict"):
        names = list(inspect.signature(sdk._fetch_response).parameters)
        assert names[:4] == ["self", "system_instructions", "input", "model_settings"] and "stream" in names
        for method in (sdk.get_response, sdk.stream_response):
            assert "_fetch_response" in str(code_of(method))


def code_of(function: Any) -> list[str]:
    """The names that a function and those in it use."""
    codes, names = [function.__code__], []
    for code in codes:
        names += code.co_names
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return names


def test_contract_request_of_responses(server: ModelServer) -> None:
    with contract("OpenAIResponsesModel._build_response_create_kwargs", "nothing is asked of a Responses API"):
        model = responses(server)
        fetch, build = (
            list(inspect.signature(method).parameters)
            for method in (OpenAIResponsesModel._fetch_response, model._build_response_create_kwargs)
        )
        assert fetch[1:] == build
        assert model._get_client().base_url == server.url + "/"


def test_contract_client_of_a_chat_model(server: ModelServer) -> None:
    with contract("OpenAIChatCompletionsModel._client", "the local model, whose address is known late, is not asked"):
        model = chat(server)
        model._client = connect(choose({"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}), retries=0)
        assert model._get_client() is model._client


async def test_contract_end_of_the_run_of_a_model(server: ModelServer) -> None:
    ended: list[object] = []

    class Held(ChatModel):
        async def _cleanup_on_run_end(self, owner: object) -> None:
            ended.append(owner)

    with contract("Model._cleanup_on_run_end", "models that an agent brings keep what they hold for a run"):
        sdk_compat.wrap_models_of_runs(NamingModel)
        await Runner.run(Agent(name="a", model=Held(chat(server).choice)), "hi")
        assert len(ended) == 1


@pytest.mark.parametrize("model", [chat, responses])
@pytest.mark.parametrize("stream", [False, True])
async def test_contract_resources_of_the_client(server: ModelServer, model: Any, stream: bool) -> None:
    part = "AsyncOpenAI.chat.completions, .responses or their with_raw_response"
    with contract(part, "conversations are walked by type hints: nine tenths of a turn with 1000 items"):
        made = model(server)
        client = connect(made.choice, retries=0)
        own = client.responses if model is responses else client.chat.completions
        assert type(own).__module__ == "flameagent.service.models.openai_client"
        if model is responses:
            raw = await own.with_raw_response.create(model="m", input="hi", stream=stream)
            assert isinstance(raw.http_response, httpx2.Response)
        agent = Agent(name="a", model=made)
        if stream:
            async for _ in Runner.run_streamed(agent, "hi").stream_events():
                pass
        else:
            assert (await Runner.run(agent, "hi")).final_output


@pytest.mark.parametrize("raised", [httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.DecodingError])
async def test_contract_cause_of_a_connection_error(raised: Any) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise raised("broken", request=request)

    with contract("__cause__ of APIConnectionError", "a server that breaks off is said to be unreachable"):
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(fail))
        client = openai.AsyncOpenAI(base_url="http://h/v1", api_key="x", max_retries=0, http_client=http)
        with pytest.raises(openai.APIConnectionError) as error:
            await client.chat.completions.create(model="m", messages=[])
        assert isinstance(error.value.__cause__, raised)


# flamepy


def test_contract_entrypoint_of_flamepy() -> None:
    with contract("flamepy's FlameInstance._entrypoint and _parameter", "no task is run"):
        import flamepy.service

        def answer(asked: str) -> str:
            return asked

        instance = flamepy.service.FlameInstance()
        assert instance._entrypoint is None and instance._parameter is None
        instance.entrypoint(answer)
        assert instance._entrypoint is answer and instance._parameter is not None


def test_contract_contexts_of_flamepy() -> None:
    with contract("flamepy.core.service's contexts", "an instance enters no session"):
        from flamepy.core.service import ApplicationContext, SessionContext

        session = SessionContext(b"data", "s-1", ApplicationContext(name="app"))
        assert (session.common_data(), session.session_id, session.application.name) == (b"data", "s-1", "app")


def test_contract_stubs_of_flamepy() -> None:
    program = """
import sys
from flamewire import stubs
assert not {"flamepy", "fastapi", "uvicorn"} & set(sys.modules), "flamepy was imported"
stubs.types.Result(return_code=0), stubs.types.TaskResult(return_code=-1, message="m")
stubs.frontend.GetSessionRequest(session_id="s")
stubs.frontend_grpc.FrontendStub, stubs.shim_grpc.InstanceServicer, stubs.shim_grpc.add_InstanceServicer_to_server
import flamepy
"""
    with contract("flamepy.proto", "each client and instance imports FastAPI: a second"):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
