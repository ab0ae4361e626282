"""A session as it is now, read for a request: its state, its turns and their items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flameagent.client import payloads
from flameagent.client.approvals import Pending
from flameagent.client.async_client import in_thread
from flameagent.client.connection import Connection, translate_errors
from flameagent.client.errors import ClientError, NoEngine
from flameagent.client.turns import turn_of
from flameagent.conversation import Conversation, ConversationLog, Item, Turn
from flameagent.conversation.item_text import describe_item
from flameagent.flame.frontend import Session, Task, TaskState
from flameagent.server.agents import Agents, Found
from flameagent.server.dialects.agents_api import objects
from flameagent.server.dialects.agents_api.objects import Object
from flameagent.server.errors import sentence
from flameagent.server.items import Message, ToolCall, of_question, of_turn


@dataclass(frozen=True)
class View:
    """A session as it was read; `problem` says why it cannot go on, where it cannot. `log` is what it was read by."""

    found: Found
    session: Session
    conversation: Conversation
    problem: str = ""
    log: ConversationLog | None = None

    @property
    def busy(self) -> bool:
        """True while a task runs or waits to run."""
        return self.session.running > 0 or self.session.pending > 0

    @property
    def tasks(self) -> int:
        """The number of tasks that were ever made in it."""
        return self.session.running + self.session.pending + self.session.ended

    @property
    def pending(self) -> Pending | None:
        """The calls that wait."""
        waiting = self.conversation.waiting
        return Pending.of(self.session.id, waiting) if waiting else None

    @property
    def status(self) -> str:
        """In the words of the dialect."""
        if self.problem:
            return "failed"
        if self.busy:
            return "in_progress"
        return "requires_action" if self.conversation.waiting else "idle"

    def as_json(self, status: str = "", required: list[Object] | None = None) -> Object:
        """The session object; with another `status` and `required` actions where an event is about earlier."""
        conversation, agent = self.conversation, self.found.agent
        status = status or self.status
        if required is None:
            required = objects.required_actions(agent, self.pending) if status == "requires_action" else []
        created = self.session.created
        return {
            "id": self.session.id,
            "object": "agent.session",
            "agent": objects.configured(
                agent,
                model=conversation.chosen_model or conversation.model,
                instructions=conversation.prompt or None,
                tools=[objects.tool(each) for each in conversation.tools],
            ),
            "created_at": created // 1000,
            "last_active_at": (conversation.changed or created) // 1000,
            "environment": {"type": "none"},
            "error": self.problem if status == "failed" else None,
            "metadata": conversation.metadata,
            "required_actions": required,
            "status": status,
            "usage": objects.usage(conversation.usage),
            "vault_ids": [],
        }


async def view(agents: Agents, found: Found, before: View | None = None) -> View:
    """The session now; what was read `before` is not read again. Raises `ClientError`."""
    return await in_thread(lambda: read(agents.connection, found, log=before.log if before else None))


def read(connection: Connection, found: Found, *, whole: bool = False, log: ConversationLog | None = None) -> View:
    """The same, blocking; with `whole` all its turns. Raises `ClientError`."""
    with translate_errors(found.session_id):
        session = connection.frontend.session(found.session_id)  # in this order: what does not run has brought all
        problem, conversation = "", Conversation()
        try:
            log = log or connection.log(session)
            if log is not None:
                conversation = log.refresh()
                conversation = log.load() if whole else conversation
        except NoEngine:
            raise
        except ClientError as error:
            problem = sentence(error)
        if conversation.damage:
            problem = str(conversation.damage)
        elif not session.open:
            problem = problem or "The session is closed: nothing can be added to it."
    return View(found, session, conversation, problem, log)


@dataclass(frozen=True)
class Told:
    """A turn for the lists: its object and its items."""

    turn: Object
    items: list[Object]


async def turns(agents: Agents, found: Found) -> list[Told]:
    """All turns of the session that were not taken back, oldest first, the failed ones too. Raises `ClientError`."""
    return await in_thread(lambda: _turns(agents.connection, found))


def _turns(connection: Connection, found: Found) -> list[Told]:
    with translate_errors(found.session_id):
        tasks = connection.frontend.tasks(found.session_id)
    seen = read(connection, found, whole=True)
    of_tasks: dict[str, list[Task]] = {}
    for task in tasks:
        of_tasks.setdefault(turn_of(task), []).append(task)
    recorded = {turn.id: (turn, items) for turn, items in seen.conversation.turns()}
    order = [*(each for each in recorded if each not in of_tasks), *of_tasks]
    made = [_told(seen, each, recorded.get(each), of_tasks.get(each, [])) for each in order]
    return [each for each in made if each is not None]


def _told(seen: View, turn_id: str, recorded: tuple[Turn, list[Item]] | None, tasks: list[Task]) -> Told | None:
    named = turn_id, seen.found.session_id, seen.found.agent
    created = tasks[0].created if tasks else 0
    if recorded is not None:
        turn, added = recorded
        made = objects.turn(*named, "completed", created or turn.at, completed=turn.at, used=turn.usage)
        clients = {call.id for decided in turn.decisions for call in decided.calls if call.runner}
        steered = [str(each) for each in turn.answer.get("steered") or ()]
        return Told(made, items_of(turn_id, seen.found.agent, turn.question, added, clients, steered))
    if not tasks:
        return None
    asked, last = payloads.question(tasks[0].input), tasks[-1]
    question = asked.question if asked else ""
    waiting = seen.conversation.waiting
    if waiting is not None and waiting.turn_id == turn_id:
        status = "waiting" if last.state.terminal else "in_progress"
        clients = {call.id for call in waiting.calls if call.runner}
        items = items_of(turn_id, seen.found.agent, question, waiting.pending.items, clients, waiting.pending.steered)
        return Told(objects.turn(*named, status, created), items)
    items = [objects.item(of_question(turn_id, question), turn_id, seen.found.agent, whole=True)]
    if not last.state.terminal:
        status = "in_progress" if last.state == TaskState.RUNNING else "queued"
        if asked is not None and asked.steer and status == "queued":
            return None  # a message for the turn that runs
        return Told(objects.turn(*named, status, created), items)
    answer = payloads.answer(last.output)
    if answer is not None and not answer.error and answer.code != "waiting":
        return None  # taken back, or a message that the turn which ran has taken in
    code, why = (answer.code, answer.error) if answer else ("failed", last.message or "The turn failed.")
    if turn_id in seen.conversation.cancelled or code == "cancelled" or last.state == TaskState.CANCELLED:
        return Told(objects.turn(*named, "cancelled", created, completed=last.completed), items)
    error = objects.failure(code, why)
    return Told(objects.turn(*named, "failed", created, completed=last.completed, error=error), items)


def items_of(
    turn_id: str, agent: str, question: str, added: list[Item], clients: set[str], steered: list[str]
) -> list[Object]:
    """The items of a turn: its question, what it added, and what clients have said of calls of their tools."""
    shown = of_turn(turn_id, added)
    last = max((place for place, each in enumerate(shown) if isinstance(each, ToolCall)), default=-1)
    made = [objects.item(of_question(turn_id, question), turn_id, agent, whole=True)]
    messages = [item for item in added if item.get("role") == "user"][1:]
    for message_id, message in zip(steered, messages, strict=False):
        text = describe_item(message)[1]
        made.append(objects.item(of_question(message_id, text), turn_id, agent, whole=True))
    for place, each in enumerate(shown):
        client = isinstance(each, ToolCall) and each.call_id in clients
        whole = not isinstance(each, ToolCall) or each.output is not None
        phase = phase_of(each, before_call=place < last)
        made.append(objects.item(each, turn_id, agent, whole=whole, client=client, phase=phase))
        if client and isinstance(each, ToolCall) and each.output is not None:
            made.append(objects.output_of(each, turn_id))
    return made


def phase_of(shown: Any, *, before_call: bool) -> str:
    """What a message is in its turn: `commentary` where a call came after it."""
    if not isinstance(shown, Message) or shown.role == "user":
        return ""
    return "commentary" if before_call else "final_answer"
