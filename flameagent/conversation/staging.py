"""A turn while it runs: what it will add to the conversation, as one record or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flameagent.apis import Answer
from flameagent.conversation.answers import answer_fields
from flameagent.conversation.attachments import of_question
from flameagent.conversation.conversation import Conversation
from flameagent.conversation.errors import AlreadyDecidedError, CancelledError, WaitingError
from flameagent.conversation.records import Attached, Call, Facts, Item, PendingBody, TurnBody
from flameagent.conversation.state import PendingApproval
from flameagent.conversation.timing import NO_TIMING, Timing
from flameagent.conversation.usage import Usage


@dataclass
class StagedTurn:
    """A turn while it runs. Set `answer`, and `usage`, `model` and `timing` where they are known.

    With `state` (the SDK's `RunState` as JSON) and `calls` set it stops: it is kept, and waits for a decision. `user`
    and `context` are as the Question had them; `attachments` are those that were taken, and those that tools
    returned; `steered` are the IDs of the messages that came while it ran and are among its items. `recalled` and
    `own_facts` are as in its record; `traceparent` is kept where it waits. `resumed` is what it waited as, where it
    goes on. `number` is that of the turn, `revision` the conversation's when it began; `omitted_items` is how many of
    the oldest items the model is not shown.
    """

    id: str
    question: str
    items: list[Item] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)
    answer: Answer | None = None
    usage: Usage = field(default_factory=Usage)
    model: str = ""
    state: dict[str, Any] | None = None
    calls: list[Call] = field(default_factory=list)
    resumed: PendingApproval | None = None
    number: int = 0
    revision: int = 0
    omitted_items: int = 0
    user: str = ""
    context: dict[str, Any] = field(default_factory=dict)
    attachments: list[Attached] = field(default_factory=list)
    steered: list[str] = field(default_factory=list)
    recalled: list[str] = field(default_factory=list)
    own_facts: list[str] = field(default_factory=list)
    timing: Timing = NO_TIMING
    traceparent: str = ""

    def begin(self, conversation: Conversation, resume: str) -> None:
        """Begin behind what the conversation is now; with `resume` as the turn that waits as that record.

        Raises `CancelledError`, `WaitingError` when a turn waits and this is another, `ConflictError` when someone
        else has decided.
        """
        self.number, self.revision = conversation.turn_count + 1, conversation.revision
        waiting = conversation.waiting
        if resume:
            if waiting is None or waiting.record_id != resume:
                raise AlreadyDecidedError
            self._resume(waiting)
            return
        if self.id in conversation.cancelled:  # else it would run, and be refused at its end
            raise CancelledError
        if waiting is not None:
            raise WaitingError

    def _resume(self, waiting: PendingApproval) -> None:
        """Take over what the turn had staged when it stopped."""
        self.resumed, pending = waiting, waiting.pending
        self.id, self.question = pending.turn, pending.question
        self.items, self.facts = list(pending.items), dict(pending.facts)
        self.usage, self.model = pending.usage, pending.model
        self.user, self.context, self.attachments = pending.user, pending.context, list(pending.attachments)
        self.steered = list(pending.steered)
        self.recalled, self.own_facts = list(pending.recalled), list(pending.own_facts)
        self.timing = pending.timing
        self.traceparent = pending.traceparent

    def finish(self) -> Answer:
        """The answer, with what is known of its turn; an empty one where none was given."""
        self.answer = self.answer or Answer("")
        self.answer.turn, self.answer.turn_id, self.answer.model = self.number, self.id, self.model
        self.answer.steered = self.steered or None
        self.answer.attachments = [each.sha256 for each in of_question(self.attachments)] or None
        return self.answer

    def record(self, answer: Answer) -> TurnBody | PendingBody:
        """The record to append: the turn with its answer, or that it waits."""
        if self.state is None:
            return TurnBody(
                turn=self.id,
                question=self.question,
                items=self.items,
                answer=answer_fields(answer),
                usage=self.usage,
                model=self.model,
                facts=self.facts,
                omitted_items=self.omitted_items,
                user=self.user,
                context=self.context,
                attachments=self.attachments,
                recalled=self.recalled,
                own_facts=self.own_facts,
                timing=self.timing,
            )
        return PendingBody(
            turn=self.id,
            question=self.question,
            calls=self.calls,
            state=self.state,
            items=self.items,
            usage=self.usage,
            model=self.model,
            facts=self.facts,
            user=self.user,
            context=self.context,
            attachments=self.attachments,
            steered=self.steered,
            recalled=self.recalled,
            own_facts=self.own_facts,
            timing=self.timing,
            traceparent=self.traceparent,
        )
