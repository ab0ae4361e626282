"""The client of a model's server: each attempt is bounded in time, failed ones are retried, and long conversations
are quick."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx2
import openai
from openai.resources.chat import AsyncChat, AsyncCompletions
from openai.resources.responses import AsyncResponses

from flameagent.model_choice import Choice, ModelAnswerError
from flameagent.network import client_options
from flameagent.service.models.explain import url_variable
from flameagent.text import all_well_formed

CONNECT_TIMEOUT = 10.0  # seconds
RETRIES = 2


def connect(choice: Choice, retries: int) -> openai.AsyncOpenAI:
    """Return a client for the server of a choice, each attempt bounded by `choice.timeout`.

    Raises `ModelError` where the environment names no usable way to the server. The local one is in this process.
    """
    route = {"trust_env": False} if choice.provider == "local" else client_options(choice.base_url or "", os.environ)
    timeout = openai.Timeout(choice.timeout, connect=min(CONNECT_TIMEOUT, choice.timeout))
    return _Client(
        base_url=choice.base_url,
        # The client insists on one; servers without keys (Ollama, vLLM) ignore it.
        api_key=choice.api_key or "none",
        timeout=timeout,
        max_retries=retries,
        http_client=_BoundedClient(choice, **route),
    )


class _BoundedClient(openai.DefaultAsyncHttpxClient):
    """An HTTP client whose requests end after so many seconds, however busy the server looks, and go to no other.

    The timeouts of httpx2 2.16.2 bound each read; DeepSeek's server sends blank lines while it waits.
    """

    def __init__(self, choice: Choice, **route: Any) -> None:
        super().__init__(**route, follow_redirects=False, event_hooks={"response": [self._refuse_redirect]})
        self._choice = choice

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(self._choice.timeout):
                response = await super().send(request, **options)
                if response.is_error:  # what it says belongs to the same time
                    await response.aread()
                return response
        except TimeoutError as error:
            raise httpx2.ReadTimeout("", request=request) from error

    async def _refuse_redirect(self, response: httpx2.Response) -> None:
        """A redirect would take the key to a place that nobody chose, or lose the question (a POST becomes a GET)."""
        if response.has_redirect_location:
            raise ModelAnswerError(explain_redirect(response, self._choice))


def explain_redirect(response: httpx2.Response, choice: Choice) -> str:
    """Return what to say of a redirect: where it goes, and the setting to change if that is right."""
    variable = url_variable(choice)
    try:
        asked, target = urlsplit(str(response.request.url)), urlsplit(response.headers["location"])
        target = urlsplit(urljoin(asked.geturl(), target.geturl()))
        place = f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}"
    except ValueError:
        place = "what is no address"
    base = place.rstrip("/")
    for end in ("/chat/completions", "/responses"):
        base = base.removesuffix(end)
    is_base = base not in {place.rstrip("/"), str(choice.base_url).rstrip("/")}
    advice = f"If that is the right one, set {variable} to {base}" if is_base else f"Check {variable}"
    return (
        f"The model's server redirects to {place} ({response.status_code}), "
        f"and a key goes to no other address than the base URL. {advice}."
    )


def _move_to_extra_body(request: dict[str, Any], *long: str) -> dict[str, Any]:
    """Move what is long and plain JSON already into `extra_body`, which the client sends as it is.

    openai 3.54.0 walks every value of a request by its type hints (`maybe_transform`), which at 1000 items is nine
    tenths of a turn; for messages, items and tools it changes nothing.
    """
    extra = request.get("extra_body")
    if extra is not None and not isinstance(extra, Mapping):
        return request
    moved = {name: request[name] for name in long if isinstance(request.get(name), list)}
    return {**request, **dict.fromkeys(moved, openai.omit), "extra_body": {**moved, **(extra or {})}}


async def _create_well_formed(create: Callable[..., Awaitable[Any]], request: dict[str, Any]) -> Any:
    """Send a request; one whose text UTF-8 does not have is sent well-formed (it fails before anything is sent)."""
    try:
        return await create(**request)
    except UnicodeEncodeError:
        return await create(**all_well_formed(request))


message_completer: ContextVar[Callable[[list[Any]], list[Any]] | None] = ContextVar("message_completer", default=None)
"""The function that adds to the SDK's messages, of the request that is made, what the SDK has no place for."""


class _Completions(AsyncCompletions):
    async def create(self, **request: Any) -> Any:
        """Return the response as it came, which `models.reading` reads: the SDK asks for it parsed."""
        if complete := message_completer.get():
            request["messages"] = complete(request["messages"])
        request = _move_to_extra_body(request, "messages", "tools")
        raw = await _create_well_formed(AsyncCompletions(self._client).with_raw_response.create, request)
        return raw.http_response


class _Responses(AsyncResponses):
    async def create(self, **request: Any) -> Any:
        return await _create_well_formed(super().create, _move_to_extra_body(request, "input", "tools"))


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
