"""The body of a request for a response, checked whole before anything is done."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from flameagent.server.errors import RequestError

_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512


class Reference(msgspec.Struct):
    """A conversation by its ID."""

    id: str


class Format(msgspec.Struct):
    """The form that the text is to have. It is the agent that decides on it, by its output type."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Text(msgspec.Struct):
    """How the text is to be."""

    format: Format | None = None
    verbosity: str | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may say. The fields behind `user` are for a model, and the agent has settings of its own."""

    input: str | list[dict[str, Any]] | None = None
    model: str | None = None
    instructions: str | None = None
    conversation: str | Reference | None = None
    previous_response_id: str | None = None
    metadata: dict[str, str] | None = None
    background: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    include: list[str] | None = None
    text: Text | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    context_management: list[dict[str, Any]] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    reasoning: dict[str, Any] | None = None
    truncation: str | None = None
    service_tier: str | None = None
    stream_options: dict[str, Any] | None = None
    background_options: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    verbosity: str | None = None

    @property
    def conversation_id(self) -> str:
        """The conversation that is named; "" for none."""
        named = self.conversation
        return named.id if isinstance(named, Reference) else named or ""

    def check(self) -> None:
        """Raise `RequestError` for what makes no sense, or has no counterpart here."""
        if self.conversation_id and self.previous_response_id:
            raise _refused("previous_response_id", "A response follows a conversation or a response, not both.")
        check_metadata(self.metadata)
        if self.store is False:
            raise _refused("store", "What is asked here is kept in its conversation; delete the response afterwards.")
        for number, tool in enumerate(self.tools or []):
            if tool.get("type") != "function":
                message = "Tools are functions that the client runs; all others are those of the agent."
                raise _refused(f"tools[{number}]", message)
        if self.tool_choice not in (None, "auto"):
            raise _refused("tool_choice", "The agent chooses its tools itself.")
        for name in ("prompt", "moderation", "context_management"):
            if getattr(self, name):
                raise _refused(name, f"{name} has no counterpart here.")


def check_metadata(metadata: dict[str, str] | None) -> None:
    """Raise `RequestError` for metadata that are too many or too long."""
    if metadata is None:
        return
    if len(metadata) > _PAIRS:
        raise _refused("metadata", f"There are at most {_PAIRS} pairs of metadata.")
    for key, text in metadata.items():
        if len(key) > _LONGEST_KEY or len(text) > _LONGEST_VALUE:
            raise _refused("metadata", f"A key has at most {_LONGEST_KEY} characters, and a value {_LONGEST_VALUE}.")


def _refused(param: str, message: str) -> RequestError:
    return RequestError(400, message, code="unsupported_value", param=param)
