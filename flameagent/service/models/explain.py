"""The failure of a turn, in one sentence for the user: without a key, a control character, or a page of text.

`explain` says it of anything that a run can raise, with the setting to change or what else to do.
"""

from __future__ import annotations

import os
import re
from typing import Any

import openai
from agents import exceptions as sdk

from flameagent.model_choice import Choice, ModelError
from flameagent.network import route_to
from flameagent.redact import first_line, one_line, redact
from flameagent.service.models.body import values_of
from flameagent.service.models.reason import find_code, find_reason_or_all
from flameagent.text import closed


def explain(exc: BaseException, choice: Choice | None = None) -> str:
    """Return one sentence that says what happened and what to do; it never holds a key.

    `choice` is the one whose model ran: with it the sentence names the setting to change.
    """
    return one_line(redact(_sentence(exc, choice), choice), 2000)


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
            said = first_line(str(exc.__cause__ or exc)) or type(exc.__cause__ or exc).__name__
            return (
                f"There is no connection to the model's server at {_server(exc)} ({said}). "
                f"Check that it runs, {url_variable(choice)} and {_route(choice)}."
            )
        case openai.APIError():
            return f"The model's server at {_server(exc)} reported an error: {first_line(exc.message)}"
        case sdk.MaxTurnsExceeded():
            return f"The agent did not come to an answer: {closed(first_line(str(exc)))} Ask for less at once."
        case sdk.InputGuardrailTripwireTriggered():
            return f"The question was stopped by the guardrail {exc.guardrail_result.guardrail.get_name()}."
        case sdk.OutputGuardrailTripwireTriggered():
            return f"The answer was stopped by the guardrail {exc.guardrail_result.guardrail.get_name()}."
        case sdk.ToolInputGuardrailTripwireTriggered() | sdk.ToolOutputGuardrailTripwireTriggered():
            return f"A tool call was stopped by the guardrail {exc.guardrail.get_name()}."
        case sdk.ModelRefusalError():
            return f"The model refused to answer: {first_line(exc.refusal)}"
        case sdk.ModelTimeoutError() | sdk.ToolTimeoutError():
            return f"{closed(first_line(str(exc)))} Ask again."
        case sdk.ModelBehaviorError():
            return (
                f"The model did what it cannot do: {closed(first_line(str(exc)))} Ask again, or choose another model."
            )
        case sdk.UserError():
            return f"The agent is not set up right: {first_line(str(exc))}"
    line = first_line(str(exc))
    return f"{type(exc).__name__}: {line}" if line else type(exc).__name__


def _status_sentence(exc: openai.APIStatusError, choice: Choice | None) -> str:
    said, code = read_reason(exc)
    if exc.status_code not in {401, 402, 403, 404, 429} and is_too_long(said, code):
        return explain_too_long(said)
    what = _what_to_do(exc, code, choice)
    if what:
        return f"{what} It said: {said}" if said else what
    return f"{_server(exc)} refused the request ({exc.status_code}): {said or 'it does not say why'}"


def read_reason(exc: openai.APIStatusError) -> tuple[str, str | None]:
    """Return what a server says with an error status, and the code of the error if it gives one."""
    values = values_of(exc.response.content)
    return next(filter(None, map(find_reason_or_all, values)), ""), next(filter(None, map(find_code, values)), None)


def _what_to_do(exc: openai.APIStatusError, code: str | None, choice: Choice | None) -> str:
    """Return what can be said and done without knowing the server's reason; "" if nothing can."""
    server, status, key = _server(exc), exc.status_code, _key_variable(choice)
    model = f"The model {choice.name}" if choice else "The model"
    if status == 401:
        missing = choice is not None and not choice.api_key
        return f"{server} {'wants an API key' if missing else 'refused the API key'}: export a valid {key}."
    if status == 403:
        return f"{server} does not allow this (403): check what the key in {key} may do, and AGENT_MODEL."
    if status == 402:
        return f"The account behind {key} has no credit left at {server}."
    if status == 404:
        api = "AGENT_API, " if choice and choice.api == "responses" and choice.provider != "openai" else ""
        return f"{model} was not found at {server} (404): check {api}AGENT_MODEL and {url_variable(choice)}."
    if status == 429 and code == "insufficient_quota":
        return f"The account behind {key} has no quota left at {server} (429)."
    if status == 429:
        wait = exc.response.headers.get("retry-after")
        when = (f"in {wait} s" if wait.isdigit() else f"after {first_line(wait)}") if wait else "in a minute"
        return f"{server} takes no more requests for now (429): ask again {when}."
    if status >= 500:
        return f"{server} has a problem of its own ({status}): ask again later."
    return ""


def explain_error_body(body: Any) -> str:
    """Return what to say of an error that came where an answer was due."""
    said = find_reason_or_all(body)
    if is_too_long(said, find_code(body)):
        return explain_too_long(said)
    return f"The model's server answered with an error: {said or 'it does not say which'}"


_TOO_LONG = re.compile(r"context (length|size|window)|maximum context|too many tokens", re.IGNORECASE)


def is_too_long(said: str, code: str | None = None) -> bool:
    return code == "context_length_exceeded" or bool(_TOO_LONG.search(said))


def explain_too_long(said: str) -> str:
    return f"The conversation is too long for the model: set AGENT_HISTORY lower. It said: {said}"


def _server(exc: openai.APIError) -> str:
    # Without user, password and query, which may hold a key.
    url = exc.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}"


def _key_variable(choice: Choice | None) -> str:
    return "DEEPSEEK_API_KEY" if choice and choice.provider == "deepseek" else "OPENAI_API_KEY"


def url_variable(choice: Choice | None) -> str:
    """Return the setting that says where the model's server is."""
    return "DEEPSEEK_BASE_URL" if choice and choice.provider == "deepseek" else "OPENAI_BASE_URL"


def _route(choice: Choice | None) -> str:
    """Return the variables that say how the server is reached, with their values."""
    try:
        found = route_to(choice.base_url or "", os.environ).variables if choice else {}
    except ModelError:  # the agent's own model may go another way
        found = {}
    return " and ".join(f"{name} ({value})" for name, value in found.items()) or "the proxy settings"
