"""The lines that a human types in a chat: a line with editing and a history at a terminal, or the lines of a pipe.

Promises that a line that ends with a backslash goes on in the next one, at a terminal and in a pipe, and that a
history that cannot be kept hinders nobody.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flameagent import files
from flameagent.cli.terminal import signals
from flameagent.client import places
from flameagent.client.errors import ClientError, UsageError

if TYPE_CHECKING:
    from prompt_toolkit.history import History

MARK = "> "
"""The sign before a question."""
HISTORY_LIMIT = 1_000_000
"""Bytes of the history file above which a chat begins a new one and keeps the old one beside it."""


class Lines(Protocol):
    """Where questions come from."""

    def __call__(self) -> str:
        """The next one. Raises `EOFError` at the end, `KeyboardInterrupt` for Ctrl-C."""


@contextmanager
def unseen() -> Iterator[None]:
    """While inside, what is typed at the terminal is not shown; the next line begins with it."""
    if not signals.in_the_foreground():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    after = [*before]
    after[3] &= ~termios.ECHO

    def become(modes: list[Any]) -> None:
        if signals.in_the_foreground():
            with suppress(termios.error):  # it has gone
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, modes)

    with signals.suspendable(partial(become, before), partial(become, after)):
        become(after)
        try:
            yield
        finally:
            become(before)


@cache
def _standard_input() -> Iterator[str]:
    return files.lines(sys.stdin.buffer)


def _next_line() -> str:
    try:
        return next(_standard_input(), "")
    except files.NotText as error:
        raise UsageError(f"Standard input cannot be asked: {error}.") from error
    except OSError as error:  # nothing that can be read from
        raise UsageError(f"Standard input cannot be read: {files.why(error)}.") from error


def piped() -> str:
    """The next line of standard input, and those that it goes on in. Raises `EOFError`, `UsageError`."""
    parts: list[str] = []
    while line := _next_line():
        line = line.rstrip("\n")
        if not line.endswith("\\"):
            return "\n".join([*parts, line])
        parts.append(line[:-1])
    if not parts:
        raise EOFError
    return "\n".join(parts)


def at_the_terminal(commands: Iterable[str], sessions: Callable[[], list[str]]) -> Lines:
    """Lines as a human edits them, with what they typed in earlier chats behind the arrow keys.

    Tab completes `commands`, each such as `/history`, and, behind one, the IDs that `sessions` gives.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    class Commands(Completer):
        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text_before_cursor
            command, blank, argument = text.partition(" ")
            if not blank:
                found = [name for name in commands if text.startswith("/") and name.startswith(text)]
            elif command == "/sessions":
                found = [name for name in sessions() if argument.casefold() in name.casefold() and name.isprintable()]
            else:
                found = []
            for name in found:
                yield Completion(name, start_position=-len(argument if blank else text))

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.current_char == "" and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    session: PromptSession[str] = PromptSession(
        MARK,
        history=_history(),
        completer=Commands(),
        complete_while_typing=False,
        key_bindings=keys,
        multiline=True,
        prompt_continuation=" " * len(MARK),
        include_default_pygments_style=False,
        enable_suspend=True,
    )
    return session.prompt


def _history() -> History:
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        """Kept for the user alone; a disk that is full or read-only ends no chat."""

        def store_string(self, string: str) -> None:
            with suppress(OSError, UnicodeEncodeError):
                super().store_string(string)

        def load_history_strings(self) -> Iterable[str]:
            with suppress(OSError):
                return super().load_history_strings()
            return []

    file = _file()
    if file is None:
        return InMemoryHistory()
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        if file.stat().st_size > HISTORY_LIMIT:
            file.replace(file.with_suffix(".old"))
            file.touch(mode=0o600)
    return Kept(file)


def forget_lines() -> None:
    """Remove the lines that were typed in chats. Raises `ClientError`."""
    file = _file()
    for each in (file, file.with_suffix(".old")) if file else ():
        try:
            each.unlink(missing_ok=True)
        except OSError as error:
            raise ClientError(f"The lines that were typed in chats are still in {each}: {error.strerror}.") from error


def _file() -> Path | None:
    folder = places.state()
    return folder and folder / "chat-history"
