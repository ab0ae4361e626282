"""The check of what is an answer, and the sentence for what is none: the same streamed or whole, on both APIs."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from flameagent import tracing
from flameagent.model_choice import ModelAnswerError
from flameagent.redact import first_line
from flameagent.service.models.body import Body, BodyBroken, BodyUndecodable, Done, Text, Value
from flameagent.service.models.explain import explain_error_body
from flameagent.service.models.reason import NAMES_IT, find_reason

Json = dict[str, Any]

BROKEN_OFF = "The model's server broke off in the middle of its answer. Ask again."


def explain_stop(seconds: float) -> str:
    """Return what to say where a stream stays open and nothing comes."""
    return (
        f"The model's answer stopped in the middle: nothing came for {seconds:g} s. "
        "Ask again, or set AGENT_MODEL_TIMEOUT higher."
    )


def unreadable_answer(what: str, api: str = "chat", *, elsewhere: bool = False) -> ModelAnswerError:
    """Return the error for what cannot be read.

    `elsewhere`: nothing of it is of this API, so that the base URL is likely another's.
    """
    advice = "Ask again, or set AGENT_API=chat." if api == "responses" else "Ask again, or choose another model."
    if elsewhere:
        where = "a chat-completions API (it often ends in /v1)"
        if api == "responses":
            where = "a Responses API (it often ends in /v1), or set AGENT_API=chat"
        advice = f"Check that the base URL is that of {where}."
    return ModelAnswerError(f"The model's server answered with {what}. {advice}")


def describe(body: Any) -> str:
    """Return in words what came in place of an answer, text or JSON, with its beginning."""
    text = body if isinstance(body, str) else json.dumps(body)
    said = find_reason(text)[:100]
    if text is not body:
        return f"JSON of another shape ({said})"
    if text.lstrip()[:1] == "<":
        return f"a page and no JSON object ({said})"
    if text.lstrip()[:1] in {"{", "["}:
        return f"JSON that breaks off or is none ({said})"
    return f"text and no JSON object ({said})"


def check_completion(text: str, refusal: str, acts: bool, finish: str, cut_off_is_an_answer: bool = False) -> None:
    """Raise `ModelAnswerError` for what is no answer; `acts`: it calls a tool, and so may say nothing."""
    end = end_of(finish)
    tracing.annotate({"gen_ai.response.finish_reasons": ["tool_calls" if end == "stop" and acts else end or "error"]})
    if refusal:
        raise ModelAnswerError(f"The model refused to answer: {first_line(refusal)}")
    if end == "content_filter":
        raise ModelAnswerError("The provider's content filter withheld the answer. Ask in other words.")
    if end == "length" and not (cut_off_is_an_answer and text.strip()):
        raise ModelAnswerError(
            "The model's answer was cut off at its length limit. "
            "Ask for a shorter answer, or raise max_tokens in the agent's model settings."
        )
    if end is None:
        raise ModelAnswerError(
            f"The model's server gave up its answer: it ended with {find_reason(finish)!r}. Ask again."
        )
    if not text.strip() and not acts:
        raise ModelAnswerError("The model answered with nothing: no text and no tool call. Ask again.")


# Ends that are good; anything else that is not named below is taken for a failure: half an answer is none.
_GOOD = {
    *("stop", "stopped", "stopsequence", "stoptoken", "stopword", "eos", "eostoken", "eosid", "end", "endturn"),
    *("endofturn", "endoftext", "complete", "completed", "finish", "finished", "done", "normal", "success"),
    *("toolcall", "toolcalls", "tooluse", "functioncall", "functioncalls"),
}
_CUT = re.compile(r"length|^max(output|.*tokens?)|tokenlimit|contextwindow")
_WITHHELD = re.compile(r"filter|safety|sensitive|recitation|prohibited|block|spii|guardrail|moderat|toxic|refus")


def end_of(finish: str) -> str | None:
    """Return a server's finish reason as `stop`, `length` or `content_filter`; None for a failure."""
    name = re.sub(r"[^a-z]+", "", finish.casefold()).removeprefix("finishreason")
    if name in _GOOD:
        return "stop"
    if "malformed" in name or ("error" in name and "toxic" not in name):
        return None
    return "length" if _CUT.search(name) else "content_filter" if _WITHHELD.search(name) else None


@dataclass(frozen=True)
class WantedBack:
    """The parts of an answer that its server wants back, by the IDs that the calls have here.

    `ids` are its own IDs of the calls, `calls` other fields of theirs, and `message` those of the message around
    them.
    """

    ids: dict[str, str]
    calls: dict[str, Json] = field(default_factory=dict)
    message: Json = field(default_factory=dict)


@dataclass
class Heard:
    """The kinds of what came so far, so that it can be said what came where no answer did."""

    api: str
    of_api: bool = False  # something of this API
    of_answer: bool = False  # something of an answer
    events: bool = False  # server-sent events
    done: bool = False
    said: str = ""  # by objects that are nothing of this API
    strange: Any = None  # something of no API that we know

    def take(self, part: Value | Text) -> list[Json]:
        """Return the objects of a part. Raises `ModelAnswerError` for an error, and for what is no object."""
        given, event = (part.text, part.event) if isinstance(part, Text) else (part.json, part.event)
        self.events = self.events or event is not None
        if event == "error" and not isinstance(given, dict):
            raise ModelAnswerError(explain_error_body(given))
        if given is None and event is not None:  # a sign of life
            return []
        # In a list: Gemini's errors and streams, and some gateways.
        values: list[Any] = given if isinstance(given, list) and given else [given]
        if not all(isinstance(value, dict) for value in values):
            raise unreadable_answer(describe(given), self.api, elsewhere=not self.of_api)
        for value in values:
            if (error := _error_in(value, event)) is not None:
                raise ModelAnswerError(explain_error_body(error))
        return [value if "type" in value or not event else value | {"type": event} for value in values]

    def other(self, value: Json) -> None:
        """An object that is nothing of this API: it may say why no answer comes."""
        self.strange = value
        self.said = find_reason({name: value[name] for name in value if name not in NAMES_IT}) or self.said

    def nothing(self) -> ModelAnswerError:
        """Return what to raise where the body ended and there is no answer."""
        if self.said:
            return ModelAnswerError(explain_error_body(self.said))
        if self.of_answer:
            return ModelAnswerError(BROKEN_OFF)
        form = "a stream without an answer" if self.events else "a body without an answer"
        if self.of_api:
            return ModelAnswerError(f"The model's server answered without a choice: {form}. Ask again.")
        if self.strange is not None:
            return unreadable_answer(describe(self.strange), self.api, elsewhere=True)
        return unreadable_answer(form if self.events else "an empty body", self.api, elsewhere=True)


_ERRORS = ("error", "errors", "error_msg", "error_message")


def _error_in(value: Json, event: str | None) -> Json | None:
    """The part of an object that is an error, if one is."""
    choices = value.get("choices")
    for place in (value, *(choices if isinstance(choices, list) else ())):
        if isinstance(place, dict) and any(place.get(name) for name in _ERRORS):
            return place
    named = (event, value.get("object"), value.get("type"), value.get("status"))
    is_error = any(one in ("error", "response.error") for one in named)
    return value if is_error and not choices else None


async def objects(body: Body, heard: Heard, seconds: float) -> AsyncIterator[Json]:
    """The objects of a body up to `[DONE]`. Raises `Cut` where it did not come to its end."""
    try:
        async for part in body.parts():
            if isinstance(part, Done):
                heard.done = heard.events = True
                return
            for value in heard.take(part):
                yield value
    except BodyUndecodable as error:
        raise unreadable_answer("a body that is not compressed as it says", heard.api) from error
    except BodyBroken as error:
        raise Cut(explain_stop(seconds) if error.stopped else BROKEN_OFF) from error


class Cut(ModelAnswerError):
    """The answer stopped or broke off."""


def string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def dicts(value: Any) -> list[Json]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
