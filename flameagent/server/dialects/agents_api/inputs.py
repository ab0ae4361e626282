"""What is posted to a session: messages, decisions on calls that wait, results of a client's tools, a cancel.

Promises that a decision which is sent again counts once, and that one which another decision has overtaken is made
anew, or told as refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from flameagent.client import approvals, payloads
from flameagent.client.approvals import Pending
from flameagent.client.async_client import in_thread
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ConflictError, UsageError
from flameagent.client.events import ignore
from flameagent.conversation import Conversation, DecisionBody
from flameagent.server import asking
from flameagent.server.agents import Agents, Found
from flameagent.server.dialects.agents_api import reading
from flameagent.server.dialects.agents_api.reading import View
from flameagent.server.dialects.agents_api.requests import Inputs
from flameagent.server.errors import RequestError, budget_reached
from flameagent.server.identity import Identity
from flameagent.server.once import Once

_PATIENCE = 30.0  # seconds to wait until another decision was carried out, and until one is recorded
_PAUSE = 0.05


@dataclass(frozen=True)
class Poster:
    """Who posts to which session."""

    agents: Agents
    found: Found
    identity: Identity
    once: Once

    async def post(self, inputs: Inputs) -> None:
        """Do what is asked for. Raises `RequestError`, `ClientError`; what came before stays done."""
        if inputs.cancel:
            await self._cancel()
        if inputs.calls:
            await self._decide(inputs)
        if inputs.said:
            await self._say(inputs)

    async def _say(self, inputs: Inputs) -> None:
        text = "\n\n".join(each.text for each in inputs.said)
        images = [image for each in inputs.said for image in each.images]
        view = await reading.view(self.agents, self.found)
        if view.status == "requires_action":
            raise RequestError(409, "Calls of this session wait: decide on them first, or cancel.", code="waiting")
        async with self.once.alone:
            running: Literal["wait", "steer"] = "wait" if images else "steer"
            asked = self.agents, self.once, self.found, text, self.identity
            await asking.ask(*asked, attachments=images, running=running)

    async def _cancel(self) -> None:
        view = await reading.view(self.agents, self.found)
        waiting = view.conversation.waiting
        try:
            named = waiting.turn_id if waiting is not None and not view.busy else None
            turn = await self.found.client.attach(self.found.session_id, named)
        except UsageError:
            return  # nothing runs any more
        await turn.cancel()

    async def _decide(self, inputs: Inputs) -> None:
        """All in one decision, once the calls wait and nothing else is being carried out."""
        deadline = time.monotonic() + _PATIENCE
        view: View | None = None
        while True:
            view = await reading.view(self.agents, self.found, view)
            pending = view.pending
            if pending is not None and not view.busy:
                if _all_decided(view.conversation, inputs):
                    return
                _check(pending, inputs)
                if await self._decided(pending, inputs, view, deadline):
                    return
            elif pending is None:
                if _all_decided(view.conversation, inputs):
                    return
                if not view.busy:
                    raise _unknown(inputs.calls[0])
            if time.monotonic() > deadline:
                raise ConflictError("Another decision is still being carried out; nothing was decided.")
            await asyncio.sleep(_PAUSE)

    async def _decided(self, pending: Pending, inputs: Inputs, view: View, deadline: float) -> bool:
        """True once the decision is recorded; False where another one was first."""
        chosen = inputs.approve, inputs.reject
        name = _name(self.found.session_id, pending, inputs)
        decision = approvals.make_decision(pending, *chosen, by=self.identity.user, outputs=inputs.outputs, name=name)
        client, budget = self.found.client.client, await self.agents.limiter.budget(self.identity.user)

        def send() -> str:
            return client.prepare_decision(pending, decision, listen=ignore, budget=budget).send().task_id

        task_id = await in_thread(send)
        while time.monotonic() < deadline:
            refused = await in_thread(lambda: _outcome(self.agents.connection, view, name, task_id))
            if refused is None:
                await asyncio.sleep(_PAUSE)
                continue
            code, why = refused
            if code == "conflict":
                return False
            if code == "budget_reached":
                raise budget_reached(why)
            if why:
                raise RequestError(409, why, code=code or "conflict")
            return True
        return True  # the task has it, and will come to it


def _outcome(connection: Connection, view: View, name: str, task_id: str) -> tuple[str, str] | None:
    """What came of a decision: a code and a sentence where it was refused; None: nothing yet."""
    with translate_errors(view.session.id):
        task, log = connection.frontend.task(view.session.id, task_id), view.log
        if log is None or name in log.refresh().decided:
            return "", ""
        if not task.state.terminal:
            return None
        answer = payloads.answer(task.output)
        if answer is not None and answer.code == "conflict" and log.conversation.waiting is None:
            return "decided", answer.error
        return (answer.code, answer.error) if answer is not None else ("failed", task.message or "It failed.")


def _check(pending: Pending, inputs: Inputs) -> None:
    waits = {call.id: call for call in pending.calls}
    for call in inputs.calls:
        turn_id = inputs.turn_ids.get(call, pending.turn_id)
        if call not in waits or turn_id != pending.turn_id or bool(waits[call].runner) != (call in inputs.outputs):
            if call in waits and turn_id == pending.turn_id:
                _wrong_kind(call, client=bool(waits[call].runner), rejected=call in inputs.reject)
                continue
            raise _unknown(call)


def _wrong_kind(call: str, *, client: bool, rejected: bool) -> None:
    if client and rejected:
        return  # whoever may decide may reject
    what = "waits for a tool_result of its client" if client else "waits for an approval, and no tool_result"
    raise RequestError(400, f"The call {call} {what}.", code="invalid_request_error", param="events")


def _unknown(call: str) -> RequestError:
    # In these words: a client whose tool was faster than the record takes them for "not yet", and sends it again.
    return RequestError(400, f"Unknown pending tool call: {call}", code="invalid_request_error", param="events")


def _all_decided(conversation: Conversation, inputs: Inputs) -> bool:
    """True where all that is asked for was decided before, in the same way."""
    approved: set[str] = set()
    rejected: set[str] = set()
    recorded = [decided for turn, _ in conversation.turns()[-5:] for decided in turn.decisions]
    for each in [*recorded, *conversation.decisions]:
        approved.update(each.approved)
        rejected.update(each.rejected)
    waiting: Collection[str] = ()
    if conversation.waiting is not None and conversation.waiting.decision is None:
        waiting = [call.id for call in conversation.waiting.calls]
    if conversation.waiting is not None and isinstance(conversation.waiting.decision, DecisionBody):
        decided = conversation.waiting.decision
        waiting = [*decided.approved, *decided.rejected]  # interrupted: it is decided again
    done = {*inputs.approve, *inputs.outputs} <= approved and {*inputs.reject} <= rejected
    return done and not set(inputs.calls) & set(waiting)


def _name(session_id: str, pending: Pending, inputs: Inputs) -> str:
    """The decision's ID: the same for the same decision on the same calls, however often it is sent."""
    said = [session_id, pending.on, inputs.approve, inputs.reject, sorted(inputs.outputs.items())]
    return hashlib.blake2b(json.dumps(said).encode(errors="surrogatepass"), digest_size=16).hexdigest()
