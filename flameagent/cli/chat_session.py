"""The session that a chat is in: asked, entered, left for another one.

`session_id` is "" before there is one: it begins with the first question.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flameagent.cli.terminal.line_input import MARK
from flameagent.cli.terminal.screen import Screen
from flameagent.cli.turn_view import TurnView
from flameagent.client import attachments
from flameagent.client.client import Client
from flameagent.client.errors import ClientError, ConflictError, SessionClosed, TurnFailed, UsageError, WaitingError
from flameagent.client.reply import Reply
from flameagent.transcript import wording


class ChatSession:
    """Where a chat is; `prompt` is for a new session."""

    def __init__(self, screen: Screen, client: Client, view: TurnView, prompt: str | None) -> None:
        self.session_id = ""
        self.screen = screen
        self.client = client
        self.view = view
        self._prompt = prompt

    def here(self) -> str:
        """The session's ID. Raises `UsageError` before there is one."""
        if not self.session_id:
            raise UsageError("There is no session yet: it begins with the first question.")
        return self.session_id

    def begin_another(self) -> None:
        """Begin a new session with the next question."""
        self.leave_turn()
        self.session_id = ""
        self.screen.heading("A new session")

    def ask(self, question: str) -> bool:
        """Ask, after the turn that was left. True when calls wait for an approval then. Raises `ClientError`."""
        if self.view.left is not None:  # one turn after another
            self.screen.notice("The turn before:")
            try:
                self.wait()
            except TurnFailed as error:
                self.screen.error(error)
        if self.view.attached and self.screen.asks:
            self.screen.notice(f"With {', '.join(each.name for each in self.view.attached)}:")
        try:
            reply = self.view.ask(question, self.session_id or None, None if self.session_id else self._prompt)
        except WaitingError as error:
            self._came_to(error.session_id)
            if not self.screen.asks or not self._settled():
                raise
            reply = self.view.ask(question, self.session_id)
        except ClientError as error:
            self._came_to(error.session_id)
            raise
        return self.answered(reply)

    def attach(self, paths: Iterable[Path]) -> None:
        """Have files go with the next question, and say so. Raises `UsageError`."""
        before = list(self.view.attached)
        self.view.attached = attachments.gather([*before, *paths], os.environ)
        for each in self.view.attached[len(before) :]:
            self.screen.text(f"Attached to the next question: {wording.attached(each.described)}.", wrapped=True)

    def wait(self) -> None:
        """Wait for the turn that was left. Raises `ClientError`."""
        if self.view.left is None:
            raise UsageError("No turn was left: there is nothing to wait for.")
        self.answered(self.view.wait())

    def answered(self, reply: Reply) -> bool:
        """Be where the reply came from. True when calls wait for an approval."""
        self._came_to(reply.session_id)
        if reply.pending is not None and self.screen.asks:
            self.screen.notice("It waits. The next question asks you again.")
        return reply.pending is not None

    def enter(self, session: str) -> None:
        """Go on in a session: show where it stopped and what runs, have decided what waits. Raises `ClientError`."""
        found = self.client.history(session)
        if found.damage:
            raise found.damage
        if not found.open:
            raise SessionClosed(
                f"The session {found.session_id} is closed, so nothing can be added; its history can still be read.",
                session_id=found.session_id,
            )
        self.session_id = found.session_id
        if not self.screen.asks:
            return
        turns = list(found.conversation.turns()) if found.conversation else []
        self.screen.heading(f"Session {self.session_id}, {wording.turns(len(turns))}")
        if turns:
            turn, _ = turns[-1]
            self.screen.aside(f"{MARK}{turn.question}")
            answer = str(turn.answer.get("answer", ""))
            (self.screen.markdown if self.screen.renders else self.screen.text)(answer)
        if not self._attached() and found.waiting is not None and not self.view.settle(found.waiting):
            self.screen.notice("It waits. The next question asks you again.")

    def _attached(self) -> bool:
        """Show the turn that runs to its end, however that is. False where none runs."""
        try:
            self.answered(self.view.attach(self.session_id))
        except UsageError:
            return False
        except ClientError as error:
            self.screen.error(error)
        return True

    def leave_turn(self) -> None:
        """Wait for it no more: it goes on in its session, and its answer is in the history there."""
        self.view.left = None

    def _came_to(self, session_id: str) -> None:
        self.session_id = session_id or self.session_id

    def _settled(self) -> bool:
        """Have the human decide on calls that wait. False: some wait still."""
        try:
            pending = self.client.pending(self.session_id)
        except ConflictError:  # nothing waits, or someone has decided just now
            return True
        return self.view.settle(pending)
