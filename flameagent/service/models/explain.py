"""The failure of a turn, in one sentence for the user: without a key, a control character, or a page of text.

`explain` says it of anything that a run can raise; `find_reason` finds what a server said in an error of any shape.
"""

from __future__ import annotations

import html
import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

import openai
from agents import exceptions as sdk

from flameagent.model_choice import Choice, ModelError
from flameagent.network import route_to
from flameagent.service.models.body import values_of


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
    return next(filter(None, map(find_reason_or_all, values)), ""), next(filter(None, map(_code, values)), None)


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
    if is_too_long(said, _code(body)):
        return explain_too_long(said)
    return f"The model's server answered with an error: {said or 'it does not say which'}"


_TOO_LONG = re.compile(r"context (length|size|window)|maximum context|too many tokens", re.IGNORECASE)


def is_too_long(said: str, code: str | None = None) -> bool:
    return code == "context_length_exceeded" or bool(_TOO_LONG.search(said))


def explain_too_long(said: str) -> str:
    return f"The conversation is too long for the model: set AGENT_HISTORY lower. It said: {said}"


def _code(body: Any) -> str | None:
    if isinstance(body, list):
        body = body[0] if body else None
    inner = body.get("error", body) if isinstance(body, dict) else None
    code = inner.get("code") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else None


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


# Where servers say what went wrong, the general before the particular. docs/providers.md names who.
_SAYS = (
    *("error", "errors", "error_msg", "error_message", "error_description", "fault", "base_resp", "title"),
    *("message", "msg", "status_msg", "detail", "faultstring", "reasons", "metadata", "raw"),
)
NAMES_IT = ("code", "type", "status", "error_code")
_DEPTH = 8


def find_reason(body: Any) -> str:
    """Return what a server says in the body of an error, parsed as far as it is JSON; "" where it says nothing.

    One line of at most 300 characters, in which nothing looks like a key.
    """
    return one_line(_UNKNOWN_KEY.sub("[key]", redact(one_line(_said(body, _DEPTH), 5000))), 300)


def find_reason_or_all(body: Any) -> str:
    """Return the same of what is known to be an error; all of it where nobody knows how it says why."""
    has_text = any(value not in (None, "", [], {}) for value in body.values()) if isinstance(body, dict) else body
    return find_reason(body) or (find_reason(json.dumps(body)) if has_text else "")


def _said(body: Any, depth: int) -> str:
    if not depth:
        return ""
    if isinstance(body, str):
        return _text(body, depth)
    if isinstance(body, list):
        return "; ".join(filter(None, (_said(part, depth - 1) for part in body[:3])))
    if not isinstance(body, dict):
        return ""
    fields = {str(name).casefold(): value for name, value in body.items()}
    parts: list[str] = []
    for name in _SAYS:
        said = _said(fields.get(name), depth - 1)
        if said and not any(said in part for part in parts):
            parts = [part for part in parts if part not in said] + [said]
    if not parts:
        parts = [value for name in NAMES_IT if isinstance(value := fields.get(name), str) and value][:1]
    if parts and isinstance(fields.get("loc"), list):  # what pydantic complains about: FastAPI, vLLM
        parts[0] = f"{'.'.join(map(str, fields['loc']))}: {parts[0]}"
    return ": ".join(parts)


_TITLE = re.compile(r"<(title|message|h1)\b[^>]*>(.*?)</\1", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def _text(text: str, depth: int) -> str:
    """Return what a text says: a page its title, JSON in a string what it says itself."""
    text = text.strip()
    if text[:1] == "<":
        title = _TITLE.search(text[:100_000])
        return html.unescape(_TAG.sub(" ", title[2] if title else text[:10_000])).strip()
    if text[:1] in {"{", "["}:
        try:
            return _said(json.loads(text), depth - 1) or text
        except (ValueError, RecursionError):
            return text
    return text


def one_line(text: str, longest: int) -> str:
    """Return one line of at most so many characters, without controls, bidirectional overrides, lone surrogates."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 20 * longest]).split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def first_line(text: str) -> str:
    """Return the first line of a text, which may be a page long."""
    return next(iter(text.strip().splitlines()), "")[:500]


# Keys of the usual shapes, what follows the word, and what a server shows of a key ("sk-ab****yz").
_KEY = re.compile(
    r"""(?ix)
      \bsk-[\w-]{6,}
    | \bbearer\s+[\w.~+/=-]+ | \bbasic\s+(?=\S*\d)[\w+/=]{12,}
    | \b(?:AIza|AKIA|eyJ)[\w.-]{12,}
    | \b(?:sk|pk|rk|gsk|hf|xai|pplx|nvapi|r8|csk|fw|tgp|gh[opsu]|github_pat|glpat|key)[-_](?=[\w-]*\d)[\w-]{12,}
    | (?<=[?&]key=)[^\s&"']+
    | [\w-]*\*{3,}[\w-]*
    """
)
_LABELLED = re.compile(
    r"""(?ix)
    (\b(?:api[ _-]?key|token|secret|password|authorization)\b (?:\s\w+){0,2} ["']? \s*[:=]\s* ["']?)
    (?=[^\s"',;]*\d) (?=[^\s"',;]*[a-z]) [^\s"',;]{8,}
    """
)
# In what a server says, a long word of letters and digits may be anybody's key.
_UNKNOWN_KEY = re.compile(r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{32,}\b")
_ELIDED = r"(?:\.{2,}|…|\*+|•+)"


def redact(text: str, choice: Choice | None = None) -> str:
    """Return the text without this process's API keys or parts of them, and without what looks like a key."""
    keys = {value.strip() for name, value in os.environ.items() if name.endswith("_API_KEY")}
    if choice:
        keys |= {choice.api_key, urlsplit(choice.base_url or "").password or ""}
    # Longest first: a key may begin with another. Short ones are dummies such as "none" or "x".
    secrets = sorted((key for key in keys if len(key) >= 6), key=len, reverse=True)
    for key in secrets:
        text = text.replace(key, "[key]")
    for key in secrets:
        text = _without_parts(text, key)
    return _LABELLED.sub(r"\1[key]", _KEY.sub("[key]", text))


def _without_parts(text: str, key: str) -> str:
    """Return the text without eight characters or more of a key, and without the ends of it that servers show."""
    if len(key) < 12:
        return text
    begin, end = re.escape(key[:3]), re.escape(key[-3:])
    text = re.sub(rf"{begin}[\w-]*{_ELIDED}[\w-]*|[\w-]*{_ELIDED}[\w-]*{end}(?!\w)", "[key]", text)
    text = re.sub(rf"(?<![\w-]){re.escape(key[-4:])}(?!\w)", "[key]", text)
    pieces = {key[at : at + 8] for at in range(len(key) - 7)}
    shown, kept, at = [], 0, 0
    while at <= len(text) - 8:
        if text[at : at + 8] not in pieces:
            at += 1
            continue
        shown.append(text[kept:at])
        while text[at : at + 8] in pieces:
            at += 1
        kept = at = at + 7
    return "[key]".join([*shown, text[kept:]])
