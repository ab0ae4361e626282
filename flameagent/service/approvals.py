"""Approvals: the calls of a turn that wait for a human, and the human's decision on them.

Promises that everything that can be wrong with a decision is found before it is recorded, that it is recorded before
any tool that it approves runs, and that an approval lets run exactly the calls that a human was shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agents import Agent, RunContextWrapper, RunState
from msgspec import to_builtins
from pydantic_core import to_jsonable_python

from flameagent.apis import Answer, Decision, Question
from flameagent.conversation import (
    CLIENT,
    Call,
    ConflictError,
    ConversationError,
    DecisionBody,
    Item,
    PendingApproval,
    StagedTurn,
)
from flameagent.service.calls import reader, shown_call, tool_of
from flameagent.service.client_tools import check_outputs, is_of_client
from flameagent.service.mcp import reachable_agents
from flameagent.service.sdk_compat import without_context

if TYPE_CHECKING:
    from agents import RunResult, RunResultStreaming
    from agents.items import ToolApprovalItem

    from flameagent.service.turn import RunningTurn

REJECTED = "A human rejected this call."


class Approvals:
    """The approvals of one turn of an agent; `turn` is None in a session that cannot wait for any."""

    def __init__(self, agent: Agent[Any], turn: RunningTurn | None) -> None:
        self._name = agent.name
        self._named = Counter(member.name for member in reachable_agents(agent))
        self._turn = turn

    async def carry_out(
        self, agent: Agent[Any], question: Question, context: RunContextWrapper[Any]
    ) -> RunState[Any, Any] | Answer:
        """Record the decision on the calls that wait.

        Returns the run to go on with, or the turn's Answer where it cannot go on and all its calls were rejected.
        `context` is what the entrypoint has made anew; the run goes on with it. Raises `ConversationError` for a
        decision that cannot be carried out; then nothing was recorded.
        """
        assert self._turn is not None and self._turn.staged.resumed is not None and question.decision is not None
        pending, decision = self._turn.staged.resumed.pending, question.decision
        calls, outputs = {call.id: call for call in pending.calls}, decision.outputs or {}
        _check_names(decision, calls)
        check_outputs(decision.approve, outputs, calls)
        try:
            state = await RunState.from_json(
                agent,
                pending.state,
                context_override=context,
                context_deserializer=lambda _: context.context,  # for nested runs
            )
            rules = await self._apply(decision, state, pending.calls, context)
        except _NoRule as error:
            raise ConversationError(
                f"Several agents are called {error}, so that no rule can tell their calls apart: approve without "
                "`always`. Nothing was decided."
            ) from error
        except Exception as error:
            if not rejects_all(question, self._turn):
                raise ConversationError(
                    f"The agent has changed since it asked, and cannot go on with this turn ({_line(error)}). "
                    "Reject its calls: then the conversation goes on."
                ) from error
            return await end_rejected(question, self._turn)
        if not goes_on(self._turn.staged.resumed, decision):
            await self._turn.session.decide(_record(decision, rules if decision.always else ()))
        self._turn.outputs.update(outputs)
        return state

    async def _apply(
        self, decision: Decision, state: RunState[Any, Any], calls: Iterable[Call], context: RunContextWrapper[Any]
    ) -> set[str]:
        """Approve and reject calls of a run; return the rules that an approval for good makes.

        Raises `LookupError` where the run does not ask for what a human was shown, and `_NoRule`.
        """
        found = state.get_interruptions()
        ids = Counter(shown_call(item.raw_item).id for item in found)
        if ids != Counter(call.id for call in calls):
            raise LookupError("it asks for other calls now")
        runners = {call.id: call.runner for call in calls}
        if shared := sorted(call for call in (*decision.approve, *decision.reject) if ids[call] > 1):
            raise LookupError(f"{ids[shared[0]]} calls wait as {shared[0]}")
        rules: set[str] = set()
        for item in found:
            call = shown_call(item.raw_item).id
            if call in decision.reject:
                state.reject(item, rejection_message=f"{REJECTED} {decision.reason}".strip())
            await _check_tool(item, context)
            if is_of_client(item) != (runners[call] == CLIENT):
                raise LookupError(f"{item.tool_name} is another tool now")
            if call in decision.approve:
                state.approve(item)
                if is_of_client(item):
                    continue  # no rule lets run what is not run here
                rules.add(_rule(item))
                if decision.always and self._named[item.agent.name] > 1:
                    raise _NoRule(item.agent.name)
        return rules

    def go_on(self, result: RunResult | RunResultStreaming) -> RunState[Any, Any] | None:
        """Return the run to go on with where calls that it stopped at are approved for good; None where none is."""
        if not any(map(self._always_approved, result.interruptions)):
            return None
        state = result.to_state()
        for item in filter(self._always_approved, state.get_interruptions()):
            state.approve(item)
        return state

    def _always_approved(self, item: ToolApprovalItem) -> bool:
        """Return whether a human has approved the call for good: a later one of the same tool of the same agent.

        A call that they were shown, and did not approve, waits on; and one of an agent that shares its name, because
        the rule may be the other's.
        """
        if self._turn is None or self._named[item.agent.name] > 1 or is_of_client(item):
            return False
        always, resumed = self._turn.session.state.always_approved, self._turn.staged.resumed
        if resumed is not None and shown_call(item.raw_item).id in {call.id for call in resumed.pending.calls}:
            return False
        return _rule(item) in always or (item.agent.name == self._name and item.tool_name in always)

    def wait(self, result: RunResult | RunResultStreaming) -> list[dict[str, Any]]:
        """Stage the calls that a run stopped at, and the run itself; return the calls as an `Answer` has them.

        Raises `ConversationError` where nobody could decide on them.
        """
        calls = [
            Call(
                *shown_call(item.raw_item, tool_of(item)),
                agent="" if item.agent.name == self._name else item.agent.name,
                runner=CLIENT if is_of_client(item) else "",
            )
            for item in result.interruptions
        ]
        if self._turn is None:
            raise ConversationError(
                f"The agent wants to use {calls[0].tool}, which needs an approval, and a session without context "
                "cannot wait for one."
            )
        if len({call.id for call in calls}) < len(calls):  # an approval of one would be one of the other
            raise ConversationError("Two calls that need an approval came under one ID; neither can be asked for.")
        self._turn.staged.calls = calls
        run = result.to_state()
        run.clear_pending_input()  # a message that was not taken in waits for its own turn
        state = without_context(run.to_json(context_serializer=lambda _: {}))
        self._turn.staged.state = json.loads(json.dumps(state, default=to_jsonable_python))
        pending: list[dict[str, Any]] = to_builtins(calls)
        return pending


def goes_on(waiting: PendingApproval, decision: Decision) -> bool:
    """Return whether a decision that is recorded goes on by itself after a crash: all that it approves a client ran.

    Where the agent itself has run something, it may have happened: a human decides again.
    """
    recorded = waiting.decision
    if recorded is None or recorded.decision != decision.id or not recorded.outputs:
        return False
    return set(recorded.approved) <= set(recorded.outputs)


def rejects_all(question: Question, turn: RunningTurn) -> bool:
    """Return whether a decision rejects all calls that wait: then the turn can end whatever the agent is now."""
    waiting, decision = turn.staged.resumed, question.decision
    if waiting is None or decision is None or decision.approve:
        return False
    return Counter(decision.reject) == Counter({call.id for call in waiting.pending.calls})


async def end_rejected(question: Question, turn: RunningTurn, error: Exception | None = None) -> Answer:
    """Record a decision that rejects all calls, and end the turn; `error` is why the agent cannot go on, if known."""
    assert question.decision is not None
    await turn.session.decide(_record(question.decision))
    return Answer(_close(turn.staged), model=turn.staged.model, note=_line(error) if error else "")


class _NoRule(Exception):
    """Nothing can be approved for good of an agent of that name."""


def _check_names(decision: Decision, calls: Mapping[str, Call]) -> None:
    """Raise `ConflictError` for a decision that names a call which does not wait, names one twice, or names none."""
    named = [*decision.approve, *decision.reject]
    if unknown := set(named) - set(calls):
        raise ConflictError(f"The call {sorted(unknown)[0]} does not wait; these do: {', '.join(calls)}.")
    if twice := sorted(set(decision.approve) & set(decision.reject)):
        raise ConflictError(f"The call {twice[0]} is both approved and rejected; nothing was decided.")
    if len(set(named)) < len(named):
        raise ConflictError(f"The call {Counter(named).most_common(1)[0][0]} is named twice; nothing was decided.")
    if not named:
        raise ConflictError("The decision names no call; nothing was decided.")


async def _check_tool(item: ToolApprovalItem, context: RunContextWrapper[Any]) -> None:
    """Raise `LookupError` when the agent has no such tool any more: the SDK finds out too late (0.24.0)."""
    tools = await item.agent.get_all_tools(context)
    if reader(item.raw_item)("type") == "function_call" and item.tool_name not in {tool.name for tool in tools}:
        raise LookupError(f"it has no tool {item.tool_name}")


def _rule(item: ToolApprovalItem) -> str:
    """Return the rule that approves such a call for good: its tool, and whose it is."""
    return f"{tool_of(item)} of {item.agent.name}"


def _record(decision: Decision, always: Iterable[str] = ()) -> DecisionBody:
    return DecisionBody(
        decision=decision.id,
        decides_on=decision.on,
        approved=list(decision.approve),
        rejected=list(decision.reject),
        reason=decision.reason,
        always_approved=sorted(always),
        by=decision.by,
        outputs=decision.outputs or {},
    )


def _close(staged: StagedTurn) -> str:
    """End a turn that cannot go on: every call gets an output, so that the conversation stays valid."""
    items: list[Item] = staged.items
    answered = {item.get("call_id") for item in items if item.get("type") == "function_call_output"}
    for item in [item for item in items if item.get("type") == "function_call"]:
        if item.get("call_id") not in answered:
            items.append({"type": "function_call_output", "call_id": item["call_id"], "output": REJECTED})
    text = "The call was rejected. The agent cannot go on with what it had begun, so this turn ends here."
    items.append({"role": "assistant", "content": text})
    return text


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
