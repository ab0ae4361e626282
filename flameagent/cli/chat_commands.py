"""The commands of a chat: lines that begin with a slash."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flameagent.cli import logs
from flameagent.cli.chat_session import ChatSession
from flameagent.cli.export import write
from flameagent.cli.terminal import remembered, render
from flameagent.client.errors import UsageError
from flameagent.transcript import export as exports

if TYPE_CHECKING:
    from flameagent.memory.person import Fact

_OF_THE_SETTINGS = "-"
"""What `/model` is given for the model that the settings choose."""


@dataclass(frozen=True)
class _Command:
    does: Callable[[str], None]
    argument: str
    help: str


class ChatCommands:
    """What can be done in a chat beside asking."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._screen, self._client, self._view = session.screen, session.client, session.view
        self._commands = {
            "/help": _Command(self._help, "", "this list"),
            "/history": _Command(self._history, "[N]", "the conversation, or its turn N"),
            "/facts": _Command(self._facts, "", "what the agent remembers"),
            "/summary": _Command(self._summary, "", "what the model is told of turns that it is not shown any more"),
            "/memory": _Command(
                self._memory, "[search TEXT|forget KEY]", "what is remembered of you over all sessions"
            ),
            "/model": _Command(self._model, "[NAME]", "answer with this model from now on; - is the settings'"),
            "/attach": _Command(self._attach, "[FILE…]", "have images, files and texts go with the next question"),
            "/detach": _Command(self._detach, "", "have nothing go with it"),
            "/retry": _Command(self._retry, "", "take the last turn back and ask its question again"),
            "/rewind": _Command(self._rewind, "N", "keep the first N turns"),
            "/fork": _Command(self._fork, "[N]", "go on in a copy, of the first N turns or of all"),
            "/rename": _Command(self._rename, "TITLE", "give the session a title"),
            "/export": _Command(self._export, "FILE", "write the conversation to a file: .md, .html or .json"),
            "/sessions": _Command(self._sessions, "[ID]", "list the sessions, or go on in one"),
            "/search": _Command(self._search, "TEXT", "list the sessions that have a text in them"),
            "/new": _Command(self._new, "", "begin a new session with the next question"),
            "/wait": _Command(self._wait, "", "wait for the turn that you left with Ctrl-C"),
            "/cancel": _Command(self._cancel, "", "cancel it"),
            "/status": _Command(self._status, "", "which engine, agent and model a question would meet"),
            "/logs": _Command(self._logs, "", "what the session's agent and its tools have printed"),
            "/quit": _Command(self._quit, "", "leave, as Ctrl-D does"),
        }

    @property
    def names(self) -> list[str]:
        """The commands, each with its slash."""
        return list(self._commands)

    def run(self, line: str) -> None:
        """Do what a line says. Raises `ClientError`, and `EOFError` to leave."""
        word, _, argument = line.partition(" ")
        self._named(word).does(argument.strip())

    def _named(self, word: str) -> _Command:
        found = [name for name in self._commands if name.startswith(word)]
        if word in self._commands:
            found = [word]
        if len(found) == 1:
            return self._commands[found[0]]
        close = found or difflib.get_close_matches(word, self._commands, 1)
        meant = f"Did you mean {' or '.join(close)}?" if close else "/help lists the commands."
        raise UsageError(f"There is no command {word}. {meant} A question that begins with / is typed with //.")

    def _help(self, _: str) -> None:
        for name, command in self._commands.items():
            self._screen.field(f"{f'{name} {command.argument}'.strip():<16} ", command.help)
        self._screen.text(
            "\nA line that ends with \\ goes on in the next one, and Alt-Enter begins one.", wrapped=True
        )
        self._screen.text("Ctrl-C stops waiting for an answer; twice, it cancels the turn.", wrapped=True)

    def _history(self, turn: str) -> None:
        found = self._client.history(self._session.here())
        shown = _count(turn, "/history") if turn else None
        render.history(self._screen, found, turn=shown, user=self._client.user)
        if found.damage:
            raise found.damage

    def _facts(self, _: str) -> None:
        found = self._client.history(self._session.here())
        facts = found.conversation.facts if found.conversation else {}
        for key, text in facts.items():
            self._screen.text(_fact(key, text, found.newer_facts))
        if not facts:
            self._screen.text("The agent remembers nothing yet.")

    def _summary(self, _: str) -> None:
        conversation = self._client.history(self._session.here()).conversation
        if conversation and conversation.summary.text:
            render.summary(self._screen, conversation.summary)
        else:
            self._screen.text("There is no summary yet: the model is shown the whole conversation, or none was made.")

    def _memory(self, wanted: str) -> None:
        word, _, argument = wanted.partition(" ")
        memory, argument = self._client.memory(), argument.strip()
        if word == "search":
            turns = memory.search(_given(argument, "/memory search", "a text"))
            remembered.found(self._screen, turns, memory.note)
        elif word == "forget":
            key = _given(argument, "/memory forget", "the key of a fact")
            remembered.forgot(self._screen, key, memory.forget(key))
        elif word:
            raise UsageError("/memory stands alone, or before search TEXT or forget KEY.")
        else:
            remembered.facts(self._screen, memory)

    def _model(self, name: str) -> None:
        if name:
            self._view.model = "" if name == _OF_THE_SETTINGS else name
        if self._view.model:
            self._screen.text(f"The next turns are answered by {self._view.model}.")
            return
        found = self._client.status()
        if found.model:
            self._screen.text(f"The next turns are answered by {found.model} ({found.model_source}).")
        else:
            self._screen.text(found.problem or "The cluster's own settings choose the model.")

    def _attach(self, files: str) -> None:
        try:
            paths = [Path(word).expanduser() for word in shlex.split(files)]
        except ValueError as error:
            raise UsageError(f"/attach wants names of files: {error}.") from error
        self._session.attach(paths)
        if not paths:
            names = ", ".join(each.name for each in self._view.attached)
            self._screen.text(f"Attached to the next question: {names}." if names else "Nothing is attached.")

    def _detach(self, _: str) -> None:
        self._view.attached = []
        self._screen.text("Nothing is attached.")

    def _retry(self, _: str) -> None:
        self._session.answered(self._view.retry(self._session.here()))

    def _rewind(self, turns: str) -> None:
        self._client.rewind(self._session.here(), _count(turns, "/rewind"))
        self._session.enter(self._session.session_id)

    def _fork(self, turns: str) -> None:
        copy = self._client.fork(self._session.here(), _count(turns, "/fork") if turns else None)
        if copy.left:
            self._screen.warning(copy.left)
        self._session.leave_turn()
        self._session.enter(copy.session_id)

    def _rename(self, title: str) -> None:
        here = self._session.here()
        _, kept = self._client.rename(here, _given(title, "/rename", "a title"))
        self._screen.text(f"The session is called {kept}.", wrapped=True)

    def _export(self, file: str) -> None:
        output = Path(_given(file, "/export", "a file")).expanduser()
        form = exports.form(None, output)
        found = self._client.history(self._session.here())
        write(self._screen, found, form, output, self._client.attachments(found))

    def _sessions(self, wanted: str) -> None:
        if wanted:
            self._session.leave_turn()
            self._session.enter(wanted)
        else:
            render.sessions(self._screen, self._client.sessions())

    def _search(self, text: str) -> None:
        found = self._client.sessions(search=_given(text, "/search", "a text"))
        render.sessions(self._screen, found, filtered=True)

    def _new(self, _: str) -> None:
        self._session.begin_another()

    def _wait(self, _: str) -> None:
        self._session.wait()

    def _cancel(self, _: str) -> None:
        if self._view.left is None:
            raise UsageError("No turn was left: there is nothing to cancel.")
        self._screen.text(self._view.cancel())

    def _status(self, _: str) -> None:
        render.status(self._screen, self._client.status())
        if self._view.model:
            self._screen.text(f"\nBut this chat asks {self._view.model} (/model).", wrapped=True)

    def _logs(self, _: str) -> None:
        logs.show(self._screen, self._client.engine, self._session.here())

    def _quit(self, _: str) -> None:
        raise EOFError


def _count(text: str, command: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{command} wants a number, such as {command} 2.")
    return int(text)


def _given(argument: str, command: str, what: str) -> str:
    if not argument:
        raise UsageError(f"{command} wants {what} behind it.")
    return argument


def _fact(key: str, text: str, newer: Mapping[str, Fact | None]) -> str:
    """A fact of the conversation as the agent knows it, and what it took the place of."""
    if key not in newer:
        return f"{key}: {text}"
    fact = newer[key]
    if fact is None:
        return f"{key}: forgotten in another session; here: {text}"
    return f"{key}: {fact.value} ({fact.session}, turn {fact.turn}; here: {text})"
