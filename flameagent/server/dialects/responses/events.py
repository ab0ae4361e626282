"""The events of a response, made of those of its turn.

Promises that who follows from the beginning and who comes back later, on another server, are told the same with the
same numbers: they follow from what the agent has written down. Of a turn that begins again, because what ran it was
lost, nothing is told twice: what is told anew and goes on from what was told is told from there on, and what did not
come again ends as incomplete.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from flameagent.client.errors import ClientError
from flameagent.client.events import ApprovalNeeded, Event
from flameagent.server.dialects.responses import shapes
from flameagent.server.dialects.responses.passes import Request, Standing
from flameagent.server.items import Added, Change, Completed, Delta, LiveItems, Message, Reasoning, Shown, ToolCall

Json = dict[str, Any]


@dataclass
class _Told:
    """An item as far as it was told."""

    item: Shown
    index: int
    text: str = ""
    done: bool = False


class ResponseEvents:
    """The events of one response, those after the number `after`: it has `begun`, `feed` it, and then `end` it.

    `ended` says that the turn has stopped for an approval, or for a result of the client's: what follows is of the
    next response. `clients` are the names of tools that the client runs.
    """

    def __init__(self, begun: Standing, after: int = -1, clients: Collection[str] = ()) -> None:
        self.ended = False
        self._begun = begun
        self._after = after
        self._clients = clients
        self._next = 0
        self._live = LiveItems(begun.id.turn_id)
        self._items: dict[str, _Told] = {}
        self._stops = 0
        self._stopped: tuple[Any, ...] | None = None

    def begin(self) -> Iterator[Json]:
        """It is at work."""
        response = shapes.response(self._begun)
        for kind in ("response.created", "response.in_progress"):
            yield from self._event(kind, response=response)

    def feed(self, event: Event) -> Iterator[Json]:
        """What comes of an event of the turn."""
        own = self._stops == self._begun.id.number and not self.ended
        for change in self._live.feed(event):
            if own and not (isinstance(change.item, ToolCall) and change.item.name in self._clients):
                yield from self._change(change)
        if isinstance(event, ApprovalNeeded) and event.calls != self._stopped:
            self._stops, self._stopped = self._stops + 1, event.calls
            self.ended = self._stops > self._begun.id.number

    def end(self, standing: Standing) -> Iterator[Json]:
        """What was not told of the response, and how it ended."""
        for each in standing.output:
            if isinstance(each, Request):
                index = len(self._items)
                self._items[each.id] = _Told(Message(each.id, ""), index, done=True)
                shown = shapes.item(each, standing.agent)
                if each.is_clients:
                    yield from self._call(each, index, shown)
                else:
                    yield from self._event("response.output_item.added", output_index=index, item=shown)
                yield from self._event("response.output_item.done", output_index=index, item=shown)
                continue
            if each.id not in self._items:
                yield from self._change(Added(_empty(each), 0))
            yield from self._change(Completed(each, 0))
        for told in self._items.values():
            if not told.done:
                yield from self._close(told, told.item, "incomplete")
        self._next = max(self._next, self._after + 1)  # who was told more than there is now is told the end
        response = shapes.response(standing)
        if standing.error is None:
            yield from self._event("response.completed", response=response)
            return
        yield from self._event("response.failed", response=response)
        # openai 3.54 hides the cause of a failed response from who only waits for its end; this it raises.
        yield from self.broken_off(standing.error)

    def broken_off(self, error: ClientError) -> Iterator[Json]:
        """Nobody knows how it ends: it may still do so."""
        self._next = max(self._next, self._after + 1)
        cause = shapes.failure(error)
        told = {"message": cause["message"], "code": cause["code"], "param": None}
        yield from self._event("error", **told, error=cause)

    def _change(self, change: Change) -> Iterator[Json]:
        told = self._items.get(change.item.id)
        match change:
            case Added(item) if told is None:
                yield from self._begin_item(item)
            case Delta(item) if told is not None:
                yield from self._more(told, item)
            case Completed(item):
                if told is None:
                    yield from self._begin_item(_empty(item))
                    told = self._items[item.id]
                yield from self._close(told, item, "completed")

    def _begin_item(self, item: Shown) -> Iterator[Json]:
        told = self._items[item.id] = _Told(item, len(self._items))
        at: Json = {"output_index": told.index}
        shown = shapes.item(item, self._begun.agent, status="in_progress")
        yield from self._event("response.output_item.added", **at, item=shown)
        at["item_id"] = item.id
        if isinstance(item, Message):
            part = shapes.output_text("")
            yield from self._event("response.content_part.added", **at, content_index=0, part=part)
        elif isinstance(item, Reasoning):
            part = shapes.summary_text("")
            yield from self._event("response.reasoning_summary_part.added", **at, summary_index=0, part=part)
        else:
            yield from self._event("response.mcp_call.in_progress", **at)
            yield from self._event("response.mcp_call_arguments.done", **at, arguments=item.arguments)

    def _more(self, told: _Told, item: Message | Reasoning) -> Iterator[Json]:
        if told.done or not item.text.startswith(told.text) or item.text == told.text:
            return
        delta, told.text, told.item = item.text[len(told.text) :], item.text, item
        at: Json = {"output_index": told.index, "item_id": item.id}
        if isinstance(item, Message):
            text: Json = {"content_index": 0, "delta": delta, "logprobs": []}
            yield from self._event("response.output_text.delta", **at, **text)
        else:
            yield from self._event("response.reasoning_summary_text.delta", **at, summary_index=0, delta=delta)

    def _call(self, request: Request, index: int, shown: Json) -> Iterator[Json]:
        """A call that the client is to run, up to its end."""
        begun, arguments = {**shown, "arguments": "", "status": "in_progress"}, request.call.arguments
        yield from self._event("response.output_item.added", output_index=index, item=begun)
        at: Json = {"output_index": index, "item_id": request.id}
        yield from self._event("response.function_call_arguments.delta", **at, delta=arguments)
        named: Json = {"name": request.call.tool, "arguments": arguments}
        yield from self._event("response.function_call_arguments.done", **at, **named)

    def _close(self, told: _Told, item: Shown, status: str) -> Iterator[Json]:
        if told.done:
            return
        if not isinstance(item, ToolCall):
            yield from self._more(told, item)
        told.done, told.item = True, item
        at: Json = {"output_index": told.index, "item_id": item.id}
        if isinstance(item, Message):
            whole: Json = {"content_index": 0, "text": item.text, "logprobs": []}
            yield from self._event("response.output_text.done", **at, **whole)
            part = shapes.output_text(item.text)
            yield from self._event("response.content_part.done", **at, content_index=0, part=part)
        elif isinstance(item, Reasoning):
            yield from self._event("response.reasoning_summary_text.done", **at, summary_index=0, text=item.text)
            part = shapes.summary_text(item.text)
            yield from self._event("response.reasoning_summary_part.done", **at, summary_index=0, part=part)
        elif status == "completed":
            yield from self._event("response.mcp_call.completed", **at)
        shown = shapes.item(item, self._begun.agent, status=status)
        yield from self._event("response.output_item.done", output_index=told.index, item=shown)

    def _event(self, kind: str, **told: Any) -> Iterator[Json]:
        number, self._next = self._next, self._next + 1
        if number > self._after:
            yield {"type": kind, "sequence_number": number, **told}


def _empty(item: Shown) -> Shown:
    return replace(item, output=None) if isinstance(item, ToolCall) else replace(item, text="")
