"""The IDs of tool calls: each names one call of a conversation, for as long as that lasts.

Promises that no two calls of a conversation have one ID when the Agents SDK sees them, in nested and parallel runs
too: the SDK (0.24.0) tells calls, and what was approved, apart by these IDs alone.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from agents import Model

from flameagent.service import metrics
from flameagent.service.attachments import with_data
from flameagent.service.spending import Spending
from flameagent.service.turn import running

if TYPE_CHECKING:
    from agents.items import ModelResponse, TResponseInputItem, TResponseStreamEvent

_LONGEST = 40  # what OpenAI's chat completions take
_ALPHABET = string.ascii_letters + string.digits

_LAST = ("response.completed", "response.incomplete", "response.failed")  # the events that have the usage

CallIdAllocator = Callable[[str | None], str]


def call_id_allocator(items: str | list[TResponseInputItem], *, keeps: bool = False) -> CallIdAllocator:
    """Return a function that gives a call its ID: the server's, where that is certain to be new.

    Some servers give every call the same ID, or none, or begin anew with each request, and nested runs do not see
    each other's calls. An ID is known to be new while the turn sees the whole conversation and none of its runs has
    used it; otherwise, where it is missing, or too long for others, the call gets one of our own. A turn that goes
    on behind a decision has forgotten what nested runs have used: it takes none but our own. Those are random: a
    turn that runs twice is in the conversation once, so nothing compares the two.

    `keeps` the server's ID where nothing is known to have it, for one that takes back no other.
    """
    known = [] if isinstance(items, str) else [cast("dict[str, Any]", item) for item in items]
    here = {item["call_id"] for item in known if item.get("call_id")}
    turn = running.get()
    used = turn.call_ids if turn else set()
    certain = turn is None or (turn.session.shows_all and turn.staged.resumed is None)

    def name(given: str | None) -> str:
        is_free = isinstance(given, str) and bool(given) and given not in here and given not in used
        is_new = is_free and (keeps or (certain and len(given or "") <= _LONGEST))
        call_id = cast("str", given) if is_new else _own()
        here.add(call_id)
        used.add(call_id)
        return call_id

    return name


def _own() -> str:
    # Nine letters and digits, the one form that Mistral takes; more than 10^16 of them.
    return "".join(secrets.choice(_ALPHABET) for _ in range(9))


class NamingModel(Model):
    """A model, also one that an agent brings, whose calls all have IDs of their own; it is sent attachments whole.

    It is not asked where the turn's user has used up what they may.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._is_ours = getattr(model, "names_its_calls", False)
        self._name = str(getattr(model, "model", type(model).__name__))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._model._cleanup_on_run_end(owner)

    async def close(self) -> None:
        await self._model.close()

    def get_retry_advice(self, request: Any) -> Any:
        return self._model.get_retry_advice(request)

    async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **named: Any) -> ModelResponse:
        spending = _spending()
        spending.check()
        whole = await with_data(input)
        with _asking(), metrics.call(spending.model or self._name):
            response = await self._model.get_response(system_instructions, whole, *rest, **named)
        spending.count(response.usage, self._name)
        answer = _Answer(call_id_allocator(input, keeps=True), self._is_ours)
        response.output = [answer.last(item) for item in response.output]
        return response

    async def stream_response(
        self, system_instructions: Any, input: Any, *rest: Any, **named: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        spending = _spending()
        spending.check()
        answer = _Answer(call_id_allocator(input, keeps=True), self._is_ours)
        whole = await with_data(input)
        events = self._model.stream_response(system_instructions, whole, *rest, **named)
        try:
            with _asking(), metrics.call(spending.model or self._name):
                async for event in events:
                    if getattr(event, "type", None) in _LAST:
                        spending.count(getattr(getattr(event, "response", None), "usage", None), self._name)
                    yield answer.event(event)
        finally:
            if (close := getattr(events, "aclose", None)) is not None:
                await close()


def _asking() -> AbstractContextManager[None]:
    """While the model is asked: the turn that runs counts how long that takes."""
    turn = running.get()
    return turn.clock.asking_model() if turn else nullcontext()


def _spending() -> Spending:
    """That of the turn that runs; outside of one, without a budget."""
    turn = running.get()
    return turn.spending if turn else Spending()


class _Answer:
    """The calls of one answer, each under one name in its events and in the whole of it; `named`: they have theirs.

    What a server asks to be approved (`mcp_approval_request`) is named here in any case.
    """

    def __init__(self, name: CallIdAllocator, named: bool) -> None:
        self._name = name
        self._named = named
        self._places: dict[tuple[int, str], str] = {}
        self._told: dict[str, list[str]] = {}
        self._newest: dict[str, str] = {}

    def event(self, event: Any) -> Any:
        kind = getattr(event, "type", None)
        if kind in {"response.output_item.added", "response.output_item.done"}:
            return event.model_copy(update={"item": self._item(event.item, event.output_index)})
        if kind == "response.completed" and event.response.output:
            output = [self.last(item) for item in event.response.output]
            return event.model_copy(update={"response": event.response.model_copy(update={"output": output})})
        return event

    def last(self, item: Any) -> Any:
        """An item of the whole answer, whose calls come in the order in which events have told of them."""
        return self._item(item, None)

    def _item(self, item: Any, place: int | None) -> Any:
        kind = str(_get(item, "type") or "")
        field = "id" if kind == "mcp_approval_request" else "call_id"
        if (self._named and field == "call_id") or not _has(item, field):
            return item
        given = str(_get(item, field) or "")
        if kind.endswith("_output"):  # of a call of the same answer
            return _with(item, field, self._newest.get(given, given))
        if place is None:
            told = self._told.get(given, [])
            own = told.pop(0) if told else self._new(field, given)
        elif (own := self._places.get((place, given), "")) == "":
            own = self._places[place, given] = self._new(field, given)
            self._told.setdefault(given, []).append(own)
        self._newest[given] = own
        return _with(item, field, own)

    def _new(self, field: str, given: str) -> str:
        name = self._name(given)
        return f"mcpr_{name}" if field == "id" and name != given else name


def _has(item: Any, field: str) -> bool:
    return field in item if isinstance(item, dict) else hasattr(item, field)


def _get(item: Any, field: str) -> Any:
    return item.get(field) if isinstance(item, dict) else getattr(item, field, None)


def _with(item: Any, field: str, call_id: str) -> Any:
    return {**item, field: call_id} if isinstance(item, dict) else item.model_copy(update={field: call_id})
