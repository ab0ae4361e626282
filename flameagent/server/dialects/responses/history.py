"""The items of a conversation as the Responses dialect has them, and those that a response was made of."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as HttpRequest

from flameagent.conversation import Attached, Block, Conversation, Item, TurnDecision
from flameagent.conversation.attachments import Reference
from flameagent.server.agents import Found
from flameagent.server.dialects.responses import shapes
from flameagent.server.dialects.responses.passes import Passes
from flameagent.server.dialects.responses.reading import Known

Json = dict[str, Any]
_IMAGES = "message.input_image.image_url"


def items(conversation: Conversation, agent: str, data: Mapping[str, str] | None = None) -> list[Json]:
    """All items of a conversation, oldest first, those of a turn that waits for an approval included."""
    found: list[Json] = []
    for block in conversation.blocks:
        found += of_turn(Passes.of_turn(block.turn, block.items), agent, data) if block.turn else added(block)
    waiting = conversation.waiting
    if waiting is not None:
        passes = Passes.of_pending(conversation, waiting.pending, decided=waiting.decision is not None)
        found += of_turn(passes, agent, data)
    return found


def of_turn(passes: Passes, agent: str, data: Mapping[str, str] | None = None) -> list[Json]:
    """The items of a turn: the question, and what each pass brought, with the decisions between them."""
    found = [_question(passes, data)]
    for number in range(passes.last + 1):
        if number:
            found += _decisions(passes, number)
        found += [shapes.item(each, agent, requested=passes.requested) for each in passes.output(number)]
    return found


def added(block: Block) -> list[Json]:
    """Items that no turn added: what the conversation began with, and what was added to it."""
    seq, part = block.place
    return [_plain(item, f"item_{seq}_{part}_{number}") for number, item in enumerate(block.items)]


async def input_of(found: Found, known: Known, request: HttpRequest) -> list[Json]:
    """What a response was made of, oldest first."""
    passes, number = known.passes, known.standing.id.number
    if passes is None:
        asked = known.question
        text = asked.question if asked else ""
        named = [Attached(**each) for each in (asked.attachments or [] if asked else [])]
        return [shapes.question(f"msg_{known.standing.id.turn_id}_0", text, named)]
    if number:
        return _decisions(passes, number)
    data = await images(found, known.conversation, request)
    before: list[Json] = []
    if passes.number == 1:
        for block in known.conversation.blocks:
            if block.turn is not None:
                break
            before += added(block)
    return [*before, _question(passes, data)]


async def images(found: Found, conversation: Conversation, request: HttpRequest) -> dict[str, str]:
    """The data URLs of what was attached, by hash, where the request asks for images."""
    if _IMAGES not in (*request.query_params.getlist("include"), *request.query_params.getlist("include[]")):
        return {}
    history = await found.client.history(found.session_id)
    media = {
        each.sha256: each.media_type
        for block in conversation.blocks
        if block.turn is not None
        for each in block.turn.attachments
    }
    read = await found.client.attachments(history)
    return {
        name: f"data:{media[name]};base64,{base64.b64encode(data).decode()}"
        for name, data in read.items()
        if name in media
    }


def _question(passes: Passes, data: Mapping[str, str] | None) -> Json:
    return shapes.question(f"msg_{passes.turn_id}_0", passes.question, passes.attached, data)


def _decisions(passes: Passes, number: int) -> list[Json]:
    """The decisions that a pass follows."""
    if number > len(passes.stops):
        return []
    return [each for decided in passes.stops[number - 1].decisions for each in _verdicts(passes, decided)]


def _verdicts(passes: Passes, decided: TurnDecision) -> list[Json]:
    clients = {call.id for call in decided.calls if call.runner}
    return [
        {"type": "function_call_output", "id": f"fco_{call}", "call_id": call, "output": passes.said_of(call)}
        if call in clients
        else {
            "type": "mcp_approval_response",
            "id": f"mcpa_{call}_{decided.at}",
            "approval_request_id": f"mcpr_{call}",
            "approve": call in decided.approved,
            "reason": decided.reason or None,
        }
        for call in (*decided.approved, *decided.rejected)
    ]


def _plain(item: Item, item_id: str) -> Json:
    """An item as it is kept, with an ID; a message with its parts."""
    shown: Json = {"type": "message", "status": "completed", **item, "id": item_id}
    shown.pop("provider_data", None)
    if shown["type"] == "message" and isinstance(shown.get("content"), str):
        text = str(shown["content"])
        is_said = shown.get("role") == "assistant"
        shown["content"] = [shapes.output_text(text) if is_said else {"type": "input_text", "text": text}]
    if isinstance(shown.get("content"), list):
        shown["content"] = [_part(part) for part in shown["content"]]
    return shown


def _part(part: Any) -> Any:
    """A part without the reference that stands in the place of data."""
    if not isinstance(part, dict):
        return part
    return {name: None if Reference.read(value) else value for name, value in part.items()}
