"""A chat: one question after another in a session, and commands, which begin with a slash.

Promises that nothing that fails ends it at a terminal, and that who leaves is told how to come back. In a pipe each
line is a question, and the first that fails, or that calls wait after, is the last.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from flameagent.cli.program import program
from flameagent.cli.terminal import render, signals
from flameagent.cli.terminal.line_input import MARK, Lines
from flameagent.cli.terminal.screen import Screen
from flameagent.cli.turn_view import TurnView
from flameagent.client.client import Client
from flameagent.client.errors import ClientError, ConflictError, SessionClosed, TurnFailed, UsageError, WaitingError
from flameagent.client.reply import Reply
from flameagent.transcript import wording


@dataclass(frozen=True)
class _Command:
    does: Callable[[str], None]
    argument: str
    help: str


class Chat:
    """A chat in `session`, or in a new one that begins with the first question; `prompt` is for new ones.

    `session_id` is where it is now, "" before there is one.
    """

    def __init__(
        self, screen: Screen, client: Client, view: TurnView, session: str | None, prompt: str | None
    ) -> None:
        self.session_id = ""
        self._screen = screen
        self._client = client
        self._view = view
        self._prompt = prompt
        self._asked = 0
        self._commands = {
            "/help": _Command(self._help, "", "this list"),
            "/history": _Command(self._history, "[N]", "the conversation, or its turn N"),
            "/facts": _Command(self._facts, "", "what the agent remembers"),
            "/retry": _Command(self._retry, "", "take the last turn back and ask its question again"),
            "/rewind": _Command(self._rewind, "N", "keep the first N turns"),
            "/fork": _Command(self._fork, "[N]", "go on in a copy, of the first N turns or of all"),
            "/sessions": _Command(self._sessions, "[ID]", "list the sessions, or go on in one"),
            "/new": _Command(self._new, "", "begin a new session with the next question"),
            "/wait": _Command(self._wait, "", "wait for the turn that you left with Ctrl-C"),
            "/cancel": _Command(self._cancel, "", "cancel it"),
            "/quit": _Command(self._quit, "", "leave, as Ctrl-D does"),
        }
        self._wanted = session

    @property
    def commands(self) -> list[str]:
        """The commands."""
        return list(self._commands)

    def sessions(self) -> list[str]:
        """The IDs of the sessions, newest first; none where they cannot be told."""
        try:
            return [session.session_id for session in self._client.sessions()]
        except ClientError:
            return []

    def at_a_terminal(self, read: Lines) -> None:
        """Until the human leaves."""
        self._view.reach()
        if self._wanted is None:
            self._screen.heading("A new session")
        else:
            self._enter(self._wanted)
        self._screen.notice("/help lists the commands, Alt-Enter begins a new line, Ctrl-D leaves.\n", wrapped=True)
        signals.raise_from_now_on()
        while True:
            try:
                self._take(read())
            except KeyboardInterrupt:
                self._screen.notice("Ctrl-D leaves.")
            except EOFError:
                break
            except ClientError as error:
                self._screen.error(error)
            self._screen.notice("")
        self._farewell()

    def in_a_pipe(self, read: Lines) -> bool:
        """Until the lines end. False: calls wait for an approval. Raises `ClientError`."""
        if self._wanted is not None:
            self._enter(self._wanted)
        waits = False
        with suppress(EOFError):
            while not waits:
                line = read()
                waits = self._take(line)
                if line.strip() and not (self._screen.quiet or self._screen.as_json):
                    self._screen.text("")
            return False
        self._farewell()
        return True

    def _take(self, line: str) -> bool:
        """One line: a question or a command. True when calls wait for an approval afterwards."""
        text = line.strip()
        if not text:
            return False
        if text.startswith("/") and not text.startswith("//"):
            word, _, argument = text.partition(" ")
            self._command(word).does(argument.strip())
            return False
        return self._ask(text.removeprefix("/") if text.startswith("//") else line)

    def _command(self, word: str) -> _Command:
        found = [name for name in self._commands if name.startswith(word)]
        if word in self._commands:
            found = [word]
        if len(found) == 1:
            return self._commands[found[0]]
        close = found or difflib.get_close_matches(word, self._commands, 1)
        meant = f"Did you mean {' or '.join(close)}?" if close else "/help lists the commands."
        raise UsageError(f"There is no command {word}. {meant} A question that begins with / is typed with //.")

    def _ask(self, question: str) -> bool:
        if self._view.left is not None:  # one turn after another
            self._screen.notice("The turn before:")
            try:
                self._wait("")
            except TurnFailed as error:
                self._screen.error(error)
        try:
            reply = self._view.ask(question, self.session_id or None, None if self.session_id else self._prompt)
        except WaitingError as error:
            self._came_to(error.session_id)
            if not self._screen.asks or not self._settled():
                raise
            reply = self._view.ask(question, self.session_id)
        except ClientError as error:
            self._came_to(error.session_id)
            raise
        return self._answered(reply)

    def _answered(self, reply: Reply) -> bool:
        self._came_to(reply.session_id)
        self._asked += 1
        if reply.pending is not None and self._screen.asks:
            self._screen.notice("It waits. The next question asks you again.")
        return reply.pending is not None

    def _came_to(self, session_id: str) -> None:
        self.session_id = session_id or self.session_id

    def _settled(self) -> bool:
        """Have the human decide on calls that wait. False: some wait still."""
        try:
            pending = self._client.pending(self.session_id)
        except ConflictError:  # nothing waits, or someone has decided just now
            return True
        return self._view.settle(pending)

    def _enter(self, session: str) -> None:
        """Go on in a session: show where it stopped, and have decided what waits."""
        found = self._client.history(session)
        if found.damage:
            raise found.damage
        if not found.open:
            raise SessionClosed(
                f"The session {found.session_id} is closed, so nothing can be added; its history can still be read.",
                session_id=found.session_id,
            )
        self.session_id = found.session_id
        if not self._screen.asks:
            return
        turns = list(found.conversation.turns()) if found.conversation else []
        self._screen.heading(f"Session {self.session_id}, {wording.turns(len(turns))}")
        if turns:
            turn, _ = turns[-1]
            self._screen.aside(f"{MARK}{turn.question}")
            answer = str(turn.answer.get("answer", ""))
            (self._screen.markdown if self._screen.renders else self._screen.text)(answer)
        if found.waiting is not None and not self._view.settle(found.waiting):
            self._screen.notice("It waits. The next question asks you again.")

    def _farewell(self) -> None:
        if self._view.left is not None:
            self._screen.notice("The turn that you left goes on.")
        if self.session_id:
            self._screen.notice(f"Come back: {program()} chat -s {self.session_id}")

    def _help(self, _: str) -> None:
        for name, command in self._commands.items():
            self._screen.field(f"{f'{name} {command.argument}'.strip():<16} ", command.help)
        self._screen.text(
            "\nA line that ends with \\ goes on in the next one, and Alt-Enter begins one.", wrapped=True
        )
        self._screen.text("Ctrl-C stops waiting for an answer; twice, it cancels the turn.", wrapped=True)

    def _history(self, turn: str) -> None:
        found = self._client.history(self._here())
        render.history(self._screen, found, turn=_count(turn, "/history") if turn else None)
        if found.damage:
            raise found.damage

    def _facts(self, _: str) -> None:
        conversation = self._client.history(self._here()).conversation
        facts = conversation.facts if conversation else {}
        for key, text in facts.items():
            self._screen.text(f"{key}: {text}")
        if not facts:
            self._screen.text("The agent remembers nothing yet.")

    def _retry(self, _: str) -> None:
        self._answered(self._view.retry(self._here()))

    def _rewind(self, turns: str) -> None:
        self._client.rewind(self._here(), _count(turns, "/rewind"))
        self._enter(self.session_id)

    def _fork(self, turns: str) -> None:
        copy = self._client.fork(self._here(), _count(turns, "/fork") if turns else None)
        if copy.left:
            self._screen.warning(copy.left)
        self._leave_turn()
        self._enter(copy.session_id)

    def _sessions(self, wanted: str) -> None:
        if wanted:
            self._leave_turn()
            self._enter(wanted)
        else:
            render.sessions(self._screen, self._client.sessions())

    def _new(self, _: str) -> None:
        self._leave_turn()
        self.session_id = ""
        self._screen.heading("A new session")

    def _wait(self, _: str) -> None:
        if self._view.left is None:
            raise UsageError("No turn was left: there is nothing to wait for.")
        self._answered(self._view.wait())

    def _cancel(self, _: str) -> None:
        if self._view.left is None:
            raise UsageError("No turn was left: there is nothing to cancel.")
        self._screen.text(self._view.cancel())

    def _quit(self, _: str) -> None:
        raise EOFError

    def _leave_turn(self) -> None:
        """It goes on in its session, and its answer is in the history there."""
        self._view.left = None

    def _here(self) -> str:
        if not self.session_id:
            raise UsageError("There is no session yet: it begins with the first question.")
        return self.session_id


def _count(text: str, command: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{command} wants a number, such as {command} 2.")
    return int(text)
