"""A chat: one question after another in a session, and commands, which begin with a slash.

Promises that nothing that fails ends it at a terminal, and that who leaves is told how to come back. In a pipe each
line is a question, and the first that fails, or that calls wait after, is the last.
"""

from __future__ import annotations

from contextlib import suppress

from flameagent.cli.chat_commands import ChatCommands
from flameagent.cli.chat_session import ChatSession
from flameagent.cli.program import program
from flameagent.cli.terminal import signals
from flameagent.cli.terminal.line_input import Lines
from flameagent.cli.terminal.screen import Screen
from flameagent.cli.turn_view import TurnView
from flameagent.client.attachments import dropped
from flameagent.client.client import Client
from flameagent.client.errors import ClientError


class Chat:
    """A chat in the session `wanted`, or in a new one that begins with the first question; `prompt` is for that."""

    def __init__(
        self, screen: Screen, client: Client, view: TurnView, wanted: str | None, prompt: str | None
    ) -> None:
        self._screen = screen
        self._client = client
        self._view = view
        self._wanted = wanted
        self._session = ChatSession(screen, client, view, prompt)
        self._commands = ChatCommands(self._session)

    @property
    def commands(self) -> list[str]:
        """The commands."""
        return self._commands.names

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
            self._session.enter(self._wanted)
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
            self._session.enter(self._wanted)
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
        """One line: a question, a command, or files that were dropped. True when calls wait for an approval then."""
        text = line.strip()
        if not text:
            return False
        if self._screen.asks and text.partition(" ")[0] not in self.commands and (paths := dropped(text)):
            self._session.attach(paths)
            return False
        if text.startswith("/") and not text.startswith("//"):
            self._commands.run(text)
            return False
        return self._session.ask(text.removeprefix("/") if text.startswith("//") else line)

    def _farewell(self) -> None:
        if self._view.left is not None:
            self._screen.notice("The turn that you left goes on.")
        if self._session.session_id:
            self._screen.notice(f"Come back: {program()} chat -s {self._session.session_id}")
