"""Ctrl-C: what it means before, during and after a turn, without a traceback and without a hang; and Ctrl-Z.

Until a question is sent the program ends where it stands, whatever is being imported or awaited; from then on
Ctrl-C is a `KeyboardInterrupt` that whoever waits for the answer handles.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from flameagent.client.errors import Interrupted

if TYPE_CHECKING:
    from flameagent.cli.terminal.screen import Screen

NOTHING = "Interrupted; nothing was asked."


def leave_at_once(say: Callable[[], None] | None = None) -> None:
    """From now on Ctrl-C says something and ends the program with exit code 130."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            if say:
                say()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            # Not an exception: an import would turn it into another one, a destructor would swallow it.
            os._exit(Interrupted.exit_code)

    signal.signal(signal.SIGINT, leave)


def leave_within(seconds: float, say: Callable[[], None]) -> None:
    """Say something and end the program with exit code 130, if it has not ended after so many seconds.

    For the way out after a `KeyboardInterrupt`: where that came just as a library had taken a lock, nobody gives the
    lock back, and whoever takes leave of the library waits for it for ever.
    """

    def leave() -> None:
        try:
            say()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(Interrupted.exit_code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def leave_unasked(screen: Screen) -> None:
    """From now on, until something is asked, Ctrl-C says that nothing was and ends the program."""

    def say() -> None:
        screen.leave()
        screen.error(Interrupted(NOTHING))

    leave_at_once(say)


_pressed = False
"""Not an Event, whose lock the code that a signal comes into may have."""


def raise_from_now_on() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`."""
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _pressed
    _pressed = True
    raise KeyboardInterrupt


def raise_once(say: Callable[[], None]) -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`, and the second one says something and ends the program."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        leave_at_once(say)
        _interrupt(number, frame)

    signal.signal(signal.SIGINT, interrupt)


@contextmanager
def interruptible() -> Iterator[None]:
    """While inside, Ctrl-C is a `KeyboardInterrupt` whatever has become of it on the way out.

    It comes in the middle of anything: where a library was taking a lock, giving it back is an error of its own; and
    a destructor swallows it, so that it is raised at the end.
    """
    global _pressed
    _pressed = False
    try:
        yield
    except Exception as error:
        if _began_with_an_interrupt(error):
            raise KeyboardInterrupt from None
        raise
    if _pressed:
        raise KeyboardInterrupt


def _began_with_an_interrupt(error: BaseException) -> bool:
    before: BaseException | None = error
    while before is not None and not isinstance(before, KeyboardInterrupt):
        before = before.__context__
    return before is not None


def ignore() -> None:
    """From now on Ctrl-C does nothing: the program is ending anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_ASIDE: list[tuple[Callable[[], None], Callable[[], None]]] = []


@contextmanager
def suspendable(step_aside: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """While inside, Ctrl-Z has the terminal given back before the program stops, and taken again when it goes on.

    Both are called in a signal handler, in the middle of anything: they write to the terminal, and wait for nothing.
    """
    if (
        signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN
        or threading.current_thread() is not threading.main_thread()
    ):
        yield  # a shell without job control; a thread that gets no signals
        return
    _ASIDE.append((step_aside, come_back))
    signal.signal(signal.SIGTSTP, _suspend)
    try:
        yield
    finally:
        _ASIDE.pop()
        if not _ASIDE:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def _suspend(number: int, frame: FrameType | None) -> None:
    for step_aside, _ in reversed(_ASIDE):
        step_aside()
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    # Here it goes on.
    signal.signal(signal.SIGTSTP, _suspend)
    for _, come_back in _ASIDE:
        come_back()


def in_the_foreground() -> bool:
    """True while standard input is our terminal: a program in the background is stopped when it changes modes."""
    try:
        return sys.stdin is not None and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # no terminal, or not ours
        return False
