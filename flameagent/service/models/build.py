"""The model that a choice names, as a `Model` of the Agents SDK.

What it returns is an answer: text or tool calls, whole, each call with an ID that the conversation has
not used. Anything else a server sends is a `ModelAnswerError`, streamed or not.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from agents import set_tracing_disabled

from flameagent.model_choice import Choice
from flameagent.service import sdk_compat, sdk_speed
from flameagent.service.models.call_ids import NamingModel
from flameagent.service.models.chat import ChatModel
from flameagent.tracing import modes

if TYPE_CHECKING:
    from agents import Model


def prepare() -> None:
    """Settle what the Agents SDK does for the whole process.

    Its traces go to OpenAI with AGENT_TRACING=1 alone, and are a part of ours where those are on; what it does with
    every item of a conversation takes less time, and the calls of every model are named.
    """
    to_openai, ours = modes.to_openai(os.environ), bool(modes.chosen(os.environ))
    if not to_openai:
        sdk_compat.trace_nothing()
    set_tracing_disabled(not (to_openai or ours))
    if ours:
        from flameagent.service.sdk_spans import SPANS

        SPANS.install()
    sdk_speed.copy_items_faster()
    sdk_speed.find_duplicates_faster()
    sdk_speed.normalize_items_faster()
    sdk_speed.find_orphans_faster()
    sdk_speed.take_history_faster()
    sdk_speed.compare_agents_late()
    sdk_speed.inspect_sessions_once()
    sdk_speed.read_declarations_once()
    sdk_compat.wrap_models_of_runs(NamingModel)


@lru_cache(maxsize=8)
def build(choice: Choice) -> Model:
    """Return the model of a choice, the same one for the same choice: its connections are kept open.

    To be used in one event loop. Raises `ModelError` when the local model is not installed.
    """
    if choice.provider == "local":
        from flameagent.service.models.local import LocalModel

        return LocalModel(choice)
    if choice.api == "responses":
        from flameagent.service.models.responses import ResponsesModel

        return ResponsesModel(choice)
    return ChatModel(choice)
