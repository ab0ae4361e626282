"""The model that a choice names, as a `Model` of the Agents SDK.

What it returns is an answer: text or tool calls, whole, each call with an ID that the conversation has
not used. Anything else a server sends is a `ModelAnswerError`, streamed or not. `explain` turns what a
run can raise into one sentence for the user, without a key in it.
"""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import httpx2
import openai
from agents import exceptions as sdk
from agents import set_trace_provider, set_tracing_disabled
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.tracing.provider import DefaultTraceProvider
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from flameagent.models import Choice, ModelAnswerError, ModelError
from flameagent.network import way
from flameagent.service import shortcuts
from flameagent.service.calls import naming
from flameagent.service.openai_client import connect

if TYPE_CHECKING:
    from agents import Model, ModelSettings
    from agents.items import TResponseInputItem

RETRIES = 2

# What chat completions can say. A conversation that had hosted tools on the Responses API has more items,
# of which the answers hold the gist; the SDK would stop at them (0.24.0).
_SPOKEN = {"message", "function_call", "function_call_output", "reasoning", "file_search_call"}


def prepare() -> None:
    """Settle what the Agents SDK does for the whole process: no traces leave it unless AGENT_TRACING=1, and what it
    does with every item of a conversation takes less time."""
    traced = os.environ.get("AGENT_TRACING") == "1"
    if not traced:  # the SDK's own (0.24.0) makes an HTTP client as soon as it is asked for
        set_trace_provider(DefaultTraceProvider())
    set_tracing_disabled(not traced)
    shortcuts.prepare()


@lru_cache(maxsize=8)
def build(choice: Choice) -> "Model":
    """Return the model of a choice, the same one for the same choice: its connections are kept open.

    To be used in one event loop. Raises `ModelError` when the local model is not installed.
    """
    if choice.provider == "local":
        from flameagent.service.local_model import LocalModel

        return LocalModel(choice)
    if choice.api == "responses":
        from flameagent.service.responses import ResponsesModel

        return ResponsesModel(choice)
    return ChatModel(choice)


class ChatModel(OpenAIChatCompletionsModel):
    """A model behind a chat-completions server."""

    # Only a model that talks until it is stopped gives an answer when it is stopped.
    cut_off_is_an_answer = False

    def __init__(self, choice: Choice, retries: int = RETRIES) -> None:
        super().__init__(choice.name, connect(choice, retries))
        self.choice = choice

    # Not public in openai-agents 0.24.0, and the one place that both get_response and stream_response
    # pass between the server's answer and the SDK's reading of it.
    async def _fetch_response(
        self,
        system_instructions: str | None,
        input: "str | list[TResponseInputItem]",
        model_settings: "ModelSettings",
        *rest: Any,
        stream: bool = False,
        **named: Any,
    ) -> Any:
        if model_settings.include_usage is None:
            model_settings = replace(model_settings, include_usage=True)
        name_call = naming(input)
        input = spoken(input)
        try:
            answer = await cast("Any", super())._fetch_response(
                system_instructions, input, model_settings, *rest, stream=stream, **named
            )
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelAnswerError(unreadable("a body that is no JSON")) from error
        except openai.APIConnectionError as error:
            if broken_off(error):
                raise ModelAnswerError(BROKEN_OFF) from error
            raise
        if not stream:
            self._check(answer, name_call)
            return answer
        response, chunks = answer
        if not isinstance(chunks, openai.AsyncStream):
            raise ModelAnswerError(unreadable("no stream"))
        return response, self._checked(chunks, name_call)

    def _check(self, answer: Any, name_call: Callable[[str | None], str]) -> None:
        """Check a whole answer, name its calls, and fill in what the SDK reads without looking."""
        if not isinstance(answer, ChatCompletion):
            raise ModelAnswerError(unreadable("a body that is no JSON object"))
        choice = _first_choice(answer)
        if choice is None:
            raise ModelAnswerError(_no_choices(answer))
        message = getattr(choice, "message", None)
        calls = getattr(message, "tool_calls", None) or []
        content = getattr(message, "content", None)
        if not (
            isinstance(message, ChatCompletionMessage) and isinstance(content, str | None) and isinstance(calls, list)
        ):
            raise ModelAnswerError(unreadable("JSON of another shape"))
        for call in calls:
            name, arguments = _function(call)
            if not name or arguments is None:
                raise ModelAnswerError(unreadable("a tool call of another shape"))
            call.id = name_call(getattr(call, "id", None))
            call.type = "function"
        refusal = getattr(message, "refusal", None)
        finish = getattr(choice, "finish_reason", None)
        judge(content or "", refusal or "", bool(calls), finish or "stop", self.cut_off_is_an_answer)
        choice.finish_reason = finish or "stop"
        answer.usage = _whole(answer.usage)

    async def _checked(
        self, chunks: openai.AsyncStream[Any], name_call: Callable[[str | None], str]
    ) -> AsyncIterator[Any]:
        """Pass a stream on, and raise where a whole answer would have raised."""
        text, refusal, finish = "", "", None
        ids: dict[int, str] = {}
        named: set[int] = set()
        try:
            async for chunk in bounded(chunks, self.choice.timeout):
                choice = _first_choice(chunk)
                chunk.usage = _whole(getattr(chunk, "usage", None))
                if choice is None:
                    chunk.choices = []
                    yield chunk
                    continue
                choice.index = 0
                choice.finish_reason = getattr(choice, "finish_reason", None)
                finish = choice.finish_reason or finish
                delta = choice.delta = getattr(choice, "delta", None)
                if delta is not None:
                    text += delta.content or ""
                    refusal += delta.refusal or ""
                    for call in delta.tool_calls or []:
                        name, _ = _function(call)
                        named |= {call.index} if name else set()
                        call.id = None if call.index in ids else ids.setdefault(call.index, name_call(call.id))
                yield chunk
        except (AttributeError, TypeError) as error:  # the client does not validate what it parses
            raise ModelAnswerError(unreadable("a stream of another shape")) from error
        finally:
            await chunks.close()
        if finish is None:
            raise ModelAnswerError(BROKEN_OFF if text or ids else unreadable("a stream without an answer"))
        judge(text, refusal, bool(ids), finish, self.cut_off_is_an_answer)
        if named != {*ids}:
            raise ModelAnswerError(unreadable("a tool call without a name"))


async def bounded(stream: openai.AsyncStream[Any], seconds: float, api: str = "chat") -> AsyncIterator[Any]:
    """A stream's chunks, each within so many seconds. Raises `ModelAnswerError` for one that breaks off or stops."""
    while True:
        try:
            # A server that waits for its turn keeps the connection busy with comments, which the client's own
            # timeout takes for progress: the bound is on the chunks.
            async with asyncio.timeout(seconds):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except json.JSONDecodeError as error:
            raise ModelAnswerError(unreadable("a stream that is no JSON", api)) from error
        except TimeoutError as error:
            raise ModelAnswerError(stopped(seconds)) from error
        except openai.APIConnectionError as error:
            if broken_off(error):
                raise ModelAnswerError(BROKEN_OFF) from error
            raise
        yield chunk


def spoken(items: "str | list[TResponseInputItem]") -> "str | list[TResponseInputItem]":
    """The items that chat completions can express."""
    if isinstance(items, str):
        return items
    return [item for item in items if item.get("type", "message") in _SPOKEN]


def judge(text: str, refusal: str, acts: bool, finish: str, cut_off_is_an_answer: bool = False) -> None:
    """Raise `ModelAnswerError` for what is no answer; `acts`: it calls a tool, and so may say nothing."""
    if refusal:
        raise ModelAnswerError(f"The model refused to answer: {first_line(refusal)}")
    if finish == "content_filter":
        raise ModelAnswerError("The provider's content filter withheld the answer. Ask in other words.")
    if finish == "length" and not (cut_off_is_an_answer and text.strip()):
        raise ModelAnswerError(
            "The model's answer was cut off at its length limit. "
            "Ask for a shorter answer, or raise max_tokens in the agent's model settings."
        )
    if not text.strip() and not acts:
        raise ModelAnswerError("The model answered with nothing: no text and no tool call. Ask again.")


def _first_choice(answer: Any) -> Any:
    choices = getattr(answer, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def _function(call: Any) -> tuple[str | None, str | None]:
    """Return the name and the arguments of a call, or of the piece of it that came."""
    function = getattr(call, "function", None)
    name, arguments = getattr(function, "name", None), getattr(function, "arguments", None)
    if isinstance(name, str | None) and isinstance(arguments, str | None):
        return name, arguments
    raise ModelAnswerError(unreadable("a tool call of another shape"))


def _whole(usage: Any) -> CompletionUsage | None:
    """Return the usage if it has the counts that the SDK adds up."""
    counts = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
    return cast("CompletionUsage", usage) if all(isinstance(count, int) for count in counts) else None


BROKEN_OFF = "The model's server broke off in the middle of its answer. Ask again."


def broken_off(error: openai.APIConnectionError) -> bool:
    """Whether there was a connection, and it ended in the middle of an answer."""
    return isinstance(error.__cause__, httpx2.RemoteProtocolError | httpx2.ReadError)


def stopped(seconds: float) -> str:
    """What to say where a stream stays open and nothing comes."""
    return (
        f"The model's answer stopped in the middle: nothing came for {seconds:g} s. "
        "Ask again, or set AGENT_MODEL_TIMEOUT higher."
    )


def unreadable(what: str, api: str = "chat") -> str:
    """What to say where a server does not speak the API that it is asked by."""
    where = "a chat-completions API (it often ends in /v1)"
    if api == "responses":
        where = "a Responses API (it often ends in /v1), or set AGENT_API=chat"
    return f"The model's server answered with {what}. Check that the base URL is that of {where}."


def _no_choices(answer: ChatCompletion) -> str:
    error = getattr(answer, "error", None)
    if error:
        said = error.get("message") if isinstance(error, dict) else error
        return f"The model's server answered with an error: {first_line(redact(str(said)))}"
    if getattr(answer, "choices", None) == []:
        return "The model's server answered without a choice: there is no answer in it. Ask again."
    return unreadable("JSON of another shape")


def explain(exc: BaseException, choice: Choice | None = None) -> str:
    """Return one sentence that says what happened and what to do; it never holds a key.

    `choice` is the one whose model ran: with it the sentence names the setting to change.
    """
    return redact(_sentence(exc, choice), choice)


def _sentence(exc: BaseException, choice: Choice | None) -> str:
    match exc:
        case ModelError():
            return str(exc)
        case openai.APIStatusError():
            return _status_sentence(exc, choice)
        case openai.APITimeoutError():
            return (
                f"The model's server at {_server(exc)} did not answer in time. "
                "Ask again, or set AGENT_MODEL_TIMEOUT (seconds) higher."
            )
        case openai.APIConnectionError():
            reason = first_line(str(exc.__cause__ or exc)) or type(exc.__cause__ or exc).__name__
            return (
                f"There is no connection to the model's server at {_server(exc)} ({reason}). "
                f"Check that it runs, {_url_variable(choice)} and {_way(choice)}."
            )
        case openai.APIError():
            return f"The model's server at {_server(exc)} reported an error: {first_line(exc.message)}"
        case sdk.MaxTurnsExceeded():
            return f"The agent did not come to an answer: {first_line(str(exc))}. Ask for less at once."
        case sdk.InputGuardrailTripwireTriggered():
            return f"The question was stopped by the guardrail {exc.guardrail_result.guardrail.get_name()}."
        case sdk.OutputGuardrailTripwireTriggered():
            return f"The answer was stopped by the guardrail {exc.guardrail_result.guardrail.get_name()}."
        case sdk.ToolInputGuardrailTripwireTriggered() | sdk.ToolOutputGuardrailTripwireTriggered():
            return f"A tool call was stopped by the guardrail {exc.guardrail.get_name()}."
        case sdk.ModelRefusalError():
            return f"The model refused to answer: {first_line(exc.refusal)}"
        case sdk.ModelTimeoutError() | sdk.ToolTimeoutError():
            return f"{first_line(str(exc))} Ask again."
        case sdk.ModelBehaviorError():
            return f"The model did what it cannot do: {first_line(str(exc))} Ask again, or choose another model."
        case sdk.UserError():
            return f"The agent is not set up right: {first_line(str(exc))}"
    line = first_line(str(exc))
    return f"{type(exc).__name__}: {line}" if line else type(exc).__name__


def _status_sentence(exc: openai.APIStatusError, choice: Choice | None) -> str:
    server, status, key = _server(exc), exc.status_code, _key_variable(choice)
    model = f"The model {choice.name}" if choice else "The model"
    body = exc.body if isinstance(exc.body, dict) else {}
    said = first_line(str(body.get("message") or exc.message))
    # What a server says about a key it refuses may quote parts of it, so it is not repeated.
    if status == 401:
        missing = choice is not None and not choice.api_key
        return f"{server} {'wants an API key' if missing else 'refused the API key'}: export a valid {key}."
    if status == 403:
        return f"{server} does not allow this (403): check what the key in {key} may do, and AGENT_MODEL."
    if status == 402:
        return f"The account behind {key} has no credit left at {server}."
    if status == 404:
        api = "AGENT_API, " if choice and choice.api == "responses" and choice.provider != "openai" else ""
        return f"{model} was not found at {server} (404): check {api}AGENT_MODEL and {_url_variable(choice)}."
    if status == 429 and exc.code == "insufficient_quota":
        return f"The account behind {key} has no quota left at {server} (429)."
    if status == 429:
        wait = exc.response.headers.get("retry-after")
        when = (f"in {wait} s" if wait.isdigit() else f"after {first_line(wait)}") if wait else "in a minute"
        return f"{server} takes no more requests for now (429): ask again {when}."
    if status >= 500:
        return f"{server} has a problem of its own ({status}): ask again later."
    if exc.code == "context_length_exceeded" or _TOO_LONG.search(said):
        return f"The conversation is too long for the model: set AGENT_HISTORY lower. It said: {said}"
    return f"{server} refused the request ({status}): {said}"


_TOO_LONG = re.compile(r"context (length|size|window)|maximum context|too many tokens", re.IGNORECASE)


def _server(exc: openai.APIError) -> str:
    # Without user, password and query, which may hold a key.
    url = exc.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}"


def _key_variable(choice: Choice | None) -> str:
    return "DEEPSEEK_API_KEY" if choice and choice.provider == "deepseek" else "OPENAI_API_KEY"


def _url_variable(choice: Choice | None) -> str:
    return "DEEPSEEK_BASE_URL" if choice and choice.provider == "deepseek" else "OPENAI_BASE_URL"


def _way(choice: Choice | None) -> str:
    """The variables that say how the server is reached, with their values."""
    try:
        found = way(choice.base_url or "", os.environ).variables if choice else {}
    except ModelError:  # the agent's own model may go another way
        found = {}
    return " and ".join(f"{name} ({value})" for name, value in found.items()) or "the proxy settings"


def first_line(text: str) -> str:
    """The first line of a text, which may be a page long."""
    return next(iter(text.strip().splitlines()), "")[:500]


# Keys of the usual shapes, and what a server shows of a key ("sk-ab****yz").
_KEY = re.compile(r"(?i)\bsk-[\w-]{6,}|\bbearer\s+[\w.~+/=-]+|[\w-]*\*{3,}[\w-]*")


def redact(text: str, choice: Choice | None = None) -> str:
    """Return the text without this process's API keys, and without what looks like one."""
    keys = {value.strip() for name, value in os.environ.items() if name.endswith("_API_KEY")}
    if choice:
        keys |= {choice.api_key, urlsplit(choice.base_url or "").password or ""}
    # Longest first: a key may begin with another. Short ones are dummies such as "none" or "x".
    for key in sorted((key for key in keys if len(key) >= 6), key=len, reverse=True):
        text = text.replace(key, "[key]")
    return _KEY.sub("[key]", text)
