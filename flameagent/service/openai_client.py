"""The client of a model's server: bounded in time, and quick however long the conversation is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx2
import openai
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.resources.responses import AsyncResponses

from flameagent.models import Choice
from flameagent.service import http

CONNECT_TIMEOUT = 10.0


def connect(choice: Choice, retries: int) -> openai.AsyncOpenAI:
    """Return a client for the server of a choice, each attempt bounded by `choice.timeout`.

    Raises `ModelError` where the environment names no usable way to the server. The local one is in this process.
    """
    way = {"trust_env": False} if choice.provider == "local" else http.options(choice.base_url or "")
    timeout = openai.Timeout(choice.timeout, connect=min(CONNECT_TIMEOUT, choice.timeout))
    return _Client(
        base_url=choice.base_url,
        # The client insists on one; servers without keys (Ollama, vLLM) ignore it.
        api_key=choice.api_key or "none",
        timeout=timeout,
        max_retries=retries,
        http_client=_Bounded(choice.timeout, **way),
    )


class _Bounded(openai.DefaultAsyncHttpxClient):
    """An HTTP client whose requests end after so many seconds, however busy the server looks.

    The timeouts of httpx2 2.16.2 bound each read; DeepSeek's server sends blank lines while it waits.
    """

    def __init__(self, seconds: float, **way: Any) -> None:
        super().__init__(**way)
        self._seconds = seconds

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self._seconds):
                return await super().send(request, **options)
        except TimeoutError as error:
            raise httpx2.ReadTimeout("", request=request) from error


def _as_it_is(request: dict[str, Any], *long: str) -> dict[str, Any]:
    """Move what is long and plain JSON already into `extra_body`, which the client sends as it is.

    openai 3.54.0 walks every value of a request by its type hints (`maybe_transform`), which at 1000 items is nine
    tenths of a turn; for messages, items and tools it changes nothing.
    """
    extra = request.get("extra_body")
    if extra is not None and not isinstance(extra, Mapping):
        return request
    moved = {name: request[name] for name in long if isinstance(request.get(name), list)}
    return {**request, **dict.fromkeys(moved, openai.omit), "extra_body": {**moved, **(extra or {})}}


class _Completions(AsyncCompletions):
    async def create(self, **request: Any) -> Any:
        return await super().create(**_as_it_is(request, "messages", "tools"))


class _Responses(AsyncResponses):
    async def create(self, **request: Any) -> Any:
        return await super().create(**_as_it_is(request, "input", "tools"))


class _Chat(AsyncChat):
    @cached_property
    def completions(self) -> AsyncCompletions:
        return _Completions(self._client)


class _Client(openai.AsyncOpenAI):
    @cached_property
    def chat(self) -> AsyncChat:
        return _Chat(self)

    @cached_property
    def responses(self) -> AsyncResponses:
        return _Responses(self)
